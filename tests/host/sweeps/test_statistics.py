"""The interquartile mean, its interval, and sequential halving's arithmetic."""

import numpy as np
import pytest
from scipy import stats

from jaxrl_po.host.sweeps.halving import halving_rungs
from jaxrl_po.host.sweeps.statistics import iqm, spread


def test_iqm_is_the_mean_of_the_middle_half():
    values = np.array([-1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e6])
    assert iqm(values) == np.mean([2, 3, 4, 5])


SAMPLERS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: rng.lognormal(sigma=0.5, size=shape),
    "some fail": lambda rng, shape: rng.normal(size=shape) - 10.0 * (rng.random(shape) < 0.2),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("num_seeds", [2, 3, 4, 5, 10, 20])
def test_the_interval_covers_as_often_as_it_says(name, num_seeds):
    rng = np.random.default_rng(0)
    truth = iqm(SAMPLERS[name](rng, 400_000))
    samples = SAMPLERS[name](rng, (8_000, num_seeds))
    for confidence, tolerance in ((0.95, 0.025), (0.8, 0.05)):
        _, low, high = spread([samples], confidence)
        covered = np.mean((low <= truth) & (truth <= high))
        assert abs(covered - confidence) <= tolerance


def test_the_interval_covers_over_strata():
    rng = np.random.default_rng(0)
    levels = np.array([0.0, 0.5, 1.0, 8.0])
    truth = iqm((rng.normal(size=(100_000, 4)) + levels).reshape(-1))
    for num_seeds in (3, 10):
        strata = [rng.normal(size=(8_000, num_seeds)) + level for level in levels]
        _, low, high = spread(strata)
        assert np.mean((low <= truth) & (truth <= high)) >= 0.94


def test_the_interval_is_of_student_where_nothing_is_trimmed():
    values = np.array([1.0, 2.0, 6.0])
    error, low, high = spread([values])
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(3))
    interval = stats.t.interval(0.95, df=2, loc=3.0, scale=error)
    assert (low, high) == pytest.approx(interval)


def test_noise_counts_within_strata_alone():
    strata = [np.full(5, 0.0), np.full(5, 100.0)]
    assert spread(strata) == (0.0, 50.0, 50.0)  # mixed, the two would give anything from 0 to 100
    _, low, high = spread([np.concatenate(strata)])
    assert low < 20
    assert high > 80


def test_single_runs_have_no_interval():
    assert np.isnan(spread([np.array([3.0])])).all()
    assert np.isnan(spread([np.ones((4, 1)), np.ones((4, 1))])).all()
    assert np.isnan(spread([np.array([3.0, np.nan])])).all()
    with pytest.raises(ValueError, match="at least 2 runs"):
        spread([np.array([3.0]), np.array([3.0, 4.0])])
    with pytest.raises(ValueError, match=r"confidence=1\.5"):
        spread([np.array([3.0, 4.0])], confidence=1.5)


@pytest.mark.parametrize("num_settings", range(1, 40))
def test_halving_spends_the_budget_and_no_more(num_settings):
    rungs, horizon = halving_rungs(num_settings)
    done = np.diff([0.0, *(rung.fraction * horizon for rung in rungs)])
    costs = [rung.num_settings * share for rung, share in zip(rungs, done, strict=True)]
    assert sum(costs) == pytest.approx(num_settings)
    np.testing.assert_allclose(costs, costs[0])
    assert rungs[0].num_settings == num_settings
    assert rungs[-1].num_settings <= 2
    assert rungs[-1].fraction == 1.0
