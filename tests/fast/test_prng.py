"""The unrolled generator draws JAX's own numbers, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, evaluate, make_train
from jaxrl_po.envs import Discrete, Environment
from jaxrl_po.fast.prng import same_kind, unrolled
from jaxrl_po.host.machine.arrays import from_host, to_host
from jaxrl_po.loop.train import make_step

KEY = jax.random.key(7)


def same(draw):
    for key in (KEY, jax.random.key(2**31 + 5)):
        np.testing.assert_array_equal(draw(key), draw(unrolled(key)))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 5, 6)])
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.uint16, jnp.uint32])
def test_bits(shape, dtype):
    same(lambda key: jax.random.bits(key, shape, dtype))


def test_bits_of_64():
    with jax.enable_x64(True):
        same(lambda key: jax.random.bits(key, (5,), jnp.uint64))


@pytest.mark.parametrize("shape", [2, (3,), (2, 3)])
def test_split(shape):
    same(lambda key: jax.random.key_data(jax.random.split(key, shape)))


@pytest.mark.parametrize("data", [0, 1, 2**31, 2**32 - 1])
def test_fold_in(data):
    same(lambda key: jax.random.key_data(jax.random.fold_in(key, np.uint32(data))))


def test_vmapped_keys():
    def draw(key):
        return jax.vmap(lambda k: jax.random.normal(k, (3,)))(jax.random.split(key, 4))

    same(jax.jit(draw))


def test_other_generators_stay():
    key = jax.random.key(0, impl="rbg")
    assert unrolled(key) is key
    back = same_kind(unrolled(KEY), KEY)
    assert back.dtype == KEY.dtype
    np.testing.assert_array_equal(jax.random.key_data(back), jax.random.key_data(KEY))


def test_a_run_keeps_the_kind_of_key_it_was_given():
    config = PPOConfig(num_steps=4, num_minibatches=1, total_timesteps=16, hidden_sizes=(4,))
    for key in (KEY, jax.random.key(0, impl="rbg")):
        assert jax.eval_shape(make_train(config), key).state.key.dtype == key.dtype


def keyed_environment():
    """Its state holds a key, its steps draw by a sampler that accepts no generator but JAX's."""

    def reset(key, params):
        return jnp.zeros(1), {"own": jax.random.key(1), "given": key}

    def step(key, state, action, params):
        own = jnp.where(action > 0, state["own"], jax.random.split(state["own"])[0])
        reward = jax.random.poisson(key, 2.0).astype(float)
        state = {"own": own, "given": jax.random.split(state["given"])[0]}
        return jnp.ones(1), state, reward, jnp.asarray(False), reward > 4

    return Environment(
        reset, step, params=(), observation_shape=(1,), action_space=Discrete(2), max_steps=None
    )


def test_environments_get_keys_of_the_callers_kind():
    config = PPOConfig(
        num_envs=2, num_steps=8, num_minibatches=1, total_timesteps=64, hidden_sizes=(4,)
    )
    init, step = make_step(config, keyed_environment())
    state = jax.jit(init)(KEY)
    for leaf in jax.tree.leaves(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            assert leaf.dtype == KEY.dtype
    state, _ = jax.jit(step)(state)
    arrays = {name: x[0] for name, x in to_host([jax.tree.map(lambda x: x[None], state)]).items()}
    loaded = from_host(jax.eval_shape(init, KEY), arrays)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(step)(state)[1], jax.jit(step)(loaded)[1])
    result = evaluate(config, state, KEY, 3, env=keyed_environment(), max_steps=50)
    assert (result.episode_return > 0).all()


def test_keys_of_other_generators_are_saved_and_loaded():
    keys = jax.random.split(jax.random.key(0, impl="rbg"), 2)
    arrays = to_host([{"key": keys}])
    loaded = from_host({"key": jax.eval_shape(lambda: keys)}, arrays)["key"]
    assert loaded.dtype == keys.dtype
    np.testing.assert_array_equal(jax.random.key_data(loaded), jax.random.key_data(keys))


def test_no_loop_is_left_in_a_draw():
    def text(kind):
        return jax.jit(lambda key: jax.random.bits(kind(key), (8,))).lower(KEY).as_text()

    assert "while" in text(lambda key: key)
    assert "while" not in text(unrolled)
