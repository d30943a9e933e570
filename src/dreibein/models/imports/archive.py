"""Files written by `torch.save`, read without running anything that is in them."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch


def read_archive(path: Path) -> Any:
    """Tensors, containers and plain values of a file; anything else in it is refused.

    Raises:
        OSError: No such file.
        ValueError: The file is not such an archive, or holds more than data.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an archive written by torch.save (PyTorch 1.6 or newer)")
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise ValueError(f"{path} is a TorchScript program; give the checkpoint it came from")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than data ({_cause(error)}), and nothing in it is run; save its "
            "state_dict and hyper_parameters as plain values, or ask its owner to"
        ) from error
    except (RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as an archive of tensors: {error}") from error


def _cause(error: Exception) -> str:
    """The object that was refused, from PyTorch's long message."""
    text = " ".join(str(error).split())
    for mark in ("Unsupported global: GLOBAL ", "Unsupported class ", "Unsupported operand "):
        if mark in text:
            return text.split(mark)[1].split(" ")[0].strip("`'\",:")
    return text[:120]
