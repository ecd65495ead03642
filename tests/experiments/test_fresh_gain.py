"""Gains of a step of TRPO on its own rollout and on the next."""

import fresh_gain
import numpy as np
from scores import curve

from jaxrl_po import TRPOConfig, run


def test_the_gain_of_a_step_is_measured_where_it_was_taken_and_elsewhere(monkeypatch):
    monkeypatch.setattr(fresh_gain, "VISITS", 2)
    config = TRPOConfig(
        env_id="gymnasium:CartPole-v1", num_envs=2, num_steps=32, total_timesteps=1280
    )
    record = fresh_gain.trial(config)
    gains = np.array(record["gains"])
    assert gains.shape == (fresh_gain.NUM_SEEDS, 2, fresh_gain.ROLLOUTS, 2)
    own, other = np.moveaxis(gains, -1, 0)
    assert (own > 0).all()  # or else the line search would have refused the step
    # Of 64 steps much is noise: on others it gains less.
    assert other.mean() < own.mean()
    # The rollouts are beside training, which does not learn from them.
    metrics = run(config, num_seeds=fresh_gain.NUM_SEEDS, num_episodes=1, quiet=True).metrics
    assert record["curve"] == curve(metrics["episode_return"], metrics["num_episodes"])


def test_a_line_of_each_quarter():
    visits = [[1.0, 0.5]], [[1.0, 0.5]], [[2.0, 0.0]], [[4.0, -1.0]]
    record = {
        "gains": [list(visits), list(visits)],
        "curve": [None, 10.0, 20.0, 30.0, 40.0, 60.0, 70.0, None],
    }
    assert fresh_gain.lines("Cart, 8", record).splitlines() == [
        "| Cart, 8 | 1 | 10 | 1.0000 | 0.5000 | 0.50 ± 0.00 |",
        "| Cart, 8 | 2 | 25 | 1.0000 | 0.5000 | 0.50 ± 0.00 |",
        "| Cart, 8 | 3 | 50 | 2.0000 | 0.0000 | 0.00 ± 0.00 |",
        "| Cart, 8 | 4 | 70 | 4.0000 | -1.0000 | -0.25 ± 0.00 |",
    ]
