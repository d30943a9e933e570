"""Training keeps the graph, evaluation detaches, grad modes change nothing, inputs stay."""

import pytest
import torch

from dreibein.testing import (
    assert_evaluation_detaches,
    assert_input_is_unchanged,
    assert_training_keeps_graph,
    assert_works_without_grad,
)
from laws import mutants
from laws.cases import CASES
from laws.structures import CELL, MOLECULE

ALL = pytest.mark.parametrize("case", CASES, ids=str)


LAWS = (
    assert_training_keeps_graph,
    assert_evaluation_detaches,
    assert_works_without_grad,
    assert_input_is_unchanged,
)


@ALL
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("structure", [MOLECULE, CELL], ids=["molecule", "cell"])
def test_every_model_obeys(case, law, structure):
    was = case.build().training
    law(case.build(), structure)
    assert case.build().training == was


def test_detached_forces_are_caught():
    mutant = mutants.replaced("forces", torch.Tensor.detach)
    with pytest.raises(AssertionError, match="forces has lost its graph"):
        assert_training_keeps_graph(mutant, MOLECULE)


def test_a_graph_kept_in_evaluation_is_caught():
    kept = mutants.replaced("energy", lambda e: e.clone().requires_grad_())
    with pytest.raises(AssertionError, match="energy keeps its graph"):
        assert_evaluation_detaches(kept, MOLECULE)


def test_forces_that_vanish_without_grad_are_caught():
    def lazy(found, structures):
        on = torch.is_grad_enabled()
        return found if on else found | {"forces": torch.zeros_like(found["forces"])}

    with pytest.raises(AssertionError, match="forces differs under no_grad"):
        assert_works_without_grad(mutants.changed(results=lazy), MOLECULE)


@pytest.mark.parametrize(
    ("touch", "said"),
    [
        (lambda s: s.pos.requires_grad_(), "requires_grad"),
        (lambda s: s.pos.add_(1e-9), "changed pos"),
        (lambda s: s.update({"pos": s.pos.clone()}), "replaced pos"),
        (lambda s: s.update({"extra": 1}), "added or removed"),
    ],
)
def test_a_touched_input_is_caught(touch, said):
    def careless(found, structures):
        touch(structures)
        return found

    with pytest.raises(AssertionError, match=said):
        assert_input_is_unchanged(mutants.changed(results=careless), MOLECULE)
