"""Sweeps over environments that step on the host: each member is the run of its setting."""

import jax
import numpy as np
import pytest

from jaxrl_po import load_policy, run, sweep
from jaxrl_po.host.runs.curves import latest_mean
from tests.host.simulators.lines import hosted
from tests.host.small import RUN, config

SPACE = {"learning_rate": [1e-3, 0.1]}


def test_members_are_runs_whatever_the_chunks():
    """Three members in one pool and one in the next; curves are those of four runs."""
    result = sweep(config(num_iterations=4), SPACE, 2, env=hosted(), chunk_size=3, quiet=True)
    assert (result.num_compilations, result.returns.shape) == (1, (2, 2, 4))
    for setting, learning_rate in enumerate(SPACE["learning_rate"]):
        alone = run(
            config(num_iterations=4, learning_rate=learning_rate), 0, 2, env=hosted(), **RUN
        )
        for seed in range(2):
            count = alone.metrics["num_episodes"][seed]
            total = np.nan_to_num(alone.metrics["episode_return"][seed]) * count
            np.testing.assert_allclose(
                result.returns[setting, seed], latest_mean(total, count), rtol=1e-5, atol=1e-6
            )
    assert not np.array_equal(result.returns[0], result.returns[1], equal_nan=True)


def test_halving_goes_on_with_the_better_half_and_keeps_its_policies(tmp_path):
    """Where it was stopped, the same sweep goes on; the best policy acts."""
    settings = {"env": hosted(), "prune": "halving", "keep_policies": True, "quiet": True}
    space = {"learning_rate": [1e-3, 1e-2, 0.1]}
    result = sweep(config(num_iterations=12), space, directory=tmp_path, **settings)
    done = result.table["timesteps"]
    assert len(set(done)) > 1  # not all had the whole budget
    again = sweep(config(num_iterations=12), space, directory=tmp_path, **settings)
    assert (again.num_compilations, again.best) == (0, result.best)
    policy = load_policy(tmp_path / "policies" / "seed0")
    assert int(policy(np.zeros(2, np.float32))) in (0, 1)


@pytest.mark.parametrize("algorithm", ["trpo", "ppo_penalty"])
def test_other_methods_are_swept_too(algorithm):
    fields = {"trpo": {"max_kl": [1e-3, 0.1]}, "ppo_penalty": {"kl_coef": [0.01, 100.0]}}
    result = sweep(config(algorithm, num_iterations=3), fields[algorithm], env=hosted(), quiet=True)
    assert np.isfinite(jax.tree.leaves(result.returns)).all()
    assert not np.array_equal(result.returns[0], result.returns[1])
