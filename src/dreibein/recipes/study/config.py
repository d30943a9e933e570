"""What a study of representations compares, and at which budget."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dreibein.data import DataConfig
from dreibein.models import LoCaFormerConfig, ModelConfig, TensorFieldConfig, TensorNetConfig
from dreibein.nn.targets import Target, Targets
from dreibein.recipes.config import RunConfig
from dreibein.recipes.study.names import (
    ANGULARS,
    EMBEDDINGS,
    ENERGY_TARGETS,
    FRAMES,
    NETWORKS,
    RADIALS,
    REPRESENTATIONS,
    canonical_target,
    require,
    require_representation,
    target_of,
)
from dreibein.train import EnergyTerm, LabelTerm, Losses, LossTerm, TrainingConfig

LARGE = 10**6  # epochs that `steps` always ends
HEADS = 4
NUM_RADIAL = 16
KNOTS = 64  # of TensorNet's table of filters, which makes its training step several times faster
Scales = dict[str, float]


class Choice(BaseModel):
    """One network of the study; all but `locaformer` have no representation and no frames."""

    model_config = ConfigDict(frozen=True)

    network: str = "locaformer"
    representation: str = ""
    frames: str = ""
    radial: str = RADIALS[0]
    angular: str = ANGULARS[0]

    @property
    def label(self) -> str:
        """Short name: what is not usual."""
        if self.network != "locaformer":
            return self.network
        named = [self.representation, "" if self.frames == "soft" else self.frames]
        named += [self.radial] if self.radial != RADIALS[0] else []
        named += [self.angular] if self.angular != ANGULARS[0] else []
        return ", ".join(name for name in named if name)


class Piece(Choice):
    """One training: a point of every figure."""

    size: int
    seed: int

    @property
    def choice(self) -> Choice:
        """The network that is trained."""
        return Choice(**{name: getattr(self, name) for name in Choice.model_fields})

    @property
    def name(self) -> str:
        """Name of its folder."""
        words = [self.network] if self.network != "locaformer" else []
        words += [word for word in (self.representation, self.frames) if word]
        words += [self.radial] if self.radial != RADIALS[0] else []
        words += [self.angular] if self.angular != ANGULARS[0] else []
        return "_".join([*words, str(self.size), f"seed{self.seed}"])


class StudyConfig(BaseModel):
    """A study of representations, frames, embeddings, networks and sizes of the training set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataConfig = Field(description="what to learn from; its test frames give the errors")
    target: tuple[str, ...] = Field(
        ("energy", "forces"),
        description="labels in the loss: of the energy, of QM9 (U0, mu, alpha), of the package "
        "(dipole), or of `typed`",
    )
    typed: Targets = Field(
        default_factory=dict, description="other labels: {my: {rank: 2, scope: atom}}"
    )
    representations: tuple[str, ...] = Field(
        tuple(REPRESENTATIONS), description="compared with soft frames and all frames to train on"
    )
    frames: tuple[str, ...] = Field(FRAMES, description="compared with `representation`")
    embeddings: tuple[str, ...] = Field(
        EMBEDDINGS, description="radial and angular functions, compared with `representation`"
    )
    networks: tuple[str, ...] = Field(
        NETWORKS[:2], description="compared, with about equal numbers of parameters"
    )
    representation: str = Field("cartesian-2", description="for the other comparisons")
    radial: str = Field(RADIALS[0], description="radial functions, likewise")
    angular: str = Field(ANGULARS[0], description="functions of the direction, likewise")
    sizes: tuple[int, ...] = Field((), description="smaller training sets, for learning curves")
    curves: tuple[str, ...] = Field(
        ("scalars", "cartesian-2", "random"),
        description="representations, frames and networks of the learning curves",
    )
    seeds: int = Field(2, ge=1, description="trainings of each choice")
    budget: Literal["steps", "time", "parameters"] = Field(
        "steps",
        description="what is equal: steps at equal width; processor time, by the measured time of "
        "a step; or steps and parameters, by the width of the features",
    )
    steps: int = Field(1000, ge=1, description="steps of every training, or of `representation`")
    batch_size: int = Field(8, ge=1, description="structures in a step")
    lr: float = Field(2e-3, gt=0, description="highest learning rate")
    channels: int = Field(32, ge=4, description="width of messages")
    width: int = Field(64, ge=8, description="numbers of an atom's features, about, in all")
    layers: int = Field(2, ge=1, description="attention layers")
    cutoff: float = Field(4.5, gt=0, description="range of edges in Å")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: dict[str, object]) -> dict[str, object]:
        """Targets by the names of their labels."""
        typed, target = values.get("typed") or {}, values.get("target")
        if isinstance(target, tuple | list) and isinstance(typed, dict):
            names = [canonical_target(str(name), typed) for name in target]
            return values | {"target": tuple(dict.fromkeys(names))}
        return values

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in (*self.representations, self.representation):
            require_representation(name)
        for kinds, known, what in (
            (self.frames, FRAMES, "kind of frames"),
            (self.embeddings, EMBEDDINGS, "embedding"),
            (self.networks, NETWORKS, "network"),
        ):
            for name in kinds:
                require(name, known, what)
        require(self.radial, RADIALS, "radial embedding")
        require(self.angular, ANGULARS, "angular embedding")
        for name in self.curves:
            if name not in FRAMES and name not in NETWORKS:
                require_representation(name)
        if not self.target:
            raise ValueError("a study needs a target: energy,forces or U0,mu,alpha, say")
        return self

    @property
    def reference(self) -> Choice:
        """The choice of which all other comparisons change one thing."""
        return Choice(
            representation=self.representation,
            frames="soft",
            radial=self.radial,
            angular=self.angular,
        )

    def reps_of(self, name: str, width: int | None = None) -> str:
        """Features of about `width` numbers: half of them scalars, the rest in equal channels.

        >>> from dreibein.data import DataConfig
        >>> study = StudyConfig(data=DataConfig(sources=["x"]))
        >>> study.reps_of("cartesian-2"), study.reps_of("irreps-2"), study.reps_of("learned")
        ('32x0n+3x1n+3x2n', '32x0e+4x1o+4x2e', '32x0n+m32')
        """
        if name not in REPRESENTATIONS:
            return name  # any representation may be given by itself
        width = width or self.width
        order, half = REPRESENTATIONS[name], width // 2
        if order == "m":
            return f"{width - half}x0n+m{half}"
        if order == "0":
            return f"{width}x0n"
        top = int(order.rstrip("n"))
        cartesian = order.endswith("n")
        dims = [3**n if cartesian else 2 * n + 1 for n in range(1, top + 1)]
        count = max(1, round(half / sum(dims)))
        letters = ["n"] * top if cartesian else ["eo"[l % 2] for l in range(1, top + 1)]
        parts = [f"{count}x{n + 1}{letter}" for n, letter in enumerate(letters)]
        return "+".join([f"{width - half}x0{'n' if cartesian else 'e'}", *parts])

    def choices(self) -> list[Choice]:
        """Every network of the study once."""
        usual = self.reference
        found = [usual.model_copy(update={"representation": name}) for name in self.representations]
        found += [usual.model_copy(update={"frames": name}) for name in self.frames]
        found += [self._embedded(name) for name in self.embeddings]
        found += [self.choice_of(name) for name in self.networks]
        found += [self.choice_of(name) for name in self.curves] if self.sizes else []
        if self.budget != "steps":  # which compares with it
            found.append(usual)
        return list(dict.fromkeys(found))

    def choice_of(self, name: str) -> Choice:
        """The network, frames or representation of this name, the rest as usual."""
        if name == "locaformer":
            return self.reference
        if name in NETWORKS:
            return Choice(network=name, radial=self.radial, angular=self.angular)
        return self.reference.model_copy(
            update={"frames" if name in FRAMES else "representation": name}
        )

    def _embedded(self, name: str) -> Choice:
        kind = "radial" if name in RADIALS else "angular"
        return self.reference.model_copy(update={kind: name})

    def pieces(self, train_size: int) -> list[Piece]:
        """Every training of the study once, seeds outermost: early pieces show all choices."""
        pairs = [(choice, train_size) for choice in self.choices()]
        pairs += [(self.choice_of(name), size) for name in self.curves for size in self.sizes]
        return [
            Piece(**choice.model_dump(), size=size, seed=seed)
            for seed in range(self.seeds)
            for choice, size in dict.fromkeys(pairs)
        ]

    @property
    def of_energy(self) -> tuple[str, ...]:
        """Targets that one energy and its derivatives give."""
        names = tuple(name for name in self.target if name in ENERGY_TARGETS)
        # one pass through the network serves all heads: an energy without derivatives is one more
        return () if names == ("energy",) and len(self.target) > 1 else names

    def heads(self) -> dict[str, Target]:
        """Targets that have heads of their own, by label; `energy` is that of `u0` there."""
        rest = [name for name in self.target if name not in self.of_energy]
        return {label_of(name): target_of(label_of(name), self.typed) for name in rest}

    def model(self, choice: Choice, width: int | None = None) -> ModelConfig:
        """The network of a choice; `width` is that of features, tensors or irreps."""
        width = width or self.width
        shared = {
            "layers": self.layers,
            "cutoff": self.cutoff,
            "radial": choice.radial,
            "num_radial": NUM_RADIAL,
            "energy": bool(self.of_energy),
            "targets": self.heads(),
        }
        if choice.network == "tensornet":
            return TensorNetConfig(channels=width, knots=KNOTS, **shared)
        if choice.network == "tensor_field":
            return TensorFieldConfig(
                irreps=f"{width}x0e+{width}x1o+{width}x2e",
                interaction="attention",
                heads=HEADS,
                channels=self.channels,
                **shared,
            )
        return LoCaFormerConfig(
            reps=self.reps_of(choice.representation, width),
            frames=choice.frames,
            angular=choice.angular,
            symmetry="SO(3)",
            channels=self.channels,
            heads=HEADS,
            **shared,
        )

    def run(
        self, piece: Piece, data: DataConfig, scales: Scales, width: int, steps: int
    ) -> RunConfig:
        """The training of a piece.

        Args:
            piece: Which.
            data: Its frames.
            scales: What errors of each label are divided by in the loss.
            width: Of the network.
            steps: Of the optimizer.
        """
        losses = Losses(
            energy=EnergyTerm() if "energy" in self.of_energy else None,
            forces=LossTerm() if "forces" in self.of_energy else None,
            stress=LossTerm(weight=10.0, delta=0.001) if "stress" in self.of_energy else None,
            **{name: LabelTerm(scale=scales[name]) for name in self.heads()},
        )
        return RunConfig(
            name="piece",
            data=data,
            model=self.model(piece.choice, width),
            training=TrainingConfig(
                epochs=LARGE,
                max_steps=steps,
                batch_size=self.batch_size,
                lr=self.lr,
                ema_decay=0.99,
                losses=losses,
                model_seed=piece.seed,
                order_seed=piece.seed,
                checkpoint_epochs=LARGE,
                accelerator="cpu",
            ),
        )


def label_of(name: str) -> str:
    """The label of a head: an energy among other heads is called u0."""
    return "u0" if name == "energy" else name
