"""A trained model drives the dynamics, and a method labels what it visits."""

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule

from dreibein.label import LabelConfig, generate_labels, make_method
from dreibein.models import TensorNetConfig, build_potential, save_model
from dreibein.neighbors import attach_neighbors
from dreibein.systems import from_ase

METHOD = "GFN2-xTB"
SHORT = {"frames": 4, "trajectories": 2, "interval_fs": 3, "equilibration_fs": 3, "seed": 5}


@pytest.fixture(autouse=True)
def programs():
    pytest.importorskip("tblite", reason="tblite is not installed (extra label)")
    pytest.importorskip("rdkit", reason="rdkit is not installed (extra label)")


def network(seed=0, elements=(1, 8)):
    torch.manual_seed(seed)
    config = TensorNetConfig(channels=16, layers=1, cutoff=4.0, num_radial=8, knots=32)
    return build_potential(config, elements=elements, scale=0.3)


def saved(folder, seed=0, **options):
    return str(save_model(network(seed, **options), folder / f"m{seed}.safetensors"))


def test_its_forces_are_those_of_the_potential(tmp_path):
    atoms = molecule("H2O")
    structure = attach_neighbors(from_ase(atoms), 4.0)
    right = network()(structure, compute=("energy", "forces"))
    calculation = make_method(saved(tmp_path)).calculation(atoms)
    energy, forces = calculation.energy_and_forces(atoms.positions)
    assert energy == pytest.approx(float(right["energy"]), abs=1e-5)
    np.testing.assert_allclose(forces, right["forces"].numpy(), atol=1e-5)
    found = calculation.labels(atoms.positions)
    np.testing.assert_allclose(found.forces, forces, atol=1e-6)
    assert found.stress is None


def test_it_drives_and_the_method_labels(tmp_path):
    """Labels are the method's at places that depend on the model alone."""
    places = {}
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        model, output = saved(tmp_path / name, seed), tmp_path / f"{name}.extxyz"
        config = LabelConfig(structure="O", method=METHOD, sampler=model, **SHORT)
        summary = generate_labels(config, output, workers=1)
        assert summary.sampler == make_method(model).name
        assert summary.sampler.startswith("the model ")
        assert summary.method == METHOD
        frames = ase.io.read(output, ":")
        assert len(frames) == 4
        for atoms in frames:
            right = make_method(METHOD).calculation(atoms).labels(atoms.positions)
            assert atoms.get_potential_energy() == pytest.approx(right.energy, abs=1e-6)
            np.testing.assert_allclose(atoms.get_forces(), right.forces, atol=1e-5)
        places[name] = np.array([atoms.positions for atoms in frames])
    np.testing.assert_array_equal(places["one"], places["again"])
    assert np.abs(places["one"] - places["other"]).max() > 1e-4


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ({"method": "MODEL"}, ValueError, "is a trained model, whose labels `dreibein predict`"),
        ({"method": "MODEL", "correction": "MODEL"}, ValueError, "is added to a cheap method"),
        ({"sampler": "MODEL", "structure": "N"}, ValueError, "not .*trained"),
        ({"sampler": "nowhere.safetensors"}, OSError, "nowhere"),
        ({"sampler": "runs/nowhere"}, ValueError, "and there is no model at runs/nowhere"),
    ],
)
def test_what_a_model_cannot_do_is_said(tmp_path, values, kind, words):
    if "/" in values.get("sampler", ""):
        pytest.importorskip("pyscf", reason="pyscf is not installed (extra dft)")
    model = saved(tmp_path)
    values = {"structure": "O"} | {k: v.replace("MODEL", model) for k, v in values.items()}
    with pytest.raises(kind, match=words):
        generate_labels(LabelConfig(**values), tmp_path / "out.extxyz", workers=1)
