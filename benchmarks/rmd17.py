"""A molecule of rMD17 from 950 labeled frames, with and without a cheaper method's help.

    python benchmarks/rmd17.py ethanol --data FOLDER -o runs/rmd17        the recipe
    python benchmarks/rmd17.py ethanol --data FOLDER -o … --alone         the 950 frames alone

The recipe: label the 950 frames by GFN2-xTB, train networks on what it lacks of PBE, sample new
geometries by short dynamics from each of the frames, label them by GFN2-xTB with that correction,
and train networks (`--students`) on those and the 950 frames together. The dynamics is that of a
network trained for a few minutes on the 950 frames (`--sampling` epochs), or with `--sampling 0` of
GFN2-xTB with the correction. Nothing but the 950 + 50 frames of split 01 (the last 50 validate
every training) is of the reference level; the 1000 test frames are read at the end, by each last
network and by their committee. Every step is a command that is printed before it runs; a step whose
result is there is passed over, an interrupted one goes on. Networks of a step are trained side by
side, one core each; frames are sampled on every core. Wall times of the steps and the curves of
validation errors are written to OUTPUT/MOLECULE.json, and drawn in OUTPUT/MOLECULE.svg beside those
of --alone.

FOLDER holds rmd17_MOLECULE_train_01.npz and rmd17_MOLECULE_test_01.npz.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dreibein.label.workers import available_cores

MOLECULES = (
    *("aspirin", "azobenzene", "benzene", "ethanol", "malonaldehyde", "naphthalene"),
    *("paracetamol", "salicylic", "toluene", "uracil"),
)
TRAINING = [
    *("--preset", "medium", "--set", "model.cutoff=4.5", "--set", "model.knots=128"),
    *("--set", "training.lr=1e-3"),
]
ERRORS = ("val_energy_mae_mev", "val_forces_mae_mev_per_a")
TRAINED = 950  # of the 1000 frames; the others validate


class Clock:
    """Wall times of steps in seconds, kept in a file: a step may take several runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        known = path.read_text(encoding="utf-8") if path.exists() else "{}"
        self.seconds: dict[str, float] = json.loads(known)

    @contextmanager
    def running(self, step: str) -> Iterator[None]:
        """Add the time of the block, also when it is interrupted."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - begin
            self.seconds[step] = self.seconds.get(step, 0.0) + passed
            self.path.write_text(json.dumps(self.seconds), encoding="utf-8")


def main() -> None:
    """Run the steps that are left and write what they gave."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("molecule", choices=MOLECULES)
    parser.add_argument("--data", type=Path, required=True, help="folder of the npz files")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--members", type=int, default=2, help="networks of the correction")
    parser.add_argument("--correcting", type=int, default=200, help="epochs of each of them")
    parser.add_argument("--sampling", type=int, default=40, help="epochs of what drives dynamics")
    parser.add_argument("--temperature", type=float, default=500.0, help="of the dynamics in K")
    parser.add_argument("--frames", type=int, default=16000, help="frames of the corrected method")
    parser.add_argument("--trajectories", type=int, default=950, help="that they are taken from")
    parser.add_argument("--epochs", type=int, default=20, help="of the last training")
    parser.add_argument("--students", type=int, default=1, help="networks of the last training")
    parser.add_argument("--batch-size", type=int, default=8, help="of the last training")
    parser.add_argument("--lr", type=float, help="of the last training, if not as the others")
    parser.add_argument("--set", action="append", default=[], help="override of every training")
    parser.add_argument("--alone", action="store_true", help="from the 950 frames alone")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    name = f"{options.molecule}{'-alone' if options.alone else ''}"
    clock = Clock(options.output / f"{name}_seconds.json")
    train, test = (options.data / f"rmd17_{options.molecule}_{s}_01.npz" for s in ("train", "test"))
    frames = options.output / f"{options.molecule}.extxyz"
    convert = ["convert", train, frames, "--level-of-theory", "PBE/def2-SVP"]
    run("frames", convert, frames, clock)
    sources = [] if options.alone else ["--data", corrected(options, frames, clock)]
    folder = options.output / name
    command = [
        *("train", *settings(options), *sources, "--data", f"{frames}@:{TRAINED}"),
        *("--validation", f"{frames}@{TRAINED}:", "--test", test),
        *("--set", f"training.batch_size={options.batch_size}"),
        *("--set", f"training.epochs={options.epochs}"),
        *(["--set", f"training.lr={options.lr}"] if options.lr else []),
    ]
    train_networks("training", command, folder, options.students, clock)
    runs = members("training", folder)
    errors = {step: errors_of(path / "evaluation.json") for step, path in runs.items()}
    if options.students > 1:
        judged = Path(f"{folder}-committee")
        run("committee", ["evaluate", folder, test, "-o", judged], judged, clock)
        errors["committee"] = errors_of(judged / "evaluation.json")
    if not options.alone:
        beginning = options.output / options.molecule
        first = members("correction", Path(f"{beginning}-correction"))
        driver = {"sampler": Path(f"{beginning}-sampler")} if options.sampling else {}
        runs = first | driver | runs
    record = {
        "molecule": options.molecule,
        "errors": errors,
        "seconds": clock.seconds,
        "curves": {step: curve(path) for step, path in runs.items()},
    }
    (options.output / f"{name}.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(draw(options.molecule, options.output))
    for step, found in errors.items():
        print(
            f"{options.molecule}, {step}: energy {found['energy_mae_mev']:.2f} meV, "
            f"forces {found['forces_mae_mev_per_a']:.2f} meV/Å on the test frames"
        )
    print(", ".join(f"{step} {t / 60:.0f} min" for step, t in clock.seconds.items()))


def corrected(options: argparse.Namespace, frames: Path, clock: Clock) -> Path:
    """Frames of GFN2-xTB with a correction that was trained on the reference frames."""
    beginning = options.output / options.molecule
    difference = Path(f"{beginning}_difference.extxyz")
    labels, folder = Path(f"{beginning}_corrected.extxyz"), Path(f"{beginning}-correction")
    subtract = ["label", frames, "--single-points", "--difference", "-o", difference]
    run("difference", subtract, difference, clock)
    train = [
        *("train", "--data", f"{difference}@:{TRAINED}"),
        *("--validation", f"{difference}@{TRAINED}:", *settings(options)),
        *("--set", "training.batch_size=8", "--set", f"training.epochs={options.correcting}"),
    ]
    train_networks("correction", train, folder, options.members, clock)
    sample = [
        *("label", f"{frames}@:{TRAINED}", "--correction", folder),
        *(["--sampler", sampler(options, frames, clock)] if options.sampling else []),
        *("--frames", options.frames, "--trajectories", options.trajectories),
        *("--temperature", options.temperature),
        *("--equilibration", 20, "--interval", 10, "--seed", 1, "-o", labels),
    ]
    run("labels", sample, labels, clock)
    return labels


def sampler(options: argparse.Namespace, frames: Path, clock: Clock) -> Path:
    """A network of the reference frames alone, good enough to visit geometries."""
    folder = options.output / f"{options.molecule}-sampler"
    train = [
        *("train", "--data", f"{frames}@:{TRAINED}", "--validation", f"{frames}@{TRAINED}:"),
        *settings(options),
        *("--set", "training.batch_size=8", "--set", f"training.epochs={options.sampling}"),
    ]
    run("sampler", [*train, "-o", folder], folder, clock)
    return folder


def settings(options: argparse.Namespace) -> list[str]:
    """Options that every training shares."""
    return [*TRAINING, *(word for override in options.set for word in ("--set", override))]


def members(step: str, folder: Path) -> dict[str, Path]:
    """Runs of a step by name: its own, or those of an ensemble's members."""
    found = sorted(folder.glob("member_*"))
    return {f"{step} {k}": path for k, path in enumerate(found, 1)} or {step: folder}


def errors_of(path: Path) -> dict[str, float]:
    """Errors on the test frames."""
    return dict(json.loads(path.read_text(encoding="utf-8"))["metrics"])


def train_networks(step: str, train: list[object], folder: Path, count: int, clock: Clock) -> None:
    """One network, or an ensemble: members train side by side with the seeds it would give."""
    if count == 1:
        run(step, [*train, "-o", folder], folder, clock)
        return
    if (folder / "ensemble.json").exists():
        print(f"{step}: {folder} is there")
        return

    def member(k: int) -> None:
        seeds = ("--set", f"training.model_seed={k}", "--set", f"training.order_seed={k}")
        path = folder / f"member_{k + 1}"
        if not (path / "model.safetensors").exists():
            call([*train, *seeds, "-o", path], path, os.environ | {"OMP_NUM_THREADS": "1"})

    with clock.running(step):
        with ThreadPoolExecutor(available_cores()) as pool:
            list(pool.map(member, range(count)))
        call([*train, "--ensemble", count, "-o", folder], folder)


def run(step: str, words: list[object], result: Path, clock: Clock) -> None:
    """Run a command of dreibein unless its result is there; note its wall time."""
    if result.is_file() or (result / "evaluation.json").exists():
        print(f"{step}: {result} is there")
        return
    with clock.running(step):
        call(words, result)


def call(words: list[object], result: Path, environment: dict[str, str] | None = None) -> None:
    """A command of dreibein, or the rest of a training that was interrupted."""
    arguments = [str(word) for word in words]
    if (result / "checkpoints" / "last.ckpt").exists():
        arguments = ["train", "--resume", str(result)]
    print(shlex.join(["dreibein", *arguments]), flush=True)
    command = [sys.executable, "-m", "dreibein", *arguments]
    code = subprocess.run(command, check=False, env=environment).returncode
    if code:
        raise SystemExit(code)  # the command has said why


def curve(folder: Path) -> list[dict[str, float]]:
    """Epoch, seconds of training so far and validation errors, about forty rows of a run."""
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    passed, points = 0.0, []
    every = max(1, len(rows) // 40)
    for k, row in enumerate(rows):
        passed += float(row["seconds"])
        if k % every == 0 or k == len(rows) - 1:
            values = {name: round(float(row[name]), 4) for name in ERRORS}
            points.append({"epoch": int(row["epoch"]), "seconds": round(passed, 1), **values})
    return points


def draw(molecule: str, folder: Path) -> Path:
    """Errors on validation frames against time, of the recipe and of the frames alone.

    Networks of a step begin together: they are trained side by side.
    """
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "dreibein"
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4), sharex=True, constrained_layout=True)
    names = {"correction": "correction of GFN2-xTB", "sampler": "driver of the dynamics"}
    kinds = {molecule: "trained on many frames", f"{molecule}-alone": "the 950 frames alone"}
    for name, kind in kinds.items():
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        begin, end, before = 0.0, 0.0, ""
        for title, points in record["curves"].items():
            step = title.split()[0]
            if step != before:
                begin, before = end, step
            minutes = [(begin + p["seconds"]) / 60 for p in points]
            label = title.replace(step, names.get(step, kind))
            for axes, error in zip(panels, reversed(ERRORS), strict=True):
                axes.plot(minutes, [p[error] for p in points], label=label)
            end = max(end, begin + points[-1]["seconds"])
    for axes, what in zip(panels, ("forces, MAE / meV/Å", "energy, MAE / meV"), strict=True):
        axes.set(yscale="log", xlabel="minutes of training", ylabel=f"validation: {what}")
    panels[0].set_title(f"rMD17 {molecule}")
    panels[1].legend()
    path = folder / f"{molecule}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    main()
