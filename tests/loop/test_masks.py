"""Action masks at the door, and where what is allowed comes from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, evaluate, make_step, make_train
from jaxrl_po.distributions import Categorical
from jaxrl_po.envs import Box, Discrete, Environment, MultiDiscrete
from jaxrl_po.host.runs.diagnosis import make_diagnosis
from jaxrl_po.loop.parts import Given
from jaxrl_po.networks import make_network
from jaxrl_po.types import MaskedObservation

CONFIG = PPOConfig(num_envs=2, num_steps=4, total_timesteps=8, hidden_sizes=(4,))
KEY = jax.random.key(0)


def counter(action_mask, space=MultiDiscrete((2, 3))):  # noqa: B008
    """Observes a clock; an episode takes three steps."""

    def reset(key, params):
        return jnp.zeros(1), jnp.zeros((), jnp.int32)

    def step(key, time, action, params):
        time = time + 1
        return time[None].astype(float), time, jnp.ones(()), time >= 3, jnp.array(False)

    return Environment(reset, step, (), (1,), space, None, action_mask)


def all_but_the_clock(observation):
    """The second choice may not be the clock's number."""
    return jnp.concatenate([jnp.ones(2, bool), jnp.arange(3) != observation[0]])


REFUSED = {
    "shape": (lambda o: jnp.ones(4, bool), r"action_mask must be an array \[5\] of bool.*\[4\]"),
    "type": (lambda o: jnp.ones(5), r"action_mask must be an array \[5\] of bool, not float32"),
    "a list": (lambda o: [True] * 5, "action_mask must be one array, not"),
    "nothing": (lambda o: jnp.zeros(5, bool), "action_mask allows no action in a start state"),
    "no second choice": (lambda o: jnp.arange(5) < 2, "action_mask allows no action in a start"),
}


@pytest.mark.parametrize(("mask", "message"), REFUSED.values(), ids=REFUSED)
def test_masks_that_do_not_fit_are_named(mask, message):
    with pytest.raises(ValueError, match=f"env: {message}"):
        make_train(CONFIG, env=counter(mask))


def test_a_mask_needs_actions_to_choose_from():
    box = Box(-np.ones(5), np.ones(5))
    with pytest.raises(ValueError, match="env: action_mask needs discrete actions; these are cont"):
        make_train(CONFIG, env=counter(lambda o: jnp.ones(5, bool), box))


def test_a_mask_needs_a_distribution_that_heeds_it():
    space = Discrete(3)
    env = counter(lambda o: jnp.arange(3) != o[0], space)
    network = make_network(CONFIG, (1,), space)
    make_train(CONFIG, env=env, network=network)

    class Unmasked(Categorical):
        masked = property()

    def policy(params, observation, memory):
        distribution, memory = network.policy(params, observation, memory)
        return Unmasked(distribution.logits), memory

    with pytest.raises(ValueError, match=r"network.policy: the environment has an action_mask, an"):
        make_train(CONFIG, env=env, network=network._replace(policy=policy))


def test_networks_of_other_choices_are_refused():
    env = counter(None)
    for space, message in (
        (MultiDiscrete((3, 2)), r"gives logits of the choices \(3, 2\), not \(2, 3\)"),
        (MultiDiscrete((2, 2)), r"gives logits \[2, 4\] for \[2\] observations and 5 actions"),
        (Discrete(5), r"must give actions of integer type and shape \[2, 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make_train(CONFIG, env=env, network=make_network(CONFIG, (1,), space))


def test_what_is_allowed_follows_what_is_observed(jit):
    """In the rollout, across resets; and where the iteration is looked at again."""
    config = CONFIG.replace(normalize_observations=True)
    env = counter(all_but_the_clock)
    taken = []

    def noted(key, time, action, params):
        jax.debug.callback(lambda t, a: taken.append((int(t), int(a))), time, action[1])
        return env.step(key, time, action, params)

    watched = env._replace(step=noted)
    init, step = make_step(config, watched)
    state = init(KEY)
    for _ in range(3):
        state, metrics = step(state)
    jax.effects_barrier()
    assert len(taken) == 24
    assert all(time != action for time, action in taken)
    assert {time for time, _ in taken} == {0, 1, 2}
    observation = state.rollout.observation
    assert isinstance(observation, MaskedObservation)
    np.testing.assert_array_equal(
        observation.mask, jax.vmap(all_but_the_clock)(observation.observation)
    )
    assert np.isfinite(metrics["policy_loss"])
    result = jit(lambda state: evaluate(config, state, KEY, 2, env=env))(state)
    np.testing.assert_array_equal(result.episode_return, 3.0)
    assert make_diagnosis(config, Given(env))(state) == []
