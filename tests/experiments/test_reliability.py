"""Statistics of few runs: against loops over the definitions, and what must hold of them."""

import itertools

import numpy as np
import pytest
from reliability import bootstrap, improvement, mean_iqm, normalized, profile

TASKS = [np.array([0.1, 0.4, 0.4, 2.0]), np.array([-1.0, 0.5, 0.7, 0.9])]
OTHERS = [np.array([0.4, 0.3, 0.0]), np.array([0.5, 0.8, 3.0])]


def test_scores_are_0_and_1_where_they_are_said_to_be():
    np.testing.assert_allclose(normalized([-4.0, -40.0, 14.0], -40.0, -4.0), [1.0, 0.0, 1.5])


def test_iqm_is_the_mean_of_the_middle_half_of_all_runs():
    runs = sorted(itertools.chain(*TASKS))
    assert mean_iqm(TASKS) == pytest.approx(sum(runs[2:6]) / 4)
    apart = [np.zeros(4), np.array([1.0, 2.0, 3.0, 4.0])]  # whose own IQMs are 0 and 2.5
    assert mean_iqm(apart) == pytest.approx((0 + 0 + 1 + 2) / 4)


def test_a_profile_is_the_share_of_runs_above():
    thresholds = np.array([-2.0, 0.4, 0.45, 3.0])
    expected = [np.mean([sum(x > t for x in task) / 4 for task in TASKS]) for t in thresholds]
    np.testing.assert_allclose(profile(TASKS, thresholds), expected)
    assert expected == [1.0, 0.5, 0.5, 0.0]
    uneven = [TASKS[0], TASKS[1][:1]]  # tasks count alike, whatever their numbers of runs
    assert profile(uneven, np.array([0.0])) == pytest.approx(0.5)


def test_improvement_counts_pairs_and_half_of_ties():
    def chance(x, y):
        pairs = list(itertools.product(x, y))
        return sum(a > b for a, b in pairs) / len(pairs) + sum(a == b for a, b in pairs) / 24

    expected = np.mean([chance(x, y) for x, y in zip(TASKS, OTHERS, strict=True)])
    assert improvement(TASKS, OTHERS) == pytest.approx(expected)
    assert improvement(TASKS, OTHERS) + improvement(OTHERS, TASKS) == pytest.approx(1.0)
    assert improvement(TASKS, TASKS) == pytest.approx(0.5)


def test_the_bootstrap_draws_runs_within_their_tasks():
    far = [np.array([0.0, 0.1, 0.2]), np.array([100.0, 100.1, 100.2])]
    interval = bootstrap(lambda scores: np.mean(scores, axis=0).mean(axis=-1), far)
    assert interval.value == pytest.approx(50.1)
    assert 50.0 <= interval.low < 50.1 < interval.high <= 50.2  # no task is drawn twice
    constant = [np.ones(3), np.full(3, 2.0)]
    assert bootstrap(mean_iqm, constant) == (1.5, 1.5, 1.5)


def test_the_bootstraps_interval_is_that_of_all_draws():
    runs = np.array([0.0, 1.0, 5.0])
    means = [np.mean(draw) for draw in itertools.product(runs, repeat=3)]  # each equally likely
    expected = np.quantile(means, (0.025, 0.975), method="inverted_cdf")
    interval = bootstrap(lambda scores: scores[0].mean(axis=-1), [runs], resamples=20_000)
    np.testing.assert_allclose((interval.low, interval.high), expected, atol=1e-6)


def test_an_interval_of_a_profile_and_of_an_improvement():
    thresholds = np.linspace(-1, 2, 4)
    interval = bootstrap(lambda scores: profile(scores, thresholds), TASKS)
    assert interval.low.shape == interval.value.shape == (4,)
    assert (interval.low <= interval.value).all()
    assert (interval.value <= interval.high).all()
    chance = bootstrap(improvement, TASKS, OTHERS)
    assert 0 <= chance.low < chance.value < chance.high <= 1
