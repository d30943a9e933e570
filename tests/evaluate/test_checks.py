"""Right models pass; each law has a broken model that it catches."""

import pytest
import torch

from dreibein.evaluate import choose_frames, run_checks
from dreibein.evaluate.checks import Checks, judge
from dreibein.nn import Potential
from dreibein.testing import sample_crystal, sample_molecule

MOLECULES = [sample_molecule((1, 6, 8), 6, seed=k) for k in range(2)]
CRYSTALS = [sample_crystal((1, 6), 3, seed=4)]


def laws(checks: Checks, status: str) -> set[str]:
    return {check.law for check in checks.checks if check.status == status}


@pytest.mark.parametrize("structures", [MOLECULES, CRYSTALS], ids=["molecules", "crystal"])
def test_a_right_model_obeys_every_law(small_potential, structures):
    potential = small_potential()
    checks = run_checks(potential, structures)
    assert not checks.failed
    assert {check.precision for check in checks.checks} == {"float64", "float32"}
    has_stress = "stress, finite differences" in laws(checks, "passed")
    assert has_stress == (structures is CRYSTALS)
    assert checks.scan is not None
    assert checks.scan.distance[0] < potential.cutoff < checks.scan.distance[-1]
    assert potential.dtype == torch.float32  # the model itself is left alone
    assert Checks.model_validate_json(checks.model_dump_json()) == checks


class Broken(Potential):
    """A potential with one wrong term, from positions x [N, 3] of structures of one element set."""

    wrong: str

    def _energies(self, structures, pos, cell, field):
        energies = super()._energies(structures, pos, cell, field)
        if self.wrong == "rotation":  # a field along x and y, zero under none of the turns
            return energies + 0.1 * (pos[:, 0] - pos[:, 0].mean()).square()
        if self.wrong == "translation":
            return energies + 1e-3 * pos.square().sum(1)
        if self.wrong == "permutation":
            return energies + 1e-3 * torch.arange(len(energies)) * energies
        if self.wrong == "extensivity":
            return energies + 1e-3 * len(energies)
        return energies

    def forward(self, structures, compute=("energy", "forces")):
        results = super().forward(structures, compute)
        if self.wrong == "forces" and "forces" in results:
            results["forces"] = results["forces"] * 1.01
        if self.wrong == "stress" and "stress" in results:
            results["stress"] = -results["stress"]
        return results


CATCHES = {
    "rotation": ("energy under rotation", MOLECULES),
    "translation": ("energy under translation", MOLECULES),
    "permutation": ("energy under permutation", MOLECULES),
    "extensivity": ("energy of two copies", MOLECULES),
    "forces": ("forces, finite differences", MOLECULES),
    "stress": ("stress, finite differences", CRYSTALS),
}


@pytest.mark.parametrize("wrong", CATCHES)
def test_every_law_catches_its_broken_model(small_potential, wrong):
    potential = small_potential()
    potential.__class__ = Broken
    potential.wrong = wrong
    law, structures = CATCHES[wrong]
    assert law in {check.law for check in run_checks(potential, structures[:1]).failed}


def test_a_chiral_model_does_not_claim_reflections(small_potential):
    checks = run_checks(small_potential(symmetry="SO(3)"), MOLECULES[:1])
    assert laws(checks, "not claimed") == {"energy under reflection", "forces under reflection"}
    for check in checks.checks:
        if check.law == "energy under reflection" and check.precision == "float64":
            assert check.value > 100 * check.limit
    assert not checks.failed


def test_the_cosine_envelope_does_not_claim_a_smooth_curvature(small_potential):
    checks = run_checks(small_potential(envelope="cosine"), MOLECULES[:1])
    assert laws(checks, "not claimed") == {"curvature jump at the cutoff"}
    (jump,) = [c.value for c in checks.checks if c.law == "curvature jump at the cutoff"]
    assert jump > 100 * next(c.limit for c in checks.checks if c.value == jump)


def test_a_cut_off_model_jumps(small_potential):
    potential = small_potential()
    for module in potential.modules():
        if type(module).__name__ == "Envelope":
            module.forward = lambda r: torch.ones_like(r)
    failed = {check.law for check in run_checks(potential, MOLECULES[:1]).failed}
    assert {f"{name} jump at the cutoff" for name in ("energy", "slope")} <= failed


def test_charged_frames_are_not_doubled(small_potential):
    ion = sample_molecule((1, 6, 8), 5, charge=1.0)
    checks = run_checks(small_potential(), [ion])
    (skipped,) = [check for check in checks.checks if check.status == "skipped"]
    assert skipped.law == "energy of two copies"
    assert "charge" in skipped.note


def test_one_atom_alone(small_potential):
    checks = run_checks(small_potential(), [sample_molecule((8,), 1)])
    assert not checks.failed


def test_nothing_to_measure_on(small_potential):
    with pytest.raises(ValueError, match="at least one"):
        run_checks(small_potential(), [])


def test_nan_fails():
    assert judge("a", "symmetry", "float64", float("nan"), 1.0).status == "failed"


def test_frames_are_spread():
    assert choose_frames(2) == [0, 1]
    assert choose_frames(101) == [0, 50, 100]
