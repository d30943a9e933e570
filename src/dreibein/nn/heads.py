"""Heads: from equivariant features of atoms to a target of atoms or of structures.

With features s_c (0e), V_c (1o), T_c (2e) of an atom, c = 1 … F,

    h = MLP(LayerNorm[s, |V|², |T|²])                                    invariants
    y_l = sum_c w_c g_c(h) P_{l,c}                                       gated, linear

and P_l the features of that kind or, where there is none, products of them: 1e = V x V',
2e also V V', 1o also T V, 2o and 3o = T V, 0o = (V x V') · V'', 3e = (T V)_3 V'. A Cartesian
tensor is the sum of its irreps. Sums over atoms are in float64.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Self

import torch
from ase.data import atomic_masses
from torch import Tensor, nn
from torch_geometric.data import Data

from dreibein.nn.elements import NUM_ELEMENTS
from dreibein.nn.moments import (
    EXTENT,
    from_center,
    known_extent,
    moments_of_atoms,
    neutralized,
    sources_of,
)
from dreibein.nn.targets import Target
from dreibein.o3 import Irrep
from dreibein.o3.coupling import couple_vector
from dreibein.systems.graphs import batch_index
from dreibein.systems.units import conversion_factor

BLOCKS = (1, 3, 5)  # components of 0e, 1o, 2e


class Products(nn.Module):
    """The channels P_l of every kind that a target needs, from V and T.

    Args:
        features: F.
        channels: Channels of each path.
        kinds: What is needed, beyond 0e.

    Raises:
        ValueError: A kind that no path leads to.
    """

    # (kind, how it is made): steps of couplings with V, V', V''
    PATHS: Mapping[tuple[int, int], tuple[str, ...]] = {
        (1, -1): ("V", "T1"),
        (2, 1): ("T", "V2"),
        (1, 1): ("V1",),
        (0, -1): ("V10",),
        (2, -1): ("T2",),
        (3, -1): ("T3",),
        (3, 1): ("T33",),
    }

    def __init__(self, features: int, channels: int, kinds: set[Irrep]) -> None:
        super().__init__()
        unknown = [str(kind) for kind in kinds if (kind.l, kind.p) not in self.PATHS]
        if unknown:
            raise ValueError(f"no product of 1o and 2e features is made into {unknown[0]}")
        self.paths = {kind: self.PATHS[kind.l, kind.p] for kind in sorted(kinds, key=str)}
        every = [path for found in self.paths.values() for path in found]
        self.vectors = nn.ModuleList(
            nn.Linear(features, channels, bias=False)
            for _ in range(max((_vectors(path) for path in every), default=0))
        )
        tensor = any(path[0] == "T" for path in every)
        self.tensor = nn.Linear(features, channels, bias=False) if tensor else None
        self.channels = channels
        for path in every:
            for k, (low, degree) in enumerate(_steps(path)):
                table = torch.tensor(couple_vector(low, degree))
                self.register_buffer(f"coupling_{path}_{k}", table, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # couplings are not rounded: a head moved from float32 to float64 must be exact there
        kept = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, value in kept.items():
            if value is not None:
                setattr(self, name, value.to(getattr(self, name).device))
        return self

    def forward(self, vector: Tensor, tensor: Tensor) -> dict[Irrep, Tensor]:
        """Channels [N, 2l + 1, paths · channels] of every kind from V [N, 3, F], T [N, 5, F]."""
        vector, tensor = vector / _length(vector), tensor / _length(tensor)
        vectors = [mix(vector) for mix in self.vectors]
        start = {"V": vectors[0] if vectors else vector}
        if self.tensor is not None:
            start["T"] = self.tensor(tensor)
        found = {}
        for kind, paths in self.paths.items():
            found[kind] = torch.cat([self._walk(path, start, vectors) for path in paths], -1)
        return found

    def _walk(self, path: str, start: Mapping[str, Tensor], vectors: list[Tensor]) -> Tensor:
        """One path: from V or T by one coupling with a vector after the other."""
        value = start[path[0]]
        used = 1 if path[0] == "V" else 0
        for k in range(len(path) - 1):
            table = getattr(self, f"coupling_{path}_{k}").to(value.dtype)
            value = torch.einsum("aim,nac,nic->nmc", table, value, vectors[used])
            used += 1
        return value


def _vectors(path: str) -> int:
    """How many vectors a path takes."""
    return len(path) if path[0] == "V" else len(path) - 1


def _steps(path: str) -> list[tuple[int, int]]:
    """Degrees before and after each coupling of a path."""
    degrees = [1 if path[0] == "V" else 2, *(int(d) for d in path[1:])]
    return list(pairwise(degrees))


def _length(part: Tensor) -> Tensor:
    """sqrt(1 + |x|²) of each channel: products of features stay bounded."""
    return (1.0 + part.square().sum(1, keepdim=True)).sqrt()


class Readout(nn.Module):
    """Irreps of each atom from its features: gated linear maps of features and products.

    Features come in any size (those of an untrained TensorNet are near 0.01), products of them
    would vanish: `scales` [3] holds the rms length of each block, 1 until it is measured.

    Args:
        features: F.
        channels: Width of the layers.
        kinds: Irreps to give, with repetition.
    """

    def __init__(self, features: int, channels: int, kinds: tuple[Irrep, ...]) -> None:
        super().__init__()
        self.kinds = kinds
        self.counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
        self.invariants = nn.Sequential(
            nn.LayerNorm(3 * features),
            nn.Linear(3 * features, channels),
            nn.SiLU(),
            nn.Linear(channels, channels),
            nn.SiLU(),
        )
        others = {kind for kind in self.counts if not kind.is_trivial}
        self.products = Products(features, channels, others)
        widths = {k: channels * len(p) for k, p in self.products.paths.items()}
        self.gates = nn.ModuleDict({str(k): nn.Linear(channels, w) for k, w in widths.items()})
        self.mixes = nn.ModuleDict(
            {str(k): nn.Linear(w, self.counts[k], bias=False) for k, w in widths.items()}
        )
        self.register_buffer("scales", torch.ones(3, dtype=torch.float64))
        scalars = sum(kind.is_trivial for kind in kinds)
        self.scalars = nn.Linear(channels, scalars) if scalars else None

    scales: Tensor

    @torch.no_grad()
    def measure(self, x: Tensor) -> None:
        """Take the rms lengths of the blocks of features [N, 9, F] as `scales`."""
        for k, part in enumerate(x.double().split(BLOCKS, 1)):
            length = float(part.square().sum(1).mean().sqrt())
            self.scales[k] = length if length > 0.0 else 1.0

    def forward(self, x: Tensor) -> list[Tensor]:
        """One tensor [N, 2l + 1] for each of `kinds`, from features [N, 9, F]."""
        scales = self.scales.to(x.dtype).unbind()
        parts = zip(x.split(BLOCKS, 1), scales, strict=True)
        scalar, vector, tensor = (part / scale for part, scale in parts)
        squares = [vector.square().sum(1), tensor.square().sum(1)]
        h = self.invariants(torch.cat([scalar.squeeze(1), *squares], -1))
        found: dict[Irrep, list[Tensor]] = {}
        if self.scalars is not None:
            trivial = next(kind for kind in self.kinds if kind.is_trivial)
            found[trivial] = list(self.scalars(h).unsqueeze(1).unbind(-1))
        for kind, channels in self.products(vector, tensor).items():
            gated = channels * self.gates[str(kind)](h).unsqueeze(1)
            found[kind] = list(self.mixes[str(kind)](gated).unbind(-1))
        return [found[kind].pop(0) for kind in self.kinds]


class TargetHead(nn.Module):
    """y_i = spread_z net_i + mean_z, with mean_z a number times the unit matrix for rank 2.

    A target of structures is the sum (or mean) over atoms. Charges are moved by one and the same
    number to add up to the total charge Q. Moments are taken about the center of mass, see
    `dreibein.nn.moments`: the dipole is

        D = sum_i q_i (r_i - r_0) + sum_i mu_i,     sum_i q_i = Q,  r_0 the center of mass,

    so it has nothing to do with the origin; of an ion it is the one about the center of mass.
    A periodic cell has no sum over q r: there a model gives dipoles of atoms alone.

    Args:
        name: Of the target; moments and "charges" are computed as above.
        target: Settled.
        features: Channels F of the network's features.
    """

    mean: Tensor
    spread: Tensor
    isometry: Tensor
    masses: Tensor

    def __init__(self, name: str, target: Target, features: int) -> None:
        super().__init__()
        self.name, self.target = name, target
        self.sources = sources_of(name, target)
        self.with_charges = bool(self.sources)
        self.unit = _dipole_unit(target.unit or "")
        parts = target.parts()
        kinds = (*self.sources, *(kind for kind, _ in parts))
        self.readout = Readout(features, target.channels, kinds)
        isometry = torch.cat([torch.tensor(matrix) for _, matrix in parts], 1)
        self.register_buffer("isometry", isometry, persistent=False)
        table = torch.zeros(NUM_ELEMENTS + 1, dtype=torch.float64)
        self.register_buffer("mean", table)
        self.register_buffer("spread", torch.ones_like(table))
        masses = torch.tensor(atomic_masses, dtype=torch.float64)
        self.register_buffer("masses", masses, persistent=False)

    @property
    def constants(self) -> tuple[str, ...]:
        """Buffers that stay in float64."""
        return ("mean", "spread", "isometry", "masses")

    def measure(self, x: Tensor) -> None:
        """Learn the size of features [N, 9, F] from those of an untrained network."""
        self.readout.measure(x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # constants stay in float64, whatever becomes of the network
        kept = {name: getattr(self, name) for name in self.constants}
        super()._apply(fn, recurse)
        for name, value in kept.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self

    def forward(self, x: Tensor, structures: Data, pos: Tensor) -> Tensor:
        """The target in float64, [N, ...] of atoms or [B, ...] of structures.

        Args:
            x: Features [N, 9, F] of the network.
            structures: The structures.
            pos: Positions [N, 3].

        Raises:
            ValueError: A moment of charges of a periodic structure.
        """
        found = [part.double() for part in self.readout(x)]
        spread = self.spread.index_select(0, structures.z)
        sources = [found.pop(0) * spread[:, None] for _ in self.sources]
        values = torch.cat(found, -1) * spread[:, None] @ self.isometry.T
        shape = self.target.tensor_shape
        values = values.reshape(-1, *shape) + self._means(structures.z)
        batch, count = batch_index(structures)
        if self.name == "charges":
            return neutralized(values, structures.get("charge"), batch, count)
        if self.target.scope == "atom":
            return self._reduced(values)
        if sources:
            values = values + self._moments(sources, structures, pos, batch, count)
        total = values.new_zeros(count, *shape).index_add(0, batch, values)
        if self.target.pool == "mean":
            atoms = torch.bincount(batch, minlength=count).clamp(min=1)
            total = total / atoms.view(-1, *[1] * len(shape))
        return self._reduced(total)

    def _reduced(self, values: Tensor) -> Tensor:
        """What labels have of tensors [rows, ...]: themselves, their norms, their mean diagonals.

        The slope of a norm at zero is taken as zero.
        """
        if self.target.reduce == "norm":
            return torch.linalg.vector_norm(values.flatten(1), dim=1)
        if self.target.reduce == "isotropic":
            return values.diagonal(dim1=-2, dim2=-1).mean(-1)
        return values

    def _means(self, z: Tensor) -> Tensor:
        """Mean of the elements [N, ...]: of numbers, or of the trace of a matrix over three."""
        mean = self.mean.index_select(0, z)
        if self.target.tensor_shape == (3, 3):
            return mean[:, None, None] * torch.eye(3, dtype=mean.dtype, device=mean.device)
        return mean if self.target.tensor_shape == () else mean.new_zeros(())

    def _moments(
        self, sources: list[Tensor], structures: Data, pos: Tensor, batch: Tensor, count: int
    ) -> Tensor:
        """Share of each atom in a moment from its charge and vector [N, ...]."""
        if bool(structures.pbc.any()):
            hint = "train the dipole with model.targets.dipole.charges=false, for dipoles of atoms"
            raise ValueError(
                "charges times positions have no sum in a periodic cell: "
                + (f"{hint} alone" if self.target.rank == 1 else f"leave {self.name} out")
            )
        masses = self.masses.index_select(0, structures.z)
        places = from_center(masses, pos, batch, count)
        total = structures.get("charge")
        if self.name == EXTENT:
            total = None if total is None else -total  # electrons
        charges = neutralized(sources[0].squeeze(-1), total, batch, count, self.unit)
        vectors = sources[1] if len(sources) > 1 else None
        values = moments_of_atoms(self.name, charges, vectors, places)
        return values + known_extent(structures.z, places) if self.name == EXTENT else values


def _dipole_unit(unit: str) -> float:
    """e·Å in `unit`; 1 where it is no unit of a dipole."""
    try:
        return conversion_factor("e*Å", unit)
    except ValueError:
        return 1.0
