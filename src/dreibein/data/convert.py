"""Any sources to one store or one extxyz file, source by source."""

from collections.abc import Callable
from pathlib import Path

import ase.io
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator

from dreibein.data.config import DataConfig
from dreibein.data.dataset import Part, StructureDataset
from dreibein.data.interpret import SourceReport
from dreibein.data.load import check_options, check_reports, expand, provenance, read_source
from dreibein.data.store import STORE_SUFFIXES
from dreibein.data.store_writer import StoreWriter, runs
from dreibein.systems import LABELS, atomic_path, mask_name, to_ase

Progress = Callable[[int, int, str], None]


def convert_data(
    config: DataConfig, output: Path, progress: Progress | None = None
) -> tuple[int, tuple[str, ...]]:
    """Write all sources to `output` (.h5, .hdf5, .extxyz or .xyz); memory holds one source.

    Returns:
        Number of frames, and the labels written.

    Raises:
        ValueError: Whatever `load_data` refuses.
    """
    check_options(config)
    names = expand(config.sources)
    with atomic_path(output) as side:
        if output.suffix in STORE_SUFFIXES:
            return _to_store(names, config, side, progress)
        return _to_extxyz(names, config, side, progress)


def _to_store(
    names: list[str], config: DataConfig, path: Path, progress: Progress | None
) -> tuple[int, tuple[str, ...]]:
    reports: list[SourceReport] = []
    frames, labels = 0, dict[str, None]()
    with StoreWriter(path) as writer:
        for number, name in enumerate(names):
            dataset = _one(name, config, reports, progress)
            start = 0
            for table in dataset.blocks():
                writer.append(table, runs(dataset, start, start + len(table)))
                start += len(table)
            frames += start
            labels |= dict.fromkeys(dataset.label_names)
            if progress is not None:
                progress(number + 1, len(names), name)
        problems = check_reports(reports)
        if problems:
            raise ValueError(problems[0])
        writer.finish(provenance(config, reports, problems))
    return frames, tuple(labels)


def _to_extxyz(
    names: list[str], config: DataConfig, path: Path, progress: Progress | None
) -> tuple[int, tuple[str, ...]]:
    reports: list[SourceReport] = []
    frames, labels = 0, dict[str, None]()
    with open(path, "w", encoding="utf-8") as file:
        for name in names:
            dataset = _one(name, config, reports, progress)
            level = config.level_of_theory or reports[-1].entry.get("level_of_theory")
            for index in range(len(dataset)):
                ase.io.write(file, _atoms(dataset, index, level), format="extxyz")
                if progress is not None and index % 200 == 0:
                    progress(index, len(dataset), name)
            frames += len(dataset)
            labels |= dict.fromkeys(dataset.label_names)
    problems = check_reports(reports)
    if problems:
        raise ValueError(problems[0])
    return frames, tuple(labels)


def _one(
    name: str, config: DataConfig, reports: list[SourceReport], progress: Progress | None
) -> StructureDataset:
    """One source as a data set; its report is appended, its problems are refused."""
    part: Part
    part, report = read_source(name, config, progress)
    reports.append(report)
    if report.problems:
        raise ValueError(report.problems[0])
    return StructureDataset([part], provenance(config, [report], []))


def _atoms(dataset: StructureDataset, index: int, level: str | None) -> Atoms:
    """One frame for extxyz: labels in eV and Å, the user's own labels in info or arrays."""
    structure = dataset[index]
    atoms = to_ase(structure)
    atoms.info["energy_unit"] = "eV"
    atoms.info["length_unit"] = "Angstrom"
    if structure.config_type:
        atoms.info["config_type"] = structure.config_type
    if level:
        atoms.info["level_of_theory"] = level
    for name, (per_atom, _) in dataset.specs.items():
        mask = structure.get(mask_name(name))
        if mask is not None and not mask.any():
            continue
        if name in LABELS and (mask is None or mask.all()):
            continue  # written by to_ase
        values = structure[name].clone()
        if mask is not None:
            values[~mask] = float("nan")
        if per_atom and name in all_properties:
            results = atoms.calc.results if atoms.calc is not None else {}
            atoms.calc = SinglePointCalculator(atoms, **results, **{name: values.numpy()})
        elif per_atom:
            atoms.arrays[name] = values.numpy()
        else:
            atoms.info[name] = values[0].numpy() if values.ndim > 1 else float(values[0])
    return atoms
