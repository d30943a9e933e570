"""Every potential that must obey the laws. A new model is one more line in `CASES`.

What a model does not promise it says here in writing: `chiral`, `smooth_order`, `extensive`,
`finite`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from dreibein.models import (
    LoCaFormerConfig,
    LocalFieldConfig,
    LocalizedConfig,
    ModelConfig,
    TensorFieldConfig,
    TensorNetConfig,
    build_potential,
)
from dreibein.nn import Potential

ELEMENTS = (1, 6, 8)
CUTOFF = 3.5  # Å; larger than the cells of laws/structures.py
SIZES = {"channels": 8, "num_radial": 6, "cutoff": CUTOFF}
TERMS = ({"term": "zbl", "cutoff": 2.5}, {"term": "dispersion_d2", "cutoff": 5.0})


@dataclass(frozen=True)
class Case:
    """One potential in float64.

    Attributes:
        name: Shown by pytest.
        build: Makes it, seeded.
        chiral: It tells mirror images apart, and must.
        smooth_order: Derivatives of the energy that do not jump at the cutoff.
        extensive: Distant molecules do not share anything, such as the total charge.
        finite: Coincident atoms have a finite energy; bare nuclei have not.
    """

    name: str
    build: Callable[[], Potential]
    chiral: bool = False
    smooth_order: int = 2
    extensive: bool = True
    finite: bool = True

    def __str__(self) -> str:
        return self.name


def tensornet(*, gain: float = 1.0, **options) -> Callable[[], Potential]:
    """A tiny TensorNet; `gain` multiplies its weights, as training does."""

    config = TensorNetConfig(channels=8, num_radial=6, cutoff=CUTOFF, **options)
    return seeded(config, gain)


def locaformer(**options) -> Callable[[], Potential]:
    """A tiny LoCaFormer with soft frames."""
    sizes = {"channels": 8, "heads": 2, "num_radial": 6, "cutoff": CUTOFF}
    return seeded(LoCaFormerConfig(**sizes, **options))


def localized(convolution: str, **options) -> Callable[[], Potential]:
    """A tiny network of PyG convolutions between soft frames."""
    sizes = {"channels": 8, "num_radial": 6, "cutoff": CUTOFF, "reps": "4x0n+2x1n+1x2e"}
    return seeded(LocalizedConfig(convolution=convolution, **sizes, **options))


def tensor_field(**options) -> Callable[[], Potential]:
    """A tiny tensor field network in tensor-product form."""
    sizes = {"channels": 8, "num_radial": 6, "cutoff": CUTOFF, "layers": 1}
    irreps = {"irreps": "4x0e+4x1o+4x2e"}
    return seeded(TensorFieldConfig(**sizes | irreps | options))


def local_field(interaction: str, **options) -> Callable[[], Potential]:
    """A tiny network of message passing between soft frames."""
    sizes = SIZES | {"layers": 1}
    reps = {"reps": "4x0n+2x1n+1x2e"}
    return seeded(LocalFieldConfig(interaction=interaction, **sizes | reps | options))


def seeded(config: ModelConfig, gain: float = 1.0) -> Callable[[], Potential]:
    """Builds a potential of these hyperparameters, always with the same weights."""

    @lru_cache
    def build() -> Potential:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            potential = build_potential(
                config,
                elements=ELEMENTS,
                reference_energies={1: -0.5, 6: -1.25, 8: -2.0},
                scale=1.5,
                dtype=torch.float64,
            )
        with torch.no_grad():
            for parameter in potential.parameters():
                parameter.mul_(gain)
        return potential

    return build


CASES = (
    Case("0-layers", tensornet(layers=0)),
    Case("1-layer", tensornet(layers=1)),
    Case("2-layers", tensornet(layers=2)),
    Case("sharp", tensornet(layers=2, gain=2.0)),
    Case("gaussian", tensornet(layers=1, radial="gaussian")),
    Case("bessel", tensornet(layers=1, radial="bessel")),
    Case("SO(3)-1-layer", tensornet(layers=1, symmetry="SO(3)", gain=2.0), chiral=True),
    Case("SO(3)-2-layers", tensornet(layers=2, symmetry="SO(3)", gain=2.0), chiral=True),
    Case("knots", tensornet(layers=2, knots=24)),
    Case("cosine", tensornet(layers=1, envelope="cosine"), smooth_order=1),
    Case("terms", tensornet(layers=1, terms=TERMS), finite=False),
    Case("charges", tensornet(layers=1, charge_channels=2), extensive=False),
    Case("charge-and-spin", tensornet(layers=1, charge_embedding=True, spin_embedding=True)),
    Case("LoCaFormer", locaformer(reps="4x0n+2x1n+1x2e", layers=1)),
    Case("GATv2Conv", localized("GATv2Conv", layers=1, options={"heads": 3})),
    Case("GINEConv", localized("GINEConv", layers=1)),
    Case("NequIP-like", tensor_field(layers=2, irreps="4x0e+3x0o+2x1o+2x1e+2x2e")),
    Case("MACE-like", tensor_field(correlation=3)),
    Case("Equiformer-like", tensor_field(interaction="attention", heads=2)),
    Case("PaiNN-like", tensor_field(interaction="painn", irreps="4x0e+4x1o", layers=2)),
    Case("EGNN-like", tensor_field(interaction="egnn", irreps="4x0e+1x1o", layers=2)),
    Case("local-MACE", local_field("convolution", correlation=3)),
    Case("local-PaiNN", local_field("painn")),
    Case("local-EGNN", local_field("egnn")),
    Case("local-TensorNet", local_field("tensornet", reps="3x2n")),
    Case(
        "SO(3)-local-TensorNet",
        local_field("tensornet", reps="3x2n", symmetry="SO(3)"),
        chiral=True,
    ),
)
