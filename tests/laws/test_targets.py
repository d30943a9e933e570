"""T(Qx) = Q T(x) for every kind of target and every architecture; charges add up."""

import pytest
import torch

from dreibein.data import DataConfig
from dreibein.models import LoCaFormerConfig, LocalizedConfig, TensorNetConfig, build_potential
from dreibein.nn.heads import TargetHead
from dreibein.recipes.study import Choice, StudyConfig
from dreibein.recipes.study.names import REPRESENTATIONS
from dreibein.testing import (
    assert_charges_add_up,
    assert_dipole_has_no_origin,
    assert_targets_turn,
)
from laws.structures import CELL, MOLECULE

KINDS = {
    "dipole": {},
    "polarizability": {},
    "quadrupole": {},
    "second_moment": {},
    "spatial_extent": {},
    "charges": {},
    "shielding": {},
    "vector": {"rank": 1, "scope": "atom"},
    "matrix": {"rank": 2, "scope": "atom"},
    "deviator": {"rank": 2, "scope": "structure", "symmetric": True, "traceless": True},
    "twist": {"rank": 2, "scope": "atom", "antisymmetric": True},
    "cubic": {"rank": 3, "scope": "structure"},
    "octupole": {"rank": 3, "scope": "structure", "symmetric": True, "traceless": True},
    "axial": {"irreps": "1x1e+1x0o", "scope": "atom"},
    "size": {"rank": 1, "scope": "structure", "charges": True, "reduce": "norm"},
    "spur": {"rank": 2, "scope": "atom", "reduce": "isotropic"},
    "bond_order": {"rank": 0, "scope": "bond", "cutoff": 2.0},
    "bond_dipole": {"rank": 1, "scope": "bond", "directed": True},
    "bond_tensor": {"rank": 2, "scope": "bond", "symmetric": True, "cutoff": 3.0},
    "bond_axial": {"irreps": "1x1e+1x0o+1x3o", "scope": "bond", "directed": True},
    "high": {"irreps": "1x3o+1x3e+2x2o", "scope": "structure", "pool": "mean"},
}
MOMENTS = ("dipole", "size", "quadrupole", "second_moment", "spatial_extent")
SIZES = {"channels": 6, "num_radial": 6, "cutoff": 3.5}
TARGETS = {name: {"channels": 4, **kind} for name, kind in KINDS.items()}
LOCAL = {**SIZES, "reps": "4x0n+2x1n+1x2e", "layers": 1, "targets": TARGETS}
CONFIGS = {
    "TensorNet": TensorNetConfig(**SIZES, layers=1, targets=TARGETS),
    "TensorNet-knots": TensorNetConfig(**SIZES, layers=1, knots=24, targets=TARGETS, energy=False),
    "LoCaFormer": LoCaFormerConfig(**LOCAL, heads=2),
    "GATv2Conv": LocalizedConfig(**LOCAL, convolution="GATv2Conv"),
}


def build(config):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return build_potential(config, elements=(1, 6, 8), dtype=torch.float64)


@pytest.fixture(params=CONFIGS, ids=str)
def potential(request):
    return build(CONFIGS[request.param])


def test_every_target_of_every_model_turns(potential):
    errors = assert_targets_turn(potential, MOLECULE)
    assert set(errors) == set(KINDS)
    assert_charges_add_up(potential, MOLECULE)
    assert_dipole_has_no_origin(potential, MOLECULE)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_tensors_turn_through_frames_of_every_representation(name):
    study = StudyConfig(
        data=DataConfig(sources=["x"]), target=("dipole", "polarizability", "mine"), width=32,
        channels=8, cutoff=3.5, typed={"mine": {"rank": 3, "scope": "atom"}},
    )  # fmt: skip
    potential = build(study.model(Choice(representation=name, frames="soft")))
    errors = assert_targets_turn(potential, MOLECULE, mirrored=False)
    assert set(errors) == {"dipole", "polarizability", "mine"}


def test_targets_of_a_crystal_turn_with_it(potential):
    names = [name for name in KINDS if name not in MOMENTS]
    for name in set(potential.targets) - set(names):
        del potential.targets[name]
    assert_targets_turn(potential, CELL)


def test_a_chiral_network_turns_but_is_not_mirrored():
    potential = build(TensorNetConfig(**SIZES, layers=2, symmetry="SO(3)", targets=TARGETS))
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.mul_(2.0)
    assert_targets_turn(potential, MOLECULE, mirrored=False)
    with pytest.raises(AssertionError, match="under reflection"):
        assert_targets_turn(potential, MOLECULE)


class Leaning(TargetHead):
    """Adds a little of a fixed direction."""

    def forward(self, x, structures, pos):
        value = super().forward(x, structures, pos)
        return value + 1e-9 * value.new_tensor([0.0, 0.0, 1.0])


class PseudoVector(TargetHead):
    """Turns as a vector, but is one that a mirror leaves alone."""

    def __init__(self, name, target, features):
        super().__init__(name, target.model_copy(update={"irreps": "1x1e", "rank": None}), features)
        self.target = target


@pytest.mark.parametrize(
    ("mutant", "law"), [(Leaning, "under rotation"), (PseudoVector, "under reflection")]
)
def test_mutants_are_caught(mutant, law):
    potential = build(CONFIGS["TensorNet"])
    healthy = potential.targets["vector"]
    with torch.random.fork_rng():
        potential.targets["vector"] = mutant("vector", healthy.target, 6).double()
    with pytest.raises(AssertionError, match=f"vector {law}"):
        assert_targets_turn(potential, MOLECULE)


def test_charges_that_do_not_add_up_are_caught(monkeypatch):
    from dreibein.nn import heads

    monkeypatch.setattr(heads, "neutralized", lambda charges, *rest: charges)
    potential = build(CONFIGS["TensorNet"])
    with pytest.raises(AssertionError, match="sum of charges"):
        assert_charges_add_up(potential, MOLECULE)


def test_a_dipole_with_an_origin_is_caught(monkeypatch):
    ion = MOLECULE.clone()
    ion.charge = torch.ones(1, dtype=torch.float64)
    potential = build(CONFIGS["TensorNet"])
    assert_dipole_has_no_origin(potential, ion)
    from dreibein.nn import heads

    monkeypatch.setattr(heads, "from_center", lambda masses, pos, *rest: pos)
    with pytest.raises(AssertionError, match="dipole under translation"):
        assert_dipole_has_no_origin(potential, ion)
