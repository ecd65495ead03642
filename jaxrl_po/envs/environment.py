"""What the loop asks of an environment: pure functions of one environment, vmapped by the loop."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxrl_po.types import Array, PyTree


class Discrete(NamedTuple):
    """Actions 0 … n-1."""

    n: int


class Box(NamedTuple):
    """Real vectors, each coordinate within its bounds (which may be infinite)."""

    low: np.ndarray  # [D]
    high: np.ndarray  # [D]
    shape: tuple[int, ...] | None = None  # outside of the loop, of D numbers; None for [D]


class Environment(NamedTuple):
    """A Markov decision process. Observations and rewards have JAX's default float type.

    Continuous actions arrive as flat vectors in units of the action's half-range: where both
    bounds are finite, [-1, 1] covers [low, high], and what lies outside is clipped.
    """

    # key, params -> o, s
    reset: Callable[[Array, PyTree], tuple[Array, PyTree]]
    # key, s, a, params -> o', s', r, terminated, truncated; never resets by itself
    step: Callable[[Array, PyTree, Array, PyTree], tuple[Array, PyTree, Array, Array, Array]]
    params: PyTree
    observation_shape: tuple[int, ...]
    action_space: Discrete | Box
    max_steps: Array | int | None  # the time limit, where the environment says it
