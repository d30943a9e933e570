"""A loss on forces and stress has right gradients: positions and every parameter."""

import pytest
import torch

from dreibein.neighbors import attach_neighbors
from dreibein.nn import Potential
from dreibein.testing import assert_force_loss_gradients, assert_second_derivatives, sample_molecule
from dreibein.testing.probing import mode
from laws import mutants
from laws.cases import CASES
from laws.structures import CELL, ION, MOLECULE

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@pytest.mark.parametrize("structure", [ION, CELL], ids=["ion", "cell"])
def test_gradients_through_positions(case, structure):
    assert_second_derivatives(case.build(), structure)


@ALL
@pytest.mark.parametrize("structure", [ION, CELL], ids=["ion", "cell"])
def test_gradients_through_parameters(case, structure):
    before = [p.clone() for p in case.build().parameters()]
    assert_force_loss_gradients(case.build(), structure)
    assert all(torch.equal(a, b) for a, b in zip(before, case.build().parameters(), strict=True))


@pytest.mark.parametrize("case", [CASES[0], CASES[1]], ids=str)
def test_pytorch_agrees(case):
    """The same through `gradgradcheck`, for two of the models."""
    potential = case.build()
    graph = attach_neighbors(sample_molecule((1, 8), 3), potential.cutoff)

    def energy(pos):
        moved = graph.clone()
        moved.pos = pos
        return potential(moved, compute=("energy",))["energy"]

    with mode(potential, training=True):
        pos = graph.pos.clone().requires_grad_()
        assert torch.autograd.gradcheck(energy, pos)
        assert torch.autograd.gradgradcheck(energy, pos)


def test_a_missing_second_derivative_is_caught():
    mutant = mutants.with_term(mutants.once_differentiable, size=1e-2)
    with pytest.raises(AssertionError, match="second derivatives"):
        assert_second_derivatives(mutant, MOLECULE)


def test_a_detached_weight_is_caught():
    with pytest.raises(AssertionError, match="with respect to parameters"):
        assert_force_loss_gradients(Potential(mutants.DetachedWeight()), MOLECULE)
