import ase.build
import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from torch import nn

from dreibein.nn.potential import Potential
from dreibein.simulate import BlowUpError, relax_structure


def test_positions_reach_a_minimum(potential, cluster, tmp_path):
    start = cluster.positions.copy()
    notes = []
    result = relax_structure(
        cluster,
        potential,
        fmax=0.005,
        trajectory=tmp_path / "path.extxyz",
        progress=lambda *report: notes.append(report),
    )
    assert result.converged
    assert result.max_force < 0.005
    assert result.energy_after < result.energy_before
    assert result.stress_error_gpa is None
    np.testing.assert_array_equal(cluster.positions, start)  # the input is not moved
    frames = ase.io.read(tmp_path / "path.extxyz", ":")
    assert len(frames) == result.steps + 1 == len(notes)
    assert frames[0].get_potential_energy() == pytest.approx(result.energy_before)
    assert frames[-1].get_potential_energy() == pytest.approx(result.energy_after)
    assert result.atoms.get_forces().shape == (13, 3)


@pytest.mark.parametrize("pressure", [0.0, 10.0])
def test_cell_reaches_the_pressure(pressure, potential):
    crystal = ase.build.bulk("Cu", "fcc", a=3.4)
    skew = np.eye(3) + 0.05 * np.random.default_rng(0).normal(size=(3, 3))
    crystal.set_cell(crystal.cell.array @ skew, scale_atoms=True)
    result = relax_structure(crystal, potential, cell=True, pressure_gpa=pressure, fmax=1e-4)
    assert result.converged
    expected = -pressure * units.GPa * np.array([1, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(result.atoms.get_stress(), expected, atol=2e-5)
    assert result.stress_error_gpa < 0.01
    if not pressure:  # fcc again: the primitive cell's vectors are equally long
        lengths = result.atoms.cell.lengths()
        np.testing.assert_allclose(lengths, lengths.mean(), rtol=1e-3)


def test_too_few_steps_are_said(potential, cluster):
    result = relax_structure(cluster, potential, steps=2)
    assert not result.converged
    assert result.steps == 2


def test_refusals(potential, cluster, crystal):
    with pytest.raises(ValueError, match="periodic in three dimensions"):
        relax_structure(cluster, potential, cell=True)
    with pytest.raises(ValueError, match="a pressure acts on the cell"):
        relax_structure(crystal, potential, pressure_gpa=1.0)


class Hole(nn.Module):
    """A hole at r = 0 and a maximum at r = 2 Å: pair energy 0.3 r^2 (1 - r^2/16)^3 eV."""

    cutoff, elements = 4.0, (29,)

    def __init__(self):
        super().__init__()
        self.depth = nn.Parameter(torch.tensor(0.3).double())

    def forward(self, graph):
        r2 = graph.vectors.square().sum(-1)
        pair = 0.5 * self.depth * r2 * (1 - r2 / 16.0).clamp(min=0) ** 3
        return pair.new_zeros(graph.num_atoms).index_add(0, graph.receiver, pair)


def test_negative_curvature_does_not_lead_uphill():
    """From 2.1 Å, where the energy bends down, L-BFGS alone climbs back to the maximum at 2 Å."""
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.1]])
    result = relax_structure(atoms, Potential(Hole()), fmax=1e-3)
    assert result.converged
    assert result.energy_after < result.energy_before - 0.4
    assert result.atoms.get_distance(0, 1) > 3.0


def test_collapse_is_refused():
    """Atoms that fall into each other are no result."""
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 1.5]])
    with pytest.raises(BlowUpError, match=r"Cu \(atom 0\) and Cu \(atom 1\) are 0\.\d+ Å apart"):
        relax_structure(atoms, Potential(Hole()))
