"""A potential from any convolution of PyG that can be smooth, between local frames.

    x_i = W s_i                                                      invariants, local features
    x_i <- x_i + conv(norm x_i, norm x_{j->i}, e_ij, phi_ij),        x_i <- x_i + MLP(x_i)
    E_i = MLP(norm x_i)

with frames, carried features x_{j->i} and e_ij = W_r radial(r_ij) * W_a Y(R_i r_ij / |r_ij|) as in
LoCaFormer. The convolution is PyG's own, with its own weights; its messages fade out with phi
(`dreibein.nn.SmoothConvolution` says how), so that energies and forces are smooth.
"""

from typing import Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from dreibein.frames import Frames
from dreibein.nn.environment import (
    EdgeFilter,
    EnvironmentConfig,
    FrameNetwork,
    GlobalFeatures,
    LocalEnvironment,
)
from dreibein.nn.localization import check_convolution, check_options, smooth_convolution
from dreibein.o3 import parse_reps
from dreibein.systems.graphs import Graph


class LocalizedConfig(EnvironmentConfig):
    """Hyperparameters of a localized PyG network."""

    architecture: Literal["localized"] = "localized"
    convolution: str = Field(
        "TransformerConv", description="class of torch_geometric.nn.conv, such as GATv2Conv"
    )
    options: dict[str, bool | int | float] = Field(
        default_factory=dict, description="hyperparameters of the convolution, such as heads: 4"
    )
    reps: str = Field(
        "32x0n+8x1n+4x2n",
        description="features of an atom: Cartesian (8x1n), irreps (8x1o), learned (m64), or mixed",
    )
    layers: int = Field(3, ge=0, description="convolutions")

    @field_validator("convolution")
    @classmethod
    def _offered(cls, value: str) -> str:
        check_convolution(value)
        return value

    @field_validator("options")
    @classmethod
    def _known(
        cls, value: dict[str, bool | int | float], info: ValidationInfo
    ) -> dict[str, bool | int | float]:
        if "convolution" in info.data:
            check_options(info.data["convolution"], value)
        return value

    @field_validator("reps")
    @classmethod
    def _readable(cls, value: str) -> str:
        parse_reps(value)
        return value


class LocalizedNetwork(FrameNetwork):
    """Atomic energies from PyG convolutions in local frames.

    Args:
        config: Hyperparameters.
        elements: Atomic numbers that occur; each gets a row of the element table.

    Raises:
        ValueError: No elements, or one outside 0 ... 118; heads that do not divide the width.
    """

    def __init__(self, config: LocalizedConfig, elements: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        self.elements = tuple(elements)
        reps, channels = parse_reps(config.reps), config.channels
        self.environment = LocalEnvironment(config, self.elements)
        self.filter = EdgeFilter(config.num_radial, self.environment.num_angular, channels)
        self.start = nn.Linear(channels, reps.dim)
        self.norms = nn.ModuleList(nn.LayerNorm(reps.dim) for _ in range(config.layers))
        self.convolutions = nn.ModuleList(
            smooth_convolution(
                config.convolution,
                reps,
                edge_width=channels,
                hidden=channels,
                options=config.options,
            )
            for _ in range(config.layers)
        )
        self.updates = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(reps.dim), _mlp(reps.dim, 2 * channels, reps.dim))
            for _ in range(config.layers)
        )
        self.head = nn.Sequential(nn.LayerNorm(reps.dim), _mlp(reps.dim, channels, 1))
        self.global_features = GlobalFeatures(reps.dim, channels) if config.targets else None
        if not config.energy:  # drawn before it goes: the other weights do not depend on it
            del self.head
        self.to(torch.get_default_dtype())  # constants are made in float64

    def features(self, graph: Graph) -> tuple[Tensor, Frames]:
        """Local features after the last layer [N, reps.dim], and the frames they are written in."""
        scalars, transport, edges = self.environment(graph)
        edge_attr = self.filter(edges)
        x = self.start(scalars)
        for norm, convolution, update in zip(
            self.norms, self.convolutions, self.updates, strict=True
        ):
            x = x + convolution(norm(x), transport, edge_attr, edges.envelope)
            x = x + update(x)
        return x, transport.frames


def _mlp(inward: int, hidden: int, outward: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inward, hidden), nn.SiLU(), nn.Linear(hidden, outward))
