"""What models on local frames have in common: invariants of atoms, their frames, their edges."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from dreibein.frames import (
    Frames,
    Transport,
    gram_schmidt,
    identity,
    inertia_frames,
    neighbor_frames,
    polar,
    random_global,
    soft_frames,
)
from dreibein.nn.elements import element_rows
from dreibein.nn.embeddings import HarmonicEmbedding, SphereEmbedding, UnitEmbedding
from dreibein.nn.frame_predictor import FramePredictor
from dreibein.nn.radial import (
    Envelope,
    EnvelopeName,
    RadialName,
    lengths_and_units,
    radial_basis,
)
from dreibein.nn.targets import ENERGY, TARGETS, Targets
from dreibein.nn.terms import TermConfig
from dreibein.o3 import Irreps
from dreibein.systems.graphs import Graph

FRAME_SCALARS = 16
"""Invariants of an atom that its frame depends on."""
VECTOR = Irreps("1x1o")


class EnvironmentConfig(BaseModel):
    """Hyperparameters of frames and edges."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: int = Field(64, ge=2, description="width of messages and of hidden layers")
    cutoff: float = Field(5.0, gt=0, description="range of edges in Å")
    radial: RadialName = Field("expnorm", description="radial basis")
    num_radial: int = Field(32, ge=2, description="radial functions")
    angular: Literal["harmonics", "sphere", "vector"] = Field(
        "harmonics", description="functions of the direction in the receiver's frame"
    )
    lmax: int = Field(2, ge=0, le=8, description="highest degree of 'harmonics'")
    envelope: EnvelopeName = Field("smooth", description="decay to the cutoff")
    frames: Literal[
        "soft", "gram_schmidt", "polar", "inertia", "neighbors", "random", "identity"
    ] = Field(
        "soft",
        description="learned: 'soft' (smooth everywhere), 'gram_schmidt', 'polar' (jump where no "
        "frame exists); from the geometry: 'inertia', 'neighbors' (jump at ties); not "
        "equivariant: 'random' (augmentation: a turn for each call in training), 'identity'",
    )
    frame_eps: float = Field(0.01, gt=0, description="squared length below which soft axes fade")
    symmetry: Literal["O(3)", "SO(3)"] = Field(
        "O(3)", description="O(3): mirror images alike; SO(3): chiral"
    )
    energy: bool = Field(True, description=ENERGY)
    targets: Targets = Field(default_factory=dict, description=TARGETS)
    terms: tuple[TermConfig, ...] = Field(
        (), description="physical terms added to the network's energy, such as zbl"
    )


class EdgeFeatures:
    """What all layers share of an edge: radial [E, R] and angular [E, A] features, phi [E]."""

    def __init__(self, radial: Tensor, angular: Tensor, envelope: Tensor) -> None:
        self.radial, self.angular, self.envelope = radial, angular, envelope


class EdgeFilter(nn.Module):
    """e = (W_r radial + b) * (W_a angular + b), any function of the edge vector.

    Args:
        num_radial: R.
        num_angular: A.
        channels: width of e.
    """

    def __init__(self, num_radial: int, num_angular: int, channels: int) -> None:
        super().__init__()
        self.from_radial = nn.Linear(num_radial, channels)
        self.from_angular = nn.Linear(num_angular, channels)

    def forward(self, edges: EdgeFeatures) -> Tensor:
        """Features [E, channels]."""
        return self.from_radial(edges.radial) * self.from_angular(edges.angular)


class GlobalFeatures(nn.Module):
    """Local features as tensors in the global frame: F x (0e + 1o + 2e) of each atom.

    Linear in the local features, which are invariant, then turned out of the frames. Soft frames
    leave zero where the site has no axes, so isotropic parts stand in 0e alone.

    Args:
        dim: Width of the local features.
        channels: F.
    """

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.reps = Irreps.harmonics(2)
        self.linear = nn.Linear(dim, channels * self.reps.dim)

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """Features [N, 9, F] from local ones [N, dim]."""
        local = self.linear(x).unflatten(-1, (self.reps.dim, self.channels))
        parts = []
        for block, part in zip(self.reps, local.split([3**0, 3, 5], 1), strict=True):
            rep = Irreps(f"{self.channels}x{block[1]}")
            turned = frames.to_global(rep, part.mT.flatten(1))
            parts.append(turned.unflatten(-1, (self.channels, -1)).mT)
        return torch.cat(parts, 1)


class FrameNetwork(nn.Module):
    """Atomic energies from local features: what all networks between local frames share.

    A network has `config`, `head`, `global_features` (`GlobalFeatures`, or None without targets)
    and `features`.
    """

    config: Any
    head: Any
    global_features: Any

    @property
    def cutoff(self) -> float:
        """Range of edges in Å."""
        return float(self.config.cutoff)

    @property
    def hops(self) -> int:
        """Edges from an atom to the farthest that its energy hears; a sender's frame is one more.

        The first features of `LoCaFormer` are a sum over neighbors, and those of others are not.
        """
        return int(self.config.layers) + 1

    @property
    def feature_channels(self) -> int:
        """F of `irreps_features`."""
        return int(self.config.channels)

    def features(self, graph: Graph) -> tuple[Tensor, Frames]:
        """Local features after the last layer [N, reps.dim], and the frames they are written in."""
        raise NotImplementedError

    def irreps_features(self, graph: Graph) -> Tensor:
        """Features of atoms [N, 9, F] that turn as F x (0e + 1o + 2e).

        Raises:
            ValueError: The configuration names no targets.
        """
        if self.global_features is None:
            raise ValueError("the model has no targets: name some in its config")
        turned: Tensor = self.global_features(*self.features(graph))
        return turned

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom [N], in units of the potential's scale."""
        energies: Tensor = self.head(self.features(graph)[0])
        return energies.squeeze(-1)


class LocalEnvironment(nn.Module):
    """Atoms' invariants s_i, their frames, and their edges as they see them in these.

    s_i is a row of a table of elements plus the total charge times a vector; frames come from a
    `FramePredictor` of s_i, s_j and the distance.

    Args:
        config: Hyperparameters.
        elements: Atomic numbers that occur; each gets a row of the table.

    Raises:
        ValueError: No elements, one twice, or one outside 0 ... 118.
    """

    row_of: Tensor

    def __init__(self, config: EnvironmentConfig, elements: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("row_of", element_rows(elements), persistent=False)
        self.element = nn.Embedding(len(elements), config.channels)
        self.charge = nn.Parameter(0.1 * torch.randn(config.channels))
        self.radial = radial_basis(config.radial, config.cutoff, config.num_radial, config.envelope)
        self.angular, self.num_angular = _angular(config)
        self.envelope = Envelope(config.cutoff, config.envelope)
        self.frame_scalars = nn.Linear(config.channels, FRAME_SCALARS)
        self.predictor = _predictor(config)

    def forward(self, graph: Graph) -> tuple[Tensor, Transport, EdgeFeatures]:
        """Invariants of atoms [N, channels], frames on the graph, features of edges."""
        scalars = self.element(self.row_of[graph.z])
        scalars = scalars + graph.charge.index_select(0, graph.batch)[:, None] * self.charge
        lengths, units = lengths_and_units(graph.vectors)
        envelope, radial = self.envelope(lengths), self.radial(lengths)
        frames = self.predictor(
            self.frame_scalars(scalars), radial, graph.vectors, graph.edge_index
        )
        transport = Transport(frames, graph.edge_index)
        angular = self.angular(transport.edges_to_local(VECTOR, units))
        return scalars, transport, EdgeFeatures(radial, angular, envelope)


def _angular(config: EnvironmentConfig) -> tuple[nn.Module, int]:
    """The functions of the direction, and their number."""
    if config.angular == "harmonics":
        harmonics = HarmonicEmbedding(config.lmax)
        return harmonics, harmonics.dim
    if config.angular == "sphere":
        sphere = SphereEmbedding()
        return sphere, sphere.dim
    return UnitEmbedding(), UnitEmbedding.dim


class GivenFrames(nn.Module):
    """Frames that no weight decides; called like a `FramePredictor`.

    Args:
        kind: "inertia", "neighbors", "random" or "identity".
        cutoff: Range of edges in Å, the unit in which inertia is measured.
        group: "O(3)" or "SO(3)".
    """

    def __init__(self, kind: str, cutoff: float, group: str) -> None:
        super().__init__()
        self.kind, self.cutoff, self.group = kind, cutoff, group
        self.envelope = Envelope(cutoff, "smooth")

    def forward(
        self, scalars: Tensor, radial: Tensor, vectors: Tensor, edge_index: Tensor
    ) -> Frames:
        """Frames of the nodes, or one for all."""
        dtype, device = vectors.dtype, vectors.device
        if self.kind == "identity" or (self.kind == "random" and not self.training):
            return identity(dtype=dtype, device=device)
        if self.kind == "random":
            seed = int(torch.randint(2**62, ()))
            generator = torch.Generator(device).manual_seed(seed)
            improper = self.group == "O(3)"
            return random_global(generator=generator, improper=improper, dtype=dtype, device=device)
        if self.kind == "neighbors":
            return neighbor_frames(vectors, edge_index, len(scalars), group=self.group)
        weights = self.envelope(lengths_and_units(vectors)[0])
        scaled = vectors / self.cutoff
        return inertia_frames(scaled, edge_index, len(scalars), weights=weights, group=self.group)


def _predictor(config: EnvironmentConfig) -> nn.Module:
    """Three learned vectors for O(3), two for SO(3)."""
    if config.frames in ("inertia", "neighbors", "random", "identity"):
        return GivenFrames(config.frames, config.cutoff, config.symmetry)
    constructions: dict[str, Callable[..., Frames]] = {
        "soft": partial(soft_frames, eps=config.frame_eps),
        "gram_schmidt": gram_schmidt,
        "polar": polar,
    }
    weights = nn.Sequential(
        nn.Linear(2 * FRAME_SCALARS + config.num_radial, config.channels),
        nn.SiLU(),
        nn.Linear(config.channels, 3 if config.symmetry == "O(3)" else 2),
    )
    construct = partial(constructions[config.frames], group=config.symmetry)
    return FramePredictor(weights, config.cutoff, construct=construct, envelope=config.envelope)
