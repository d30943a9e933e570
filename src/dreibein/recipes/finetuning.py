"""A run that goes on from a trained model: other data, another level of theory, new elements."""

import difflib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dreibein.data import StructureDataset, with_neighbors
from dreibein.models import build_potential, load_model, model_file, parse_config, read_header
from dreibein.nn import Potential
from dreibein.recipes.config import FineTuneConfig, RunConfig
from dreibein.recipes.config_file import OPEN
from dreibein.recipes.targets import fit_targets
from dreibein.systems.structures import join

logger = logging.getLogger(__name__)

NETWORK = "network."
BATCH = 64  # frames evaluated at a time while references are fitted


class LowRank(nn.Module):
    """W + B A with A [.., r, in] random and B [.., out, r] zero: at the start W itself.

    (arXiv 2106.09685, equation 3, with alpha = r.)

    Args:
        weight: W [.., out, in].
        rank: r.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        *many, rows, columns = weight.shape
        self.right = nn.Parameter(torch.randn(*many, rank, columns).to(weight) / columns**0.5)
        self.left = nn.Parameter(torch.zeros(*many, rows, rank).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight in use."""
        return weight + self.left @ self.right


def starting_potential(
    config: RunConfig, train_set: StructureDataset, dtype: torch.dtype
) -> Potential:
    """The trained potential, with rows for new elements and references of the new energies.

    New elements start with the mean of the known elements' rows. References are fitted anew to
    what the trained network leaves of the energies, E - sum_i (shift + scale · network_i), which
    takes up the difference between two levels of theory; unit and shift stay.

    Raises:
        ValueError: A network that cannot take new elements, or names of weights to keep that do
            not occur.
    """
    start = _start_of(config)
    trained = load_model(start.model, dtype=dtype)
    _check_model(config, start)
    new = tuple(z for z in train_set.elements if z not in trained.elements)
    references = trained.reference_energies | dict.fromkeys(new, 0.0)
    torch.manual_seed(config.training.model_seed)
    potential = build_potential(
        config.model,
        elements=(*trained.elements, *new),
        reference_energies=references,
        scale=float(trained.scale),
        shift=float(trained.shift),
        dtype=dtype,
    )
    for head in set(potential.targets) - set(trained.targets):
        logger.info("the target %s is new: its head starts from random weights", head)
    if set(potential.targets) - set(trained.targets):
        fit_targets(potential, train_set)
    _take_over(trained, potential, len(trained.elements), new)
    if start.references == "refit" and potential.has_energy and "energy" in train_set.label_names:
        _refit_references(potential, train_set)
    return potential


def choose_weights(potential: Potential, start: FineTuneConfig) -> None:
    """Decide which weights move: all, all but some, or matrices by low-rank updates.

    Raises:
        ValueError: `freeze` names weights that do not occur, or leaves none.
    """
    moving = dict(_weights(potential))
    names = list(moving)
    for beginning in start.freeze:
        if not any(_below(name, beginning) for name in names):
            parts = sorted({".".join(n.split(".")[:k]) for n in names for k in (1, 2)})
            near = difflib.get_close_matches(beginning, parts, n=1) or [parts[0]]
            raise ValueError(
                f"finetune.freeze names '{beginning}', but no weight begins so; the nearest is "
                f"'{near[0]}'"
            )
    frozen = {n for n in names if any(_below(n, beginning) for beginning in start.freeze)}
    if frozen == set(names):
        raise ValueError("finetune.freeze leaves no weight to train: name less")
    for name, weight in moving.items():
        weight.requires_grad_(name not in frozen and not start.low_rank)
    if start.low_rank:
        for name in names:
            if name not in frozen:
                _lower(potential, name, start.low_rank)
    logger.info(
        "%s of %s weights move%s",
        f"{sum(p.numel() for p in potential.parameters() if p.requires_grad):,}",
        f"{sum(p.numel() for p in potential.parameters()):,}",
        f", matrices by updates of rank {start.low_rank}" if start.low_rank else "",
    )


def merge_low_rank(potential: Potential) -> None:
    """Write updates of low rank into the weights; the network is a plain one again."""
    for module in list(potential.modules()):
        for name in list(getattr(module, "parametrizations", {})):
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    potential.requires_grad_(True)


def origin(start: FineTuneConfig) -> dict[str, Any]:
    """What a model card says of the model it went on from."""
    path = model_file(start.model)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card = read_header(path)["card"]
    return {"file": str(path), "sha256": digest, **start.model_dump(exclude={"model"})} | {
        key: card[key] for key in ("name", "level_of_theory", "finetuned_from") if key in card
    }


def _start_of(config: RunConfig) -> FineTuneConfig:
    if config.finetune is None:
        raise ValueError("the configuration has no section finetune: name the model to start from")
    return config.finetune


def _check_model(config: RunConfig, start: FineTuneConfig) -> None:
    trained = parse_config(read_header(start.model)["config"])
    for name in type(config.model).model_fields:
        ours, theirs = getattr(config.model, name), getattr(trained, name, None)
        if name not in OPEN and ours != theirs:
            raise ValueError(
                f"model.{name} is {ours}, but {start.model} was trained with {theirs}: a run that "
                "goes on from a model keeps its hyperparameters"
            )


def _below(name: str, beginning: str) -> bool:
    return name == beginning or name.startswith(beginning.rstrip(".") + ".")


def _weights(potential: Potential) -> Iterator[tuple[str, nn.Parameter]]:
    """Weights by the names that `freeze` takes: those of the network without its prefix."""
    for name, weight in potential.named_parameters():
        yield name.removeprefix(NETWORK), weight


def _lower(potential: Potential, name: str, rank: int) -> None:
    """Let a matrix move by a product of inner dimension `rank`; smaller weights stay."""
    whole = name if name.split(".")[0] in ("targets", "terms") else NETWORK + name
    place, _, last = whole.rpartition(".")
    module = potential.get_submodule(place)
    weight = getattr(module, last)
    if weight.dim() >= 2 and min(weight.shape[-2:]) > rank:
        parametrize.register_parametrization(module, last, LowRank(weight, rank))


@torch.no_grad()
def _take_over(trained: Potential, potential: Potential, known: int, new: Sequence[int]) -> None:
    """Copy weights; tables with a row per element get mean rows for the new ones."""
    weights, goal = trained.state_dict(), potential.state_dict()
    for name, value in weights.items():
        if name not in goal or name == "reference":
            continue  # a target that is left out; references, which are set
        target = goal[name]
        if target.shape == value.shape:
            target.copy_(value)
        elif value.shape[0] == known and target.shape == (known + len(new), *value.shape[1:]):
            target[:known] = value
            target[known:] = value.mean(0)
        else:
            raise ValueError(
                f"the model has no place for {', '.join(chemical_symbols[z] for z in new)}: its "
                f"weights {name} are of shape {tuple(value.shape)}"
            )
    if new:
        symbols = ", ".join(chemical_symbols[z] for z in new)
        logger.info("new elements: %s, starting as the mean of the known ones", symbols)


def _refit_references(potential: Potential, train_set: StructureDataset) -> None:
    """Add to the references the least-squares fit of E - E_potential on the composition."""
    counts, residuals = [], []
    elements = potential.elements
    for batch in _batches(train_set, potential):
        present = batch.get("energy_mask")
        found = potential(batch, compute=("energy",))["energy"]
        rows = torch.zeros(batch.num_graphs, len(elements), dtype=torch.float64)
        column = torch.tensor([elements.index(int(z)) for z in batch.z])
        rows.index_put_((batch.batch, column), torch.ones(len(column)).double(), accumulate=True)
        keep = torch.ones(len(found), dtype=torch.bool) if present is None else present
        counts.append(rows[keep].numpy())
        residuals.append((batch.energy - found)[keep].numpy())
    composition, residual = np.concatenate(counts), np.concatenate(residuals)
    shift, *_ = np.linalg.lstsq(composition, residual, rcond=None)
    for z, change in zip(elements, shift, strict=True):
        potential.reference[z] += float(change)
    left = residual - composition @ shift
    logger.info(
        "references refitted to what the trained network leaves: %s eV; rms of the energies left "
        "%.4g eV",
        ", ".join(f"{chemical_symbols[z]} {float(potential.reference[z]):.4f}" for z in elements),
        float(np.sqrt(np.mean(left**2))),
    )


def _batches(train_set: StructureDataset, potential: Potential) -> Any:
    frames = with_neighbors(train_set, potential.cutoff)
    for first in range(0, len(frames), BATCH):
        last = min(first + BATCH, len(frames))
        yield join([frames[k] for k in range(first, last)])
