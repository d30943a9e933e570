"""Value, slope and curvature do not jump when an atom crosses the cutoff."""

import pytest

from dreibein.nn import Potential
from dreibein.testing import assert_smooth_at_cutoff, cutoff_jumps
from laws import mutants
from laws.cases import CASES
from laws.structures import MOLECULE

ALL = pytest.mark.parametrize("case", CASES, ids=str)


@ALL
@pytest.mark.parametrize("z", [1, 8])
def test_every_model_obeys_to_its_declared_order(case, z):
    assert_smooth_at_cutoff(case.build(), MOLECULE, z, order=case.smooth_order)


def test_the_published_envelope_has_a_jump_in_the_curvature():
    """ "cosine" keeps forces continuous and fails the second derivative; "smooth" passes it."""
    cosine = next(case for case in CASES if case.name == "cosine").build()
    assert_smooth_at_cutoff(cosine, MOLECULE, 8, order=1)
    with pytest.raises(AssertionError, match="jump of the curvature"):
        assert_smooth_at_cutoff(cosine, MOLECULE, 8, order=2)


@pytest.mark.parametrize(("order", "name"), [(0, "energy"), (1, "slope"), (2, "curvature")])
def test_a_jump_in_each_derivative_is_caught(order, name):
    potential = Potential(mutants.Truncated(order))
    with pytest.raises(AssertionError, match=f"jump of the {name} at the cutoff"):
        assert_smooth_at_cutoff(potential, MOLECULE, 8)


def test_jumps_shrink_with_the_step():
    """A continuous quantity has no jump in the limit; the cosine's curvature keeps its own."""
    smooth, cosine = (c.build() for c in CASES if c.name in ("1-layer", "cosine"))
    wide, narrow = (cutoff_jumps(smooth, MOLECULE, 8, step=h) for h in (3e-2, 3e-3))
    assert narrow.curvature < 0.05 * wide.curvature
    wide, narrow = (cutoff_jumps(cosine, MOLECULE, 8, step=h) for h in (3e-2, 3e-3))
    assert narrow.curvature > 0.5 * wide.curvature
