"""The restart file: everything that decides how a run goes on."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import dict2constraint

from dreibein.systems import atomic_path

RESTART_NAME = "restart.npz"
_FORMAT = 1


@dataclass
class RestartPoint:
    """Everything that decides how a run goes on.

    Attributes:
        atoms: Positions, momenta, masses, cell, pbc, charge, spin, constraints.
        step: Steps done.
        integrator: Variables of thermostat and barostat, name -> array.
        noise: State of the random number generator.
        config: The run's `DynamicsConfig` as a dictionary.
        sizes: Bytes of each appended file at this step, name -> bytes.
        last_frame: Step of the last frame in the trajectory.
    """

    atoms: Atoms
    step: int
    integrator: dict[str, np.ndarray]
    noise: dict[str, Any]
    config: dict[str, Any]
    sizes: dict[str, int]
    last_frame: int


def write_restart(folder: Path, point: RestartPoint) -> None:
    """Replace the restart file of `folder`; the one before survives every failure."""
    atoms = point.atoms
    about = {
        "format": _FORMAT,
        "step": point.step,
        "noise": point.noise,
        "config": point.config,
        "sizes": point.sizes,
        "last_frame": point.last_frame,
        "info": {key: atoms.info[key] for key in ("charge", "spin") if key in atoms.info},
        "constraints": [constraint.todict() for constraint in atoms.constraints],
    }
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {
        "about": np.array(json.dumps(about, default=_plain)),
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "momenta": atoms.get_momenta(),
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
    }
    if atoms.has("masses"):  # others than those of the elements
        arrays["masses"] = atoms.get_masses()
    arrays |= {f"integrator_{name}": value for name, value in point.integrator.items()}
    np.savez(buffer, **arrays)
    with atomic_path(folder / RESTART_NAME) as path:
        path.write_bytes(buffer.getvalue())


def read_restart(folder: Path) -> RestartPoint:
    """Read the restart file of `folder`.

    Raises:
        ValueError: There is none, or it is damaged or of a newer format.
    """
    path = folder / RESTART_NAME
    if not path.is_file():
        raise ValueError(f"{folder} holds no {RESTART_NAME} to continue from; start a new run")
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in file.files}
        about = json.loads(str(values["about"]))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged and cannot be continued: {error}") from error
    if about["format"] > _FORMAT:
        raise ValueError(
            f"{path} has format {about['format']} and this dreibein reads up to {_FORMAT}; "
            "upgrade dreibein"
        )
    atoms = Atoms(
        numbers=values["numbers"],
        positions=values["positions"],
        masses=values.get("masses"),
        cell=values["cell"],
        pbc=values["pbc"],
        info=about["info"],
        constraint=[dict2constraint(entry) for entry in about["constraints"]],
    )
    atoms.set_momenta(values["momenta"], apply_constraint=False)
    prefix = "integrator_"
    return RestartPoint(
        atoms=atoms,
        step=about["step"],
        integrator={
            name.removeprefix(prefix): value
            for name, value in values.items()
            if name.startswith(prefix)
        },
        noise=about["noise"],
        config=about["config"],
        sizes=about["sizes"],
        last_frame=about["last_frame"],
    )


def _plain(value: Any) -> Any:
    """NumPy values as JSON knows them."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
