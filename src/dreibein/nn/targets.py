"""What a model predicts beside the energy: one typed line per target."""

import difflib
from collections.abc import Mapping
from functools import lru_cache
from itertools import permutations
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from dreibein.o3 import Irrep, Irreps
from dreibein.o3.bridge import paths
from dreibein.o3.coupling import FloatArray
from dreibein.systems.fields import BOND_PREFIX, FIELDS, LABELS

MAX_RANK = 3
MAX_DEGREE = 3
ENERGY = "whether the model gives an energy; false for targets alone"
TARGETS = "what is predicted beside the energy, by name: {dipole: {}}, or [dipole, shielding]"
NEAR = 0.8  # similarity from which an unknown name is a likely slip of a known one
OF_ENERGY = ("energy", "energies", "forces", "stress", "virial", "hessian")
SYMMETRIC = frozenset({"polarizability", "quadrupole", "second_moment"})  # matrices that are
TRACELESS = frozenset({"quadrupole"})

Part = tuple[Irrep, FloatArray]
"""An irrep and the isometry [components, 2l + 1] that puts it into the target."""


class Target(BaseModel):
    """One target: what it is, of what, in which unit.

    A field of this package (`dipole: {}`) is known; any other name says its rank or irreps and
    its scope.

    >>> Target(rank=2, symmetric=True, traceless=True, scope="structure").parts()[0][0]
    Irrep(l=2, p=1)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int | None = Field(
        None, ge=0, le=MAX_RANK, description="Cartesian rank: 0 number, 1 vector, 2 matrix, 3"
    )
    irreps: str | None = Field(
        None, description="instead of a rank: irreps such as 1x1e (axial vector) or 1x0e+1x2e"
    )
    scope: Literal["structure", "atom", "bond"] | None = Field(
        None, description="one value for each structure, for each atom, or for each bond"
    )
    unit: str | None = Field(None, description="unit of labels and predictions, such as e*Å")
    symmetric: bool = Field(False, description="of rank 2 and 3: equal under exchange of indices")
    antisymmetric: bool = Field(False, description="of rank 2 and 3: odd under exchange of indices")
    traceless: bool = Field(False, description="of rank 2 and 3: no trace over any two indices")
    pool: Literal["sum", "mean"] = Field(
        "sum", description="of structures: the sum over atoms, or their mean (not extensive)"
    )
    charges: bool | None = Field(
        None,
        description="of a vector of structures: whether charges times positions are a part beside "
        "the vectors of atoms; null: of dipole, unless structures of the training set are periodic",
    )
    reduce: Literal["norm", "isotropic"] | None = Field(
        None,
        description="what labels have of the tensor: its norm, or a third of the trace of a "
        "matrix; null: the tensor itself",
    )
    directed: bool = Field(
        False, description="of bonds: the value of i, j may differ from that of j, i"
    )
    cutoff: float | None = Field(
        None,
        gt=0,
        description="of bonds: pairs within so many Å, where structures have no list `bonds`; "
        "null: all neighbors of the network",
    )
    channels: int = Field(64, ge=1, description="width of the target's own layers")

    @field_validator("irreps")
    @classmethod
    def _offered(cls, text: str | None) -> str | None:
        if text is not None and Irreps(text).lmax > MAX_DEGREE:
            raise ValueError(f"irreps {text} go beyond l = {MAX_DEGREE}, the highest degree here")
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = [n for n in ("symmetric", "antisymmetric", "traceless") if getattr(self, n)]
        if self.rank is not None and self.irreps is not None:
            raise ValueError("a target has a rank or irreps, not both")
        if named and self.rank is not None and self.rank < 2:
            raise ValueError(f"{named[0]} is said of rank 2 and 3, not of rank {self.rank}")
        if named and self.irreps is not None:
            raise ValueError(f"{named[0]} is said of a rank; irreps say it themselves")
        if self.symmetric and self.antisymmetric:
            raise ValueError("a target cannot be symmetric and antisymmetric: it would be zero")
        if self.reduce == "isotropic" and (self.irreps or self.rank not in (None, 2)):
            raise ValueError("reduce: isotropic is a third of the trace of a target of rank 2")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one value: that of the tensor, or of the number that is made of it."""
        return () if self.reduce else self.tensor_shape

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """Of one tensor: 3 for each index, or the components of the irreps."""
        if self.irreps is not None:
            dim = Irreps(self.irreps).dim
            return () if dim == 1 else (dim,)
        return (3,) * (self.rank or 0)

    def parts(self) -> tuple[Part, ...]:
        """The irreps in a value [components], each with its isometry; together orthonormal."""
        if self.irreps is not None:
            return _parts_of_irreps(self.irreps)
        return _parts_of_rank(self.rank or 0, self.symmetric, self.antisymmetric, self.traceless)


@lru_cache(maxsize=64)
def _parts_of_irreps(text: str) -> tuple[Part, ...]:
    reps = Irreps(text)
    eye, found, start = np.eye(reps.dim), [], 0
    for mul, kind in reps:
        for _ in range(mul):
            found.append((kind, eye[:, start : start + kind.dim]))
            start += kind.dim
    return tuple(found)


@lru_cache(maxsize=64)
def _parts_of_rank(
    rank: int, symmetric: bool, antisymmetric: bool, traceless: bool
) -> tuple[Part, ...]:
    """Irreps of a Cartesian tensor that has the symmetry.

    A projector on tensors of a symmetry commutes with rotations, so it acts on the copies of each
    degree by a matrix of its own: eigenvectors of eigenvalue 1 are the copies that stay.
    """
    projector: Any = np.eye(3**rank)
    if symmetric or antisymmetric:
        projector = _exchange(rank, odd=antisymmetric) @ projector
    if traceless:
        projector = _without_traces(projector, rank)
    by_degree: dict[int, list[FloatArray]] = {}
    for l, rows in paths(rank):
        by_degree.setdefault(l, []).append(rows)
    found = []
    for l, copies in sorted(by_degree.items()):
        stack = np.stack(copies)  # [copies, 2l + 1, 3^rank]
        small = np.einsum("amT,TS,bmS->ab", stack, projector, stack) / (2 * l + 1)
        values, vectors = np.linalg.eigh(0.5 * (small + small.T))
        for k in np.flatnonzero(values > 0.5):
            isometry = np.einsum("a,amT->Tm", vectors[:, k], stack)
            found.append((Irrep(l, (-1) ** rank), isometry))
    return tuple(found)


def _exchange(rank: int, *, odd: bool) -> Any:
    """Mean over permutations of the indices, with their sign where `odd` [3^rank, 3^rank]."""
    eye = np.eye(3**rank).reshape((3,) * rank + (-1,))
    total, orders = np.zeros((3**rank, 3**rank)), list(permutations(range(rank)))
    for order in orders:
        sign = np.linalg.det(np.eye(rank)[list(order)]) if odd else 1.0
        total += sign * eye.transpose(*order, rank).reshape(3**rank, -1)
    return total / len(orders)


def _without_traces(projector: Any, rank: int) -> Any:
    """Projector on those tensors of the image of `projector` that have no trace."""
    traces = []
    eye = np.eye(3**rank).reshape((3,) * rank + (-1,))
    for a in range(rank):
        for b in range(a + 1, rank):
            traces.append(np.trace(eye, axis1=a, axis2=b).reshape(-1, 3**rank))
    bound = np.concatenate([*traces, np.eye(3**rank) - projector])
    _, values, rows = np.linalg.svd(bound)
    kernel = rows[int((values > 1e-9).sum()) :]
    return np.asarray(kernel.T @ kernel)


def _by_name(values: Any) -> Any:
    """`[dipole, charges]` is short for `{dipole: {}, charges: {}}`; `dipole:` for `dipole: {}`."""
    if isinstance(values, str):
        values = [values]
    if isinstance(values, list | tuple):
        return {name: {} for name in values}
    if isinstance(values, Mapping):
        return {name: {} if value is None else value for name, value in values.items()}
    return values


def _settled(targets: dict[str, Target]) -> dict[str, Target]:
    return {name: settled(name, target) for name, target in targets.items()}


def settled(name: str, target: Target) -> Target:
    """The target with everything that its name says filled in.

    Raises:
        ValueError: A name that is no target, or nearly one; a rank or scope that contradicts the
            name, or that is missing.

    >>> settled("shielding", Target()).scope
    'atom'
    """
    if name in OF_ENERGY:
        raise ValueError(f"'{name}' derives from the energy and is no target: remove it")
    near = difflib.get_close_matches(name, LABELS, 1, NEAR)
    if near and name not in FIELDS:
        raise ValueError(f"'{name}' is not a target; did you mean '{near[0]}'?")
    if not name.isidentifier() or "index" in name or "batch" in name:
        raise ValueError(f"'{name}' cannot name a target: take a plain word without index or batch")
    if target.charges and not (name == "dipole" or _sums_vectors(target)):
        raise ValueError(f"charges is an option of vectors of structures, which '{name}' is not")
    if name not in FIELDS:
        if target.rank is None and target.irreps is None:
            raise ValueError(f"'{name}' is no field of this package: say its rank and scope")
        if target.scope is None:
            raise ValueError(f"'{name}' needs a scope: structure, atom or bond")
        _check_bond(name, target)
        return target.model_copy(update={"unit": target.unit or ""})
    if name not in LABELS:
        raise ValueError(f"'{name}' is part of the input, not a target")
    return _of_field(name, target)


def _check_bond(name: str, target: Target) -> None:
    """Names of bond targets say so, since files and losses go by them."""
    of_bonds = target.scope == "bond"
    if of_bonds != name.startswith(BOND_PREFIX):
        raise ValueError(
            f"targets of bonds, and no others, are named {BOND_PREFIX}…: rename '{name}' or change "
            "its scope"
        )
    if not of_bonds and (target.directed or target.cutoff is not None):
        raise ValueError(f"directed and cutoff are options of bonds, which '{name}' is not of")


def _sums_vectors(target: Target) -> bool:
    """Whether a target is a vector that atoms add up to."""
    return (target.rank, target.scope, target.pool) == (1, "structure", "sum")


def _of_field(name: str, target: Target) -> Target:
    field = FIELDS[name]
    known: dict[str, Any] = {"scope": field.scope, "unit": field.unit}
    if target.irreps is None:
        known["rank"] = len(field.shape)
    for option, value in known.items():
        given = getattr(target, option)
        if given is not None and given != value:
            raise ValueError(f"{name} has {option} {value}, not {given}: give it another name")
    if target.irreps is not None:
        raise ValueError(f"{name} has rank {len(field.shape)}, not irreps: give it another name")
    if target.reduce is not None:
        raise ValueError(
            f"the label {name} is what it is: give a number made of tensors another name, with its "
            f"rank, its scope and reduce: {target.reduce}"
        )
    symmetric = target.symmetric or name in SYMMETRIC
    traceless = target.traceless or name in TRACELESS
    return target.model_copy(update=known | {"symmetric": symmetric, "traceless": traceless})


Targets = Annotated[dict[str, Target], BeforeValidator(_by_name), AfterValidator(_settled)]
