"""Units against ASE's constants and against the readings that must not be guessed."""

import math

import pytest
from ase import units
from hypothesis import given
from hypothesis import strategies as st

from dreibein.systems.units import (
    conversion_factor,
    parse_unit,
    polarizability_factor,
    unit_names,
)

# Literature values are CODATA 2018, those of ASE 2014: they differ by 3e-7.
KNOWN = [
    ("kcal/mol", "eV", units.kcal / units.mol),
    ("kcal/mol", "eV", 0.0433641153),
    ("kJ/mol", "kcal/mol", 1 / 4.184),
    ("Hartree", "eV", units.Hartree),
    ("au", "Ha", 1.0),
    ("Eh", "Ry", 2.0),
    ("Ry", "eV", units.Rydberg),
    ("meV", "eV", 1e-3),
    ("kcal/mol/Å", "eV/Å", 0.0433641153),
    ("kcal/(mol*Angstrom)", "eV/Å", 0.0433641153),
    ("kcal mol-1 Å-1", "eV/Å", 0.0433641153),
    ("kcal mol⁻¹ Å⁻¹", "eV/Å", 0.0433641153),
    ("Ha/Bohr", "eV/Å", units.Hartree / units.Bohr),
    ("Eh/a0", "eV/A", units.Hartree / units.Bohr),
    ("Ha/a0^2", "eV/Å^2", units.Hartree / units.Bohr**2),
    ("GPa", "eV/Å^3", units.GPa),
    ("eV/Å3", "GPa", 160.21766208),
    ("eV/Å³", "GPa", 160.21766208),
    ("eV/A**3", "GPa", 160.21766208),
    ("eV Å^-3", "GPa", 160.21766208),
    ("kbar", "GPa", 0.1),
    ("bar", "Pa", 1e5),
    ("MPa", "bar", 10.0),
    ("Ha/Bohr^3", "GPa", 29421.02648438959),
    ("D", "e*Å", units.Debye),
    ("Debye", "e·Å", 0.20819433442462576),
    ("e*Bohr", "D", 2.541746472),
    ("e a0", "e⋅Å", units.Bohr),
    ("nm", "Å", 10.0),
    ("Bohr^3", "Å^3", units.Bohr**3),
    ("ps", "fs", 1000.0),
    ("amu", "kg", units._amu),
    ("amu*Å^2/fs^2", "eV", 103.642688),
    ("g/mol", "amu", 1.0),
    ("V/Å", "eV/(e*Å)", 1.0),
    ("Ha/(e*Bohr)", "V/Å", units.Hartree / units.Bohr),
    ("e^2/(4πε0*Å)", "eV", 14.399645352),
    ("K", "K", 1.0),
    ("1/Å", "nm^-1", 10.0),
    ("1e-3 eV", "meV", 1.0),
]


@pytest.mark.parametrize(("source", "target", "factor"), KNOWN)
def test_known_factors(source: str, target: str, factor: float) -> None:
    assert conversion_factor(source, target) == pytest.approx(factor, rel=5e-7)
    assert conversion_factor(target, source) == pytest.approx(1 / factor, rel=5e-7)


def test_same_unit_is_exactly_one() -> None:
    for name in unit_names():
        assert conversion_factor(name, name) == 1.0


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("EV", "eV"),
        ("ev/ANGSTROM", "eV/Å"),
        ("hartree", "Ha"),
        ("HA/bohr", "Ha/Bohr"),
        ("KCAL/MOL", "kcal/mol"),
        ("gpa", "GPa"),
        ("ang", "Å"),
        ("\u212b", "Å"),  # the Angstrom sign
        ("A\u030a", "Å"),  # A and a combining ring
        ("debye", "D"),
        ("4PI_EPS0", "4πε0"),
    ],
)
def test_case_and_spelling(written: str, meant: str) -> None:
    assert conversion_factor(written, meant) == 1.0


@pytest.mark.parametrize("written", ["mev", "MEV", "mpa", "eV/mpa"])
def test_ambiguous_case_is_asked_about(written: str) -> None:
    with pytest.raises(ValueError, match=r"may mean (meV or MeV|mPa or MPa): write one"):
        parse_unit(written)


@pytest.mark.parametrize(
    ("written", "nearest"),
    [("kcl/mol", "kcal"), ("Hartre", "Hartree"), ("eV/Angstrm", "Angstrom"), ("Boh", "Bohr")],
)
def test_unknown_unit_names_the_nearest(written: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown unit .*: did you mean .*{nearest}"):
        conversion_factor(written, "eV")


def test_unknown_unit_without_a_likeness_lists_all() -> None:
    with pytest.raises(ValueError, match="known are eV, meV"):
        conversion_factor("xyzzy", "eV")


def test_different_dimensions_name_both() -> None:
    with pytest.raises(ValueError, match=r"'kcal/mol' \(energy\) to 'eV/Å' \(force.*energy/length"):
        conversion_factor("kcal/mol", "eV/Å")
    with pytest.raises(
        ValueError, match=r"'GPa' \(pressure.*energy/length\^3\) to 'eV' \(energy\)"
    ):
        conversion_factor("GPa", "eV")


@pytest.mark.parametrize(
    "text", ["", "  ", "eV/", "*eV", "(eV", "eV)", "eV^", "eV^0.5", "eV$", "^2"]
)
def test_malformed_units_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unit"):
        parse_unit(text)


def test_division_reads_left_to_right() -> None:
    assert parse_unit("eV/Å*Å").dimension == parse_unit("eV").dimension
    assert parse_unit("eV/(Å*Å)").dimension == parse_unit("eV/Å^2").dimension


def test_polarizability_is_not_a_volume_by_accident() -> None:
    with pytest.raises(ValueError, match="polarizability volume is written with its constant"):
        conversion_factor("Bohr^3", "e*Å^2/V")
    # One atomic unit of polarizability, e² a0² / Ha, is 4πε0 a0³ by the definition of the Hartree.
    atomic = conversion_factor("e^2*Bohr^2/Ha", "e*Å^2/V")
    assert conversion_factor("4πε0*Bohr^3", "e*Å^2/V") == pytest.approx(atomic, rel=1e-8)
    assert polarizability_factor("Bohr^3") == pytest.approx(atomic, rel=1e-8)
    assert polarizability_factor("e*Å^2/V") == 1.0
    assert polarizability_factor("Bohr^3", "Å^3") == pytest.approx(units.Bohr**3, rel=1e-14)
    with pytest.raises(ValueError, match="dimensions differ"):
        polarizability_factor("D")


names = st.sampled_from(["eV", "Å", "e", "fs", "K", "kcal", "Bohr", "Ha", "V", "mol"])


@given(names, names, names, st.integers(-3, 3))
def test_conversion_is_a_group(a: str, b: str, c: str, power: int) -> None:
    source, target = f"{a}*{b}/{c}^{power}", f"{b} {a} {c}^{-power}"
    assert conversion_factor(source, target) == pytest.approx(1.0, rel=1e-14)
    value = parse_unit(a).value * parse_unit(b).value / parse_unit(c).value ** power
    assert math.isclose(parse_unit(source).value, value, rel_tol=1e-13)
