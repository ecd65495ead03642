"""Samples of a rollout: single steps, or stretches of steps for a network that remembers."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.types import Array, Batch, Network, PyTree, Stretch


def in_samples(steps: Batch, done: Array, length: int | None) -> Batch:
    """A rollout's steps [T, N, ...] as samples that minibatches take whole.

    Args:
        steps: the batch, time-major, with the memory before each step.
        done: whether an episode ended at a step [T, N].
        length: L, which divides T, for samples of L steps [T·N / L, L, ...] with the memory before
            the first; None for samples of one [T·N, ...].
    """
    if length is None:
        single: Batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
        return single

    def cut(x: Array) -> Array:
        pieces = x.reshape(-1, length, *x.shape[1:])
        return pieces.swapaxes(1, 2).reshape(-1, length, *x.shape[2:])

    # The memory before a stretch is that of its episode, even where one has just begun.
    starts = cut(jnp.pad(done[:-1], ((1, 0), (0, 0)))).at[:, 0].set(False)
    samples: Batch = jax.tree.map(cut, steps)
    return samples._replace(
        observation=Stretch(samples.observation, starts),
        memory=jax.tree.map(lambda x: x[:, 0], samples.memory),
    )


def over_stretches(network: Network) -> Network:
    """A network with memory as an update knows it: on samples whose observation is a `Stretch`."""
    unroll = network.unroll
    assert unroll is not None

    def given(stretch: Stretch, memory: PyTree) -> tuple[PyTree, PyTree, Array]:
        observation, starts = _swapped(stretch)
        return observation, memory, starts

    def policy(params: PyTree, stretch: Stretch, memory: PyTree) -> tuple[Any, PyTree]:
        return _swapped(unroll.policy(params, *given(stretch, memory))), memory

    def value(params: PyTree, stretch: Stretch, memory: PyTree) -> Array:
        values: Array = _swapped(unroll.value(params, *given(stretch, memory)))
        return values

    def policy_and_value(params: PyTree, stretch: Stretch, memory: PyTree) -> tuple[Any, Array]:
        both: tuple[Any, Array] = _swapped(unroll.policy_and_value(params, *given(stretch, memory)))
        return both

    return network._replace(policy=policy, value=value, policy_and_value=policy_and_value)


def _swapped(tree: PyTree) -> PyTree:
    """[B, L, ...] as [L, B, ...], and back."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1), tree)
