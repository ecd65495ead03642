"""Collect, then learn: the two halves of a training step, each a pure function of its own."""

import jax
import numpy as np
import pytest

from jaxrl_po import PPOConfig, config_from_dict, make_learn, make_step
from jaxrl_po.algorithms import make_algorithm
from jaxrl_po.loop.collect import make_collector
from jaxrl_po.loop.learn import make_batch
from jaxrl_po.loop.parts import make_parts
from tests.host.small import SETTINGS, random_walk, same

ENV = random_walk()
# The halves are the loop's; a method is but the update within the second.
TWO = pytest.mark.parametrize("algorithm", ["trpo", "ppo"], indirect=True)


@pytest.fixture(scope="module")
def halves(algorithm):
    settings = {**SETTINGS, "algorithm": algorithm, "total_timesteps": 64}
    config = config_from_dict(settings)
    init, step = make_step(config, ENV)
    collector = make_collector(config, *make_parts(config, ENV))
    return init(jax.random.key(0)), step, collector, make_learn(config, ENV)


@TWO
def test_a_step_is_collecting_and_learning(halves, jit):
    state, step, collector, learn = halves

    def by_hand(state):
        _, key, _ = jax.random.split(state.key, 3)
        rollout, transitions, _ = collector.collect(state, key)
        return learn(state._replace(rollout=rollout), transitions)

    whole, metrics = jit(step)(state)
    pieces, learned = jit(by_hand)(state)
    assert same(whole, pieces)
    assert {"episode_return", "episode_length", "num_episodes"} == set(metrics) - set(learned)


@TWO
def test_learning_alone_is_a_program_that_leaves_the_environments(halves, jit):
    state, _, collector, learn = halves
    _, transitions, _ = jit(collector.collect)(state, jax.random.key(1))
    compiled = jit(learn)
    learned, metrics = compiled(state, transitions)
    assert same(learned.rollout, state.rollout)
    assert int(learned.iteration) == 1
    assert int(metrics["timesteps"]) == transitions.reward.size
    other = transitions._replace(reward=transitions.reward + 1.0)
    again, _ = compiled(state, other)
    assert not same(again.params, learned.params)
    assert compiled._cache_size() == 1


def test_recomputed_advantages_are_those_of_the_new_critic(jit):
    """Two epochs by hand: an update of one, a new batch, an update of one."""
    fields = {**SETTINGS, "total_timesteps": 64, "num_minibatches": 2, "learning_rate": 0.1}
    config = PPOConfig(**fields, update_epochs=2, recompute_advantages=True)
    environment, network = make_parts(config, ENV)
    collector = make_collector(config, environment, network)
    state = make_step(config, ENV)[0](jax.random.key(0))
    _, transitions, _ = jit(collector.collect)(state, jax.random.key(1))
    single = config.replace(update_epochs=1, recompute_advantages=False)

    def by_hand(state, transitions):
        params, algorithm_state = state.params, state.algorithm
        update = make_algorithm(single, network).update
        for key in jax.random.split(jax.random.split(state.key, 3)[2]):
            now = state._replace(params=params)
            batch, _ = make_batch(single, network, now, transitions)
            params, algorithm_state, _ = update(key, params, algorithm_state, batch, 1.0)
        return params

    learned, metrics = jit(make_learn(config, ENV))(state, transitions)
    for a, b in zip(
        jax.tree.leaves(learned.params),
        jax.tree.leaves(jit(by_hand)(state, transitions)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["ratio_first_minibatch"], 1.0, atol=1e-5)
    kept, _ = jit(make_learn(config.replace(recompute_advantages=False), ENV))(state, transitions)
    assert not same(kept.params, learned.params)
