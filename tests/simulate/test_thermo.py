import numpy as np
import pytest

from dreibein.simulate.thermo import (
    fit_drift,
    format_row,
    mean_of_second_half,
    read_thermo,
    statistical_inefficiency,
)


def noise(rng, count, memory):
    """Noise of variance 1 that remembers: x_{k+1} = memory x_k + ..."""
    values = np.empty(count)
    values[0] = rng.normal()
    for k in range(1, count):
        values[k] = memory * values[k - 1] + np.sqrt(1 - memory**2) * rng.normal()
    return values


def test_drift_of_a_straight_line_is_exact():
    time = np.linspace(0.0, 3.0, 31)
    drift = fit_drift(time, 7.0 - 0.05 * time, num_atoms=10)
    assert drift.value == pytest.approx(-5.0)
    assert drift.error == pytest.approx(0.0, abs=1e-9)


def test_drift_needs_three_samples():
    assert fit_drift(np.arange(2.0), np.arange(2.0), 1) is None


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_standard_error_of_the_drift_covers_correlated_noise(memory):
    """(fit - truth) / error must have standard deviation near one, whatever the correlation."""
    time = np.linspace(0.0, 1.0, 400)
    rng = np.random.default_rng(0)
    fits = [fit_drift(time, 2.0 * time + noise(rng, 400, memory), 1000) for _ in range(200)]
    scores = np.array([(fit.value - 2.0) / fit.error for fit in fits])
    assert 0.8 < scores.std() < 1.35
    assert abs(scores.mean()) < 0.3


def test_statistical_inefficiency_of_remembering_noise():
    rng = np.random.default_rng(1)
    found = np.mean([statistical_inefficiency(noise(rng, 2000, 0.8)) for _ in range(20)])
    assert found == pytest.approx((1 + 0.8) / (1 - 0.8), rel=0.2)
    assert statistical_inefficiency(np.ones(10)) == 1.0


def test_mean_forgets_the_first_half():
    assert mean_of_second_half(np.r_[np.full(50, 1e6), np.full(50, 3.0)]).value == 3.0
    assert np.isnan(mean_of_second_half(np.array([1.0])).error)


def test_rows_keep_every_digit(tmp_path):
    value = 0.1 + 0.2
    (tmp_path / "t.csv").write_text("step,total_ev\n" + format_row({"step": 3, "total_ev": value}))
    table = read_thermo(tmp_path / "t.csv")
    assert table["step"].tolist() == [3.0]
    assert table["total_ev"].tolist() == [value]
