"""JAX's own random numbers, drawn faster: Threefry without loops.

On a CPU, JAX compiles Threefry's rounds as a loop of small kernels, to save compile time; in the
loops of a training run its calls cost more than its arithmetic. Written out, a draw is one kernel:
2,048 numbers take 3 µs in place of 20 µs, and compile no slower. The numbers are the same to the
bit.
"""

import math
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl, threefry_prng_impl

from jaxrl_po.types import Array

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = 0x1BD11BDA
JAX_DEFAULT = "threefry2x32"


def unrolled(key: Array) -> Array:
    """A key for the same numbers, drawn faster; a key of another generator stays as it is."""
    partitionable = getattr(jax.config, "jax_threefry_partitionable")  # noqa: B009, a typed stub
    if not (jax.random.key_impl(key) == JAX_DEFAULT and partitionable):
        return key
    same_numbers: Array = jax.random.wrap_key_data(jax.random.key_data(key), impl=UNROLLED)
    return same_numbers


def split(key: Array, shape: int | tuple[int, ...] = 2) -> Array:
    """`jax.random.split`, without loops, into keys of the caller's kind.

    Environments and networks get such keys: what they do with theirs, from keeping one in a state
    to samplers that insist on JAX's generator (`poisson`), must not depend on ours.
    """
    return same_kind(jax.random.split(unrolled(key), shape), key)


def same_kind(key: Array, like: Array) -> Array:
    """The key as a key of the generator that `like` belongs to."""
    impl = jax.random.key_impl(like)
    other: Array = jax.random.wrap_key_data(jax.random.key_data(key), impl=impl)
    return other


def threefry_2x32(key: Array, high: Array, low: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers").

    Args:
        key: [2] uint32.
        high: upper words of the counters.
        low: lower words of the counters.
    """
    words = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY)
    high, low = high + words[0], low + words[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            high = high + low
            low = (low << jnp.uint32(rotation)) | (low >> jnp.uint32(32 - rotation))
            low = low ^ high
        high = high + words[(group + 1) % 3]
        low = low + words[(group + 2) % 3] + jnp.uint32(group + 1)
    return high, low


def _count(key: Array, size: int) -> tuple[Array, Array]:
    """The two words of each of the numbers 0 … size - 1, encrypted [size].

    As a vector: XLA cuts larger arrays of more axes over the threads of a CPU, at a loss.
    """
    if size > 2**32 - 1:
        raise ValueError(f"{size} random numbers in one draw: at most {2**32 - 1}")
    low = jnp.arange(size, dtype=jnp.uint32)
    return threefry_2x32(key, jnp.zeros_like(low), low)


def _random_bits(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    high, low = _count(key, math.prod(shape))
    if bit_width == 64:
        bits: Array = (high.astype(jnp.uint64) << jnp.uint64(32)) | low.astype(jnp.uint64)
    else:
        bits = (high ^ low).astype(f"uint{bit_width}")
    return bits.reshape(shape)


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    return jnp.stack(_count(key, math.prod(shape)), axis=-1).reshape(*shape, 2)


def _fold_in(key: Array, data: Any) -> Array:
    return jnp.stack(threefry_2x32(key, jnp.uint32(0), jnp.asarray(data, jnp.uint32)))


UNROLLED: Hashable = define_prng_impl(
    key_shape=(2,),
    seed=threefry_prng_impl.seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_unrolled",
    tag="fry_unrolled",
)
