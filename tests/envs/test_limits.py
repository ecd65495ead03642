"""Advantages through each suite's ends and time limits, against their definition."""

import jax
import numpy as np
import pytest

from jaxrl_po import PPOConfig
from jaxrl_po.envs import SUITES
from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.runs.directory import RunSettings
from jaxrl_po.host.runs.engines import HostEngine
from jaxrl_po.loop.collect import make_collector
from jaxrl_po.loop.learn import make_batch
from jaxrl_po.loop.parts import Given, make_parts
from jaxrl_po.loop.train import make_step

GAMMA, GAE_LAMBDA, STEPS = 0.9, 0.8, 60
LIMITS = {  # within which random actions end some episodes and not others
    "CartPole-v1": 15,
    "brax:inverted_pendulum/spring": 12,
    "pgx:minatar-breakout": 25,
    "jumanji:Maze-v0": 12,
    "xminigrid:MiniGrid-Empty-5x5": 20,
    "navix:Navix-Dynamic-Obstacles-5x5-v0": 30,
    "playground:CartpoleBalance": 25,
    "craftax:Craftax-Classic-Symbolic-v1": 220,
}
LONG = {"craftax:Craftax-Classic-Symbolic-v1": 300}  # steps, where an episode takes as many
ENDLESS = {"playground:CartpoleBalance"}


def given(env_id, name="max_steps_in_episode", limit=0):
    return PPOConfig(
        env_id=env_id,
        env_params={name: limit},
        num_envs=8,
        num_steps=LONG.get(env_id, STEPS),
        hidden_sizes=(4,),
        gamma=GAMMA,
        gae_lambda=GAE_LAMBDA,
        advantage_normalization="none",
    )


def by_definition(transitions, value, next_value):
    """Â_t = Σ_l (γλ)^l δ_{t+l} to the end of the episode or of the rollout (arXiv:1506.02438)."""
    advantage = np.zeros_like(value)
    for env in range(value.shape[1]):
        for first in range(len(value)):
            for t in range(first, len(value)):
                row = t, env
                after = 0.0 if transitions.terminated[row] else GAMMA * next_value[row]
                error = transitions.reward[row] + after - value[row]
                advantage[first, env] += (GAMMA * GAE_LAMBDA) ** (t - first) * error
                if transitions.terminated[row] or transitions.truncated[row]:
                    break
    return advantage


def check(config, network, state, transitions):
    """Both kinds of end have occurred, limits exactly when they should, and Â is right."""
    transitions = jax.device_get(transitions)
    ended = transitions.terminated | transitions.truncated
    limit, length = next(iter(config.env_params.values())), np.zeros(config.num_envs, int)
    for t in range(config.num_steps):
        length += 1
        np.testing.assert_array_equal(transitions.truncated[t], length >= limit)
        length *= ~ended[t]
    endless = config.env_id in ENDLESS
    assert (transitions.terminated & ~transitions.truncated).any() == (not endless)
    assert (transitions.truncated & ~transitions.terminated).any()
    value, next_value = (
        np.asarray(network.value(state.params, observation, ()))
        for observation in (transitions.observation, transitions.next_observation)
    )
    if transitions.bootstrap is not None:  # observations so large that they are held once
        next_value = np.concatenate([value[1:], next_value])
        next_value = np.where(transitions.truncated, transitions.bootstrap, next_value)
    batch, _ = make_batch(config, network, state, transitions)
    np.testing.assert_allclose(
        np.asarray(batch.advantage).reshape(config.num_steps, config.num_envs),
        by_definition(transitions, value, next_value),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.filterwarnings("ignore")  # of the suites' own code
@pytest.mark.parametrize("env_id", LIMITS)
def test_advantages_of_recorded_episodes(env_id, jit):
    if ":" in env_id:
        package, _ = SUITES[env_id.split(":")[0]]
        pytest.importorskip(package)
    with jax.numpy_rank_promotion("allow"):  # the suites' own code broadcasts ranks
        config = given(env_id, limit=LIMITS[env_id])
        environment, network = make_parts(config)
        state = jit(make_step(config)[0])(jax.random.key(0))
        collect = jit(make_collector(config, environment, network).collect)
        check(config, network, state, collect(state, jax.random.key(1))[1])


def test_advantages_of_episodes_recorded_on_the_host(jit):
    config = given("gymnasium:CartPole-v1", "max_episode_steps", 15)
    _, network = make_parts(config)
    state = jit(make_step(config)[0])(jax.random.key(0))
    blocks = [jax.tree.map(lambda x: x[None], state)]
    settings = RunSettings(0, 1, 1, 1, 1, 20, 1, [])
    host = host_environment(config.env_id, None, config.env_params)
    engine = HostEngine(config, Given(), settings, host, blocks, 0, lambda text: None)
    transitions, _ = engine._collector.collect(engine.blocks[0])
    engine.close()
    check(config, network, state, jax.tree.map(lambda x: x[0], transitions))
