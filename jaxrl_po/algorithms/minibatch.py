"""Stochastic gradient epochs over a rollout: fresh shuffles, minibatches, one scan."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl_po.ops import value_loss
from jaxrl_po.types import Array, Batch, Network, PyTree


def adam(learning_rate: Array, max_grad_norm: Array | float) -> optax.GradientTransformation:
    """Adam behind a bound on the gradient's global norm, built where its numbers are traced."""
    return optax.chain(
        optax.clip_by_global_norm(max_grad_norm), optax.adam(learning_rate, eps=1e-5)
    )


def flatten(batch: PyTree) -> PyTree:
    """[T, N, ...] to [B, ...] in every leaf."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


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
    # One sort of random numbers for all epochs: far cheaper than a permutation for each.
    order = jnp.argsort(jax.random.bits(key, (num_epochs, size)), axis=-1)
    order = order.reshape(num_epochs * num_minibatches, size // num_minibatches)

    def take(carry: Any, index: Array) -> tuple[Any, Any]:
        return step(carry, jax.tree.map(lambda x: x[index], samples))

    return jax.lax.scan(take, carry, order)


def fit_value(
    key: Array,
    network: Network,
    params: PyTree,
    opt_state: PyTree,
    batch: Batch,
    optimizer: optax.GradientTransformation,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[PyTree, PyTree, Array]:
    """Regress V on the λ-returns, leaving the policy alone: minimise ½ E[(V(s) - target)²].

    Returns:
        Params with a new "value", its optimiser state, and the mean loss over the last epoch.
    """

    def loss(value_params: PyTree, minibatch: Batch) -> Array:
        value = network.value(
            {**params, "value": value_params}, minibatch.observation, minibatch.memory
        )
        return value_loss(value, minibatch.target)

    def step(carry: Any, minibatch: Batch) -> tuple[Any, Array]:
        value_params, opt_state = carry
        error, gradient = jax.value_and_grad(loss)(value_params, minibatch)
        updates, opt_state = optimizer.update(gradient, opt_state, value_params)
        return (optax.apply_updates(value_params, updates), opt_state), error

    (value_params, opt_state), errors = minibatch_epochs(
        key, step, (params["value"], opt_state), batch, num_epochs, num_minibatches
    )
    return {**params, "value": value_params}, opt_state, errors[-num_minibatches:].mean()
