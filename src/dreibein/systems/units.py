"""Units by name: ``value [target] = value [source] * conversion_factor(source, target)``.

A unit is written as it is read: ``eV``, ``kcal/mol/Å``, ``kcal/(mol*Å)``, ``Ha/Bohr``,
``eV/Å^3``, ``eV Å-3``, ``e·Å``, ``e*Å^2/V``. Products are ``*``, ``·`` or a space; quotients are
``/``, read left to right, so that ``a/b*c`` is ``(a/b)*c``; powers are ``^``, ``**`` or digits
right after a name. Values are those of `ase.units`, so numbers agree with ASE to the last digit.

Three conventions:

* ``mol`` is the pure number N_A, so ``kcal/mol`` is an energy (per particle).
* ``au`` is the Hartree; atomic units of other things are written out: ``Ha/Bohr``, ``e*Bohr``.
* A polarizability has the dimension charge^2 length^2 / energy; a *polarizability volume* is that
  divided by 4πε0. The constant is the unit ``4πε0`` (or ``4pi_eps0``), thus ``4πε0*Bohr^3`` is a
  polarizability and ``Bohr^3`` a volume, and never the one for the other by accident.
  `polarizability_factor` takes both.
"""

import difflib
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from ase import units

__all__ = ["Unit", "conversion_factor", "parse_unit", "polarizability_factor", "unit_names"]

_BASE = ("energy", "length", "time", "charge", "temperature")
_PURE = (0, 0, 0, 0, 0)
_ENERGY = (1, 0, 0, 0, 0)
_LENGTH = (0, 1, 0, 0, 0)
_TIME = (0, 0, 1, 0, 0)
_CHARGE = (0, 0, 0, 1, 0)
_TEMPERATURE = (0, 0, 0, 0, 1)
_MASS = (1, -2, 2, 0, 0)
_PRESSURE = (1, -3, 0, 0, 0)
_POTENTIAL = (1, 0, 0, -1, 0)
_DIPOLE = (0, 1, 0, 1, 0)

# 1 / (4 pi eps0) = 14.3996 eV Å / e^2
_4_PI_EPS0 = 4.0 * np.pi * units._eps0 * (units.C**2 / (units.J * units.m))  # e^2 / (eV Å)

# MeV and mPa stand here so that "mev" and "MPA" are asked about instead of guessed.
_TABLE: dict[str, tuple[float, tuple[int, ...]]] = {
    "eV": (units.eV, _ENERGY),
    "meV": (1e-3 * units.eV, _ENERGY),
    "MeV": (1e6 * units.eV, _ENERGY),
    "Ha": (units.Hartree, _ENERGY),
    "Hartree": (units.Hartree, _ENERGY),
    "Eh": (units.Hartree, _ENERGY),
    "au": (units.Hartree, _ENERGY),
    "mHa": (1e-3 * units.Hartree, _ENERGY),
    "Ry": (units.Rydberg, _ENERGY),
    "Rydberg": (units.Rydberg, _ENERGY),
    "cal": (1e-3 * units.kcal, _ENERGY),
    "kcal": (units.kcal, _ENERGY),
    "J": (units.J, _ENERGY),
    "kJ": (units.kJ, _ENERGY),
    "mol": (units.mol, _PURE),
    "Å": (units.Angstrom, _LENGTH),
    "A": (units.Angstrom, _LENGTH),
    "Ang": (units.Angstrom, _LENGTH),
    "Angstrom": (units.Angstrom, _LENGTH),
    "Ångström": (units.Angstrom, _LENGTH),
    "Bohr": (units.Bohr, _LENGTH),
    "a0": (units.Bohr, _LENGTH),
    "pm": (1e-2 * units.Angstrom, _LENGTH),
    "nm": (units.nm, _LENGTH),
    "cm": (1e-2 * units.m, _LENGTH),
    "m": (units.m, _LENGTH),
    "mPa": (1e-3 * units.Pascal, _PRESSURE),
    "Pa": (units.Pascal, _PRESSURE),
    "kPa": (1e3 * units.Pascal, _PRESSURE),
    "MPa": (1e6 * units.Pascal, _PRESSURE),
    "GPa": (units.GPa, _PRESSURE),
    "bar": (units.bar, _PRESSURE),
    "kbar": (1e3 * units.bar, _PRESSURE),
    "atm": (101325 * units.Pascal, _PRESSURE),
    "e": (1.0, _CHARGE),
    "C": (units.C, _CHARGE),
    "D": (units.Debye, _DIPOLE),
    "Debye": (units.Debye, _DIPOLE),
    "V": (1.0, _POTENTIAL),
    "mV": (1e-3, _POTENTIAL),
    "4πε0": (_4_PI_EPS0, (-1, -1, 0, 2, 0)),
    "4pi_eps0": (_4_PI_EPS0, (-1, -1, 0, 2, 0)),
    "fs": (units.fs, _TIME),
    "ps": (1e3 * units.fs, _TIME),
    "ns": (1e6 * units.fs, _TIME),
    "s": (units.second, _TIME),
    "amu": (1.0, _MASS),
    "Da": (1.0, _MASS),
    "g": (1e-3 * units.kg, _MASS),
    "kg": (units.kg, _MASS),
    "K": (1.0, _TEMPERATURE),
}

_DIMENSION_NAMES: dict[tuple[int, ...], str] = {
    _PURE: "pure number",
    _MASS: "mass",
    (0, 3, 0, 0, 0): "volume",
    (1, -1, 0, 0, 0): "force",
    _PRESSURE: "pressure",
    _POTENTIAL: "electric potential",
    _DIPOLE: "dipole",
    (-1, 2, 0, 2, 0): "polarizability",
}

_TOKEN = re.compile(
    r"\s*(?:(?P<name>4πε0|4pi_eps0|a0(?!\d)|[^\W\d_]+)"
    r"|(?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"
    r"|(?P<sign>\*\*|[-+*/^()]))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Unit:
    """A unit as ``value`` (in eV, Å, e, K and ASE's time) with its dimension.

    Attributes:
        name: as it was written.
        value: size in ASE's units.
        dimension: powers of energy, length, time, charge and temperature.
    """

    name: str
    value: float
    dimension: tuple[int, ...]

    def describe(self) -> str:
        """Return the dimension in words, such as ``energy/length``."""
        formula = _formula(self.dimension)
        known = _DIMENSION_NAMES.get(self.dimension)
        if known is None or self.dimension == _PURE:
            return known or formula
        return f"{known}, that is {formula}"


def conversion_factor(source: str, target: str) -> float:
    """Return the factor in ``value [target] = value [source] * factor``.

    Args:
        source: unit of the numbers at hand.
        target: unit wanted; must have the same dimension.

    Returns:
        The factor, from `ase.units`.

    Raises:
        ValueError: an unknown unit (the nearest names are given), or two different dimensions.

    >>> round(conversion_factor("kcal/mol/Å", "eV/Å"), 8)
    0.0433641
    >>> round(conversion_factor("Ha/Bohr", "eV/Å"), 5)
    51.42207
    >>> conversion_factor("eV", "Å")
    Traceback (most recent call last):
    ValueError: cannot convert 'eV' (energy) to 'Å' (length): the dimensions differ
    """
    a, b = parse_unit(source), parse_unit(target)
    if a.dimension != b.dimension:
        raise ValueError(
            f"cannot convert {source!r} ({a.describe()}) to {target!r} ({b.describe()}): "
            "the dimensions differ" + _polarizability_hint(a, b)
        )
    return a.value / b.value


def polarizability_factor(source: str, target: str = "e*Å^2/V") -> float:
    """``α = 4πε0 · volume``: convert polarizabilities, reading a volume as a polarizability volume.

    Args:
        source: a polarizability (``e*Å^2/V``, ``e^2*Bohr^2/Ha``) or a volume (``Bohr^3``, ``Å^3``).
        target: the same choice.

    >>> round(polarizability_factor("Bohr^3"), 9)
    0.010290858
    >>> round(polarizability_factor("e*Å^2/V", "Å^3"), 4)
    14.3996
    """
    return conversion_factor(_as_polarizability(source), _as_polarizability(target))


def unit_names() -> tuple[str, ...]:
    """Return every name the parser knows."""
    return tuple(_TABLE)


@lru_cache(maxsize=256)
def parse_unit(text: str) -> Unit:
    """Read a unit expression.

    >>> parse_unit("kcal/mol/Å").describe()
    'force, that is energy/length'
    """
    tokens = _tokens(text)
    value, dimension, end = _product(tokens, 0, text)
    if end != len(tokens):
        raise ValueError(f"cannot read the unit {text!r}: unexpected {tokens[end][1]!r}")
    return Unit(text, value, dimension)


def _tokens(text: str) -> list[tuple[str, str]]:
    # NFKC turns ³ into 3, ⁻ into a minus sign and the Angstrom sign into the letter Å.
    clean = unicodedata.normalize("NFKC", text)
    clean = clean.translate({ord("·"): "*", ord("⋅"): "*", ord("×"): "*", ord("−"): "-"}).strip()
    if not clean:
        raise ValueError("a unit is empty: write for example 'eV', 'kcal/mol/Å' or 'GPa'")
    tokens, position = [], 0
    while position < len(clean):
        match = _TOKEN.match(clean, position)
        if match is None:
            raise ValueError(f"cannot read the unit {text!r} at {clean[position:]!r}")
        tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
        position = match.end()
    return tokens


def _product(
    tokens: list[tuple[str, str]], start: int, text: str
) -> tuple[float, tuple[int, ...], int]:
    value, dimension, at = _power(tokens, start, text)
    while at < len(tokens) and tokens[at][1] != ")":
        operator = tokens[at][1] if tokens[at][1] in "*/" else ""
        factor, other, at = _power(tokens, at + len(operator), text)
        sign = -1 if operator == "/" else 1
        value *= factor**sign
        dimension = tuple(d + sign * o for d, o in zip(dimension, other))
    return value, dimension, at


def _power(tokens: list[tuple[str, str]], at: int, text: str) -> tuple[float, tuple[int, ...], int]:
    kind, token = tokens[at] if at < len(tokens) else ("end", "the end")
    if token == "(":
        value, dimension, at = _product(tokens, at + 1, text)
        if at == len(tokens):
            raise ValueError(f"cannot read the unit {text!r}: a bracket is not closed")
        at += 1
    elif kind == "name":
        value, dimension = _look_up(token, text)
        at += 1
    elif kind == "number":
        value, dimension, at = float(token), _PURE, at + 1
    else:
        raise ValueError(f"cannot read the unit {text!r}: a name is missing before {token!r}")
    exponent, at = _exponent(tokens, at, text, bare=kind == "name" or token == "(")
    return value**exponent, tuple(exponent * d for d in dimension), at


def _exponent(tokens: list[tuple[str, str]], at: int, text: str, *, bare: bool) -> tuple[int, int]:
    marked = at < len(tokens) and tokens[at][1] in ("^", "**")
    at += marked
    if not marked and not bare:
        return 1, at
    sign = 1
    if at < len(tokens) and tokens[at][1] in "+-":
        sign = -1 if tokens[at][1] == "-" else 1
        at, marked = at + 1, True
    if at < len(tokens) and tokens[at][1].isdigit():
        return sign * int(tokens[at][1]), at + 1
    if marked:
        raise ValueError(f"cannot read the unit {text!r}: a power must be a whole number")
    return 1, at


def _look_up(name: str, text: str) -> tuple[float, tuple[int, ...]]:
    if name in _TABLE:
        return _TABLE[name]
    same = [known for known in _TABLE if known.casefold() == name.casefold()]
    if len(same) == 1:
        return _TABLE[same[0]]
    if same:
        raise ValueError(f"the unit {name!r} in {text!r} may mean {' or '.join(same)}: write one")
    folded = {known.casefold(): known for known in _TABLE}
    near = [folded[n] for n in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
    advice = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(_TABLE)}"
    where = "" if name == text else f" in {text!r}"
    raise ValueError(f"unknown unit {name!r}{where}: {advice}")


def _formula(dimension: tuple[int, ...]) -> str:
    above = [_written(name, power) for name, power in zip(_BASE, dimension) if power > 0]
    below = [_written(name, -power) for name, power in zip(_BASE, dimension) if power < 0]
    return "/".join(["·".join(above) or "1", *below])


def _written(name: str, power: int) -> str:
    return name if power == 1 else f"{name}^{power}"


def _as_polarizability(text: str) -> str:
    return f"4πε0*({text})" if parse_unit(text).dimension == (0, 3, 0, 0, 0) else text


def _polarizability_hint(a: Unit, b: Unit) -> str:
    if {a.dimension, b.dimension} == {(0, 3, 0, 0, 0), (-1, 2, 0, 2, 0)}:
        return " (a polarizability volume is written with its constant, as in '4πε0*Bohr^3')"
    return ""
