"""Targets of bonds: whose value stands where, exchange of ends, images, and a run from a file."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms

from dreibein.data import DataConfig, load_data
from dreibein.data.statistics import bond_values, label_scatter
from dreibein.evaluate import ErrorMeter
from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn.bonds import listed_bonds, partners
from dreibein.recipes import RunConfig, train_run
from dreibein.simulate.predictions import predict_structures
from dreibein.systems import join, make_structure
from dreibein.testing import sample_molecule
from dreibein.train import LabelTerm
from dreibein.train.losses import loss_sums

SIZES = {"channels": 6, "layers": 1, "num_radial": 6, "cutoff": 4.0}
BONDS = torch.tensor([[1, 2], [0, -1], [0, 3], [2, -1], [-1, -1], [-1, -1]])


def build(**kinds):
    torch.manual_seed(1)
    targets = {name: {"scope": "bond", "channels": 4, **kind} for name, kind in kinds.items()}
    config = TensorNetConfig(**SIZES, targets=targets)
    return build_potential(config, elements=(1, 6, 8), dtype=torch.float64)


def molecule(seed=0, **options):
    sample = sample_molecule((1, 6, 8), 6, seed=seed)
    made = make_structure(sample.z, options.pop("pos", sample.pos), **options)
    return attach_neighbors(made, SIZES["cutoff"])


def test_ends_exchange_unless_a_target_is_directed():
    potential = build(bond_even={"rank": 0}, bond_odd={"rank": 1, "directed": True})
    structure = molecule(bonds=BONDS)
    found = potential(structure, compute=("bond_even", "bond_odd"))
    assert found["bond_even"].shape == (6, 2)
    assert found["bond_odd"].shape == (6, 2, 3)
    even, odd = found["bond_even"], found["bond_odd"]
    torch.testing.assert_close(even[0, 0], even[1, 0])
    torch.testing.assert_close(even[2, 1], even[3, 0])
    assert float((odd[0, 0] - odd[1, 0]).abs().max()) > 1e-6
    assert float((odd[0, 0] + odd[1, 0]).abs().max()) > 1e-6
    for value in found.values():
        assert not bool(value[BONDS < 0].any())
        assert bool(value[BONDS >= 0].ne(0).all())


def test_without_a_list_bonds_are_pairs_within_the_cutoff():
    potential = build(bond_order={"rank": 0, "cutoff": 2.0}, bond_all={"rank": 0})
    structure = molecule()
    found = potential(structure, compute=("bond_order", "bond_all"))
    for name, cutoff in (("bond_order", 2.0), ("bond_all", None)):
        listed = structure.clone()
        listed.bonds = partners(structure, cutoff)
        again = potential(listed, compute=(name,))[name]
        torch.testing.assert_close(again, found[name], rtol=0, atol=1e-14)
    near = torch.cdist(structure.pos, structure.pos) <= 2.0
    near.fill_diagonal_(False)
    assert int((partners(structure, 2.0) >= 0).sum()) == int(near.sum())


def test_a_batch_gives_what_its_structures_give_alone():
    potential = build(bond_order={"rank": 0}, bond_tensor={"rank": 2, "symmetric": True})
    names = ("bond_order", "bond_tensor")
    single = [molecule(0, bonds=BONDS), molecule(3, bonds=BONDS.flip(1))]
    together = potential(join(single), compute=names)
    for name in names:
        alone = torch.cat([potential(s, compute=(name,))[name] for s in single])
        torch.testing.assert_close(together[name], alone)


def test_a_partner_is_its_nearest_image():
    cell = torch.tensor([[6.0, 0.0, 0.0], [2.5, 5.0, 0.0], [0.0, 1.0, 7.0]]).double()
    pos = torch.tensor([[0.1, 0.1, 0.1], [5.9, 0.2, 0.1], [2.4, 5.6, 6.9]]).double()
    for pbc, bound in ((True, 1.5), ([True, True, False], 8.0)):
        structure = make_structure([1, 1, 1], pos, cell=cell, pbc=pbc)
        structure.bonds = torch.tensor([[1, 2], [0, 2], [0, 1]])
        bonds = listed_bonds(structure, structure.pos)
        assert float(bonds.vectors.norm(dim=1).max()) < bound
        steps = bonds.vectors - (pos[bonds.partner] - pos[bonds.atom])
        whole = torch.linalg.solve(cell.T, steps.T).T
        torch.testing.assert_close(whole, whole.round(), rtol=0, atol=1e-12)
        if pbc is not True:
            assert not bool(whole[:, 2].round().any())


def test_partners_outside_of_the_structure_are_refused():
    potential = build(bond_order={"rank": 0})
    with pytest.raises(ValueError, match="names partner 6 in a structure of fewer atoms"):
        potential(molecule(bonds=BONDS + 3), compute=("bond_order",))
    with pytest.raises(ValueError, match="the partner of itself"):
        potential(molecule(bonds=torch.arange(6)), compute=("bond_order",))


def test_empty_slots_count_nothing_in_loss_and_errors():
    label = torch.where(BONDS >= 0, 1.0, 77.0).double()
    structure = molecule(bonds=BONDS, bond_order=label)
    structure.bond_order_mask = torch.tensor([True, True, True, False, True, True])
    batch = join([structure, structure])
    prediction = torch.zeros(12, 2, dtype=torch.float64, requires_grad=True)
    term = LabelTerm(kind="mse", scale=1.0)
    sums = loss_sums({"bond_order": prediction}, batch, {"bond_order": term})
    assert (float(sums.sums.detach()), float(sums.counts)) == (10.0, 10.0)
    slope = torch.autograd.grad(sums.sums[0], prediction)[0]
    assert int((slope != 0).sum()) == 10
    meter = ErrorMeter(units={"bond_order": "eV"})
    meter.update({"bond_order": prediction.detach() + 0.75}, batch)
    assert meter.compute()["bond_order_mae_ev"] == pytest.approx(0.25)
    assert meter.counts() == {"bond_order": 10}
    assert meter.scatter("bond_order") == pytest.approx(0.0)


def hydrides(count):
    """CH4-like stars whose bonds have a label: 3 d^2, and a vector along the bond."""
    generator = np.random.default_rng(0)
    corners = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) / np.sqrt(3)
    for _ in range(count):
        pos = np.zeros((5, 3))
        pos[1:] = corners * generator.uniform(0.95, 1.3, (4, 1))
        atoms = Atoms("CH4", pos + generator.normal(0.0, 0.02, (5, 3)))
        bonds = np.full((5, 4), -1)
        bonds[0], bonds[1:, 0] = np.arange(1, 5), 0
        vectors = atoms.positions[bonds] - atoms.positions[:, None]
        vectors[bonds < 0] = 0.0
        atoms.arrays["bonds"] = bonds
        atoms.arrays["bond_strength"] = 3.0 * (vectors**2).sum(2)
        atoms.arrays["bond_vector"] = vectors.reshape(5, 12)
        yield atoms


def hydride_strengths():
    """Labels of the four bonds of the first star."""
    return next(hydrides(1)).arrays["bond_strength"][0]


def test_a_run_from_a_file(tmp_path):
    path = tmp_path / "bonds.extxyz"
    ase.io.write(path, list(hydrides(80)))
    labels = ["bonds", "bond_strength", "bond_vector"]
    data = load_data(DataConfig(sources=[str(path)], labels=labels))
    values, ends = bond_values(data.table(), "bond_vector")
    assert values.shape == (640, 3)
    assert set(map(tuple, ends.tolist())) == {(6, 1), (1, 6)}
    assert label_scatter(data, "bond_strength") == pytest.approx(
        float(bond_values(data.table(), "bond_strength")[0].std())
    )
    config = RunConfig.model_validate(
        {
            "data": {"sources": [str(path)], "validation": 16, "test": 16},
            "model": {
                "targets": {
                    "bond_strength": {"rank": 0, "scope": "bond", "channels": 16},
                    "bond_vector": {"rank": 1, "scope": "bond", "directed": True, "channels": 16},
                },
                **SIZES,
            },
            "training": {"epochs": 12, "batch_size": 8, "lr": 5e-3, "ema_decay": None},
        }
    )
    run = train_run(config, folder=tmp_path / "run")
    metrics = run.evaluations["test"].metrics
    assert metrics["bond_strength_rmse_relative"] < 0.3
    assert metrics["bond_vector_rmse_relative"] < 0.1
    assert [t.scope for t in run.evaluations["test"].targets] == ["bond", "bond"]
    assert abs(float(run.potential.targets["bond_strength"].mean[6])) > 0.1
    written = tmp_path / "predicted.extxyz"
    frames = list(hydrides(3))
    for atoms in frames:
        atoms.arrays = {name: atoms.arrays[name] for name in ("numbers", "positions")}
    ase.io.write(tmp_path / "bare.extxyz", frames)
    assert predict_structures([tmp_path / "bare.extxyz"], run.potential, written) == 3
    first = ase.io.read(written, 0)
    assert first.arrays["bonds"].tolist()[0] == [1, 2, 3, 4]
    assert first.arrays["bond_vector"].shape == (5, 12)
    strength = first.arrays["bond_strength"][0]
    assert strength == pytest.approx(hydride_strengths(), rel=0.2)


def test_labels_without_a_list_of_bonds_are_refused(tmp_path):
    path = tmp_path / "bonds.extxyz"
    frames = list(hydrides(4))
    for atoms in frames:
        del atoms.arrays["bonds"]
    ase.io.write(path, frames)
    data = load_data(DataConfig(sources=[str(path)], labels=["bond_strength"]))
    with pytest.raises(ValueError, match="give the frames an array 'bonds'"):
        label_scatter(data, "bond_strength")
