"""A potential against a data set: errors, by element and group, and the frames it gets worst."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from ase.data import chemical_symbols
from torch_geometric.data import Batch

from dreibein.evaluate.calibration import calibrations
from dreibein.evaluate.errors import MEV, QUANTITIES, UNIT_TEXT, ErrorMeter
from dreibein.evaluate.frames import (
    FrameRow,
    Frames,
    describe,
    frame_rows,
    worst_frames,
)
from dreibein.evaluate.predictions import PredictionCollector
from dreibein.evaluate.records import (
    ElementErrors,
    Evaluation,
    GroupErrors,
    TargetErrors,
    Timing,
)
from dreibein.neighbors import attach_neighbors
from dreibein.systems import join
from dreibein.systems.fields import of_bonds

if TYPE_CHECKING:
    from dreibein.nn import Potential

Progress = Callable[[int, int, str], None]
EVALUATED = ("energy", "forces", "stress")
UNASKED = ("energies", "virial")  # what nobody labels, or only for training


def evaluate_potential(
    potential: "Potential",
    dataset: Frames,
    *,
    batch_size: int = 16,
    progress: Progress | None = None,
    predictions_path: str | Path | None = None,
) -> Evaluation:
    """Predict every frame and compare with its labels.

    Args:
        potential: On the device and in the precision to use; left in evaluation mode.
        dataset: Frames with labels; energy, forces and stress are compared where they exist.
        batch_size: Frames evaluated at once; changes speed and memory, not the errors.
        progress: Called with (frames done, frames, running errors).
        predictions_path: Where to write references and predictions of all frames (npz).

    Raises:
        ValueError: No frames, no label to compare, or an element that the potential does not
            know (naming the frame).
    """
    if len(dataset) == 0:
        raise ValueError("there is no frame to evaluate")
    start = time.perf_counter()
    potential.eval()
    meter = ErrorMeter(config_types=(), units=getattr(potential, "target_units", None))
    collector = PredictionCollector()
    unsure: dict[str, str] = getattr(potential, "uncertainties", {})
    rows: list[FrameRow] = []
    seconds = 0.0
    offered = tuple(n for n in getattr(potential, "outputs", EVALUATED) if n not in UNASKED)
    for batch in _batches(potential, dataset, batch_size):
        compute = tuple(name for name in offered if name in batch)
        if not compute:
            raise ValueError(f"the frames have none of {', '.join(offered)} to compare with")
        begin = time.perf_counter()
        predictions = potential(batch, compute=compute)
        if batch.pos.is_cuda:
            torch.cuda.synchronize(batch.pos.device)
        seconds += time.perf_counter() - begin
        meter.update(predictions, batch)
        rows += frame_rows(batch, predictions, potential.reference_energies, len(rows))
        if unsure or predictions_path is not None:  # the uncertainty is no part of the timing
            sigmas = potential(batch, compute=tuple(unsure.values())) if unsure else {}
            named = {label: sigmas[name] for label, name in unsure.items()}
            collector.add(batch, predictions, potential.reference_energies, named)
        if progress:
            progress(len(rows), len(dataset), _running(meter.compute()))
    predicted = collector.join() if rows and (unsure or predictions_path is not None) else None
    if predicted is not None and predictions_path is not None:
        predicted.save(predictions_path)
    return Evaluation(
        metrics=meter.compute(),
        spread=_spread(rows),
        units=dict(UNIT_TEXT),
        counts=_counts(rows, meter),
        elements=_elements(rows, meter),
        targets=_targets(meter),
        calibrations=calibrations(predicted) if predicted is not None else [],
        config_types=_groups(rows, meter),
        worst=worst_frames(rows, dataset, by="forces"),
        worst_energies=worst_frames(rows, dataset, by="energy"),
        timing=_timing(potential, rows, seconds, time.perf_counter() - start, batch_size),
        data=dict(getattr(dataset, "provenance", {})),
    )


def _batches(potential: "Potential", dataset: Frames, batch_size: int) -> Iterator[Batch]:
    for first in range(0, len(dataset), batch_size):
        indices = range(first, min(first + batch_size, len(dataset)))
        structures = [dataset[k] for k in indices]
        for k, structure in zip(indices, structures, strict=True):
            try:
                potential.check(structure)
            except ValueError as error:
                raise ValueError(f"{describe(dataset, k)}: {error}") from error
        yield join([attach_neighbors(s, potential.cutoff) for s in structures]).to(potential.device)


def _running(metrics: dict[str, float]) -> str:
    forces = metrics.get("forces_mae_mev_per_a")
    if forces is not None:
        return f"forces {forces:.3g} meV/Å"
    energy = metrics.get("energy_per_atom_mae_mev")
    if energy is not None:
        return f"energy {energy:.3g} meV/atom"
    name, value = next(iter(metrics.items()), ("", 0.0))
    return f"{name.partition('_mae')[0]} {value:.3g}" if name else ""


def _spread(rows: list[FrameRow]) -> dict[str, float]:
    spread = {}
    binding = torch.tensor(
        [r.binding / len(r.z) for r in rows if r.binding is not None and r.z], dtype=torch.float64
    )
    if len(binding) > 1:
        spread["energy_per_atom"] = MEV * float(binding.std(correction=0))
    count = sum(r.forces_count for r in rows)
    if count:
        spread["forces"] = MEV * sum(r.forces_abs for r in rows) / count
    stress = torch.tensor([r.stress for r in rows if r.stress is not None], dtype=torch.float64)
    if len(stress) > 1:
        spread["stress"] = MEV * float(stress.std(0, correction=0).mean())
    return spread


def _counts(rows: list[FrameRow], meter: ErrorMeter) -> dict[str, int]:
    labels = meter.counts()
    labels.pop("energy_per_atom", None)
    atoms = sum(len(r.z) for r in rows)
    return {"frames": len(rows), "atoms": atoms, **{f"{n}_values": c for n, c in labels.items()}}


def _elements(rows: list[FrameRow], meter: ErrorMeter) -> list[ElementErrors]:
    atoms = torch.bincount(torch.tensor([z for r in rows for z in r.z], dtype=torch.int64))
    return [
        ElementErrors(symbol=chemical_symbols[z], z=z, atoms=int(atoms[z]), **errors)
        for z, errors in meter.by_element().items()
    ]


def _targets(meter: ErrorMeter) -> list[TargetErrors]:
    found, metrics = [], meter.compute()
    for name in meter.quantities:
        if name in QUANTITIES:
            continue
        keys = [meter.metric_name(name, statistic) for statistic in ("mae", "rmse")]
        by_element = meter.by_element(name)
        scatter, rmse = meter.scatter(name), metrics[keys[1]]
        found.append(
            TargetErrors(
                name=name,
                unit=meter.unit(name),
                scope="bond" if of_bonds(name) else "atom" if by_element else "structure",
                values=meter.counts()[name],
                mae=metrics[keys[0]],
                rmse=rmse,
                scatter=scatter,
                relative=rmse / scatter if scatter else None,
                elements={
                    chemical_symbols[z]: (errors[keys[0]], errors[keys[1]])
                    for z, errors in by_element.items()
                },
            )
        )
    return found


def _groups(rows: list[FrameRow], meter: ErrorMeter) -> list[GroupErrors]:
    if len(meter.config_types) < 2:
        return []
    return [
        GroupErrors(
            name=name or "(none)",
            frames=sum(r.config_type == name for r in rows),
            metrics=metrics,
        )
        for name, metrics in meter.by_config_type().items()
    ]


def _timing(
    potential: "Potential", rows: list[FrameRow], seconds: float, total: float, batch_size: int
) -> Timing:
    seconds = max(seconds, 1e-9)
    return Timing(
        seconds=seconds,
        seconds_total=total,
        atoms_per_second=sum(len(r.z) for r in rows) / seconds,
        frames_per_second=len(rows) / seconds,
        device=str(potential.device),
        precision=str(potential.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        batch_size=batch_size,
    )
