"""Last-layer uncertainty: the features are gradients, sigma is invariant, forces follow."""

import numpy as np
import pytest
import torch

from dreibein.models import (
    LoCaFormerConfig,
    LocalizedConfig,
    TensorFieldConfig,
    TensorNetConfig,
    build_potential,
    load_model,
    save_model,
)
from dreibein.neighbors import attach_neighbors
from dreibein.nn import FrozenPotential
from dreibein.nn.uncertainty import (
    UNCERTAINTIES,
    LastLayerUncertainty,
    has_last_layer,
    last_features,
)
from dreibein.systems import join, make_structure
from dreibein.testing import sample_molecule

SMALL = {"channels": 8, "num_radial": 6, "cutoff": 3.5}
CONFIGS = {
    "tensornet": TensorNetConfig(**SMALL, layers=1),
    "gated": TensorNetConfig(**SMALL, layers=1, head="gated"),
    "locaformer": LoCaFormerConfig(**SMALL, layers=1, heads=2, reps="4x0n+2x1n"),
    "localized": LocalizedConfig(**SMALL, layers=1, reps="4x0n+2x1n"),
    "tensor_field": TensorFieldConfig(**SMALL, layers=1, irreps="4x0e+4x1o"),
}


def make(name):
    """A potential in float64 with an uncertainty that is any matrix."""
    torch.manual_seed(5)
    potential = build_potential(CONFIGS[name], elements=(1, 6, 8), scale=2.0, dtype=torch.float64)
    structure = attach_neighbors(sample_molecule((1, 6, 8), 5, seed=1), potential.cutoff)
    size = last_features(potential, structure).shape[1]
    potential.uncertainty = LastLayerUncertainty(size)
    potential.uncertainty.root.copy_(torch.randn(size, size, dtype=torch.float64))
    return potential, structure


def moved(structure, pos, potential):
    """The same atoms elsewhere."""
    return attach_neighbors(make_structure(structure.z, pos), potential.cutoff)


def off_by(potential, structure):
    """Largest change of the uncertainties under a motion that turns nothing, over their size."""
    names = ("energy_uncertainty", "energies_uncertainty")
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    order = torch.randperm(len(structure.z))
    pos = (structure.pos @ turn.T + torch.tensor([3.0, -2.0, 9.0]))[order]
    other = attach_neighbors(make_structure(structure.z[order], pos), potential.cutoff)
    first, second = (potential(s, compute=names) for s in (structure, other))
    change = (second[names[0]] - first[names[0]]).abs().max() / first[names[0]].max()
    atoms = (second[names[1]] - first[names[1]][order]).abs().max() / first[names[1]].max()
    return float(max(change, atoms))


@pytest.mark.parametrize("name", CONFIGS)
def test_features_are_gradients_by_the_last_layer(name):
    potential, structure = make(name)
    assert has_last_layer(potential.network)
    features = last_features(potential, structure)
    head = potential.network.head
    layers = [m for m in head.modules() if isinstance(m, torch.nn.Linear)]
    last = next(m for m in layers if m.out_features == 1)
    weights = [last.weight] + ([last.bias] if last.bias is not None else [])
    potential.train()
    energies = potential(structure, compute=("energies",))["energies"]
    for k, energy in enumerate(energies):
        found = torch.autograd.grad(energy, weights, retain_graph=True)
        expected = torch.cat([g.flatten() for g in found])
        torch.testing.assert_close(2.0 * features[k].detach(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_sigma_is_invariant(name):
    assert off_by(*make(name)) < 1e-10


def test_a_sigma_of_coordinates_is_caught(monkeypatch):
    potential, structure = make("tensornet")
    whole = potential.network.head.forward
    monkeypatch.setattr(
        "dreibein.nn.uncertainty._of_head",
        lambda head, x: torch.cat((x[:, :4], structure.pos[: len(x), :1]), 1),
    )
    assert off_by(potential, structure) > 1e-3
    assert potential.network.head.forward == whole


def test_it_is_the_quadratic_form_and_extensive():
    potential, structure = make("tensornet")
    features = last_features(potential, structure).detach()
    root = potential.uncertainty.root
    total = features.sum(0)
    found = potential(structure, compute=UNCERTAINTIES)
    form = total @ (root.T @ root) @ total
    assert float(found["energy_uncertainty"]) == pytest.approx(float(form.sqrt()), rel=1e-12)
    far = torch.cat((structure.pos, structure.pos + 50.0))
    double = moved(make_structure(structure.z.repeat(2), far), far, potential)
    twice = potential(double, compute=("energy_uncertainty",))["energy_uncertainty"]
    torch.testing.assert_close(twice, 2.0 * found["energy_uncertainty"], rtol=1e-10, atol=0.0)
    both = potential(join([structure, double]), compute=UNCERTAINTIES)
    torch.testing.assert_close(both["energy_uncertainty"][1:], twice, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(
        both["forces_uncertainty"][: len(features)], found["forces_uncertainty"]
    )


def test_forces_are_derivatives_of_the_scaled_features():
    potential, structure = make("locaformer")
    potential.uncertainty.forces_factor.fill_(3.0)
    root, step = potential.uncertainty.root, 1e-5
    columns = []
    for atom in range(2):
        square = 0.0
        for axis in range(3):
            ends = []
            for sign in (1.0, -1.0):
                pos = structure.pos.clone()
                pos[atom, axis] += sign * step
                ends.append(
                    root @ last_features(potential, moved(structure, pos, potential)).sum(0)
                )
            square += float(((ends[0] - ends[1]) / (2.0 * step)).square().sum())
        columns.append(3.0 * square**0.5)
    found = potential(structure, compute=("forces_uncertainty",))["forces_uncertainty"]
    np.testing.assert_allclose(found[:2].detach().numpy(), columns, rtol=1e-6)


def test_files_precision_and_frozen_potentials_keep_it(tmp_path):
    potential, structure = make("tensornet")
    expected = potential(structure, compute=UNCERTAINTIES)
    loaded = load_model(save_model(potential, tmp_path / "model.safetensors"))
    for name, value in loaded(structure, compute=UNCERTAINTIES).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=0.0)
    frozen = FrozenPotential(loaded, "fused")(structure, ("energy", "forces", *UNCERTAINTIES))
    torch.testing.assert_close(frozen["energy_uncertainty"], expected["energy_uncertainty"])
    assert set(frozen) == {"energy", "forces", *UNCERTAINTIES}
    assert loaded.float().uncertainty.root.dtype == torch.float64
    assert torch.equal(loaded.uncertainty.root, potential.uncertainty.root)
    potential.uncertainty = None
    assert "energy_uncertainty" not in potential.outputs
    with pytest.raises(ValueError, match="cannot compute energy_uncertainty"):
        potential(structure, compute=("energy_uncertainty",))
