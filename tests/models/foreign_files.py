"""Files of torchmd-net and matgl with weights by rule; needs nothing but torch and numpy.

The recorders in benchmarks/peers write the same files for the packages themselves.
"""

import json
import math
from pathlib import Path

import torch


def by_rule(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """w[j][k] = 0.3 sin(1 + j + 0.7 k) for the j-th name in sorted order, float64."""
    found = {}
    for j, (name, shape) in enumerate(sorted(shapes.items())):
        k = torch.arange(math.prod(shape), dtype=torch.float64)
        found[name] = (0.3 * torch.sin(1.0 + j + 0.7 * k)).view(shape)
    return found


def tensors_of(record: dict) -> dict[str, torch.Tensor]:
    """All tensors of a record: those by rule, and those whose values are given."""
    given = {n: torch.tensor(v, dtype=torch.float64) for n, v in record["values"].items()}
    return by_rule(record["shapes"]) | given


def write_checkpoint(record: dict, path: Path, **more: object) -> Path:
    """A Lightning checkpoint of torchmd-net."""
    state = {f"model.{name}": tensor for name, tensor in tensors_of(record).items()}
    settings = record["hyper_parameters"] | more
    settings = {name: value for name, value in settings.items() if value != "absent"}
    content = {
        "epoch": 3,
        "global_step": 12,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": state,
        "hyper_parameters": settings,
        "optimizer_states": [],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
    }
    torch.save(content, path)
    return path


def write_folder(record: dict, folder: Path) -> Path:
    """A folder of matgl."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(record["description"]))
    torch.save(tensors_of(record), folder / "state.pt")
    return folder
