"""Memories: layers that carry a state from step to step, and unroll a stretch of steps at once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_po.fast.dense import dense_dot_general
from jaxrl_po.fast.recurrence import Cell, hidden, recurrence
from jaxrl_po.networks.layers import orthogonal
from jaxrl_po.types import Array, PyTree


class Memory(NamedTuple):
    """A recurrent layer as pure functions. Shapes: L steps, n environments, F features, H width.

    At the start of an episode its state is zeros.
    """

    init: Callable[[Array, int], PyTree]  # key, F -> params
    initial: Callable[[int], PyTree]  # n -> the state at the start of an episode, leaves [n, H]
    step: Callable[[PyTree, Array, PyTree], tuple[Array, PyTree]]  # params, [n, F], state -> [n, H]
    # params, features [L, n, F], state, starts [L, n] -> outputs [L, n, H]
    unroll: Callable[[PyTree, Array, PyTree, Array], Array]


def gru(size: int, time_scale: int) -> Memory:
    """Gated recurrent unit (Cho et al. 2014), in the form of flax's and cuDNN's cell.

        r = σ(W_r x + U_r h),  z = σ(W_z x + U_z h)
        n = tanh(W_n x + r ⊙ (U_n h)),  h' = (1 - z) ⊙ n + z ⊙ h      (each product with a bias)

    Args:
        size: H.
        time_scale: steps that its slowest units remember at first, see `_time_scales`.
    """

    def cell(x: list[Array], z: list[Array], h: Array) -> Array:
        (x_r, x_z, x_n), (u_r, u_z, u_n) = x, z
        reset, keep = jax.nn.sigmoid(x_r + u_r), jax.nn.sigmoid(x_z + u_z)
        new: Array = (1 - keep) * jnp.tanh(x_n + reset * u_n) + keep * h
        return new

    def bias(key: Array) -> Array:
        zeros = jnp.zeros(size)
        return jnp.concatenate([zeros, _time_scales(key, size, time_scale), zeros])

    return _recurrent(size, 3, cell, bias, lambda n: jnp.zeros((n, size)))


def lstm(size: int, time_scale: int) -> Memory:
    """Long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

        i, f, o = σ(W x + U h),  g = tanh(W_g x + U_g h)
        c' = f ⊙ c + i ⊙ g,  h' = o ⊙ tanh(c')                        (each product with a bias)

    Args:
        size: H.
        time_scale: steps that its slowest units remember at first, see `_time_scales`.
    """

    def cell(x: list[Array], z: list[Array], state: tuple[Array, Array]) -> tuple[Array, Array]:
        i, f, g, o = (a + b for a, b in zip(x, z, strict=True))
        c = jax.nn.sigmoid(f) * state[0] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return c, jax.nn.sigmoid(o) * jnp.tanh(c)

    def bias(key: Array) -> Array:
        zeros, keep = jnp.zeros(size), _time_scales(key, size, time_scale)
        return jnp.concatenate([-keep, keep, zeros, zeros])

    return _recurrent(size, 4, cell, bias, lambda n: (jnp.zeros((n, size)),) * 2)


def mingru(size: int, time_scale: int) -> Memory:
    """Minimal gated recurrent unit (Feng et al. 2024), unrolled in log₂ L passes over all steps.

        z = σ(W_z x),  h' = (1 - z) ⊙ h + z ⊙ W_h x                   (each product with a bias)

    Its gates do not see h, so that h_L is a composition of maps h -> a h + b, which may be composed
    in any order (`jax.lax.associative_scan`).

    Args:
        size: H.
        time_scale: steps that its slowest units remember at first, see `_time_scales`.
    """

    def init(key: Array, num_features: int) -> PyTree:
        kernel_key, bias_key = jax.random.split(key)
        bias = jnp.concatenate([-_time_scales(bias_key, size, time_scale), jnp.zeros(size)])
        return {"input": _layer(kernel_key, num_features, [size] * 2, bias)}

    def gates(params: PyTree, x: Array) -> tuple[Array, Array]:
        write, new = jnp.split(_affine(params["input"], x), 2, axis=-1)
        write = jax.nn.sigmoid(write)
        return 1 - write, write * new

    def step(params: PyTree, x: Array, h: Array) -> tuple[Array, Array]:
        a, b = gates(params, x)
        h = a * h + b
        return h, h

    def unroll(params: PyTree, x: Array, h: Array, starts: Array) -> Array:
        a, b = gates(params, x)
        a = jnp.where(starts[..., None], 0, a)
        b = b.at[0].add(a[0] * h)

        def compose(first: PyTree, then: PyTree) -> PyTree:
            return first[0] * then[0], first[1] * then[0] + then[1]

        states: Array = jax.lax.associative_scan(compose, (a, b))[1]
        return states

    return Memory(init, lambda n: jnp.zeros((n, size)), step, unroll)


MEMORIES: dict[str, Callable[[int, int], Memory]] = {"gru": gru, "lstm": lstm, "mingru": mingru}


def stacked(layers: Sequence[Memory]) -> Memory:
    """Layers of memory, each on the outputs of the one below, as one."""

    def init(key: Array, num_features: int) -> PyTree:
        params = []
        for layer, layer_key in zip(layers, jax.random.split(key, len(layers)), strict=True):
            params.append(layer.init(layer_key, num_features))
            num_features = hidden(layer.initial(1)).shape[-1]
        return tuple(params)

    def step(params: PyTree, x: Array, states: PyTree) -> tuple[Array, PyTree]:
        after = []
        for layer, own, state in zip(layers, params, states, strict=True):
            x, state = layer.step(own, x, state)
            after.append(state)
        return x, tuple(after)

    def unroll(params: PyTree, x: Array, states: PyTree, starts: Array) -> Array:
        for layer, own, state in zip(layers, params, states, strict=True):
            x = layer.unroll(own, x, state, starts)
        return x

    return Memory(init, lambda n: tuple(layer.initial(n) for layer in layers), step, unroll)


def _recurrent(
    size: int,
    num_gates: int,
    cell: Cell,
    bias: Callable[[Array], Array],
    initial: Callable[[int], PyTree],
) -> Memory:
    """The memory of a cell whose gates see x and h."""

    def init(key: Array, num_features: int) -> PyTree:
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        sizes = [size] * num_gates
        return {
            "input": _layer(input_key, num_features, sizes, bias(bias_key)),
            "recurrent": _layer(recurrent_key, size, sizes, jnp.zeros(size * num_gates)),
        }

    def step(params: PyTree, x: Array, state: PyTree) -> tuple[Array, PyTree]:
        x, recurrent = _affine(params["input"], x), _affine(params["recurrent"], hidden(state))
        gates = [jnp.split(a, num_gates, axis=-1) for a in (x, recurrent)]
        state = cell(gates[0], gates[1], state)
        return hidden(state), state

    def unroll(params: PyTree, x: Array, state: PyTree, starts: Array) -> Array:
        recurrent = params["recurrent"]
        states = recurrence(
            cell,
            _affine(params["input"], x),
            recurrent["kernel"],
            recurrent["bias"],
            state,
            starts,
        )
        return hidden(states)

    return Memory(init, initial, step, unroll)


def _layer(key: Array, num_inputs: int, sizes: list[int], bias: Array) -> PyTree:
    """Orthogonal weights for each gate, side by side."""
    keys = jax.random.split(key, len(sizes))
    draw = orthogonal(1.0)
    kernels = [draw(k, (num_inputs, s), bias.dtype) for k, s in zip(keys, sizes, strict=True)]
    return {"kernel": jnp.concatenate(kernels, axis=1), "bias": bias}


def _affine(params: PyTree, x: Array) -> Array:
    """x W + b over any leading axes."""
    kernel, bias = params["kernel"], params["bias"]
    rows = dense_dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())))
    affine: Array = (rows + bias[None]).reshape(*x.shape[:-1], -1)
    return affine


def _time_scales(key: Array, size: int, longest: int) -> Array:
    """Biases of gates that keep a state τ steps on average, τ - 1 uniform in [1, longest].

    log(τ - 1): chrono initialisation (Tallec & Ollivier 2018), for a stretch of `longest` steps.
    """
    return jnp.log(jax.random.uniform(key, (size,), minval=1.0, maxval=float(max(longest, 2))))
