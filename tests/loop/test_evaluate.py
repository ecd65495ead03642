import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import VPGConfig, evaluate, make_step

CONFIG = VPGConfig(num_envs=2, num_steps=4, hidden_sizes=(8,), normalize_observations=True)
KEY = jax.random.key(0)
E = 16


@pytest.fixture(scope="module")
def state():
    """A state whose policy leans against the pole, and whose normaliser has seen something."""
    state = make_step(CONFIG)[0](KEY)
    statistics = state.normalizer.observation
    statistics = statistics._replace(variance=statistics.variance / 4)
    params = jax.tree.map(lambda leaf: 3 * leaf, state.params)
    return state._replace(
        params=params, normalizer=state.normalizer._replace(observation=statistics)
    )


@pytest.fixture(scope="module")
def play(jit):
    return jit(
        lambda state, key, deterministic=False: evaluate(CONFIG, state, key, E, deterministic),
        static_argnames="deterministic",
    )


@pytest.fixture(scope="module")
def sampled(play, state):
    return play(state, KEY)


def test_each_episode_counts_once_from_start_to_end(sampled):
    assert sampled.episode_return.shape == sampled.episode_length.shape == (E,)
    np.testing.assert_array_equal(sampled.episode_return, sampled.episode_length)  # CartPole
    assert len(np.unique(sampled.episode_length)) > 3  # they end at different times
    assert sampled.episode_length.min() >= 8  # the pole cannot fall faster


def test_keys_decide_the_episodes(play, state, sampled):
    np.testing.assert_array_equal(play(state, KEY).episode_return, sampled.episode_return)
    assert (play(state, jax.random.key(1)).episode_return != sampled.episode_return).any()


def test_deterministic_takes_the_mode(play, state, sampled):
    greedy = play(state, KEY, deterministic=True)
    assert (greedy.episode_length != sampled.episode_length).any()
    # Weights that are all but zero leave a coin to toss, but the mode as it was.
    head = jax.tree.map(lambda w: 1e-3 * w, state.params.policy["head"])
    policy = {**state.params.policy, "head": head}
    flat = state._replace(params=state.params._replace(policy=policy))
    again = play(flat, KEY, deterministic=True)
    np.testing.assert_array_equal(again.episode_length, greedy.episode_length)


def test_observations_are_normalised_as_the_state_says(play, state, sampled):
    shifted = state.normalizer.observation._replace(mean=jnp.full(4, 10.0))
    blind = state._replace(normalizer=state.normalizer._replace(observation=shifted))
    assert (play(blind, KEY).episode_length != sampled.episode_length).any()


def test_states_and_keys_can_be_vmapped(state, play, sampled, jit):
    keys = jnp.stack([KEY, jax.random.key(1)])
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    both = jit(jax.vmap(lambda state, key: evaluate(CONFIG, state, key, E)))(states, keys)
    np.testing.assert_array_equal(both.episode_length[0], sampled.episode_length)
    np.testing.assert_array_equal(both.episode_length[1], play(state, keys[1]).episode_length)


def test_an_episode_is_cut_after_max_steps(state, jit):
    cut = jit(lambda: evaluate(CONFIG, state, KEY, E, max_steps=5))()
    np.testing.assert_array_equal(cut.episode_length, 5)


def test_a_time_limit_ends_an_episode(state, jit):
    config = CONFIG.replace(env_params={"max_steps_in_episode": 3})
    short = jit(lambda: evaluate(config, state, KEY, E))()
    np.testing.assert_array_equal(short.episode_return, 3)


def test_a_dict_will_do(state):
    shape = jax.eval_shape(lambda: evaluate(CONFIG.to_dict(), state, KEY, E))
    assert shape.episode_return.shape == (E,)
