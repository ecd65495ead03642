"""Networks that see pixels: what they make of them, in their published sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig
from jaxrl_po.networks import make_network
from jaxrl_po.spaces import Discrete

PIXELS = jax.ShapeDtypeStruct((84, 84, 4), jnp.uint8)
KEY = jax.random.key(0)


def network_of(observation, **fields):
    config = PPOConfig(hidden_sizes=(4,), shared_torso=True, **fields)
    return make_network(config, observation, Discrete(3))


def sizes(params):
    return [x.shape for x in jax.tree.leaves(params) if x.ndim > 1]


def test_nature_has_the_published_sizes():
    params = jax.eval_shape(network_of(PIXELS, network="nature").init, KEY)
    expected = [(8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (7 * 7 * 64, 4)]
    assert sizes(params.torso) == expected


def test_impala_has_the_published_sizes():
    params = jax.eval_shape(network_of(PIXELS, network="impala").init, KEY)
    kernels = sizes(params.torso)
    assert len(kernels) == 15 + 1
    assert kernels[-1] == (11 * 11 * 32, 4)
    assert sorted(k[-1] for k in kernels[:-1]) == [16] * 5 + [32] * 10


def test_bytes_are_parts_of_255_and_floats_are_what_they_are(jit):
    pixels = jax.random.randint(KEY, (2, 36, 36, 1), 0, 256).astype(jnp.uint8)
    whole, parts = (
        network_of(jax.ShapeDtypeStruct((36, 36, 1), dtype), network="nature")
        for dtype in (jnp.uint8, jnp.float32)
    )

    def both(key):
        params = whole.init(key)
        return (
            whole.policy(params, pixels, ())[0].logits,
            parts.policy(params, pixels / 255.0, ())[0].logits,
            parts.policy(params, pixels.astype(jnp.float32), ())[0].logits,
        )

    ours, same, other = jit(both)(KEY)
    np.testing.assert_allclose(ours, same, rtol=1e-4, atol=1e-6)
    assert (jnp.abs(ours - other) > 1e-4).any()


@pytest.mark.parametrize("network", ["cnn", "impala+mingru"])
def test_an_image_beside_a_vector_has_convolutions_of_its_own(network, jit):
    observation = {
        "camera": jax.ShapeDtypeStruct((8, 8, 3), jnp.uint8),
        "map": jax.ShapeDtypeStruct((5, 6), jnp.float32),
        "joints": jax.ShapeDtypeStruct((2,), jnp.float32),
    }
    made = network_of(observation, network=network)
    rows = jax.tree.map(lambda x: jnp.ones((2, *x.shape), x.dtype), observation)

    def values(key):
        params, memory = made.init(key), made.initial_memory(2)
        of = lambda rows: made.value(params, rows, memory)  # noqa: E731
        changed = [of({**rows, name: x * 2}) for name, x in rows.items()]
        return of(rows), jnp.stack(changed)

    value, changed = jit(values)(KEY)
    assert value.shape == (2,)
    assert (changed != value[None]).all()  # it sees each of them


@pytest.mark.parametrize(
    ("network", "shape", "least"),
    [("nature", (35, 84, 4), "36 x 36"), ("impala", (2, 8, 1), "3 x 3"), ("cnn", (7,), "3 x 3")],
)
def test_what_is_too_small_to_be_seen_is_refused(network, shape, least):
    with pytest.raises(ValueError, match=f"network='{network}' needs .* at least {least}"):
        network_of(shape, network=network)
