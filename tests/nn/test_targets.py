"""Targets: what a name means, what a head adds up, what stays in float64."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from dreibein.models import TensorNetConfig, build_potential, load_model, save_model
from dreibein.neighbors import attach_neighbors
from dreibein.nn.targets import Target, Targets
from dreibein.systems import FIELDS, join, make_structure
from dreibein.testing import assert_targets_turn, sample_crystal, sample_molecule

SIZES = {"channels": 6, "layers": 1, "num_radial": 6, "cutoff": 3.5}
SMALL = {"channels": 4}


def build(targets, dtype=torch.float64, **options):
    torch.manual_seed(1)
    config = TensorNetConfig(**SIZES, targets=targets, **options)
    return build_potential(config, elements=(1, 6, 8), dtype=dtype)


def molecule(seed=0, **options):
    structure = sample_molecule((1, 6, 8), 6, seed=seed)
    structure = make_structure(structure.z, structure.pos, **options)
    return attach_neighbors(structure, SIZES["cutoff"])


def read(values):
    return TypeAdapter(Targets).validate_python(values)


def test_a_known_name_says_everything():
    targets = read(["dipole", "polarizability", "shielding"])
    assert read({"dipole": None}) == {"dipole": targets["dipole"]}
    for name, target in targets.items():
        assert target.shape == FIELDS[name].shape
        assert (target.scope, target.unit) == (FIELDS[name].scope, FIELDS[name].unit)
    assert targets["polarizability"].symmetric
    config = TensorNetConfig(**SIZES, targets=["dipole"])
    assert TensorNetConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["dipol"], "'dipol' is not a target; did you mean 'dipole'"),
        (["my_label"], "say its rank and scope"),
        ({"my_label": {"rank": 1}}, "needs a scope: structure, atom or bond"),
        (["forces"], "derives from the energy"),
        (["external_field"], "part of the input"),
        ({"dipole": {"rank": 2}}, "dipole has rank 1, not 2"),
        ({"shielding": {"scope": "structure"}}, "shielding has scope atom"),
        ({"a": {"rank": 1, "scope": "atom", "symmetric": True}}, "rank 2 and 3"),
        ({"a": {"irreps": "1x4e", "scope": "atom"}}, "go beyond l = 3"),
        ({"a": {"rank": 1, "irreps": "1x1e", "scope": "atom"}}, "not both"),
        ({"polarizability": {"reduce": "isotropic"}}, "give a number made of tensors another name"),
        ({"a": {"rank": 1, "scope": "atom", "reduce": "isotropic"}}, "third of the trace"),
        ({"a": {"rank": 1, "scope": "atom", "charges": True}}, "vectors of structures"),
        (
            {"bond_order": {"rank": 0, "scope": "atom"}},
            "targets of bonds, and no others, are named",
        ),
        ({"a": {"rank": 0, "scope": "atom", "directed": True}}, "options of bonds"),
        ({"my_index": {"rank": 1, "scope": "atom"}}, "cannot name a target"),
    ],
)
def test_mistakes_are_refused_in_one_sentence(values, message):
    with pytest.raises(ValidationError, match=message):
        read(values)


@pytest.mark.parametrize(
    ("options", "dimension"),
    [
        ({"rank": 2}, 9),
        ({"rank": 2, "symmetric": True}, 6),
        ({"rank": 2, "symmetric": True, "traceless": True}, 5),
        ({"rank": 2, "antisymmetric": True}, 3),
        ({"rank": 2, "traceless": True}, 8),
        ({"rank": 3}, 27),
        ({"rank": 3, "symmetric": True}, 10),
        ({"rank": 3, "symmetric": True, "traceless": True}, 7),
        ({"rank": 3, "antisymmetric": True}, 1),
        ({"irreps": "1x1e+2x0e"}, 5),
    ],
)
def test_parts_are_orthonormal_and_complete(options, dimension):
    target = Target(**options, scope="atom")
    basis = np.concatenate([isometry for _, isometry in target.parts()], axis=1)
    assert basis.shape == (max(1, int(np.prod(target.shape, dtype=int))), dimension)
    np.testing.assert_allclose(basis.T @ basis, np.eye(dimension), atol=1e-12)
    if target.symmetric and len(target.shape) == 2:
        tensors = basis.T.reshape(-1, 3, 3)
        np.testing.assert_allclose(tensors, tensors.transpose(0, 2, 1), atol=1e-12)


def test_numbers_made_of_tensors_are_those_of_the_tensors():
    """With equal weights: |D| of the dipole, a third of the trace of the polarizability."""
    made = {
        "mu": {"rank": 1, "scope": "structure", "charges": True, "reduce": "norm", "unit": "D"},
        "alpha": {"rank": 2, "scope": "structure", "symmetric": True, "reduce": "isotropic"},
    }
    targets = {"dipole": SMALL, "polarizability": SMALL}
    potential = build(targets | {name: {**SMALL, **kind} for name, kind in made.items()})
    for number, tensor in (("mu", "dipole"), ("alpha", "polarizability")):
        potential.targets[number].load_state_dict(potential.targets[tensor].state_dict())
    potential.targets["polarizability"].mean[1:9] = potential.targets["alpha"].mean[1:9] = 0.3
    found = potential(join([molecule(0), molecule(3)]), compute=tuple(potential.targets))
    torch.testing.assert_close(found["mu"], found["dipole"].norm(dim=1))
    trace = found["polarizability"].diagonal(dim1=1, dim2=2).mean(1)
    torch.testing.assert_close(found["alpha"], trace)
    ion = molecule(0, charge=-1.0)
    found = potential(ion, compute=("mu", "dipole"))
    assert abs(found["mu"] - found["dipole"].norm(dim=1)) > 0.1  # charges in D/Å: 4.8 to an e


def test_a_batch_gives_what_its_structures_give_alone():
    potential = build(dict.fromkeys(("dipole", "polarizability", "charges", "shielding"), SMALL))
    singles = [molecule(0), molecule(3, charge=-1.0)]
    found = potential(join(singles), compute=tuple(potential.targets))
    alone = [potential(s, compute=tuple(potential.targets)) for s in singles]
    for name, value in found.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, torch.cat([one[name] for one in alone]))
    assert float(alone[1]["charges"].sum()) == pytest.approx(-1.0, abs=1e-14)


def test_the_dipole_is_charges_times_positions_plus_atomic_dipoles():
    potential = build({"dipole": SMALL})
    head, structure = potential.targets["dipole"], molecule()
    with torch.no_grad():
        head.readout.mixes["1o"].weight.zero_()
        without = potential(structure, compute=["dipole"])["dipole"]
        # the charges, read off by moving one atom's lever at a time
        levers = torch.zeros(6, dtype=torch.float64)
        for atom in range(6):
            moved = structure.pos.clone()
            moved[atom, 0] += 1.0
            features = potential.network.irreps_features(_graph(potential, structure))
            levers[atom] = head(features, structure, moved)[0, 0] - without[0, 0]
    assert float(levers.sum()) == pytest.approx(0.0, abs=1e-12)
    centered = structure.pos - structure.pos.mean(0)
    torch.testing.assert_close(without[0], levers @ centered)


def _graph(potential, structure):
    from dreibein.systems.graphs import make_graph

    return make_graph(structure, structure.pos, structure.cell, potential.dtype)


def test_a_periodic_cell_has_dipoles_of_atoms_alone():
    crystal = attach_neighbors(sample_crystal((1, 6, 8), 4), SIZES["cutoff"])
    elements = tuple(sorted(set(crystal.z.tolist())))
    for charges in (None, False):
        config = TensorNetConfig(**SIZES, targets={"dipole": {"charges": charges}})
        potential = build_potential(config, elements=elements)
        if charges is None:
            with pytest.raises(ValueError, match="no sum in a periodic cell"):
                potential(crystal, compute=["dipole"])
        else:
            assert potential(crystal, compute=["dipole"])["dipole"].shape == (1, 3)


def test_a_model_may_have_no_energy():
    potential = build({"dipole": SMALL}, energy=False)
    assert potential.outputs == potential.heads == ("dipole",)
    with pytest.raises(ValueError, match="cannot compute energy; choose from dipole"):
        potential(molecule(), compute=["energy"])
    assert not any("out_norm" in name for name in potential.state_dict())
    with pytest.raises(ValueError, match="needs targets"):
        build({}, energy=False)


def test_targets_change_neither_weights_nor_energy_of_the_network():
    plain, rich = build({}), build({"dipole": SMALL})
    state = rich.state_dict()
    assert all(
        torch.equal(v.nan_to_num(), state[n].nan_to_num()) for n, v in plain.state_dict().items()
    )
    found = [p(molecule(), compute=["energy", "forces"]) for p in (plain, rich)]
    assert torch.equal(found[0]["forces"], found[1]["forces"])
    assert plain.heads == ("energy",)


def test_a_model_file_keeps_targets_and_their_constants(tmp_path):
    potential = build({"shielding": SMALL, "dipole": {"charges": False}}, torch.float32)
    head = potential.targets["shielding"]
    head.mean[6], head.spread[6] = 123.456789012345, 0.1
    loaded = load_model(save_model(potential, tmp_path / "m.safetensors"))
    assert loaded.config == potential.config
    structure = molecule()
    for name in potential.targets:
        one, other = (p(structure, compute=[name])[name] for p in (potential, loaded))
        assert torch.equal(one, other)
    assert float(loaded.targets["shielding"].mean[6]) == 123.456789012345
    assert load_model(tmp_path / "m.safetensors", dtype=torch.float64).dtype == torch.float64


def test_a_model_moved_to_float64_is_exact_there():
    targets = {"polarizability": SMALL, "octupole": {"rank": 3, "scope": "structure", **SMALL}}
    potential = build(targets, torch.float32).double()
    with torch.no_grad():  # products of vectors alone, so that their constants show
        for head in potential.targets.values():
            head.readout.scales.mul_(0.01)
    assert max(assert_targets_turn(potential, molecule()).values()) < 1e-12


def test_gradients_of_a_target_loss_equal_finite_differences():
    potential = build({"dipole": SMALL, "matrix": {"rank": 2, "scope": "atom", **SMALL}}).train()
    structure = molecule()

    def loss():
        found = potential(structure, compute=["dipole", "matrix"])
        return found["dipole"].square().sum() + found["matrix"].square().sum()

    loss().backward()
    parameters = [p for p in potential.parameters() if p.grad is not None]
    assert any(p is potential.network.embedding.element.weight for p in parameters)
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    slope = sum(float((p.grad * d).sum()) for p, d in zip(parameters, direction, strict=True))
    step, values = 1e-6, []
    with torch.no_grad():
        for sign in (1.0, -2.0):
            for p, d in zip(parameters, direction, strict=True):
                p.add_(sign * step * d)
            values.append(float(loss()))
    assert slope == pytest.approx((values[0] - values[1]) / (2.0 * step), rel=1e-6)


def test_positions_get_gradients_through_charges_and_features():
    """d dipole / d positions: atomic polar tensors add up to nothing in a neutral structure."""
    potential = build({"dipole": SMALL}).train()
    structure = molecule()
    structure.pos = structure.pos.clone().requires_grad_()
    dipole = potential(structure, compute=["dipole"])["dipole"]
    tensors = torch.stack(
        [torch.autograd.grad(d, structure.pos, retain_graph=True)[0] for d in dipole[0]]
    )
    assert float(tensors.abs().max()) > 1e-4
    assert float(tensors.sum(1).abs().max()) < 1e-12
