"""Dreibein against torchmd-net: one command, one run, the same weights, ratios.

    python benchmarks/peers/run.py                                    every case, 1 and 2 threads
    python benchmarks/peers/run.py --cases aspirin --sizes 128x1 --threads 1
    python benchmarks/peers/run.py --training                         and training steps

The first call makes a virtual environment with torch 2.13.0, torchmd-net 3.1 and this package in
`.peers` (`--cache`). For every case, size and number of threads several processes measure, each
calling ours and theirs in turns (A, B, A, B) on positions that move by 0.01 Å from call to call,
a turn being one call that is not counted and three that are;
the ratio is the median of the processes' ratios, the spread that of their medians. The first
process tries every mode of torchmd-net, the later ones its two fastest; the fastest is the
denominator. A call includes the neighbor list: theirs is searched in every call, ours is kept with
a skin of 0.5 Å as in a simulation, and "fresh list" searches it in every call too.

The floor is that of the machine, in the same process: multiply-adds of the per-atom matrix
products at the best measured sgemm rate plus bytes at the speed of a copy (machine.py has both
formulas). Memory is what a fresh process needs beyond a call on ethanol.

A dated JSON file and a table are written to benchmarks/peers/results.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CASES = ("ethanol", "aspirin", "aspirin-64", "peptide", "water-192", "water-1536", "water-10125")
TRAINING_CASES = ("aspirin-8", "aspirin-64")
SIZES = ("128x1", "256x2")
Result = dict[str, Any]


def work(python: Path, task: Result, timeout: float) -> Result:
    """Run a task in a process of its own."""
    environment = dict(os.environ) | {
        f"{name}_NUM_THREADS": str(task["threads"]) for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")
    }
    try:
        done = subprocess.run(
            [str(python), str(HERE / "worker.py"), json.dumps(task)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no result after {timeout:g} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return {"error": lines[-1][:200]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def medians(processes: list[Result]) -> dict[str, list[float]]:
    """Median milliseconds of every mode in every process that measured it."""
    found: dict[str, list[float]] = {}
    for process in processes:
        for name, times in process.get("ms", {}).items():
            found.setdefault(name, []).append(statistics.median(times))
    return found


def fastest(found: dict[str, list[float]], count: int) -> list[str]:
    """Modes of the peer, fastest first; one that fewer processes measured comes after."""
    peers = [name for name in found if not name.startswith("ours")]
    return sorted(peers, key=lambda n: (-len(found[n]), statistics.median(found[n])))[:count]


def ratios(processes: list[Result], peer: str) -> dict[str, float]:
    """Median over the processes of the peer's time over that of each mode in the same process."""
    found: dict[str, list[float]] = {}
    for process in processes:
        ms = {name: statistics.median(times) for name, times in process["ms"].items()}
        for name in ms:
            if peer in ms:
                found.setdefault(name, []).append(ms[peer] / ms[name])
    return {name: statistics.median(values) for name, values in found.items()}


def compare(python: Path, task: Result, options: argparse.Namespace) -> Result:
    """All processes of one case, size and number of threads."""
    processes: list[Result] = []
    for _ in range(options.processes):
        first = next((p for p in processes if "ms" in p), None)
        modes = options.modes
        if first is not None and modes is None:
            found = medians(processes)
            modes = [name for name in found if name.startswith("ours")] + fastest(found, 2)
        asked = task | ({"modes": modes} if modes else {})
        processes.append(work(python, asked, options.timeout))
    found = medians(processes)
    record: Result = {key: task[key] for key in ("kind", "case", "size", "threads", "clock")} | {
        "ms": {name: statistics.median(values) for name, values in found.items()},
        "spread": {name: [min(values), max(values)] for name, values in found.items()},
        "errors": [p["error"] for p in processes if "error" in p],
    }
    good = [p for p in processes if "ms" in p]
    if good:
        kept = ("atoms", "neighbors", "force_rms", "difference", "failed", "first_loss")
        record |= {key: good[0][key] for key in kept if key in good[0]}
        if "rates" in good[0]:
            record["floor_ms"] = statistics.median(p["floor_ms"] for p in good)
            record["rates"] = {
                name: max(p["rates"][name] for p in good) for name in good[0]["rates"]
            }
        best = fastest(found, 1)
        record["fastest_peer"] = best[0] if best else None
        record["ratio"] = ratios(good, best[0]) if best else {}
        if task["kind"] == "inference" and not options.no_memory:
            record["mib"] = memories(python, task, [*ours(record), *best], options)
    return record


def ours(record: Result) -> list[str]:
    """Our modes of a record."""
    return [name for name in record["ms"] if name.startswith("ours")]


def memories(
    python: Path, task: Result, names: list[str], options: argparse.Namespace
) -> dict[str, float | str]:
    """MiB of every mode, each in a fresh process."""
    found: dict[str, float | str] = {}
    for name in names:
        if "fresh" in name:
            continue
        done = work(python, task | {"kind": "memory", "modes": [name]}, options.timeout)
        found[name] = done.get("mib", done.get("failed", done.get("error", "?")))
    return found


def row(record: Result) -> list[str]:
    """Cells of one line of the table: a case with the fastest peer, then each of our modes."""
    peer = record.get("fastest_peer")
    theirs = record["ms"].get(peer) if peer else None
    cells = [record["case"], record["size"], str(record["threads"])]
    if not record["ms"]:
        return [*cells, "failed: " + "; ".join(record["errors"])[:80]]
    cells += [str(record.get("atoms", "")), f"{record['neighbors']:.0f}"]
    cells += [f"{theirs:.1f} ({peer.split(': ')[1]})" if theirs and peer else "-"]
    return cells


def lines(records: list[Result]) -> list[str]:
    """Markdown tables."""
    made: list[str] = []
    for kind, title in (("inference", "Energy + forces"), ("training", "Training step")):
        chosen = [r for r in records if r["kind"] == kind]
        if not chosen:
            continue
        made += [f"### {title}", "", HEAD, RULE]
        for record in chosen:
            start = row(record)
            for name in ours(record) or ["-"]:
                made.append("| " + " | ".join(start + ours_cells(record, name)) + " |")
        made.append("")
    other = [r for r in records if r["kind"] not in ("inference", "training")]
    if other:
        made += [
            "### Other codes, networks of like size, other weights",
            "",
            OTHER,
            "|---" * 7 + "|",
        ]
    for r in other:
        cells = [r["kind"], r["case"], r["size"], str(r["threads"])]
        cells += [f"{r['ms'][n]:.1f}" if n in r["ms"] else "-" for n in (r["kind"], "ours")]
        ratio = f"{r['ratio']['ours']:.2f}x" if r["ratio"] else "; ".join(r["errors"])[:60]
        made.append("| " + " | ".join([*cells, ratio]) + " |")
    return made


OTHER = "| code | case | model | threads | its ms | ours ms | ratio |"
HEAD = (
    "| case | model | threads | atoms | neighbors | torchmd-net ms (its fastest mode) | ours "
    "| ms (range of processes) | ratio | floor ms | max \\|ΔF\\| eV/Å | MiB theirs | MiB ours |"
)
RULE = "|---|---|---|---|---|---|---|---|---|---|---|---|---|"


def ours_cells(record: Result, name: str) -> list[str]:
    """Cells of one of our modes."""
    if name not in record["ms"]:
        return ["-"] * 7
    ms, (low, high) = record["ms"][name], record["spread"][name]
    peer = record.get("fastest_peer")
    ratio = f"{record['ratio'][name]:.2f}x" if name in record.get("ratio", {}) else "-"
    floor = f"{record['floor_ms']:.2f}" if "floor_ms" in record else ""
    error = record.get("difference", {}).get(name)
    memory = record.get("mib", {})
    cells = [name.removeprefix("ours: "), f"{ms:.1f} ({low:.1f} to {high:.1f})", ratio, floor]
    cells.append(f"{error:.0e}" if error is not None else "")
    for key in (peer, name):
        value = memory.get(key, "")
        cells.append(f"{value:.0f}" if isinstance(value, float) else value[:20])
    return cells


def write(folder: Path, name: str, report: Result) -> Path:
    """Write the JSON file and the table beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    facts = ", ".join(f"{key} {value}" for key, value in report["versions"].items())
    text = [f"# {report['date']}, {report['cpu']}", "", facts, "", *lines(report["records"])]
    path.with_suffix(".md").write_text("\n".join(text), encoding="utf-8")
    return path


def tasks(options: argparse.Namespace) -> list[Result]:
    """What is to be measured."""
    made = []
    kinds = [("inference", options.cases)]
    if options.training:
        kinds.append(("training", options.training_cases))
    for kind, cases in kinds:
        for size in options.sizes:
            for case in cases:
                for threads in options.threads:
                    task = {"kind": kind, "case": case, "size": size, "threads": threads}
                    task |= {"budget": options.budget, "memory_gib": options.memory}
                    made.append(task | {"clock": options.clock})
    return made


def arguments() -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cases", nargs="*", default=CASES)
    add("--sizes", nargs="+", default=SIZES, choices=SIZES)
    add("--threads", nargs="+", type=int, default=[1, 2])
    add("--processes", type=int, default=3)
    add("--training", action="store_true", help="time training steps too")
    add("--training-cases", nargs="+", default=TRAINING_CASES)
    add("--modes", nargs="+", help="only these modes, such as 'ours: reference'")
    add("--peers", nargs="+", default=["torchmd-net"], help="torchmd-net, matgl, mace-torch")
    add("--budget", type=float, default=2.0, help="seconds for each mode in each process")
    add("--clock", choices=("wall", "cpu"), default="wall", help="cpu: one thread, busy machine")
    add("--memory", type=float, default=16.0, help="GiB that a process may take")
    add("--no-memory", action="store_true", help="leave the memory processes out")
    add("--timeout", type=float, default=1800.0, help="seconds for a process")
    add("--cache", type=Path, default=Path(".peers"), help="where the environments are")
    add("--results", type=Path, default=HERE / "results")
    add("--name", help="name of the result files [the date]")
    add("--append", action="store_true", help="keep the lines of result files of that name")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    options = arguments()
    sys.path.insert(0, str(HERE))
    from environments import python_of, versions
    from machine_name import cpu_name

    python = python_of("torchmd-net", options.cache)
    today = datetime.date.today().isoformat()
    report: Result = {
        "date": today,
        "cpu": cpu_name(),
        "versions": versions(python, "torch", "torchmd-net", "warp-lang", "dreibein"),
        "records": [],
    }
    name = options.name or today
    earlier = options.results / f"{name}.json"
    if options.append and earlier.exists():
        report["records"] = json.loads(earlier.read_text(encoding="utf-8"))["records"]
    for task in tasks(options):
        record = compare(python, task, options)
        report["records"].append(record)
        print(" | ".join(row(record)), flush=True)
        for mode, ms in sorted(record["ms"].items(), key=lambda item: item[1]):
            low, high = record["spread"][mode]
            print(f"    {mode:32} {ms:10.2f} ms  ({low:.2f} to {high:.2f})", flush=True)
        for mode, reason in record.get("failed", {}).items():
            print(f"    {mode:32} {reason}", flush=True)
        write(options.results, name, report)
    for other in (peer for peer in options.peers if peer != "torchmd-net"):
        report["records"] += other_peer(other, options)
    path = write(options.results, name, report)
    print("\n".join(lines(report["records"])))
    print(f"written: {path.name} and {path.with_suffix('.md').name}")


def other_peer(peer: str, options: argparse.Namespace) -> list[Result]:
    """Times of another code's network, with weights of its own, beside ours of that size."""
    from environments import python_of

    python = python_of(peer, options.cache)
    made = []
    for task in tasks(options):
        if task["kind"] != "inference" or task["case"] == "aspirin-64":  # calculators: no batches
            continue
        asked = task | {"peer": peer, "kind": "other"}
        done = [work(python, asked, options.timeout) for _ in range(options.processes)]
        good = [p for p in done if "ms" in p]
        record: Result = {key: task[key] for key in ("case", "size", "threads")} | {"kind": peer}
        record["ms"] = {n: statistics.median(v) for n, v in medians(good).items()}
        record["ratio"] = ratios(good, peer)
        record["errors"] = [p["error"] for p in done if "error" in p]
        print(peer, *(f"{key} {value}" for key, value in record.items()), sep=" | ", flush=True)
        made.append(record)
    return made


if __name__ == "__main__":
    main()
