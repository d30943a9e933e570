"""Physical terms: constants, authorities, derivatives, and the sum that they are items of."""

import math

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from pydantic import ValidationError

from dreibein.models import (
    LoCaFormerConfig,
    TensorNetConfig,
    build_potential,
    load_model,
    save_model,
)
from dreibein.neighbors import attach_neighbors
from dreibein.nn import FrozenPotential
from dreibein.nn.terms import (
    COULOMB,
    ZBL,
    Coulomb,
    CoulombConfig,
    DispersionD2,
    DispersionD2Config,
    DispersionD3,
    DispersionD3Config,
    ZBLConfig,
    surroundings,
    switch,
)
from dreibein.systems import from_ase, join, make_structure
from dreibein.testing import sample_crystal, sample_molecule
from dreibein.testing.derivatives import (
    assert_forces,
    assert_hessian,
    assert_no_net_force,
    assert_virial_and_stress,
)

ELEMENTS = (1, 6, 8)
CHARGES = {"H": 0.3, "C": -0.2, "O": -0.7}
MOLECULE = sample_molecule(ELEMENTS, 5, seed=1)
CRYSTAL = sample_crystal(ELEMENTS, 2, seed=3)
D3 = {"term": "dispersion_d3", "functional": "pbe", "cutoff": 6.0, "counting_cutoff": 5.0}
EWALD = {"term": "coulomb", "charges": CHARGES, "method": "ewald", "cutoff": 6.0, "damping": 3.0}
DIRECT = {"term": "coulomb", "charges": CHARGES, "damping": 4.6}
FIELD = {"term": "coulomb", "charges": CHARGES, "method": "reaction_field", "cutoff": 6.0}
TERMS = {
    "zbl": {"term": "zbl"},
    "zbl, to 5 Å": {"term": "zbl", "cutoff": 5.0, "screening": "soft", "switch": "smooth"},
    "d2": {"term": "dispersion_d2", "cutoff": 6.0},
    "d3": D3,
    "direct": DIRECT,
    "reaction field": FIELD,
    "ewald": EWALD,
}
MOLECULAR, PERIODIC = ("direct",), ("ewald",)


def with_terms(*terms, **options):
    config = TensorNetConfig(channels=8, num_radial=6, cutoff=3.5, layers=1, terms=terms, **options)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_potential(config, elements=ELEMENTS, scale=1.5, dtype=torch.float64)


def energies(term, structure):
    near = attach_neighbors(structure, term.cutoff or 1.0)
    return term(surroundings(near, near.pos, near.cell))


def pytest_skip_without(name):
    return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.mark.parametrize(
    ("name", "structure", "shortest", "constant"),
    [
        # per shortest distance, charges of one: e.g. OEIS A085469, A181152, A182566
        ("NaCl", "rocksalt", 0.5, 1.747564594633182190636),
        ("CsCl", "cesiumchloride", math.sqrt(0.75), 1.762674773070991),
        ("ZnS", "zincblende", math.sqrt(3.0) / 4.0, 1.638055053388790),
    ],
)
@pytest.mark.parametrize("method", ["ewald", "pme"])
def test_madelung_constants(name, structure, shortest, constant, method):
    if method == "pme":
        pytest_skip_without("torchpme")
    crystal = bulk(name, structure, a=5.0)
    charges = {name[:2]: 1.0, name[2:]: -1.0}
    for cutoff in (6.0, 8.0):
        config = CoulombConfig(charges=charges, method=method, cutoff=cutoff, accuracy=1e-12)
        term = Coulomb(config, tuple(sorted(set(crystal.numbers.tolist()))))
        energy = float(energies(term, from_ase(crystal)).sum())
        assert -energy * 5.0 * shortest / COULOMB == pytest.approx(constant, rel=0.0, abs=1e-10)


def test_a_charged_cell_is_neutralized():
    """A point charge in its own images: -2.837297 q^2 / 2L (simple cubic Wigner crystal)."""
    structure = make_structure([1], [[0.1, 0.2, 0.3]], cell=[7.0, 7.0, 7.0])
    for cutoff in (4.0, 7.0):
        config = CoulombConfig(charges={"H": 1.0}, method="ewald", cutoff=cutoff)
        energy = float(energies(Coulomb(config, (1,)), structure).sum())
        assert energy / COULOMB == pytest.approx(-2.837297479480 / 14.0, abs=1e-9)


def test_coulomb_law_and_units():
    """Two charges 1 Å apart: 14.3996 eV; Hartree at one Bohr."""
    pair = make_structure([1, 8], [[0.0, 0.0, 0.0], [units.Bohr, 0.0, 0.0]])
    config = CoulombConfig(charges={"H": 1.0, "O": -1.0})
    assert float(energies(Coulomb(config, (1, 8)), pair).sum()) == pytest.approx(-units.Hartree)


def test_reaction_field_tends_to_the_direct_sum():
    direct = Coulomb(CoulombConfig(charges=CHARGES), ELEMENTS)
    expected = float(energies(direct, MOLECULE).sum())
    total = sum({1: 0.3, 6: -0.2, 8: -0.7}[z] for z in MOLECULE.z.tolist())
    own = sum({1: 0.3, 6: -0.2, 8: -0.7}[z] ** 2 for z in MOLECULE.z.tolist())
    for cutoff in (1e3, 1e4):
        config = CoulombConfig(charges=CHARGES, method="reaction_field", cutoff=cutoff)
        found = float(energies(Coulomb(config, ELEMENTS), MOLECULE).sum())
        constant = -COULOMB * 1.5 / cutoff * 0.5 * (total**2 - own)
        assert found == pytest.approx(expected + constant, abs=100.0 * COULOMB / cutoff**3 + 1e-9)


def test_several_sets_of_charges_are_averaged():
    given = attach_neighbors(MOLECULE, 1.0)
    sets = torch.linspace(-0.4, 0.5, 15, dtype=torch.float64).view(5, 3)
    each = []
    for k in range(3):
        one = Coulomb(CoulombConfig(charges="network"), ELEMENTS)
        around = surroundings(given, given.pos, given.cell, sets[:, k : k + 1])
        each.append(float(one(around).sum()))
    term = Coulomb(CoulombConfig(weights=(1.0, 0.5, 0.25)), ELEMENTS)
    found = float(term(surroundings(given, given.pos, given.cell, sets)).sum())
    assert found == pytest.approx((each[0] + 0.5 * each[1] + 0.25 * each[2]) / 1.75)


def test_universal_screening():
    """Two silicon nuclei: the equation written out, at 0.5 and 1 Å."""
    term = ZBL(ZBLConfig(cutoff=2.0, inner=0.9), (14,))
    for r in (0.5, 1.0):
        pair = make_structure([14, 14], [[0.0, 0.0, 0.0], [r, 0.0, 0.0]])
        a = 0.88534 * units.Bohr / (2.0 * 14.0**0.23)
        x = r / a
        phi = (
            0.18175 * math.exp(-3.1998 * x)
            + 0.50986 * math.exp(-0.94229 * x)
            + 0.28022 * math.exp(-0.4029 * x)
            + 0.02817 * math.exp(-0.20162 * x)
        )
        assert float(energies(term, pair).sum()) == pytest.approx(COULOMB * 196.0 / r * phi)


@pytest.mark.parametrize("kind", ["smooth", "cosine", "polynomial"])
def test_switches_end_smoothly(kind):
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    values = switch(ends, kind)
    (slope,) = torch.autograd.grad(values.sum(), ends, create_graph=True)
    assert values.tolist() == pytest.approx([1.0, 0.0], abs=1e-15)
    assert slope.tolist() == pytest.approx([0.0, 0.0], abs=1e-14)


@pytest.mark.parametrize("functional", ["pbe", "b3lyp"])
@pytest.mark.parametrize("periodic", [False, True])
def test_dispersion_is_that_of_s_dftd3(functional, periodic):
    """The reference implementation's energies, molecule and skewed cell, to 1e-10 eV."""
    pytest_skip_without("tad_dftd3")
    interface = pytest_skip_without("dftd3.interface")
    atoms = molecule("CH3CH2OH")
    cell = ()
    if periodic:
        atoms.set_cell([[7.0, 0.0, 0.0], [0.5, 7.0, 0.0], [0.2, 0.3, 7.0]])
        atoms.pbc = True
        cell = (atoms.cell[:] / units.Bohr, np.array([True] * 3))
    config = DispersionD3Config(
        functional=functional, cutoff=60 * units.Bohr, counting_cutoff=40 * units.Bohr,
        switch="none", inner=0.0,
    )  # fmt: skip
    term = DispersionD3(config, ELEMENTS)
    s6, s8, a1, a2 = term.damping.tolist()
    model = interface.DispersionModel(atoms.numbers, atoms.positions / units.Bohr, *cell)
    damping = interface.RationalDampingParam(s6=s6, s8=s8, s9=0.0, a1=a1, a2=a2)
    expected = model.get_dispersion(damping, grad=False)["energy"] * units.Hartree
    assert float(energies(term, from_ase(atoms)).sum()) == pytest.approx(expected, abs=1e-10)


def test_dispersion_of_an_argon_pair():
    """D2 far out is -s6 C6 / r^6 with the tabulated 4.61 J nm^6 / mol."""
    pair = make_structure([18, 18], [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    found = float(energies(DispersionD2(DispersionD2Config(), (18,)), pair).sum())
    assert found == pytest.approx(-0.75 * 4.61 * (units.J / units.mol) * 1e6 / 9.0**6, rel=1e-9)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("kind", ["molecule", "crystal"])
def test_derivatives_are_those_of_the_energy(name, kind):
    """Forces, virial, stress and Hessian against finite differences, network included."""
    if (kind == "crystal" and name in MOLECULAR) or (kind == "molecule" and name in PERIODIC):
        pytest.skip("another kind of structure is refused")
    if name == "d3":
        pytest_skip_without("tad_dftd3")
    potential = with_terms(TERMS[name])
    structure = MOLECULE if kind == "molecule" else CRYSTAL
    assert_forces(potential, structure, tolerance=1e-8)
    # images enter the reaction field's range with a jump of the curvature
    wide = 1e-4 if name == "reaction field" else 1e-7
    assert_virial_and_stress(potential, structure, tolerance=wide)
    assert_hessian(potential, structure, tolerance=1e-7)
    assert_no_net_force(potential, structure)


def test_the_mesh_is_ewald():
    """PME: energies and stress within 1e-6 of Ewald's, forces and strain its own derivatives."""
    pytest_skip_without("torchpme")
    mesh = with_terms(EWALD | {"method": "pme"})
    exact = with_terms(EWALD)
    given = attach_neighbors(CRYSTAL, mesh.cutoff)
    a, b = (p(given, ("energy", "forces", "stress")) for p in (mesh, exact))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-5, atol=1e-6)
    assert_forces(mesh, CRYSTAL, tolerance=1e-8)
    assert_virial_and_stress(mesh, CRYSTAL, tolerance=1e-7)


def test_longer_terms_leave_the_network_its_own_range():
    """E = network alone at its range + terms alone, whatever the longer list."""
    network, both = with_terms(), with_terms({"term": "dispersion_d2", "cutoff": 8.0}, FIELD)
    assert (network.cutoff, both.cutoff) == (3.5, 8.0)
    far = attach_neighbors(CRYSTAL, 8.0)
    near = network(attach_neighbors(CRYSTAL, 3.5), ("energies", "forces", "virial"))
    around = surroundings(far, far.pos, far.cell)
    expected = near["energies"] + sum(term(around) for term in both.terms)
    torch.testing.assert_close(both(far, ("energies",))["energies"], expected)
    view = both.network_view(far)
    assert view.edge_index.shape[1] == attach_neighbors(CRYSTAL, 3.5).edge_index.shape[1]
    assert network.network_view(far) is far


@pytest.mark.parametrize("kind", ["molecule", "crystal"])
def test_training_mode_and_batches_have_the_same_terms(kind):
    """Batches; the fused training pass with terms beside it; float32 networks."""
    zbl = {"term": "zbl", "cutoff": 4.5}
    term = DIRECT if kind == "molecule" else EWALD
    potential = with_terms(zbl, term, knots=32)
    parts = [MOLECULE, sample_molecule(ELEMENTS, 3, seed=8)]
    if kind == "crystal":
        parts = [CRYSTAL, sample_crystal(ELEMENTS, 3, seed=9)]
    parts = [attach_neighbors(part, potential.cutoff) for part in parts]
    wanted = ("energy", "forces", "virial")
    alone = [potential(part, wanted) for part in parts]
    batch = join(parts)
    for found in (potential(batch, wanted), potential.train()(batch, wanted)):
        for name in wanted:
            expected = torch.cat([each[name] for each in alone])
            torch.testing.assert_close(found[name].detach(), expected, rtol=1e-9, atol=1e-9)
    potential.eval().float()
    assert potential.terms[0].reach.dtype == torch.float64
    rough = potential(batch, wanted)["energy"]
    expected = torch.cat([each["energy"] for each in alone])
    torch.testing.assert_close(rough, expected, rtol=1e-5, atol=1e-4)


def test_references_and_scale_do_not_touch_terms():
    config = TensorNetConfig(channels=8, layers=0, cutoff=3.0, terms=({"term": "zbl"},))
    kinds = [
        build_potential(config, elements=(1,), dtype=torch.float64, **options)
        for options in ({"scale": 0.0}, {"scale": 0.0, "reference_energies": {1: -2.0}})
    ]
    pair = attach_neighbors(make_structure([1, 1], [[0.0, 0.0, 0.0], [0.4, 0.0, 0.0]]), 3.0)
    bare = float(energies(ZBL(ZBLConfig(), (1,)), pair).sum())
    assert bare > 1.0
    found = [float(potential(pair)["energy"]) for potential in kinds]
    assert found == pytest.approx([bare, bare - 4.0])


def test_the_engine_serves_a_model_with_terms():
    potential = with_terms({"term": "zbl", "cutoff": 2.5}, EWALD)
    frozen = FrozenPotential(potential, "fused")
    given = attach_neighbors(CRYSTAL, potential.cutoff + 0.5)  # with a skin, as in dynamics
    wanted = ("energy", "forces", "stress")
    exact, fused = potential(given, wanted), frozen(given, wanted)
    for name in wanted:
        torch.testing.assert_close(fused[name], exact[name], rtol=1e-8, atol=1e-8)
    assert "+ zbl (universal screening, to 2.5 Å), coulomb" in frozen.describe()


def test_terms_are_stored_with_the_model(tmp_path):
    pytest_skip_without("tad_dftd3")
    potential = with_terms("zbl", D3, EWALD)
    save_model(potential, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert again.config == potential.config
    given = attach_neighbors(CRYSTAL, potential.cutoff)
    assert float(again(given)["energy"]) == float(potential(given)["energy"])


def test_tables_come_with_the_file_where_the_package_is_absent(tmp_path, monkeypatch):
    pytest_skip_without("tad_dftd3")
    potential = with_terms(D3)
    save_model(potential, tmp_path / "model.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "tad_dftd3.reference", None)
    again = load_model(tmp_path / "model.safetensors")
    given = attach_neighbors(CRYSTAL, potential.cutoff)
    assert float(again(given)["energy"]) == float(potential(given)["energy"])
    with pytest.raises(ImportError, match=r"dreibein\[d3\]"):
        with_terms(D3)(given)


def test_other_networks_take_terms():
    config = LoCaFormerConfig(
        channels=8, heads=2, num_radial=4, cutoff=3.0, layers=1, reps="4x0n+2x1n", terms=["zbl"]
    )
    potential = build_potential(config, elements=ELEMENTS, dtype=torch.float64)
    assert [term.config.term for term in potential.terms] == ["zbl"]
    assert_forces(potential, MOLECULE)


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ({"term": "zbll"}, "no term 'zbll' .nearest: zbl."),
        ({"term": "zbl", "cutof": 2.0}, "cutof"),
        ({"term": "coulomb", "charges": CHARGES, "cutoff": 5.0}, "'direct' has no cutoff"),
        ({"term": "coulomb", "charges": CHARGES, "weights": [1.0]}, "weights are of charges"),
        (EWALD | {"damping": 7.0}, "must end within the cutoff of ewald, 6 Å"),
        ({"term": "coulomb"}, "charge_channels"),
        ({"term": "coulomb", "charges": {"H": 1.0}}, "no value for C, O"),
        ({"term": "coulomb", "charges": {"Hx": 1.0}}, "names 'Hx'"),
        ({"term": "dispersion_d3"}, "either a functional or its damping"),
        ({"term": "dispersion_d3", "functional": "hf9"}, "no parameters of the functional 'hf9'"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(term, said):
    if term["term"] == "dispersion_d3":
        pytest_skip_without("tad_dftd3")
    with pytest.raises((ValueError, ValidationError), match=said):
        with_terms(term)


def test_the_wrong_kind_of_structure_is_refused():
    with pytest.raises(ValueError, match="use 'ewald', 'pme' or 'reaction_field'"):
        energies(with_terms(DIRECT).terms[0], CRYSTAL)
    with pytest.raises(ValueError, match="periodic in three directions"):
        energies(with_terms(EWALD).terms[0], MOLECULE)
    beyond = DispersionD2Config()
    with pytest.raises(ValueError, match="no coefficient of Cs"):
        DispersionD2(beyond, (55,))
