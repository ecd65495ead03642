"""Observations: pytrees of any dtype, kept as they come, large ones held once."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, make_learn, make_step, make_train
from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.envs import Discrete, Environment, make_environment
from jaxrl_po.fast import slices
from jaxrl_po.loop import rollout as loop_rollout
from jaxrl_po.loop.collect import make_collector
from jaxrl_po.loop.normalizer import init_normalizer, observe
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.networks import make_network
from tests.probes import Target

KEY = jax.random.key(0)
CONFIG = PPOConfig(num_envs=4, num_steps=8, total_timesteps=32, hidden_sizes=(4,))


class Seen(NamedTuple):
    """A record; its fields are not in the order of their names."""

    speed: jax.Array
    colour: jax.Array
    armed: jax.Array


def walk(show, ends=False, limit=3, shape=None):
    """A state in [0, 1] that goes where it is sent; a time limit, or an end, after some steps."""

    def reset(key, params):
        state = jax.random.uniform(key), jnp.zeros((), jnp.int32)
        return show(*state), state

    def step(key, state, action, params):
        place, time = jnp.clip(state[0] + 0.1 * (2.0 * action - 1.0), 0.0, 1.0), state[1] + 1
        over = time >= limit
        state = place, time
        return show(*state), state, place, over & ends, over & (not ends)

    return Environment(reset, step, (), shape, Discrete(2), None)


def as_dict(place, time):
    return {
        "arm": {"speed": jnp.stack([place, 3.0 - place])},
        "armed": place > 0.5,
        "colour": jnp.uint8(255 * place)[None],
    }


def as_record(place, time):
    seen = as_dict(place, time)
    return Seen(seen["arm"]["speed"], seen["colour"], seen["armed"])


def picture(place, time):
    row = jnp.arange(6) / 6 < place
    return jnp.broadcast_to(jnp.where(row, 255, 0).astype(jnp.uint8), (5, 6))


def two_steps(config, env, jit):
    init, step = make_step(config, env)
    state, metrics = jit(lambda key: step(step(init(key))[0]))(KEY)
    return state.params, metrics


def test_dtypes_stay_until_the_network_casts(jit):
    config = CONFIG.replace(normalize_observations=True)
    environment, network = make_parts(config, walk(as_dict))
    collector = make_collector(config, environment, network)
    init, _ = make_step(config, walk(as_dict))
    state, transitions = jit(lambda key: (init(key), collector.collect(init(key), key)[1]))(KEY)
    for seen in (transitions.observation, transitions.next_observation):
        types = jax.tree.map(lambda x: (x.dtype.name, x.shape), seen)
        assert types == {
            "arm": {"speed": ("float32", (8, 4, 2))},
            "armed": ("bool", (8, 4)),
            "colour": ("uint8", (8, 4, 1)),
        }
    statistics = state.normalizer.observation
    assert statistics["armed"] == statistics["colour"] == ()
    assert statistics["arm"]["speed"].mean.shape == (2,)


def test_statistics_are_of_floats_alone(jit):
    config = CONFIG.replace(normalize_observations=True)
    environment, network = make_parts(config, walk(as_dict))
    collector = make_collector(config, environment, network)
    init, _ = make_step(config, walk(as_dict))
    learn = make_learn(config, walk(as_dict))

    @jit
    def run(key):
        state = init(key)
        _, transitions, _ = collector.collect(state, key)
        return transitions, learn(state, transitions)[0].normalizer

    transitions, normalizer = run(KEY)
    speed = np.asarray(transitions.observation["arm"]["speed"]).reshape(-1, 2)
    found = normalizer.observation["arm"]["speed"]
    np.testing.assert_allclose(found.mean, speed.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.variance, speed.var(0), rtol=1e-4)
    seen = observe(normalizer, transitions.observation)
    assert np.abs(seen["arm"]["speed"].mean((0, 1))).max() < 1e-5
    np.testing.assert_array_equal(seen["colour"], transitions.observation["colour"])
    np.testing.assert_array_equal(seen["armed"], transitions.observation["armed"])


def test_nothing_to_normalise_is_refused():
    config = CONFIG.replace(normalize_observations=True)
    with pytest.raises(ValueError, match=r"normalize_observations=True has nothing.*uint8\[5, 6\]"):
        make_train(config, env=walk(picture))


def test_the_container_does_not_matter(jit):
    """A dict and a record of the same arrays are one problem, whatever the order of fields."""
    config = CONFIG.replace(normalize_observations=True)
    flat = lambda place, time: Seen(*as_record(place, time))._asdict()  # noqa: E731
    (one, metrics), (other, same) = (
        two_steps(config, walk(show), jit) for show in (as_record, flat)
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)
    jax.tree.map(np.testing.assert_array_equal, metrics, same)


def test_all_parts_reach_the_network(jit):
    observation = walk(as_dict).observation
    network = make_network(CONFIG, observation, Discrete(2))
    params = network.init(KEY)
    base = jax.tree.map(lambda x: jnp.ones((1, *x.shape), x.dtype), observation)
    value = jit(lambda o: network.value(params, o, ()))
    for path, leaf in jax.tree.leaves_with_path(base):
        changed = jax.tree.map_with_path(
            lambda p, x, path=path: jnp.zeros_like(x) if p == path else x, base
        )
        assert value(changed) != value(base), path
        assert leaf.dtype == jax.tree.leaves(leaf)[0].dtype
    kernel = params.policy["torso"]["params"]["Dense_0"]["kernel"]
    assert kernel.shape == (4, 4)


def test_convolutions_take_grids_and_leave_the_rest(jit):
    show = lambda place, time: {"camera": picture(place, time), "speed": place[None]}  # noqa: E731
    config = CONFIG.replace(network="cnn")
    params, metrics = two_steps(config, walk(show), jit)
    torso = params.policy["torso"]["params"]
    assert torso["Conv_0"]["kernel"].shape == (3, 3, 1, 16)
    assert torso["Dense_0"]["kernel"].shape == (3 * 4 * 16 + 1, 4)
    assert np.isfinite(metrics["grad_norm"])
    with pytest.raises(ValueError, match=r"network='cnn' needs observations of .*float32\[2\]"):
        make_train(config, env=walk(as_dict))


def test_slices_of_a_rollout_teach_the_same(algorithm, jit, monkeypatch):
    """Gradients of slices add up to those of the whole, as do products with the Fisher matrix."""
    config = ALGORITHMS[algorithm][0](
        num_envs=4, num_steps=8, total_timesteps=64, hidden_sizes=(4,), network="cnn"
    )
    whole = two_steps(config, walk(picture), jit)
    monkeypatch.setattr(slices, "SLICE", 100)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
        whole,
        two_steps(config, walk(picture), jit),
    )


@pytest.mark.parametrize("ends", [False, True])
def test_large_observations_are_held_once_and_change_nothing(ends, jit, monkeypatch):
    env = walk(picture, ends)
    whole = two_steps(CONFIG, env, jit)
    monkeypatch.setattr(loop_rollout, "LARGE_OBSERVATION", 30)
    monkeypatch.setattr(slices, "SLICE", 200)
    environment, network = make_parts(CONFIG, env)
    init, _ = make_step(CONFIG, env)
    collector = make_collector(CONFIG, environment, network)
    _, transitions, _ = jax.eval_shape(lambda key: collector.collect(init(key), key), KEY)
    assert transitions.next_observation.shape == (1, 4, 5, 6)
    assert transitions.bootstrap.shape == (8, 4)
    once = two_steps(CONFIG, env, jit)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), whole, once)


def test_values_of_half_precision_are_held_at_time_limits_too(monkeypatch):
    env = walk(picture)
    environment, network = make_parts(CONFIG, env)
    half = network._replace(value=lambda *seen: network.value(*seen).astype(jnp.bfloat16))
    monkeypatch.setattr(loop_rollout, "LARGE_OBSERVATION", 30)
    init, _ = make_step(CONFIG, env, half)
    collector = make_collector(CONFIG, environment, half)
    _, transitions, _ = jax.eval_shape(lambda key: collector.collect(init(key), key), KEY)
    assert transitions.bootstrap.dtype == jnp.float32


def camera():
    """Frames as Atari's."""

    def reset(key, params):
        return jax.random.bits(key, (84, 84, 4), jnp.uint8), jnp.zeros((), jnp.int32)

    def step(key, time, action, params):
        over = time >= 50
        return reset(key, params)[0], time + 1, jnp.ones(()), jnp.array(False), over

    return Environment(reset, step, (), (84, 84, 4), Discrete(2), None)


PIXELS = {"num_envs": 64, "num_steps": 128, "total_timesteps": 64 * 128}


def test_a_rollout_of_pixels_takes_little_more_than_its_pixels(jit_as_shipped):
    """64 environments x 128 steps of uint8 [84, 84, 4] are .23 GB; floats, twice, were 1.87."""
    env, config = camera(), CONFIG.replace(**PIXELS)
    environment, network = make_parts(config, env)
    collector = make_collector(config, environment, network)
    init, _ = make_step(config, env)
    state = jax.eval_shape(init, KEY)
    memory = jit_as_shipped(collector.collect).lower(state, KEY).compile().memory_analysis()
    pixels = 64 * 128 * 84 * 84 * 4
    taken = memory.output_size_in_bytes + memory.temp_size_in_bytes
    assert pixels < taken < 0.3e9


def learning(algorithm):
    """A learner of 8192 frames, and what it takes, as shapes."""
    minibatches = "num_minibatches" if algorithm in ("ppo", "ppo_penalty") else "critic_minibatches"
    env, config = camera(), ALGORITHMS[algorithm][0](**PIXELS, **{minibatches: 32}, network="cnn")
    environment, network = make_parts(config, env)
    state = jax.eval_shape(make_step(config, env)[0], KEY)
    collect = make_collector(config, environment, network).collect
    _, transitions, _ = jax.eval_shape(collect, state, KEY)
    return env, config, network, (state, transitions)


def test_no_pass_of_an_update_takes_more_than_a_slice(algorithm):
    env, config, network, taken = learning(algorithm)
    seen = []

    def counted(function):
        def call(params, observation, memory):
            seen.append(math.prod(observation.shape[:-3]))
            return function(params, observation, memory)

        return call

    names = "policy", "value", "policy_and_value"
    network = network._replace(**{name: counted(getattr(network, name)) for name in names})
    jax.eval_shape(make_learn(config, env=env, network=network), *taken)
    assert 256 <= max(seen) <= slices.SLICE / (84 * 84 * 4)


def test_trpo_learns_from_pixels_in_bounded_memory(jit_as_shipped):
    """1.3 GB, as PPO by minibatches of 256; at once the 8192 frames took 46."""
    env, config, _, taken = learning("trpo")
    memory = jit_as_shipped(make_learn(config, env=env)).lower(*taken).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 1.5e9


class Board(Target):
    """A gymnax-like environment that shows pixels, and a dict where it is asked to."""

    def __init__(self, show):
        self.show = show

    def reset_env(self, key, params):
        _, state = super().reset_env(key, params)
        return self.show, state

    def step_env(self, key, state, action, params):
        _, *rest = super().step_env(key, state, action, params)
        return self.show, *rest

    def observation_space(self, params):
        return object()


@pytest.mark.parametrize(
    ("show", "types"),
    [
        (np.zeros((3, 3), np.uint8), "uint8[3, 3]"),
        (np.zeros(2), "float32[2]"),
        (
            {"a": np.zeros(2, bool), "b": 1.0, "c": np.zeros((), np.int32)},
            "{a: bool[2], b: float32[], c: int32[]}",
        ),
    ],
)
def test_the_adapter_keeps_what_the_environment_gives(show, types):
    seen = make_environment(Board(show), {}).observation
    assert str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", seen)).replace("'", "") == types


REFUSED = {
    "nothing": (lambda p, t: {}, "reset's observation holds no array"),
    "one name": (lambda p, t: {"a/b": p, "a": {"b": p}}, "two arrays of one name"),
    "complex": (lambda p, t: {"a": p + 1j}, r"reset's observation\['a'\] must be an array \[\] of"),
}


@pytest.mark.parametrize(("show", "message"), REFUSED.values(), ids=REFUSED)
def test_observations_that_are_none_are_refused(show, message):
    with pytest.raises(ValueError, match=f"env: .*{message}"):
        make_train(CONFIG, env=walk(show))


def test_a_step_must_show_what_a_reset_shows():
    env = walk(as_dict)
    other = env._replace(reset=lambda key, params: ({"arm": jnp.zeros(2)}, env.reset(key, ())[1]))
    with pytest.raises(
        ValueError, match=r"env: step's observation must be as reset's, {arm: float"
    ):
        make_train(CONFIG, env=other)


def test_one_array_has_the_shape_it_says():
    with pytest.raises(ValueError, match=r"env: reset's observation must be one array"):
        make_train(CONFIG, env=walk(as_dict, shape=(2,)))
    with pytest.raises(ValueError, match="env: observation_shape must be a tuple of whole numbers"):
        make_train(CONFIG, env=walk(picture, shape="none"))


def test_statistics_start_from_nothing():
    config = CONFIG.replace(normalize_observations=True)
    normalizer = init_normalizer(config, walk(as_dict))
    assert normalizer.observation["arm"]["speed"].num_samples == 0
    assert init_normalizer(CONFIG, walk(as_dict)).observation == ()
