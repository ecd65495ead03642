"""The interquartile mean, its stratified bootstrap, and sequential halving's arithmetic."""

import numpy as np
import pytest

from jaxrl_po.host.halving import halving_rungs
from jaxrl_po.host.statistics import bootstrap_interval, iqm


def test_iqm_is_the_mean_of_the_middle_half():
    values = np.array([-1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e6])
    assert iqm(values) == np.mean([2, 3, 4, 5])


def test_the_interval_covers_the_mean_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(size=(300, 20))
    low, high = bootstrap_interval([samples], confidence=0.9, num_resamples=300)
    covered = np.mean((low <= 0) & (high >= 0))
    assert 0.80 <= covered <= 0.95  # percentile intervals of 20 runs are a little narrow


def test_resampling_stays_within_strata():
    strata = [np.full(5, 0.0), np.full(5, 100.0)]
    low, high = bootstrap_interval(strata)
    assert low == high == 50.0  # mixed, the two would give anything from 0 to 100
    low, high = bootstrap_interval([np.concatenate(strata)])
    assert low < 20
    assert high > 80


def test_the_interval_is_reproducible():
    runs = [np.random.default_rng(1).normal(size=10)]
    assert bootstrap_interval(runs, seed=3) == bootstrap_interval(runs, seed=3)


def test_single_runs_have_no_interval():
    assert bootstrap_interval([np.array([3.0])]) == (3.0, 3.0)
    with pytest.raises(ValueError, match="at least 2 runs"):
        bootstrap_interval([np.array([3.0]), np.array([3.0, 4.0])])
    with pytest.raises(ValueError, match=r"confidence=1\.5"):
        bootstrap_interval([np.array([3.0, 4.0])], confidence=1.5)


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
