"""Each algorithm finds the known value and the best policy of the smallest environments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import config_from_dict, make_train
from jaxrl_po.loop.parts import make_parts
from tests import probes

SETTINGS = {
    "num_envs": 16,
    "num_steps": 32,
    "total_timesteps": 16 * 32 * 80,
    "gamma": probes.GAMMA,
    "hidden_sizes": (16,),
    "anneal_lr": True,
}
OWN_SETTINGS = {
    "vpg": {"learning_rate": 0.03, "critic_learning_rate": 0.02},
    "npg": {"learning_rate": 0.02, "max_kl": 0.03},
    "trpo": {"learning_rate": 0.02, "max_kl": 0.03},
    "ppo": {"learning_rate": 0.01},
    "ppo_penalty": {"learning_rate": 0.01},
}
CASES = list(probes.PROBES)


@pytest.fixture(scope="module")
def config(algorithm):
    return config_from_dict({"algorithm": algorithm, **SETTINGS, **OWN_SETTINGS[algorithm]})


@pytest.fixture(scope="module")
def learned(config, jit):
    """All probes in one program: values [S] and action probabilities [S, A] of each."""

    def learn(tables):
        env = probes.Tabular(tables)
        result = make_train(config, env=env)(jax.random.key(0))
        _, network = make_parts(config, env)
        policy, value = network.policy_and_value(result.state.params, jnp.eye(2), ())
        return value, jax.nn.softmax(policy.logits), result.metrics

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *probes.PROBES.values())
    values, probabilities, metrics = jit(jax.vmap(learn))(stacked)
    return (
        dict(zip(CASES, np.asarray(values), strict=True)),
        dict(zip(CASES, np.asarray(probabilities), strict=True)),
        {name: dict(zip(CASES, np.asarray(m), strict=True)) for name, m in metrics.items()},
    )


@pytest.mark.parametrize("case", probes.VALUES)
def test_the_value_is_the_known_one(learned, case):
    expected = np.array(probes.VALUES[case])
    seen = np.isfinite(expected)
    np.testing.assert_allclose(learned[0][case][seen], expected[seen], rtol=0.02)


@pytest.mark.parametrize("case", probes.ACTIONS)
def test_the_policy_takes_the_best_action(learned, case):
    for state, action in probes.ACTIONS[case].items():
        assert learned[1][case][state, action] > 0.95


def test_a_time_limit_taken_for_an_end_gives_a_wrong_value(learned):
    """The state does not show the clock: a value of 0 at the limit leaks into all states."""
    right, wrong = learned[0]["time limit"], learned[0]["time limit as end"]
    np.testing.assert_allclose(right, probes.TURNS_VALUE, rtol=0.02)
    assert (wrong < 0.6 * np.array(probes.TURNS_VALUE)).all()


def test_a_reward_that_is_not_a_number_shows_in_the_metrics(learned):
    metrics = learned[2]
    for name in ("policy_loss", "value_loss", "grad_norm"):
        assert np.isnan(metrics[name]["not a number"]).all(), name
        assert np.isfinite(metrics[name]["one state"]).all(), name


def test_the_mean_action_finds_a_continuous_target(algorithm, config, jit):
    config = config.replace(squash_actions=algorithm == "ppo", log_std_init=-0.5)
    env = probes.Target()

    @jit
    def learn(key):
        state = make_train(config, env=env)(key).state
        _, network = make_parts(config, env)
        policy, _ = network.policy(state.params, jnp.zeros(1), ())
        return policy.to_env(policy.mean)

    scale, centre = (env.high - env.low) / 2, (env.high + env.low) / 2
    action = scale * learn(jax.random.key(0))[0] + centre
    np.testing.assert_allclose(action, env.target, atol=0.1)
