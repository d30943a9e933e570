"""Where a run starts: conformers of a molecule, the structure of a file, or its frames."""

from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError

from dreibein.label.config import LabelConfig


def starting_structures(config: LabelConfig) -> list[Atoms]:
    """Structures that trajectories start from, in turn.

    Conformers of a SMILES string; the last frame of 'file', frame 3 of 'file@3', or all frames of a
    slice such as 'file@:': with more of those than trajectories, as many as there are, spread
    evenly.

    Raises:
        ValueError: The text is neither a file nor SMILES, or the charge contradicts the string.
        ImportError: rdkit is missing.
    """
    # Inside: workers import this room, and need none of what the data room imports.
    from dreibein.data.read_ase import file_of
    from dreibein.data.structures import conformers, read_structure

    path = file_of(config.structure)
    named = path == Path(config.structure)  # whatever stands in its name
    if path.is_file() and not named and ":" in config.structure.rpartition("@")[2]:
        frames = frames_of_file(config)
        count = min(len(frames), config.num_trajectories)
        return [frames[k * len(frames) // count] for k in range(count)]
    first = read_structure(config.structure, seed=config.seed)
    if path.is_file():
        return [bare(first, config)]
    stated = float(first.info["charge"])
    if config.charge not in (None, stated):
        raise ValueError(
            f"the SMILES string '{config.structure}' has a total charge of {stated:+g}, not "
            f"{config.charge:+d}; write the charge into the string, as in 'C[NH3+]'"
        )
    found = conformers(config.structure, config.num_trajectories, config.seed)
    return [bare(atoms, config) for atoms in found]


def frames_of_file(config: LabelConfig) -> list[Atoms]:
    """Every frame of the file `config.structure`, geometry, charge, spin and config type.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    from dreibein.data.read_ase import file_of

    if not file_of(config.structure).is_file():
        raise FileNotFoundError(
            f"single points need a file of frames, and there is no file '{config.structure}'"
        )
    frames: list[Atoms] = []
    try:
        for atoms in ase.io.iread(config.structure):  # all, or those of 'file@::10'
            frames.append(bare(atoms, config))
    except UnknownFileTypeError as error:
        raise ValueError(f"{config.structure}: not a format that ASE knows; use extxyz") from error
    except (OSError, ValueError, KeyError, IndexError, AssertionError, TypeError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{config.structure}: frame {len(frames)} cannot be read ({detail})"
        ) from error
    if not frames:
        raise ValueError(f"{config.structure}: holds no frames")
    return frames


def bare(atoms: Atoms, config: LabelConfig) -> Atoms:
    """Geometry, charge and spin alone: labels of another method must not stay beside the new."""
    from dreibein.data.names import CHARGE_NAMES, SPIN_NAMES

    bare = Atoms(atoms.numbers, atoms.positions, pbc=atoms.pbc)
    if atoms.pbc.any():
        bare.cell = atoms.cell.copy()
    charge = config.charge if config.charge is not None else _stated(atoms, CHARGE_NAMES, 0)
    spin = config.spin if config.spin is not None else _stated(atoms, SPIN_NAMES, 1)
    bare.info["charge"] = int(charge) if float(charge) == round(float(charge)) else float(charge)
    bare.info["spin"] = int(spin)
    if "config_type" in atoms.info:
        bare.info["config_type"] = str(atoms.info["config_type"])
    return bare


def _stated(atoms: Atoms, names: tuple[str, ...], default: int) -> Any:
    by_low = {str(key).lower(): value for key, value in atoms.info.items()}
    return next((by_low[name] for name in names if name in by_low), default)
