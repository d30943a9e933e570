"""Physical terms of an energy: each is one item of the sum of a `Potential`.

One file each: `zbl` (repulsion of nuclei), `coulomb` (charges: direct, reaction field, Ewald,
mesh), `dispersion_d2`, `dispersion_d3` and `dispersion_d4`. A term gives energies of atoms in
float64, differentiable like the network's, and says which range of neighbors it needs.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from dreibein.nn.terms.coulomb import Coulomb, CoulombConfig
from dreibein.nn.terms.dispersion_d2 import DispersionD2, DispersionD2Config
from dreibein.nn.terms.dispersion_d3 import DispersionD3, DispersionD3Config
from dreibein.nn.terms.dispersion_d4 import DispersionD4, DispersionD4Config
from dreibein.nn.terms.term import COULOMB, Surroundings, Term, surroundings, switch
from dreibein.nn.terms.zbl import ZBL, ZBLConfig

__all__ = [
    "COULOMB",
    "TERMS",
    "ZBL",
    "Coulomb",
    "CoulombConfig",
    "DispersionD2",
    "DispersionD2Config",
    "DispersionD3",
    "DispersionD3Config",
    "DispersionD4",
    "DispersionD4Config",
    "Surroundings",
    "Term",
    "TermConfig",
    "ZBLConfig",
    "build_terms",
    "surroundings",
    "switch",
]

TERMS: dict[str, type[Term]] = {
    "zbl": ZBL,
    "coulomb": Coulomb,
    "dispersion_d2": DispersionD2,
    "dispersion_d3": DispersionD3,
    "dispersion_d4": DispersionD4,
}


def _named(value: Any) -> Any:
    """A term may be written as its name alone."""
    if isinstance(value, str):
        value = {"term": value}
    if isinstance(value, Mapping):
        name = value.get("term")
        if name not in TERMS:
            near = get_close_matches(str(name), TERMS, n=1)
            hint = f" (nearest: {near[0]})" if near else ""
            raise ValueError(f"there is no term '{name}'{hint}; choose from {', '.join(TERMS)}")
    return value


TermConfig = Annotated[
    Annotated[
        ZBLConfig | CoulombConfig | DispersionD2Config | DispersionD3Config | DispersionD4Config,
        Field(discriminator="term"),
    ],
    BeforeValidator(_named),
]
"""Options of a term; `term` says which."""


def build_terms(configs: Sequence[Any], elements: Sequence[int]) -> list[Term]:
    """The terms of a potential.

    Raises:
        ValueError: An element or an option that a term does not know.

    >>> [term.describe() for term in build_terms([ZBLConfig(cutoff=2.0)], (1, 8))]
    ['zbl (universal screening, to 2 Å)']
    """
    classes: dict[str, Any] = TERMS
    return [classes[config.term](config, tuple(elements)) for config in configs]
