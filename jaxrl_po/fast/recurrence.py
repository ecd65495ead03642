"""A recurrence over time whose weights' derivative is one product over all steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.types import Array, PyTree

# x_t and h_{t-1} U + b, both by gates [n, H], and the state before -> the state after; each number
# by itself
Cell = Callable[[list[Array], list[Array], PyTree], PyTree]


def hidden(state: PyTree) -> Array:
    """h: the last leaf of a state."""
    last: Array = jax.tree.leaves(state)[-1]
    return last


def recurrence(
    cell: Cell, x: Array, kernel: Array, bias: Array, state: PyTree, starts: Array
) -> PyTree:
    """s_t = cell(x_t, h_{t-1} U + b, s_{t-1}) over L steps, from zeros where an episode begins.

    JAX's own derivative of the loop adds the gradient of U up step by step, a small product and a
    pass over U each. Here all that U's change does, over all steps, is one product: for a gradient
    and, run forwards, for a Fisher-vector product. What the inputs bring is cut into gates before
    the loop: XLA's CPU code for a cut inside takes twice the time of a step. Numbers change by
    rounding alone.

    Args:
        cell: the elementwise part of a step.
        x: what the inputs bring to each step and gate [L, n, gates · H].
        kernel: U [H, gates · H].
        bias: b [gates · H].
        state: s before the first step; leaves [n, H].
        starts: whether an episode begins at a step [L, n].

    Returns:
        The states of all steps; leaves [L, n, H].
    """
    return _states(cell, _gates(x, kernel), kernel, bias, state, starts)


def _gates(x: Array, kernel: Array) -> list[Array]:
    return jnp.split(x, kernel.shape[1] // kernel.shape[0], axis=-1)


def begin(start: Array, state: PyTree) -> PyTree:
    """Zeros in place of a state where an episode begins."""
    return jax.tree.map(lambda s: jnp.where(start[..., None], 0, s), state)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _states(
    cell: Cell, x: list[Array], kernel: Array, bias: Array, state: PyTree, starts: Array
) -> PyTree:
    def step(state: PyTree, inputs: tuple[list[Array], Array]) -> tuple[PyTree, PyTree]:
        x_t, start = inputs
        state = begin(start, state)
        state = cell(x_t, _gates(hidden(state) @ kernel + bias[None], kernel), state)
        return state, state

    return jax.lax.scan(step, state, (x, starts))[1]


@_states.defjvp
def _(cell: Cell, primals: Any, tangents: Any) -> tuple[PyTree, PyTree]:
    x, kernel, bias, state, starts = primals
    dx, dkernel, dbias, dstate, _ = tangents
    states = _states(cell, x, kernel, bias, state, starts)
    before = begin(
        starts, jax.tree.map(lambda s, later: jnp.concatenate([s[None], later[:-1]]), state, states)
    )
    h = hidden(before).reshape(-1, kernel.shape[0])
    z, from_weights = (
        _gates((h @ weights + b[None]).reshape(*starts.shape, -1), kernel)
        for weights, b in ((kernel, bias), (dkernel, dbias))
    )

    def step(dstate: PyTree, inputs: Any) -> tuple[PyTree, PyTree]:
        start, x_t, z_t, before_t, dx_t, dz_t = inputs
        dstate = begin(start, dstate)
        from_state = _gates(hidden(dstate) @ kernel, kernel)
        dz_t = [a + b for a, b in zip(dz_t, from_state, strict=True)]
        _, dstate = jax.jvp(cell, (x_t, z_t, before_t), (dx_t, dz_t, dstate))
        return dstate, dstate

    return states, jax.lax.scan(step, dstate, (starts, x, z, before, dx, from_weights))[1]
