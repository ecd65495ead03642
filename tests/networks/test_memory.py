"""Memories: a stretch unrolled is its steps, and its derivative that of the steps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxrl_po.fast.recurrence import hidden
from jaxrl_po.networks.memory import MEMORIES, stacked

L, n, F, H = 6, 3, 4, 5
KEYS = jax.random.split(jax.random.key(0), 4)
X = jax.random.normal(KEYS[0], (L, n, F))
STARTS = jax.random.bernoulli(KEYS[1], 0.3, (L, n)).at[0].set(jnp.array([False, True, False]))


@pytest.fixture(scope="module", params=[*MEMORIES, "stacked"])
def memory(request):
    if request.param == "stacked":
        return stacked([MEMORIES["lstm"](H, 20), MEMORIES["mingru"](3, 20)])
    return MEMORIES[request.param](H, 20)


@pytest.fixture(scope="module")
def params(memory):
    return jax.tree.map(lambda x: x + 0.1, memory.init(KEYS[2], F))  # no bias is 0


@pytest.fixture(scope="module")
def state(memory):
    leaves, treedef = jax.tree.flatten(memory.initial(n))
    keys = jax.random.split(KEYS[3], len(leaves))
    drawn = [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return treedef.unflatten(drawn)


def by_steps(memory, params, x, state, starts):
    """The definition: one step after the other, from zeros where an episode begins."""

    def step(state, inputs):
        x, start = inputs
        state = jax.tree.map(lambda s: jnp.where(start[:, None], 0, s), state)
        output, state = memory.step(params, x, state)
        return state, (output, state)

    return jax.lax.scan(step, state, (x, starts))[1]


def test_a_stretch_is_its_steps(memory, params, state):
    outputs, _ = by_steps(memory, params, X, state, STARTS)
    unrolled = memory.unroll(params, X, state, STARTS)
    np.testing.assert_allclose(unrolled, outputs, rtol=1e-5, atol=1e-6)


def test_a_stretch_cut_in_two_is_one(memory, params, state):
    """With the memory stored at the cut."""
    outputs, states = by_steps(memory, params, X, state, STARTS)
    at_cut = jax.tree.map(lambda s: s[1], states)
    halves = (
        memory.unroll(params, X[:2], state, STARTS[:2]),
        memory.unroll(params, X[2:], at_cut, STARTS[2:]),
    )
    np.testing.assert_allclose(jnp.concatenate(halves), outputs, rtol=1e-5, atol=1e-6)


def test_what_was_before_an_episode_is_forgotten(memory, params, state):
    """Episodes inside a stretch are those episodes alone; not so without the flag."""
    starts = jnp.zeros((L, n), bool).at[2].set(True)
    alone = memory.unroll(params, X[2:], memory.initial(n), jnp.zeros((L - 2, n), bool))
    np.testing.assert_allclose(
        memory.unroll(params, X, state, starts)[2:], alone, rtol=1e-5, atol=1e-6
    )
    assert (jnp.abs(memory.unroll(params, X, state, starts & False)[2:] - alone) > 1e-3).any()


def test_the_derivatives_are_those_of_the_steps(memory, params, state):
    """In reverse, forwards, and of a curvature's product with a vector."""
    weights = jnp.cos(jnp.arange(L * n)).reshape(L, n, 1)

    def of(unroll):
        def loss(params, x, state):
            return (weights * jnp.sin(unroll(params, x, state))).sum()

        given = params, X, state
        direction = jax.tree.map(lambda x: jnp.sin(3 * x + 1), given)
        gradient = jax.grad(loss, argnums=(0, 1, 2))
        forwards = jax.jvp(lambda *z: unroll(*z), given, direction)[1]
        curvature = jax.jvp(gradient, given, direction)[1]
        return gradient(*given), forwards, curvature

    one = jax.jit(lambda: of(lambda p, x, s: memory.unroll(p, x, s, STARTS)))()
    other = jax.jit(lambda: of(lambda p, x, s: by_steps(memory, p, x, s, STARTS)[0]))()
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_the_gradient_through_time_is_that_of_finite_differences(memory, params, state):
    check_grads(
        lambda params, state: memory.unroll(params, X, state, STARTS),
        (params, state),
        order=1,
        modes=["fwd", "rev"],
        atol=2e-2,
        rtol=2e-2,
    )


def cells():
    """flax's cells, and how our weights lie in theirs: gate -> (ours of inputs, of h)."""
    gru = {"r": 0, "z": 1, "n": 2}
    lstm = {"i": 0, "f": 1, "g": 2, "o": 3}
    return {"gru": (nn.GRUCell(H), gru), "lstm": (nn.OptimizedLSTMCell(H), lstm)}


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_step_is_that_of_flax(name):
    cell, gates = cells()[name]
    memory = MEMORIES[name](H, 20)
    params = jax.tree.map(lambda x: x + 0.1, memory.init(KEYS[2], F))
    state = jax.tree.map(lambda s: s + 0.3, memory.initial(n))
    theirs = cell.init(KEYS[0], state, X[0])
    theirs = jax.tree.map(jnp.zeros_like, theirs)["params"]
    for gate, i in gates.items():
        own = slice(i * H, (i + 1) * H)
        biases = {k: params[k]["bias"][own] for k in params}
        if f"i{gate}" in theirs:
            theirs[f"i{gate}"]["kernel"] = params["input"]["kernel"][:, own]
        theirs[f"h{gate}"]["kernel"] = params["recurrent"]["kernel"][:, own]
        if name == "gru" and gate == "n":  # the reset gate multiplies one bias and not the other
            theirs["in"]["bias"], theirs["hn"]["bias"] = biases["input"], biases["recurrent"]
        else:
            place = "i" if name == "gru" else "h"
            theirs[place + gate]["bias"] = biases["input"] + biases["recurrent"]
    output, after = memory.step(params, X[0], state)
    their_state, their_output = cell.apply({"params": theirs}, state, X[0])
    np.testing.assert_allclose(output, their_output, rtol=1e-5, atol=1e-6)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(their_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_gates_begin_with_time_scales_up_to_the_stretch():
    """Undisturbed, a GRU keeps 1 - 1/τ of a unit a step, τ from 2 to the length of a stretch."""
    memory = MEMORIES["gru"](400, 50)
    params = memory.init(KEYS[0], 1)
    keep = jax.nn.sigmoid(params["input"]["bias"][400:800])
    scales = 1 / (1 - keep)
    assert 2 <= scales.min() < 2.5
    assert 49 < scales.max() <= 51
    np.testing.assert_allclose(scales.mean(), 26.5, rtol=0.05)


def test_the_last_leaf_is_h():
    memory = MEMORIES["lstm"](H, 20)
    output, state = memory.step(memory.init(KEYS[0], F), X[0], memory.initial(n))
    np.testing.assert_array_equal(hidden(state), output)
