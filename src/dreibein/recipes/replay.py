"""Old training data beside the new: replayed against forgetting, and evaluated to see it."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data

from dreibein.data import Splits, StructureDataset, load_splits
from dreibein.models import load_model
from dreibein.models.storage import MODEL_NAME
from dreibein.nn import Potential
from dreibein.recipes.config import FineTuneConfig
from dreibein.recipes.run_folder import CONFIG_NAME
from dreibein.recipes.run_frames import run_splits
from dreibein.recipes.uncertainty import batches
from dreibein.systems import mask_name
from dreibein.train import Mixture
from dreibein.train.frames import Structures

logger = logging.getLogger(__name__)

MOST_EVALUATED = 500  # old held-out frames
PREDICTED = ("energy", "forces")
INSTEAD = "finetune.replay.data"


class OldFrames:
    """Old frames whose energies are moved to the new references: E + sum_i change_{z_i}.

    What the old model leaves of an old energy is then the same before and after the references
    were fitted to another level of theory.

    Args:
        frames: As they were.
        change: New reference minus old by atomic number [119], eV.
        indices: Those to take; None for all.
        predicted: Labels in place of the frames' own, one entry a frame.
    """

    def __init__(
        self,
        frames: StructureDataset,
        change: Tensor,
        indices: list[int] | None = None,
        predicted: list[dict[str, Tensor]] | None = None,
    ) -> None:
        self.frames, self.change, self.predicted = frames, change, predicted
        self.indices = list(range(len(frames))) if indices is None else indices
        self.provenance = frames.provenance

    @property
    def label_names(self) -> tuple[str, ...]:
        """Those of the frames, or what was predicted."""
        return self.frames.label_names if self.predicted is None else PREDICTED

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Data:
        structure = self.frames[self.indices[index]]
        if self.predicted is not None:
            for name in self.frames.label_names:
                del structure[name]
                structure.pop(mask_name(name), None)
            structure.update(self.predicted[index])
        elif "energy" in structure:
            structure.energy = structure.energy + self.change[structure.z].sum()
        return structure

    def describe(self, index: int) -> str:
        """File and frame number there."""
        return self.frames.describe(self.indices[index])


@dataclass(frozen=True)
class OldData:
    """What the old model was trained on, and held back from it.

    Attributes:
        splits: The old frames.
        change: New reference minus old by atomic number [119], eV.
    """

    splits: Splits
    change: Tensor

    def held_out(self) -> OldFrames | None:
        """Old test frames, or validation frames where there are none; at most 500 of them."""
        frames = self.splits.test or self.splits.validation
        if frames is None or not len(frames):
            return None
        count = min(MOST_EVALUATED, len(frames))
        return OldFrames(frames, self.change, [k * len(frames) // count for k in range(count)])


def old_data(start: FineTuneConfig, potential: Potential) -> OldData | None:
    """The old data: those that are named, else of the run in whose folder the model is.

    Args:
        start: What the run goes on from.
        potential: The same with its new references.

    Raises:
        ValueError: A replay is wanted and there are no data.
    """
    replay = start.replay
    try:
        if replay is not None and replay.data is not None:
            splits = load_splits(replay.data)
        else:
            folder = Path(start.model)
            folder = folder.parent if folder.name == MODEL_NAME else folder
            if not (folder / CONFIG_NAME).is_file() and replay is None:
                return None
            splits = run_splits(folder, INSTEAD)
    except (ValueError, OSError) as error:
        if replay is not None:
            raise
        logger.info("the old data cannot be read, so no errors on them: %s", error)
        return None
    old = load_model(start.model).reference
    change = torch.nan_to_num(potential.reference.cpu() - old)
    return OldData(splits, change)


def mixture(
    new: Structures, old: OldData | None, start: FineTuneConfig | None, potential: Potential
) -> Structures:
    """The training frames, and among them those that are replayed."""
    if start is None or start.replay is None or old is None:
        return new
    frames, replay = old.splits.train, start.replay
    predicted = None
    if replay.labels == "model":
        predicted = _predictions(frames, potential)
    pool = OldFrames(frames, old.change, predicted=predicted)
    drawn = max(1, round(len(new) * replay.share / (1.0 - replay.share)))
    logger.info(
        "replay: %d of %d old frames in every epoch beside %d new ones, labels of the %s",
        drawn,
        len(pool),
        len(new),
        replay.labels,
    )
    return Mixture(new, pool, drawn)


def _predictions(frames: StructureDataset, potential: Potential) -> list[dict[str, Tensor]]:
    """Energy and forces of every frame, as the potential gives them now."""
    found: list[dict[str, Tensor]] = []
    was_training = potential.training
    potential.eval()
    for batch in batches(frames, potential):
        values = potential(batch, compute=PREDICTED)
        for k, (first, last) in enumerate(zip(batch.ptr[:-1], batch.ptr[1:], strict=True)):
            forces = values["forces"][first:last].cpu()
            found.append({"energy": values["energy"][k : k + 1].cpu(), "forces": forces})
    potential.train(was_training)
    return found
