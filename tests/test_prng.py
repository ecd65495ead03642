"""The unrolled generator draws JAX's own numbers, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, make_train
from jaxrl_po.prng import same_kind, unrolled

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


def test_no_loop_is_left_in_a_draw():
    text = jax.jit(lambda key: jax.random.bits(unrolled(key), (8,))).lower(KEY).as_text()
    assert "while" not in text
