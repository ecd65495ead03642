"""Stochastic gradient epochs over a rollout: fresh shuffles, minibatches, one scan."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxrl_po.config import Config
from jaxrl_po.types import Array, Batch, PyTree


def adam(
    learning_rate: Array | float, max_grad_norm: Array | float
) -> optax.GradientTransformation:
    """Adam behind a bound on the gradient's global norm, built where its numbers are traced.

    It works on one vector of all parameters: a few large kernels in place of several for each.
    """
    return optax.flatten(
        optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(learning_rate, eps=1e-5))
    )


def gradient_norm(gradient: PyTree) -> Array:
    """The global norm, in the form in which `adam` computes it, so that it is computed once."""
    return optax.tree.norm(ravel_pytree(gradient)[0])


def check_minibatches(config: Config, field: str) -> None:
    """Raise unless the named number of minibatches divides the rollout."""
    size, count = config.num_envs * config.num_steps, getattr(config, field)
    if size % count:
        raise ValueError(f"{field}={count} does not divide num_envs * num_steps = {size}")


def flatten(batch: PyTree) -> PyTree:
    """[T, N, ...] to [B, ...] in every leaf."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def blank(batch: Batch) -> Batch:
    """Zeros in the slots that the mask leaves out, so that no NaN there can reach a gradient.

    A batch without a mask comes back as it is.
    """
    if batch.mask is None:
        return batch
    mask = batch.mask

    def choose(x: Array) -> Array:
        return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)), x, 0)

    return batch._replace(
        distribution=jax.tree.map(choose, batch.distribution),
        action=choose(batch.action),
        log_prob=choose(batch.log_prob),
        value=choose(batch.value),
        advantage=choose(batch.advantage),
        target=choose(batch.target),
    )


def random_orders(key: Array, num: int, size: int) -> Array:
    """`num` random orders of `size` samples [num, size].

    Random integers that carry the samples' indices in their low bits are sorted: on a CPU plain
    integers sort 5 to 12 times as fast as an argsort. Samples whose random bits tie keep their
    order, which shows only where a tie lies across the border of two minibatches.
    """
    low_bits = jnp.uint32((1 << (size - 1).bit_length()) - 1)
    random = jax.random.bits(key, (num, size), jnp.uint32) & ~low_bits
    index = jnp.broadcast_to(jnp.arange(size, dtype=jnp.uint32), (num, size))
    return jnp.sort(random | index, axis=-1) & low_bits


def minibatch_epochs(
    key: Array,
    step: Callable[[Any, Batch], tuple[Any, Any]],
    carry: Any,
    batch: Batch,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[Any, Any]:
    """Carry `step` over `num_epochs` passes of `batch`, each in a new order.

    Args:
        key: randomness of the orders.
        step: carry, minibatch [B / num_minibatches, ...] -> carry, output.
        carry: what the steps hand on.
        batch: records [T, N, ...].
        num_epochs: passes over the batch.
        num_minibatches: minibatches of a pass; they divide B.

    Returns:
        The last carry, and the outputs [num_epochs * num_minibatches, ...].
    """
    samples = flatten(batch)
    size = jax.tree.leaves(samples)[0].shape[0]
    if num_minibatches == 1:  # the order within a full batch does not matter
        return jax.lax.scan(lambda c, _: step(c, samples), carry, length=num_epochs)
    order = random_orders(key, num_epochs, size)
    order = order.reshape(num_epochs * num_minibatches, size // num_minibatches)

    def take(carry: Any, index: Array) -> tuple[Any, Any]:
        return step(carry, jax.tree.map(lambda x: x[index], samples))

    return jax.lax.scan(take, carry, order)
