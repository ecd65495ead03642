"""Collect, then learn: the two halves of a training step, each a pure function of its own."""

import jax
import pytest

from jaxrl_po import config_from_dict, make_learn, make_step
from jaxrl_po.loop.collect import make_collector
from jaxrl_po.loop.parts import make_parts
from tests.host.small import SETTINGS, random_walk, same

ENV = random_walk()


@pytest.fixture(scope="module")
def halves(algorithm):
    settings = {**SETTINGS, "algorithm": algorithm, "total_timesteps": 64}
    config = config_from_dict(settings)
    init, step = make_step(config, ENV)
    collector = make_collector(config, *make_parts(config, ENV))
    return init(jax.random.key(0)), step, collector, make_learn(config, ENV)


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
