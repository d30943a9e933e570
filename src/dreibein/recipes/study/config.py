"""What a study of representations compares, and at which budget."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dreibein.data import DataConfig
from dreibein.models import LoCaFormerConfig
from dreibein.o3 import parse_reps
from dreibein.recipes.config import RunConfig
from dreibein.train import EnergyTerm, Losses, LossTerm, TrainingConfig

REPRESENTATIONS: dict[str, str] = {
    "scalars": "0",
    "cartesian-1": "1n",
    "cartesian-2": "2n",
    "cartesian-3": "3n",
    "irreps-1": "1",
    "irreps-2": "2",
    "irreps-3": "3",
    "irreps-4": "4",
    "learned": "m",
}
"""Names of representations, and up to which order or degree they go."""
FRAMES = ("soft", "gram_schmidt", "inertia", "neighbors", "random", "identity")
LARGE = 10**6  # epochs that `steps` always ends


class Piece(BaseModel):
    """One training: a point of every figure."""

    model_config = ConfigDict(frozen=True)

    representation: str
    frames: str
    size: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.representation}_{self.frames}_{self.size}_seed{self.seed}"


class StudyConfig(BaseModel):
    """A study of representations, frames and sizes of the training set, at equal steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataConfig = Field(description="what to learn from; its test frames give the errors")
    target: tuple[Literal["energy", "forces"], ...] = Field(
        ("energy", "forces"), description="labels in the loss"
    )
    representations: tuple[str, ...] = Field(
        tuple(REPRESENTATIONS), description="compared with soft frames and all frames to train on"
    )
    frames: tuple[str, ...] = Field(FRAMES, description="compared with `representation`")
    representation: str = Field("cartesian-2", description="for the comparison of frames")
    sizes: tuple[int, ...] = Field((), description="smaller training sets, for learning curves")
    curves: tuple[str, ...] = Field(
        ("scalars", "cartesian-2", "random"),
        description="representations, and frames, of the learning curves",
    )
    seeds: int = Field(2, ge=1, description="trainings of each choice")
    steps: int = Field(1000, ge=1, description="steps of every training")
    batch_size: int = Field(8, ge=1, description="structures in a step")
    lr: float = Field(2e-3, gt=0, description="highest learning rate")
    channels: int = Field(32, ge=4, description="width of messages")
    width: int = Field(64, ge=8, description="numbers of an atom's features, about, in all")
    layers: int = Field(2, ge=1, description="attention layers")
    cutoff: float = Field(4.5, gt=0, description="range of edges in Å")

    def reps_of(self, name: str) -> str:
        """Features of about `width` numbers: half of them scalars, the rest in equal channels.

        >>> from dreibein.data import DataConfig
        >>> study = StudyConfig(data=DataConfig(sources=["x"]))
        >>> study.reps_of("cartesian-2"), study.reps_of("irreps-2"), study.reps_of("learned")
        ('32x0n+3x1n+3x2n', '32x0e+4x1o+4x2e', '32x0n+m32')
        """
        if name not in REPRESENTATIONS:
            parse_reps(name)  # any representation may be given by itself
            return name
        order = REPRESENTATIONS[name]
        half = self.width // 2
        if order == "m":
            return f"{self.width - half}x0n+m{half}"
        if order == "0":
            return f"{self.width}x0n"
        top = int(order.rstrip("n"))
        cartesian = order.endswith("n")
        dims = [3**n if cartesian else 2 * n + 1 for n in range(1, top + 1)]
        count = max(1, round(half / sum(dims)))
        letters = ["n"] * top if cartesian else ["eo"[l % 2] for l in range(1, top + 1)]
        parts = [f"{count}x{n + 1}{letter}" for n, letter in enumerate(letters)]
        return "+".join([f"{self.width - half}x0{'n' if cartesian else 'e'}", *parts])

    def pieces(self, train_size: int) -> list[Piece]:
        """Every training of the study once, seeds outermost: early pieces show all choices."""
        choices = [(name, "soft", train_size) for name in self.representations]
        choices += [(self.representation, frames, train_size) for frames in self.frames]
        for name in self.curves:
            pair = (self.representation, name) if name in FRAMES else (name, "soft")
            choices += [(*pair, size) for size in self.sizes]
        found = dict.fromkeys(choices)
        return [
            Piece(representation=name, frames=frames, size=size, seed=seed)
            for seed in range(self.seeds)
            for name, frames, size in found
        ]

    def model(self, piece: Piece) -> LoCaFormerConfig:
        """The network of a piece; nothing but representation and frames differs."""
        return LoCaFormerConfig(
            reps=self.reps_of(piece.representation),
            frames=piece.frames,
            symmetry="SO(3)",
            channels=self.channels,
            heads=4,
            layers=self.layers,
            num_radial=16,
            cutoff=self.cutoff,
        )

    def run(self, piece: Piece, data: DataConfig) -> RunConfig:
        """The training of a piece."""
        forces = LossTerm() if "forces" in self.target else None
        energy = EnergyTerm() if "energy" in self.target else None
        return RunConfig(
            name="piece",
            data=data,
            model=self.model(piece),
            training=TrainingConfig(
                epochs=LARGE,
                max_steps=self.steps,
                batch_size=self.batch_size,
                lr=self.lr,
                ema_decay=0.99,
                losses=Losses(energy=energy, forces=forces, stress=None),
                model_seed=piece.seed,
                order_seed=piece.seed,
                checkpoint_epochs=LARGE,
                accelerator="cpu",
            ),
        )
