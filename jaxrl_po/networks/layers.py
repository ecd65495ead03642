"""What all networks are made of: pieces, and dense layers with orthogonal weights."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from jaxrl_po.fast.dense import dense_dot_general
from jaxrl_po.types import Array, PyTree

# Observations [*batch, ...] -> their arrays in rows [B, ...], what unfolds rows again
Fold = Callable[[PyTree], tuple[list[Array], Callable[[PyTree], PyTree]]]


class Pieces(NamedTuple):
    """What an actor-critic is put together from; F features."""

    torso: nn.Module  # an observation's arrays [B, ...] -> features [B, F]
    policy_head: nn.Module  # features [B, F] -> distribution
    value_head: nn.Module  # features [B, F] -> values [B]
    shared: bool  # one torso for both, and one memory
    fold: Fold  # puts an observation's batch axes into one
    example: list[Array]  # one observation's arrays [1, ...]


def orthogonal(gain: float) -> Callable[..., Array]:
    """Orthogonal weights; on a CPU one member at a time where seeds are vmapped.

    On a CPU with few cores, batched QR factorisations that run at once wait for each other's
    threads for ever (jaxlib 0.10). Elsewhere one by one costs more than the training: a GPU draws
    2,048 networks in two seconds.
    """
    return functools.partial(_orthogonal, gain)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _orthogonal(gain: float, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Traced once for each shape: flax asks for the shape again whenever a layer is applied."""

    def draw(key: Array) -> Array:
        weights: Array = nn.initializers.orthogonal(gain)(key, shape, dtype)
        return weights

    one_by_one = jax.custom_batching.sequential_vmap(draw)
    weights: Array = jax.lax.platform_dependent(key, cpu=one_by_one, default=draw)
    return weights


def options(gain: float, dtype: Any) -> dict[str, Any]:
    """What all layers share: orthogonal weights, and the precision of their input."""
    return {
        "kernel_init": orthogonal(gain),
        "dtype": dtype,
        "param_dtype": dtype,
    }


def dense(size: int, gain: float, dtype: Any) -> nn.Dense:
    """A dense layer in the forms that are fast."""
    return nn.Dense(size, dot_general=dense_dot_general, **options(gain, dtype))
