"""The names that a study knows: representations, frames, embeddings, networks, targets."""

import difflib
from collections.abc import Iterable

from dreibein.data.read_qm9 import TARGETS as QM9
from dreibein.nn.targets import OF_ENERGY, Target, settled
from dreibein.o3 import parse_reps
from dreibein.systems import LABELS

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
RADIALS = ("bessel", "gaussian", "expnorm")
"""The first is the usual one; it learned fastest where this was measured (docs/study.md)."""
ANGULARS = ("harmonics", "sphere", "vector")
EMBEDDINGS = (*RADIALS, *ANGULARS)
NETWORKS = ("locaformer", "tensornet", "tensor_field")
ENERGY_TARGETS = ("energy", "forces", "stress")
INTENSIVE = ("homo", "lumo", "gap")
"""Of QM9's numbers, those that are means over atoms and not sums."""
QM9_UNITS = {"mu": "e*Å", "alpha": "Å^3", "r2": "Å^2", "cv": "eV/K"}
"""Units inside the package; all other numbers of QM9 are energies in eV."""


def require(name: str, known: Iterable[str], what: str) -> str:
    """The name, if it is known.

    Raises:
        ValueError: It is not; the nearest one is named.

    >>> require("tensornet", NETWORKS, "network")
    'tensornet'
    """
    known = tuple(known)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, 1, 0.0)[0]
    raise ValueError(f"unknown {what} '{name}': did you mean '{near}'? ({', '.join(known)})")


def require_representation(name: str) -> str:
    """The name, if it is one of `REPRESENTATIONS` or the text of a representation."""
    if name not in REPRESENTATIONS:
        if not any(letter.isdigit() and "x" in name for letter in name):
            require(name, REPRESENTATIONS, "representation")
        parse_reps(name)
    return name


def canonical_target(name: str, typed: Iterable[str]) -> str:
    """The label that a target's name means; QM9's numbers in any case, U0 the energy.

    >>> canonical_target("U0", ()), canonical_target("Alpha", ()), canonical_target("dipole", ())
    ('energy', 'alpha', 'dipole')
    """
    low = name.lower()
    if name in typed:
        return name
    if low == "u0":
        return "energy"
    if low in ENERGY_TARGETS or low in QM9:
        return low
    heads = tuple(label for label in LABELS if label not in OF_ENERGY)
    return require(name, (*ENERGY_TARGETS, *heads, "U0", *QM9, *typed), "target")


def target_of(name: str, typed: dict[str, Target]) -> Target:
    """What a head predicts under this name: mu is the length of a dipole, not a sum of numbers."""
    if name in typed:
        return typed[name]
    if name == "mu":
        norm = Target(rank=1, scope="structure", unit=QM9_UNITS[name], charges=True, reduce="norm")
        return settled(name, norm)
    if name in QM9:
        pool = "mean" if name in INTENSIVE else "sum"
        unit = QM9_UNITS.get(name, "eV")
        return settled(name, Target(rank=0, scope="structure", unit=unit, pool=pool))
    return settled(name, Target())
