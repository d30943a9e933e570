"""Numbers of calibration: right for normal errors of the stated size, wrong for others."""

import numpy as np
import pytest

from dreibein.evaluate.calibration import judge
from dreibein.evaluate.report.uncertainty import binned


@pytest.fixture
def drawn():
    generator = np.random.default_rng(0)
    sigma = np.exp(generator.normal(-4.0, 1.0, 20000))
    return sigma * generator.normal(size=len(sigma)), sigma


def test_normal_errors_of_the_stated_size(drawn):
    found = judge("energy", "eV", *drawn)
    assert found.rms_z == pytest.approx(1.0, abs=0.02)
    assert found.within_1 == pytest.approx(0.683, abs=0.01)
    assert found.within_2 == pytest.approx(0.954, abs=0.01)
    assert found.nll < found.nll_constant - 0.5
    assert found.spearman > 0.5
    sigmas, errors = binned(drawn[1], np.abs(drawn[0]))
    np.testing.assert_allclose(errors / sigmas, 1.0, atol=0.1)


def test_what_is_wrong_shows(drawn):
    error, sigma = drawn
    too_small = judge("energy", "eV", error, 0.5 * sigma)
    assert too_small.rms_z == pytest.approx(2.0, abs=0.05)
    assert too_small.within_2 < 0.75
    shuffled = judge("energy", "eV", error, np.random.default_rng(1).permutation(sigma))
    assert abs(shuffled.spearman) < 0.02
    assert shuffled.nll > judge("energy", "eV", error, sigma).nll + 1.0
    assert judge("energy", "eV", error, np.ones_like(sigma)).spearman is None


def test_the_likelihood_is_that_of_scipy(drawn):
    from scipy.stats import norm

    error, sigma = drawn
    expected = -norm.logpdf(error, scale=sigma).mean()
    assert judge("energy", "eV", error, sigma).nll == pytest.approx(expected, rel=1e-10)
