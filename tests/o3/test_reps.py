"""Representations as values, beside e3nn's."""

import copy
import pickle

import e3nn.o3
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dreibein.o3 import (
    DirectSum,
    Irrep,
    Irreps,
    MLPReps,
    Tensor,
    TensorReps,
    act,
    direct_sum,
    parse_reps,
    random_rotations,
    require_same,
)

blocks = st.lists(
    st.tuples(st.integers(0, 5), st.builds(Irrep, st.integers(0, 6), st.sampled_from([1, -1]))),
    max_size=6,
)
tensor_blocks = st.lists(
    st.tuples(st.integers(0, 3), st.builds(Tensor, st.integers(0, 3), st.booleans())), max_size=5
)


def theirs(reps: Irreps) -> e3nn.o3.Irreps:
    return e3nn.o3.Irreps([(mul, (ir.l, ir.p)) for mul, ir in reps])


@given(blocks)
def test_irreps_are_read_and_sorted_as_e3nn_does(source):
    ours, other = Irreps(source), theirs(Irreps(source))
    assert str(ours) == str(other)
    assert Irreps(str(other)) == ours
    assert ours.dim == other.dim
    assert ours.slices() == other.slices()
    assert str(ours.simplify()) == str(other.simplify())
    assert ours.num_channels == other.num_irreps
    expected = other.sort()
    found = ours.sort()
    assert (str(found.reps), found.p, found.inv) == (
        str(expected.irreps),
        expected.p,
        expected.inv,
    )


@given(blocks, blocks)
def test_sums_and_products_concatenate(left, right):
    a, b = Irreps(left), Irreps(right)
    assert (a + b).dim == a.dim + b.dim
    assert str(a + b) == str(theirs(a) + theirs(b))
    assert 2 * a == a * 2 == a + a
    assert a[:1] + a[1:] == a
    assert list(a) == [a[i] for i in range(len(a))]
    assert all(a.count(ir) == sum(m for m, other in a if other == ir) for _, ir in a)


@given(tensor_blocks, st.integers(0, 10))
def test_sorting_commutes_with_the_action(source, seed):
    reps = TensorReps(source)
    generator = torch.Generator().manual_seed(seed)
    turn = random_rotations(1, generator=generator, improper=True)[0]
    x = torch.randn(reps.dim, generator=generator)
    ordered = reps.sort()
    index = list(ordered.order)
    assert torch.allclose(act(reps, turn, x)[index], act(ordered.reps, turn, x[index]), atol=1e-12)
    assert ordered.reps.simplify() == reps.regroup()


@given(blocks, tensor_blocks)
def test_values_compare_hash_copy_and_print(source, other):
    reps, tensors = Irreps(source), TensorReps(other)
    for value in (reps, tensors, reps + tensors, MLPReps(3) + reps):
        assert value == pickle.loads(pickle.dumps(value)) == copy.deepcopy(value)
        assert hash(value) == hash(parse_reps(str(value))) or value.dim == 0
        assert len(value.channel_index) == value.dim
        assert value.dim == sum(part.dim for part in value.parts)


def test_a_value_cannot_be_changed():
    with pytest.raises(AttributeError):
        Irreps("1o").blocks = ()
    with pytest.raises(AttributeError):
        (Irreps("1o") + TensorReps("1n")).summands = ()


def test_direct_sums_join_neighbors_of_one_family():
    mixed = Irreps("2x0e") + TensorReps("1n") + TensorReps("2n") + Irreps("1o")
    assert mixed == DirectSum((Irreps("2x0e"), TensorReps("1n+2n"), Irreps("1o")))
    assert mixed.slices() == [slice(0, 2), slice(2, 14), slice(14, 17)]
    assert direct_sum([Irreps("1o"), Irreps("2e")]) == Irreps("1o+2e")
    assert Irreps() + TensorReps("1n") == TensorReps("1n")
    assert (MLPReps(4) + mixed).needs_learned
    assert not mixed.needs_learned


def test_unpacking_counting_and_membership():
    reps = Irreps("64x0e+32x1o+16x0e")
    assert [(mul, ir.l, ir.p) for mul, ir in reps] == [(64, 0, 1), (32, 1, -1), (16, 0, 1)]
    assert reps.count("0e") == 80
    assert "1o" in reps
    assert "1e" not in reps
    assert Irreps("64x0e+32x2o").lmax == 2
    assert TensorReps("1n+3p").max_rank == 3


def test_a_mismatch_names_both_representations():
    require_same(Irreps("1x1o"), Irreps("1o"), "the layer")
    with pytest.raises(ValueError, match=r"the layer expects .*1x1o.* but they are .*2x1n"):
        require_same(TensorReps("2x1n"), Irreps("1o"), "the layer")
