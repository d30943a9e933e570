"""Hyperparameters of TensorNet."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dreibein.models.local_field import LocalFieldConfig
from dreibein.nn.radial import EnvelopeName, RadialName, WidthName
from dreibein.nn.targets import ENERGY, TARGETS, Targets
from dreibein.nn.terms import TermConfig

MIN_KNOTS = 8

ChargeRule = Literal["exact", "published"]


class TensorNetConfig(BaseModel):
    """Hyperparameters of TensorNet; the defaults are the published two-layer model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["tensornet"] = "tensornet"
    channels: int = Field(128, ge=2, description="tensors per atom (F)")
    layers: int = Field(2, ge=0, description="interaction layers")
    cutoff: float = Field(5.0, gt=0, description="range of edges in Å")
    radial: RadialName = Field("expnorm", description="radial basis")
    num_radial: int = Field(32, ge=2, description="radial functions (R)")
    envelope: EnvelopeName = Field(
        "smooth", description="decay to the cutoff; 'cosine' is the published one"
    )
    radial_widths: WidthName = Field(
        "shared", description="one width for all expnorm functions, or one for each"
    )
    self_loops: bool = Field(
        True, description="whether an atom hears itself: j = i, r = 0 in every sum over neighbors"
    )
    charge_scale: float = Field(
        0.1, description="lambda of the factor 1 + lambda Q; 0: the total charge has no effect"
    )
    head: Literal["mlp", "gated"] = Field(
        "mlp",
        description="energy of an atom from n = W norms + b: 'mlp': W_b silu(W_a silu(n)); "
        "'gated': MLP(n) sigmoid(MLP'(n)), four linear layers each",
    )
    symmetry: Literal["O(3)", "SO(3)"] = Field(
        "O(3)", description="O(3): YM + MY, mirror images alike; SO(3): 2YM, chiral"
    )
    field_order: int = Field(
        0,
        ge=0,
        le=4,
        description="highest power of an applied electric field in the energy, whose derivatives "
        "are dipole (from 1) and polarizability (from 2); 0: no field",
    )
    energy: bool = Field(True, description=ENERGY)
    targets: Targets = Field(default_factory=dict, description=TARGETS)
    charge_channels: int = Field(
        0,
        ge=0,
        description="sets of charges that atoms share out at every layer and that the next "
        "layer's filters hear (TensorNet2); 0: none",
    )
    charge_rule: ChargeRule = Field(
        "exact",
        description="'exact': charges sum to the total; 'published': to 1e-6 of what they lack",
    )
    charge_embedding: bool = Field(
        False, description="hear the total charge by learned vectors of elements; neutral: nothing"
    )
    spin_embedding: bool = Field(
        False, description="hear the spin multiplicity likewise; singlet: nothing"
    )
    terms: tuple[TermConfig, ...] = Field(
        (), description="physical terms added to the network's energy, such as zbl"
    )
    knots: int = Field(
        0,
        ge=0,
        description="0: filter networks are evaluated at every edge, as published; K > 0: at "
        "K + 5 distances once a step, and edges interpolate with quintic splines (much faster)",
    )

    @field_validator("knots")
    @classmethod
    def _enough(cls, knots: int) -> int:
        if 0 < knots < MIN_KNOTS:
            raise ValueError(f"knots is {knots}: use 0, or at least {MIN_KNOTS} (128 is usual)")
        return knots

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if self.radial_widths == "each" and self.radial != "expnorm":
            raise ValueError(f"radial_widths is of radial 'expnorm', not of '{self.radial}'")
        if self.charge_channels and self.knots:
            raise ValueError(
                "filters that hear charges (charge_channels) are no functions of the distance "
                "alone, so there is no table of them: set knots to 0"
            )
        return self

    def local(self) -> LocalFieldConfig:
        """The same description between local frames: matrices R_ij X R_ij^T, any map at the atom.

        Three times the channels are the rank of its bilinear maps, one for each of I, A and S.
        Self-loops, the factor of the total charge, widths of radial functions and tables of filters
        (`knots`: filters depend on directions there) have no counterpart and are left out.

        Raises:
            ValueError: A field or charges are heard, which the local form does not know.

        >>> TensorNetConfig(channels=16, layers=2).local().reps
        '16x2n'
        """
        for name in ("field_order", "charge_channels", "charge_embedding", "spin_embedding"):
            if getattr(self, name):
                raise ValueError(f"TensorNet in local frames has no {name}: leave it out")
        same = "layers", "cutoff", "radial", "num_radial", "envelope", "symmetry"
        kept = {name: getattr(self, name) for name in (*same, "energy", "targets", "terms")}
        return LocalFieldConfig(
            interaction="tensornet",
            reps=f"{self.channels}x2n",
            channels=3 * self.channels,
            **kept,
        )
