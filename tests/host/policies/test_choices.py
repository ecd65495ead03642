"""Policies of several choices, trained and saved, in the real Gymnasium: JAX and NumPy alike."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, load_policy, make_train, save_policy
from jaxrl_po.envs import Environment, MultiDiscrete
from jaxrl_po.host.policies import numpy_policy
from jaxrl_po.host.policies.play import play
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.types import MaskedObservation

gymnasium = pytest.importorskip("gymnasium")
KEY = jax.random.key(0)
NAME = "gymnasium:Dials-v0"
CHOICES = (2, 3)  # the first dial turns down or not at all, the second down, not, or up
LIMIT = 6
CONFIG = PPOConfig(
    num_envs=8,
    num_steps=16,
    total_timesteps=8 * 16 * 20,
    hidden_sizes=(8,),
    learning_rate=0.02,
    normalize_observations=True,
)


def may_turn(dials):
    """Where the second is high the first must turn, and where the first is high no other may fall.

    In NumPy and in JAX, as what it is given is.
    """
    first_stays, second_falls = np.arange(5) == 1, np.arange(5) == 2
    return ~((dials[1] > 1) & first_stays | (dials[0] > 1) & second_falls)


def dials(action_mask):
    """Two numbers that should both be brought to zero, in six turns."""

    def reset(key, params):
        first, second = jax.random.uniform(key, (2,))
        numbers = jnp.stack([2 * first, 4 * second - 2])
        return numbers, (numbers, jnp.zeros((), jnp.int32))

    def step(key, state, action, params):
        numbers, time = state[0] + (action - 1) / 2, state[1] + 1
        ended = jnp.array(False)
        return numbers, (numbers, time), -jnp.abs(numbers).sum(), ended, time >= LIMIT

    return Environment(reset, step, (), (2,), MultiDiscrete(CHOICES), LIMIT, action_mask)


class Dials(gymnasium.Env):
    """The same, whose actions are the turns themselves."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete(CHOICES, start=[-1, -1])
    seen, taken = (), ()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.numbers = self.np_random.uniform([0, -2], 2).astype(np.float32)
        self.time = 0
        return self.numbers, {}

    def step(self, action):
        assert self.action_space.contains(action)
        Dials.seen.append(self.numbers)
        Dials.taken.append(action + 1)
        self.numbers, self.time = self.numbers + np.float32(action / 2), self.time + 1
        return self.numbers, -float(np.abs(self.numbers).sum()), False, self.time >= LIMIT, {}


@pytest.fixture(scope="module", autouse=True)
def _registered():
    gymnasium.register("Dials-v0", Dials)
    yield
    gymnasium.registry.pop("Dials-v0")


class Saved(NamedTuple):
    env: Environment
    state: object
    policy: numpy_policy.Policy
    alone: numpy_policy.Policy


@pytest.fixture(scope="module", params=[None, may_turn], ids=["free", "masked"])
def saved(request, tmp_path_factory, jit):
    """A policy trained for a moment, and what two readers make of its folder."""
    env, folder = dials(request.param), tmp_path_factory.mktemp("policy")
    state = jit(make_train(CONFIG, env=env))(KEY).state
    save_policy(folder, CONFIG, state, env=env)
    policy = load_policy(folder, env=env)
    alone = load_policy(folder, backend="numpy", action_mask=request.param)
    return Saved(env, state, policy, alone)


def played(policy):
    """Episodes in Gymnasium: their returns, what was observed and what was taken."""
    Dials.seen, Dials.taken = [], []
    outcome = play(policy, NAME, 4, seed=3)
    assert outcome.episode_length.tolist() == [LIMIT] * 4
    return outcome.episode_return, np.stack(Dials.seen), np.stack(Dials.taken)


def logits(saved, observation):
    """By the code that trained."""
    _, network = make_parts(CONFIG, saved.env)
    seen = observation
    if saved.env.action_mask is not None:
        seen = MaskedObservation(observation, jax.vmap(saved.env.action_mask)(observation))
    return network.policy(saved.state.params, observe(saved.state.normalizer, seen), ())[0].logits


def test_both_readers_play_the_same_episodes_as_trained(saved, monkeypatch):
    returns, seen, taken = played(saved.policy)
    for one, other in zip(played(saved.alone), (returns, seen, taken), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(np.unique(taken, axis=0)) > 2
    trained = logits(saved, seen)
    np.testing.assert_array_equal(taken, MultiDiscrete(CHOICES).distribution(trained).mode())

    shown = []
    sampled = numpy_policy.sampled
    monkeypatch.setattr(
        numpy_policy, "sampled", lambda *given: (shown.append(given[1]), sampled(*given))[1]
    )
    np.testing.assert_array_equal(saved.alone(seen), taken)
    np.testing.assert_allclose(shown[0], trained, rtol=0, atol=1e-5)
    assert np.isfinite(trained).all() == (saved.env.action_mask is None)


def test_samples_of_both_readers_follow_the_policy_and_its_mask(saved):
    observation = np.array([1.5, 1.2], np.float32)  # where a mask forbids one of each choice
    batch = np.repeat(observation[None], 20_000, axis=0)
    distribution = MultiDiscrete(CHOICES).distribution(logits(saved, observation[None]))
    pairs = np.indices(CHOICES).reshape(2, -1).T
    expected = np.exp(jax.vmap(distribution.log_prob)(pairs[:, None]))[:, 0]
    for policy, key in ((saved.policy, KEY), (saved.alone, np.random.default_rng(0))):
        counts = np.bincount(policy(batch, key) @ [3, 1], minlength=6)
        np.testing.assert_allclose(counts / len(batch), expected, atol=0.02)
        np.testing.assert_array_equal(counts[expected == 0], 0)
    forbidden = 0 if saved.env.action_mask is None else 4
    assert (expected == 0).sum() == forbidden


def test_each_choice_must_be_left_an_action(saved, tmp_path):
    env = dials(lambda dials: (np.arange(5) < 2) | (dials[0] < 3))  # else no second choice
    save_policy(tmp_path, CONFIG, saved.state, env=env)
    for policy in (
        load_policy(tmp_path, env=env),
        load_policy(tmp_path, backend="numpy", action_mask=env.action_mask),
    ):
        assert policy(np.zeros(2)).shape == (2,)
        with pytest.raises(ValueError, match="observation: the action_mask allows no action there"):
            policy(np.array([3.5, 0.0]))
