"""Programs of fixed shape give the potential's numbers, and say what they cannot take."""

import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from dreibein.models import TensorNetConfig, build_potential
from dreibein.neighbors import attach_neighbors
from dreibein.nn import FrozenPotential, Potential
from dreibein.nn.compiled import CompiledFrames, filled_size
from dreibein.simulate import Evaluator
from dreibein.systems import make_structure
from dreibein.systems.graphs import Graph

NAMES = ("energy", "energies", "forces", "virial", "stress")
CUTOFF = 3.0
compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="needs g++ or clang++"
)


@pytest.fixture(scope="module")
def potential() -> Potential:
    torch.manual_seed(0)
    config = TensorNetConfig(channels=16, layers=1, cutoff=CUTOFF, knots=16)
    return build_potential(config, elements=(1, 6, 8))


@pytest.fixture(scope="module")
def compiled(potential: Potential) -> FrozenPotential:
    return FrozenPotential(potential, "compiled")


def structure(count: int, seed: int, cell: float = 0.0, cutoff: float = CUTOFF) -> Data:
    """Atoms on a bent line, 1.3 Å apart, or in a cell that is as long."""
    g = torch.Generator().manual_seed(seed)
    pos = 0.3 * torch.randn(count, 3, dtype=torch.float64, generator=g)
    pos[:, 0] += 1.3 * torch.arange(count)
    z = torch.tensor([1, 6, 8])[torch.randint(0, 3, (count,), generator=g)]
    box = {"cell": cell * torch.eye(3, dtype=torch.float64), "pbc": True} if cell else {}
    return attach_neighbors(make_structure(z, pos, **box), cutoff)


def assert_same(found: dict[str, Tensor], right: dict[str, Tensor], bound: float) -> None:
    assert set(found) == set(right)
    for name, value in right.items():
        torch.testing.assert_close(found[name], value, rtol=bound, atol=bound, equal_nan=True)


@given(st.integers(0, 100_000), st.sampled_from((8, 32)))
def test_sizes_are_few_and_close(count, fewest):
    size = filled_size(count, fewest)
    assert count <= size <= max(1.25 * count, count + fewest)
    doubling = {filled_size(n, fewest) for n in range(count + 1, 2 * count + 1)}
    assert len(doubling) <= 6


@compiler
def test_one_program_serves_molecules_and_cells_of_its_size(potential, compiled):
    """Numbers of the potential, whatever was added, with and without periodicity."""
    cases = [structure(7, 0), structure(8, 1), structure(6, 2, 9.0), structure(7, 3, 11.0)]
    pairs = {filled_size(case.edge_index.shape[1], 32) for case in cases}
    for case in cases:
        assert_same(compiled(case, NAMES), potential(case, NAMES), 1e-5)
    assert len(compiled._compiled._programs) == len(pairs)


@compiler
def test_in_float64_numbers_are_those_of_the_potential():
    torch.manual_seed(1)
    config = TensorNetConfig(channels=8, layers=1, cutoff=CUTOFF)
    exact = build_potential(config, elements=(1, 6, 8), dtype=torch.float64)
    case = structure(7, 0)
    assert_same(FrozenPotential(exact, "compiled")(case, NAMES), exact(case, NAMES), 1e-11)


@compiler
def test_a_target_beside_leaves_energy_and_forces_to_the_program():
    torch.manual_seed(2)
    config = TensorNetConfig(channels=16, layers=1, cutoff=CUTOFF, knots=16, targets=["dipole"])
    both = build_potential(config, elements=(1, 6, 8))
    frozen, case = FrozenPotential(both, "compiled"), structure(7, 0)
    names = ("energy", "dipole", "forces")
    assert_same(frozen(case, names), both(case, names), 1e-5)
    assert len(frozen._compiled._programs) == 1


@compiler
def test_results_outlive_the_next_call(potential, compiled):
    first, second = structure(7, 0), structure(7, 4)
    found = compiled(first, NAMES)
    with torch.inference_mode():
        compiled(second, NAMES)
    assert_same(found, potential(first, NAMES), 1e-5)


@compiler
def test_distant_pairs_and_moving_atoms(potential):
    """The list of an evaluator keeps pairs beyond the cutoff, and stays while atoms move."""
    case = structure(7, 0)
    evaluator = Evaluator(potential, backend="compiled", alarms="off")
    exact = Evaluator(potential, backend="reference", alarms="off")
    nowhere = (torch.zeros(3, 3).double().numpy(), torch.zeros(3).bool().numpy())
    for step in range(3):
        pos = (case.pos + 0.02 * step * torch.arange(3)).numpy()
        found = evaluator(case.z.numpy(), pos, *nowhere)
        assert_same(found, exact(case.z.numpy(), pos, *nowhere), 1e-5)
    assert evaluator.neighbor_searches == 1
    assert len(evaluator.frozen._compiled._programs) == 1


def test_what_programs_do_not_take_is_left_to_the_potential(potential, monkeypatch):
    """Several structures, a Hessian, no atoms; no program is made for them."""
    monkeypatch.setattr(shutil, "which", lambda name: name)
    frozen = FrozenPotential(potential, "compiled")
    both = Batch.from_data_list([structure(4, 0), structure(5, 1)])
    assert_same(frozen(both, NAMES), potential(both, NAMES), 1e-12)
    one = structure(4, 0)
    assert frozen(one, ("hessian",))["hessian"].shape == (4, 3, 4, 3)
    empty = attach_neighbors(make_structure([], torch.zeros(0, 3)), CUTOFF)
    assert frozen(empty)["energy"].tolist() == [0.0]
    network = Potential(Pairs("endless"))
    longer = structure(4, 0, cutoff=2.0 * CUTOFF)
    assert longer.edge_index.shape[1] > one.edge_index.shape[1]
    found = FrozenPotential(network, "compiled")(longer, ("hessian",))
    assert_same(found, network(one, ("hessian",)), 1e-12)
    assert not frozen._compiled._programs
    assert "torch.compile" in frozen.describe()


class Pairs(nn.Module):
    """E_i of the distances to neighbors: with an end, without one, or by way of Python."""

    elements, hops = (1, 6, 8), 1

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.cutoff = kind, CUTOFF
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, graph: Graph) -> Tensor:
        lengths = graph.vectors.norm(dim=1)
        if self.kind == "looks at numbers" and float(lengths.detach().sum()) < 0.0:
            return lengths
        near = torch.relu(1.0 - lengths / self.cutoff) ** 3
        heard = near if self.kind != "endless" else 1.0 / (1.0 + lengths / 1e4)
        energies = lengths.new_zeros(graph.num_atoms)
        return self.weight * energies.index_add(0, graph.receiver, heard)


@compiler
def test_networks_that_cannot_be_compiled_are_refused():
    """One that hears distant pairs, which are added; one whose way depends on numbers."""
    case = structure(5, 0)
    right = Potential(Pairs("near"))(case)["forces"]
    found = FrozenPotential(Potential(Pairs("near")), "compiled")(case)["forces"]
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="compiled Pairs differs from the potential by"):
        FrozenPotential(Potential(Pairs("endless")), "compiled")(case)
    with pytest.raises(ValueError, match="Pairs cannot be compiled, torch could not trace it"):
        FrozenPotential(Potential(Pairs("looks at numbers")), "compiled")(case)


def test_without_a_compiler_one_sentence_says_so(potential, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"needs g\+\+ or clang\+\+"):
        CompiledFrames(potential)
