"""How a run's result reads."""

import numpy as np
import pytest

from jaxrl_po.host.runs.result import RunResult, summary
from jaxrl_po.loop.evaluate import Evaluation


def result(returns, **changes):
    """A run of as many seeds as `returns` has rows."""
    returns = np.array(returns, float)
    evaluation = Evaluation(returns, np.ones_like(returns, int))
    fields = {
        "state": None,
        "metrics": {"num_episodes": np.ones((len(returns), 3))},
        "evaluation": evaluation,
        "greedy_evaluation": evaluation,
        "diverged": {},
        "timesteps": 1000,
        "compile_seconds": 1.0,
        "train_seconds": 1.0,
        "evaluation_seconds": 0.1,
        "host_seconds": 0.1,
    }
    return RunResult(**(fields | changes))


def test_one_seed_has_no_spread():
    assert "final return 3.0 sampled, 3.0 greedy (1 seed x 2 episodes)" in summary(result([[2, 4]]))


def test_spread_is_over_seeds():
    shown = summary(result([[2, 4], [4, 6]]))
    assert "final return 4.0 ± 1.0 sampled, 4.0 ± 1.0 greedy (2 seeds x 2 episodes)" in shown


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([[2, 4], [np.nan, 6]], "final return 3.0 (of 1 finite one) sampled"),
        ([[2, 4], [2, 4], [np.inf, 6]], "final return 3.0 ± 0.0 (of 2 finite ones) sampled"),
        ([[np.nan, 4]], "final return not finite sampled"),
    ],
)
def test_returns_that_are_not_finite_are_left_out_and_told(returns, expected):
    shown = summary(result(returns))
    assert expected in shown
    assert "nan" not in shown


@pytest.mark.parametrize("num_episodes", [[[0, 0]], [[0, np.nan]]])
def test_training_without_a_finished_episode_is_told(num_episodes):
    metrics = {"num_episodes": np.array(num_episodes)}
    assert "no episode finished in training" in summary(result([[2, 4]], metrics=metrics))
    assert "no episode" not in summary(result([[2, 4]]))
