"""Samples of a rollout: single steps, or stretches of steps for a network that remembers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.fast.blocks import by_blocks
from jaxrl_po.types import Array, Batch, Network, PyTree, Stretch


def in_samples(steps: Batch, done: Array, length: int | None, num_blocks: int = 1) -> Batch:
    """A rollout's steps [T, N, ...] as samples that minibatches take whole, block after block.

    Args:
        steps: the batch, time-major, with the memory before each step.
        done: whether an episode ended at a step [T, N].
        length: L, which divides T, for samples of L steps [T·N / L, L, ...] with the memory before
            the first; None for samples of one [T·N, ...].
        num_blocks: M, blocks of environments.
    """

    def of_block(steps: Batch, done: Array) -> Batch:
        return _in_samples(steps, done, length)

    samples: Batch = by_blocks(of_block, num_blocks, axis=1)(steps, done)
    return samples


def _in_samples(steps: Batch, done: Array, length: int | None) -> Batch:
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


def over_stretches(network: Network, num_blocks: int = 1) -> Network:
    """A network with memory as an update knows it: on samples whose observation is a `Stretch`.

    Of several blocks, one after the other, it unrolls each by itself.
    """
    unroll = network.unroll
    assert unroll is not None

    def through(function: Callable[..., Any]) -> Callable[[PyTree, Stretch, PyTree], Any]:
        def of_samples(params: PyTree, stretch: Stretch, memory: PyTree) -> Any:
            def of_block(stretch: Stretch, memory: PyTree) -> Any:
                observation, starts = _swapped(stretch)
                return _swapped(function(params, observation, memory, starts))

            return by_blocks(of_block, num_blocks)(stretch, memory)

        return of_samples

    distributions = through(unroll.policy)

    def policy(params: PyTree, stretch: Stretch, memory: PyTree) -> tuple[Any, PyTree]:
        return distributions(params, stretch, memory), memory

    return network._replace(
        policy=policy,
        value=through(unroll.value),
        policy_and_value=through(unroll.policy_and_value),
    )


def _swapped(tree: PyTree) -> PyTree:
    """[B, L, ...] as [L, B, ...], and back."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1), tree)
