"""A molecule of rMD17 from 950 labeled frames, with and without a cheaper method's help.

    python benchmarks/rmd17.py ethanol --data FOLDER -o runs/rmd17        the recipe
    python benchmarks/rmd17.py ethanol --data FOLDER -o … --alone         the 950 frames alone

The recipe: sample geometries by GFN2-xTB dynamics at 500 K and label them by the same method,
train on those, go on with the 950 frames (50 for validation) of split 01, test on its 1000 frames.
Nothing but those 950 + 50 frames is of the reference level; the test frames are read once, at the
end. Every step is a command that is printed before it runs; a step whose result is there is passed
over, an interrupted one goes on. Wall times of the steps and the curves of validation errors are
written to OUTPUT/MOLECULE.json, and drawn in OUTPUT/MOLECULE.svg beside those of --alone.

FOLDER holds rmd17_MOLECULE_train_01.npz and rmd17_MOLECULE_test_01.npz.
"""

import argparse
import csv
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

SMILES = {
    "aspirin": "CC(=O)OC1=CC=CC=C1C(=O)O",
    "azobenzene": "c1ccc(cc1)/N=N/c1ccccc1",
    "benzene": "c1ccccc1",
    "ethanol": "CCO",
    "malonaldehyde": "O=CCC=O",
    "naphthalene": "c1ccc2ccccc2c1",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "salicylic": "OC(=O)c1ccccc1O",
    "toluene": "Cc1ccccc1",
    "uracil": "O=c1cc[nH]c(=O)[nH]1",
}
NETWORK = ["--set", "model.cutoff=4.5", "--set", "model.knots=128"]
ERRORS = ("val_energy_mae_mev", "val_forces_mae_mev_per_a")


def main() -> None:
    """Run the steps that are left and write what they gave."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("molecule", choices=sorted(SMILES))
    parser.add_argument("--data", type=Path, required=True, help="folder of the npz files")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=8000, help="frames of the cheaper method")
    parser.add_argument("--trajectories", type=int, default=40)
    parser.add_argument("--pretraining", type=int, default=40, help="epochs on those")
    parser.add_argument("--epochs", type=int, default=300, help="epochs on the 950 frames")
    parser.add_argument("--lr", type=float, default=5e-4, help="first learning rate on those")
    parser.add_argument("--alone", action="store_true", help="from random weights, at lr 1e-3")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    start = [] if options.alone else pretrain(options, seconds)
    train, test = (options.data / f"rmd17_{options.molecule}_{s}_01.npz" for s in ("train", "test"))
    name = f"{options.molecule}{'-alone' if options.alone else ''}"
    folder = options.output / name
    lr = 1e-3 if options.alone else options.lr
    network = NETWORK if options.alone else []
    command = [
        *("train", "--preset", "medium", *start, "--data", train, "--validation", 50),
        *("--test", test, *network, "--set", "training.batch_size=8"),
        *("--set", f"training.epochs={options.epochs}", "--set", f"training.lr={lr}"),
        *("-o", folder),
    ]
    run("training", command, folder, seconds)
    errors = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["metrics"]
    runs = {"training": folder}
    if not options.alone:
        runs["pretraining"] = options.output / f"{options.molecule}-xtb"
    record = {
        "molecule": options.molecule,
        "errors": errors,
        "seconds": seconds,
        "curves": {step: curve(path) for step, path in runs.items()},
    }
    (options.output / f"{name}.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(draw(options.molecule, options.output))
    print(
        f"{options.molecule}: energy {errors['energy_mae_mev']:.2f} meV, "
        f"forces {errors['forces_mae_mev_per_a']:.2f} meV/Å on the test frames; "
        + ", ".join(f"{step} {t / 60:.0f} min" for step, t in seconds.items())
    )


def pretrain(options: argparse.Namespace, seconds: dict[str, float]) -> list[object]:
    """Labels of the cheaper method and a network trained on them; how to start from it."""
    labels = options.output / f"{options.molecule}_xtb.extxyz"
    folder = options.output / f"{options.molecule}-xtb"
    sample = [
        *("label", SMILES[options.molecule], "--method", "GFN2-xTB", "--temperature", 500),
        *("--frames", options.frames, "--interval", 8, "--seed", 1),
        *("--trajectories", options.trajectories, "-o", labels),
    ]
    run("labels", sample, labels, seconds)
    train = [
        *("train", "--preset", "medium", "--data", labels, "--validation", 200, *NETWORK),
        *("--set", "training.batch_size=16", "--set", f"training.epochs={options.pretraining}"),
        *("-o", folder),
    ]
    run("pretraining", train, folder, seconds)
    return ["--from", folder]


def run(step: str, words: list[object], result: Path, seconds: dict[str, float]) -> None:
    """Run a command of dreibein unless its result is there; note its wall time."""
    arguments = [str(word) for word in words]
    if (result / "evaluation.json").exists() or result.is_file():
        print(f"{step}: {result} is there")
        return
    if (result / "checkpoints" / "last.ckpt").exists():
        arguments = ["train", "--resume", str(result)]
    print(shlex.join(["dreibein", *arguments]), flush=True)
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dreibein", *arguments], check=True)
    seconds[step] = time.perf_counter() - begin


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
    """Force errors on validation frames against time, of the recipe and of the frames alone."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "dreibein"
    figure, axes = pyplot.subplots(figsize=(7, 4), constrained_layout=True)
    for name in (molecule, f"{molecule}-alone"):
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        record, begin = json.loads(path.read_text(encoding="utf-8")), 0.0
        for step in ("pretraining", "training"):
            points = record["curves"].get(step, [])
            minutes = [(begin + p["seconds"]) / 60 for p in points]
            label = {"pretraining": "on xTB, errors against xTB", "training": "950 frames"}[step]
            if step == "training" and "pretraining" in record["curves"]:
                label = "950 frames after xTB"
            axes.plot(minutes, [p[ERRORS[1]] for p in points], label=label)
            begin += points[-1]["seconds"] if points else 0.0
    axes.set(yscale="log", xlabel="minutes of training", ylabel="validation: forces, MAE / meV/Å")
    axes.set_title(f"rMD17 {molecule}")
    axes.legend()
    path = folder / f"{molecule}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    main()
