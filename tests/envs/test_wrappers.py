"""Environments made of environments, against what the inner one shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.envs import check_environment, stack_frames, transform_observation
from tests.host.small import random_walk

ENV = random_walk()
KEYS = jax.random.split(jax.random.key(0), 5)
ACTION = jnp.array([0.3])


def seen(env):
    """What an episode of five steps shows, with its rewards and flags."""
    observation, state = env.reset(KEYS[0], ())
    rows = [(observation, 0.0, False, False)]
    for key in KEYS:
        observation, state, *rest = env.step(key, state, ACTION, ())
        rows.append((observation, *rest))
    return [np.stack(column) for column in zip(*rows, strict=True)]


def test_an_observation_is_a_function_of_the_inner_one():
    env = transform_observation(ENV, lambda o: {"place": o[:1]})
    check_environment(env)
    inner = seen(ENV)
    observation, state = env.reset(KEYS[0], ())
    np.testing.assert_array_equal(observation["place"], inner[0][0, :1])
    for key, row in zip(KEYS, inner[0][1:], strict=True):
        observation, state, *_ = env.step(key, state, ACTION, ())
        np.testing.assert_array_equal(observation["place"], row[:1])


@pytest.mark.parametrize("count", [2, 4])
def test_a_stack_holds_the_last_frames_and_begins_with_the_first(count):
    env = stack_frames(ENV, count)
    check_environment(env)
    frames, *rest = seen(ENV)
    stacks, *stacked_rest = seen(env)
    padded = np.concatenate([frames[:1]] * (count - 1) + [frames])
    for t, stack in enumerate(stacks):
        np.testing.assert_array_equal(stack, padded[t : t + count].ravel())
    for one, other in zip(rest, stacked_rest, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wrap", [stack_frames, lambda env: transform_observation(env, jnp.abs)])
def test_a_mask_that_would_read_something_else_is_refused(wrap):
    masked = ENV._replace(action_mask=lambda o: o > 0)
    with pytest.raises(ValueError, match="its action_mask reads the observation as it was"):
        wrap(masked)


@pytest.mark.parametrize("count", [1, 2.5])
def test_a_stack_has_frames(count):
    with pytest.raises(ValueError, match=r"count=.*: a stack has 2 frames or more"):
        stack_frames(ENV, count)
