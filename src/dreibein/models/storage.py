"""Model files: one safetensors file, its header in JSON. Loading never executes code."""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreibein import __version__
from dreibein.models.catalog import NETWORKS, build_potential, parse_config
from dreibein.nn.committee import CALIBRATED, Committee
from dreibein.nn.potential import Potential
from dreibein.nn.uncertainty import LastLayerUncertainty
from dreibein.systems.files import atomic_path

FORMAT = 1
MODEL_NAME = "model.safetensors"  # inside the folder of a run
MEMBERS = "member_*"  # runs inside the folder of an ensemble
ENSEMBLE_NAME = "ensemble.json"
UNITS = {"length": "Å", "energy": "eV", "forces": "eV/Å", "stress": "eV/Å^3", "charge": "e"}
DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16")}

# UPGRADES[k] turns a header of format k into one of format k + 1
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def save_model(potential: Potential, path: str | Path) -> Path:
    """Write a potential: weights, hyperparameters, elements, units, references, card.

    Args:
        potential: What to save.
        path: File name, by habit ending in `.safetensors`; written to the side, then renamed.

    Raises:
        OSError: The file cannot be written; what stood there before is untouched.
    """
    header = {
        "format": FORMAT,
        "config": potential.config.model_dump(),
        "elements": list(potential.elements),
        "dtype": str(potential.dtype).removeprefix("torch."),
        "units": UNITS,
        "card": potential.card,
        "versions": {
            "dreibein": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in potential.state_dict().items()
    }
    path = Path(path)
    with atomic_path(path) as side:
        try:
            save_file(tensors, side, metadata={"dreibein": json.dumps(header)})
        except SafetensorError as error:  # carries the operating system's message
            raise OSError(f"cannot write the model file {path}: {error}") from error
    return path


def model_file(path: str | Path) -> Path:
    """The model file itself: `path`, or the model inside it when it is the folder of a run.

    Raises:
        OSError: No such file, or a folder without a model.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / MODEL_NAME).is_file():
            members = ensemble_members(path)
            if members:
                raise FileNotFoundError(
                    f"the folder {path} holds an ensemble of {len(members)} models, and this needs "
                    f"one: name {members[0]}"
                )
            raise FileNotFoundError(
                f"the folder {path} holds no {MODEL_NAME}: give a model file or a finished run"
            )
        return path / MODEL_NAME
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}")
    return path


def read_header(path: str | Path) -> dict[str, Any]:
    """The header of a model file, brought to today's format; the weights are not read.

    Args:
        path: A file written by `save_model`, or the folder of a run.

    Raises:
        OSError: No such file.
        ValueError: Not a model file, truncated, or of a newer format than this version reads.
    """
    path = model_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("dreibein")
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole model file ({error}); copy or train it again"
        ) from error
    if text is None:
        raise ValueError(f"{path} is a safetensors file, but not a model written by dreibein")
    header = _parsed(text)
    if header is None:
        raise ValueError(f"{path} has a damaged header; copy or train it again")
    if header["format"] > FORMAT:
        writer = header.get("versions", {}).get("dreibein", "a later version")
        raise ValueError(
            f"{path} has model format {header['format']}, this version reads up to {FORMAT}; "
            f"update dreibein (the file was written by {writer})"
        )
    for version in range(header["format"], FORMAT):
        header = UPGRADES[version](header)
    return header


def _parsed(text: str) -> dict[str, Any] | None:
    """The header if it is one: a JSON object with a format number."""
    try:
        header = json.loads(text)
    except json.JSONDecodeError:
        return None
    known = isinstance(header, dict) and isinstance(header.get("format"), int)
    return header if known and header["format"] >= 1 else None


def ensemble_members(path: str | Path) -> list[Path]:
    """Folders of the finished members of an ensemble, in order; empty for anything else."""
    path = Path(path)
    if not path.is_dir() or (path / MODEL_NAME).exists():
        return []
    members = [p for p in path.glob(MEMBERS) if (p / MODEL_NAME).is_file()]
    return sorted(members, key=lambda p: (len(p.name), p.name))


def load_model(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Potential:
    """Read a potential, in evaluation mode.

    Args:
        path: A file written by `save_model`, the folder of a run, or the folder of an ensemble
            (then a `dreibein.nn.Committee`).
        device: Where to put it.
        dtype: Precision of the network; by default the one it was saved in.

    Raises:
        OSError: No such file.
        ValueError: The file is not a model, is damaged, or does not fit its own header.
    """
    members = ensemble_members(path)
    if len(members) > 1:
        committee = Committee([load_model(p, device=device, dtype=dtype) for p in members])
        record = Path(path) / ENSEMBLE_NAME
        found = json.loads(record.read_text()) if record.is_file() else {}
        committee.card["disagreement"] = found.get("disagreement_ev_per_a")
        factors = {name: found.get(f"{name}_factor") for name in CALIBRATED}
        committee.factors = {name: float(f) for name, f in factors.items() if f is not None}
        return committee
    path = model_file(path)
    header = read_header(path)
    try:
        potential = _unfilled(header)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _fill(potential, tensors)
    except KeyError as error:
        raise ValueError(f"{path}: the header lacks {error}; save the model again") from error
    except ValidationError as error:
        places = [[str(part) for part in e["loc"] if part not in NETWORKS] for e in error.errors()]
        fields = ", ".join(".".join(place) for place in places)
        raise ValueError(f"{path}: hyperparameters not understood ({fields})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return potential.to(device=device, dtype=dtype or potential.dtype).eval()


def _unfilled(header: dict[str, Any]) -> Potential:
    """The potential that a header describes, its weights still random."""
    if header["dtype"] not in DTYPES:
        raise ValueError(f"unknown precision '{header['dtype']}': use {' or '.join(DTYPES)}")
    return build_potential(
        parse_config(header["config"]),
        elements=tuple(header["elements"]),
        dtype=DTYPES[header["dtype"]],
        card=header["card"],
    )


def _fill(potential: Potential, tensors: dict[str, Tensor]) -> None:
    """Put the weights in, or say in one line what does not fit."""
    root = tensors.get("uncertainty.root")
    if root is not None:
        potential.uncertainty = LastLayerUncertainty(len(root))
    expected = potential.state_dict()
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected)
    wrong = [n for n in sorted(expected.keys() & tensors) if expected[n].shape != tensors[n].shape]
    if missing or extra or wrong:
        parts = (("lacking", missing), ("unknown", extra), ("of another shape", wrong))
        said = "; ".join(f"{what}: {names[0]} ({len(names)})" for what, names in parts if names)
        raise ValueError(f"the weights do not fit the hyperparameters ({said})")
    potential.load_state_dict(tensors)
