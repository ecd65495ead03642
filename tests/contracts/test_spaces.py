"""What every algorithm promises on every kind of space: it learns, within what is allowed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import config_from_dict, evaluate, make_train
from jaxrl_po.envs import Box, Discrete, Environment, MultiDiscrete
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.types import MaskedObservation
from tests.contracts.test_contracts import assert_same

KEY = jax.random.key(0)
FINITE = "policy_loss", "value_loss", "grad_norm", "kl", "entropy"  # the variance may be none
SETTINGS = {
    "num_envs": 8,
    "num_steps": 16,
    "total_timesteps": 8 * 16 * 40,
    "gamma": 0.5,
    "hidden_sizes": (8,),
    "normalize_observations": True,
}
OWN = {
    "vpg": {"learning_rate": 0.05},
    "npg": {"learning_rate": 0.02, "max_kl": 0.1},
    "trpo": {"learning_rate": 0.02, "max_kl": 0.1},
    "ppo": {"learning_rate": 0.02},
    "ppo_penalty": {"learning_rate": 0.02},
}
# Rewards [state, action]; the best action of each state is forbidden, the best allowed gives 2.
REWARD = np.array([[1.0, 2.0, 10.0], [10.0, 1.0, 2.0]], np.float32)
ALLOWED = np.array([[True, True, False], [False, True, True]])
STATES = np.array([3.0, 7.0], np.float32)  # as observed; normalised, both would be below 5


def allowed(observation):
    """By the environment's own numbers; all actions where the second one says so."""
    in_force = jnp.broadcast_to(observation[1] > 0.5, 3)
    return jnp.where(in_force, jnp.asarray(ALLOWED)[(observation[0] > 5).astype(int)], True)


def bandit(masking, reward_of, space, action_mask):
    """Episodes of one step from one of two states, which observe whether the mask is in force."""

    def reset(key, masking):
        state = jax.random.bernoulli(key).astype(int)
        return jnp.stack([jnp.asarray(STATES)[state], masking]), state

    def step(key, state, action, masking):
        observation, next_state = reset(key, masking)
        over = jnp.array(True)
        return observation, next_state, reward_of(state, action), over, ~over

    return Environment(reset, step, masking, (2,), space, None, action_mask)


def one_of_three(masking, action_mask=allowed):
    def reward_of(state, action):
        return jnp.asarray(REWARD)[state, action]

    return bandit(masking, reward_of, Discrete(3), action_mask)


def three_choices(masking):
    """A truth value, an integer and a float: each tells the best of one choice."""

    def reset(key, masking):
        best = jax.random.bernoulli(key, shape=(3,))
        level = jnp.where(best[2], 9.0, 7.0)
        sensors = {"number": best[1:2].astype(jnp.int8), "level": level}
        return {"flag": best[0], "sensors": sensors}, best.astype(int)

    def step(key, best, action, masking):
        observation, next_best = reset(key, masking)
        over = jnp.array(True)
        reward = (action == best * jnp.array([1, 2, 1])).sum(dtype=float)
        return observation, next_best, reward, over, ~over

    return Environment(reset, step, masking, None, MultiDiscrete((2, 3, 2)), None)


def grid(masking):
    def reward_of(state, action):
        return -jnp.square(action - 0.5).sum()

    return bandit(masking, reward_of, Box(-np.ones((2, 1)), np.ones((2, 1))), None)


@pytest.fixture(scope="module")
def config(algorithm):
    return config_from_dict({"algorithm": algorithm, **SETTINGS, **OWN[algorithm]})


def learner(config, make_env):
    """Whether the mask is in force -> result, greedy and sampled returns of the policy learnt."""

    def learn(masking):
        env = make_env(masking)
        result = make_train(config, env=env)(KEY)
        ways = [
            evaluate(config, result.state, KEY, 64, greedy, env=env) for greedy in (True, False)
        ]
        return result, [way.episode_return for way in ways]

    return learn


@pytest.fixture(scope="module")
def masked(config, jit):
    return jit(learner(config, one_of_three))


def test_masked_actions_are_never_taken_and_the_best_other_is_found(config, masked):
    result, (greedy, sampled) = masked(np.float32(1))
    np.testing.assert_array_equal(greedy, 2.0)
    assert sampled.max() <= 2.0  # a masked one gives 10
    returns = result.metrics["episode_return"]
    assert (returns <= 2.0).all()
    assert (result.metrics["entropy"] <= np.log(2) + 1e-6).all()
    assert all(np.isfinite(result.metrics[name]).all() for name in FINITE)
    if "ratio_first_minibatch" in result.metrics:
        np.testing.assert_allclose(result.metrics["ratio_first_minibatch"], 1.0, atol=1e-5)

    _, network = make_parts(config, one_of_three(np.float32(1)))
    seen = MaskedObservation(jnp.stack([STATES, jnp.ones(2)], -1), jnp.asarray(ALLOWED))
    policy, _ = network.policy(result.state.params, observe(result.state.normalizer, seen), ())
    probability = np.asarray(jax.nn.softmax(policy.logits))
    np.testing.assert_array_equal(probability > 0, ALLOWED)
    assert (probability[[0, 1], [1, 2]] > 0.9).all()


def test_a_mask_that_allows_all_changes_no_bit(config, masked, jit):
    with_mask, returns = masked(np.float32(0))
    assert masked._cache_size() == 1
    without, own_returns = jit(learner(config, lambda m: one_of_three(m, None)))(np.float32(0))
    assert_same(with_mask.state.params, without.state.params)
    assert_same(with_mask.metrics, without.metrics)
    assert_same(returns, own_returns)
    assert without.metrics["episode_return"][-1] > 2.0  # nothing is forbidden here


@pytest.mark.parametrize("make_env", [three_choices, grid])
def test_several_choices_told_by_several_arrays_and_shaped_boxes_are_learnt(config, make_env, jit):
    result, (greedy, _) = jit(learner(config, make_env))(np.float32(0))
    assert all(np.isfinite(result.metrics[name]).all() for name in FINITE)
    if make_env is three_choices:
        np.testing.assert_array_equal(greedy, 3.0)
        assert result.metrics["entropy"][0] <= np.log(12) + 1e-6
    else:
        returns = result.metrics["episode_return"]
        assert returns[-5:].mean() > returns[:5].mean()
