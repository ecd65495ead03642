"""A recurrence over time whose weights' derivative is one product over all steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.types import Array, PyTree

# x_t [n, X], h_{t-1} U + b [n, G], state before -> state after; each number by itself
Cell = Callable[[Array, Array, PyTree], PyTree]


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
    and, run forwards, for a Fisher-vector product. Numbers change by rounding alone.

    Args:
        cell: the elementwise part of a step.
        x: what the inputs bring to each step [L, n, X].
        kernel: U [H, G].
        bias: b [G].
        state: s before the first step; leaves [n, H].
        starts: whether an episode begins at a step [L, n].

    Returns:
        The states of all steps; leaves [L, n, H].
    """
    return _states(cell, x, kernel, bias, state, starts)


def begin(start: Array, state: PyTree) -> PyTree:
    """Zeros in place of a state where an episode begins."""
    return jax.tree.map(lambda s: jnp.where(start[..., None], 0, s), state)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _states(
    cell: Cell, x: Array, kernel: Array, bias: Array, state: PyTree, starts: Array
) -> PyTree:
    def step(state: PyTree, inputs: tuple[Array, Array]) -> tuple[PyTree, PyTree]:
        x_t, start = inputs
        state = begin(start, state)
        state = cell(x_t, hidden(state) @ kernel + _row(bias), state)
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
        (h @ weights + _row(b)).reshape(*starts.shape, -1)
        for weights, b in ((kernel, bias), (dkernel, dbias))
    )

    def step(dstate: PyTree, inputs: Any) -> tuple[PyTree, PyTree]:
        start, x_t, z_t, before_t, dx_t, dz_t = inputs
        dstate = begin(start, dstate)
        dz_t += hidden(dstate) @ kernel
        _, dstate = jax.jvp(cell, (x_t, z_t, before_t), (dx_t, dz_t, dstate))
        return dstate, dstate

    return states, jax.lax.scan(step, dstate, (starts, x, z, before, dx, from_weights))[1]


def _row(bias: Array) -> Array:
    return bias[None]
