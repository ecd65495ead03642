"""What every algorithm promises on every kind of space: it learns, within what is allowed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import config_from_dict, evaluate, make_step, make_train
from jaxrl_po.envs import Box, Discrete, Environment, MultiDiscrete
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.types import MaskedObservation
from tests.contracts.test_contracts import assert_same, differ

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
BEST = 2.0  # that a mask leaves in every state; what it forbids gives more
STATES = np.array([3.0, 7.0], np.float32)  # as observed; normalised, both would be below 5


class Choice(NamedTuple):
    """What two states give for each action, and what is allowed in them."""

    space: Discrete | MultiDiscrete
    reward: np.ndarray  # [state, *actions]
    allowed: np.ndarray  # [state, outputs]

    @property
    def actions(self):
        """All of them, in the order of the rewards."""
        if isinstance(self.space, Discrete):
            return np.arange(self.space.n)
        return np.indices(self.space.nvec).reshape(len(self.space.nvec), -1).T

    @property
    def open(self):
        """Whether an action is allowed [state, number of actions]."""
        return self.reward.reshape(2, -1) <= BEST


CHOICES = {
    "one": Choice(
        Discrete(3),
        np.array([[1.0, 2.0, 10.0], [10.0, 1.0, 2.0]], np.float32),
        np.array([[True, True, False], [False, True, True]]),
    ),
    # Without the mask (0, 2) and (0, 1) are best, with it (1, 1) and (1, 2): first choices too are
    # others. In the second state a single action is left of the first choice.
    "two": Choice(
        MultiDiscrete((2, 3)),
        np.array([[[1, 0, 20], [1, 2, 10]], [[10, 20, 10], [1, 10, 2]]], np.float32),
        np.array([[True, True, True, True, False], [False, True, True, False, True]]),
    ),
}


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


def choosing(choice, masked=True):
    """Masking -> the environment of a choice; all actions are allowed where masking is 0."""

    def allowed(observation):
        """By the environment's own numbers."""
        state = (observation[0] > 5).astype(int)
        return jnp.asarray(choice.allowed)[state] | (observation[1] < 0.5)

    def reward_of(state, action):
        rewards = jnp.asarray(choice.reward)[state]
        return rewards[tuple(action) if action.ndim else action]

    return lambda masking: bandit(masking, reward_of, choice.space, allowed if masked else None)


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


@pytest.fixture(scope="module", params=CHOICES)
def choice(request):
    return CHOICES[request.param]


@pytest.fixture(scope="module")
def compile_program(algorithm, jit, jit_as_shipped):
    """As users have it where a claim is about bits, for one method."""
    return jit_as_shipped if algorithm == "ppo" else jit


@pytest.fixture(scope="module")
def masked(config, choice, compile_program):
    return compile_program(learner(config, choosing(choice)))


# Each method with one of the spaces, each space in either family.
PAIRS = [("vpg", "one"), ("npg", "two"), ("trpo", "two"), ("ppo", "one"), ("ppo_penalty", "two")]


@pytest.mark.parametrize(("algorithm", "choice"), PAIRS, indirect=True)
def test_masked_actions_are_never_taken_and_the_best_other_is_found(config, choice, masked):
    result, (greedy, sampled) = masked(np.float32(1))
    np.testing.assert_array_equal(greedy, BEST)
    assert sampled.max() <= BEST
    assert sampled.mean() > BEST - 0.1
    assert (result.metrics["episode_return"] <= BEST).all()
    assert (result.metrics["entropy"] <= np.log(choice.open.sum(-1).max()) + 1e-6).all()
    assert all(np.isfinite(result.metrics[name]).all() for name in FINITE)
    if "ratio_first_minibatch" in result.metrics:
        np.testing.assert_allclose(result.metrics["ratio_first_minibatch"], 1.0, atol=1e-5)

    _, network = make_parts(config, choosing(choice)(np.float32(1)))
    seen = MaskedObservation(jnp.stack([STATES, jnp.ones(2)], -1), jnp.asarray(choice.allowed))
    policy, _ = network.policy(result.state.params, observe(result.state.normalizer, seen), ())
    log_prob = jax.vmap(policy.log_prob, 1, 1)(np.stack([choice.actions] * 2))
    probability = np.exp(log_prob)
    np.testing.assert_array_equal(probability > 0, choice.open)
    assert (probability[choice.reward.reshape(2, -1) == BEST] > 0.9).all()


@pytest.mark.parametrize(
    ("algorithm", "choice"), [pair for pair in PAIRS if pair[0] in ("trpo", "ppo")], indirect=True
)
def test_a_mask_that_allows_all_changes_no_bit(config, choice, masked, compile_program):
    with_mask, returns = masked(np.float32(0))
    assert masked._cache_size() == 1
    program = compile_program(learner(config, choosing(choice, masked=False)))
    without, own_returns = program(np.float32(0))
    assert_same(with_mask.state.params, without.state.params)
    assert_same(with_mask.metrics, without.metrics)
    assert_same(returns, own_returns)
    assert without.metrics["episode_return"][-1] > BEST  # nothing is forbidden here


@pytest.mark.parametrize("algorithm", ["trpo", "ppo"], indirect=True)
def test_where_a_single_action_is_left_nothing_is_learnt_and_nothing_breaks(config, jit):
    only = np.isin(np.arange(5), [1, 3])
    env = choosing(CHOICES["two"])(np.float32(1))._replace(action_mask=lambda _: jnp.asarray(only))
    config = config.replace(total_timesteps=8 * 16 * 3)
    if hasattr(config, "ent_coef"):
        config = config.replace(ent_coef=0.1)
    first = jit(make_step(config, env)[0])(KEY)
    result = jit(make_train(config, env=env))(KEY)
    assert_same(result.state.params.policy, first.params.policy)
    assert differ(result.state.params.value, first.params.value)
    for name in ("entropy", "kl"):
        np.testing.assert_array_equal(result.metrics[name], 0.0)
    assert all(np.isfinite(result.metrics[name]).all() for name in FINITE)


# Each method with one, either in both families; the spaces of the tests above are all methods'.
@pytest.mark.parametrize(
    ("algorithm", "make_env"),
    [
        *((name, three_choices) for name in ("vpg", "trpo")),
        *((name, grid) for name in ("npg", "ppo", "ppo_penalty")),
    ],
    indirect=["algorithm"],
)
def test_several_choices_told_by_several_arrays_and_shaped_boxes_are_learnt(config, make_env, jit):
    result, (greedy, _) = jit(learner(config, make_env))(np.float32(0))
    assert all(np.isfinite(result.metrics[name]).all() for name in FINITE)
    if make_env is three_choices:
        np.testing.assert_array_equal(greedy, 3.0)
        assert result.metrics["entropy"][0] <= np.log(12) + 1e-6
    else:
        returns = result.metrics["episode_return"]
        assert returns[-5:].mean() > returns[:5].mean()
