"""What the loop asks of an environment: pure functions of one environment, vmapped by the loop."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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
    """A Markov decision process. Observations are numbers of any dtype, rewards floats.

    Discrete actions arrive as JAX's default integers. Continuous ones arrive as flat vectors in
    units of the action's half-range: where both bounds are finite, [-1, 1] covers [low, high], and
    what lies outside is clipped.

    `terminated` says that the process has ended in s', whose value is then 0. `truncated` says
    that a time limit cuts the episode off there: the value of s' is bootstrapped. Where both are
    true the end counts, so `terminated` must not include the time limit.
    """

    # key, params -> o, s
    reset: Callable[[Array, PyTree], tuple[Array, PyTree]]
    # key, s, a, params -> o', s', r, terminated, truncated; never resets by itself
    step: Callable[[Array, PyTree, Array, PyTree], tuple[Array, PyTree, Array, Array, Array]]
    params: PyTree
    observation_shape: tuple[int, ...]
    action_space: Discrete | Box
    max_steps: Array | int | None  # the time limit, where the environment says it


def check_environment(env: Environment) -> None:
    """Raise unless an environment is what its fields say, by shapes alone.

    Raises:
        ValueError: naming the field, what it gives and what is wanted.
    """
    _check_space(env.action_space)
    shape = env.observation_shape
    if not isinstance(shape, tuple | list) or not all(
        isinstance(x, int | np.integer) for x in shape
    ):
        raise ValueError(f"env: observation_shape must be a tuple of whole numbers, not {shape!r}")
    key = jax.random.key(0)
    start = jax.eval_shape(lambda: env.reset(key, env.params))
    _check_length("reset", start, "observation, state")
    _check_leaf("reset's observation", start[0], env.observation_shape, NUMBER)
    outcome = jax.eval_shape(
        lambda state, action: env.step(key, state, action, env.params),
        start[1],
        example_action(env.action_space),
    )
    _check_length("step", outcome, "observation, state, reward, terminated, truncated")
    observation, _, reward, terminated, truncated = outcome
    _check_leaf("step's observation", observation, env.observation_shape, NUMBER)
    _check_leaf("step's reward", reward, (), (jnp.floating,))
    _check_leaf("step's terminated", terminated, (), (jnp.bool,))
    _check_leaf("step's truncated", truncated, (), (jnp.bool,))


def example_action(space: Discrete | Box) -> Array:
    """An action of the space, as a step takes it."""
    return jnp.zeros((), int) if isinstance(space, Discrete) else jnp.zeros(len(space.low))


NUMBER = jnp.integer, jnp.floating, jnp.bool


def _check_space(space: Any) -> None:
    if not isinstance(space, Discrete | Box):
        raise ValueError(
            f"env: action_space must be a `jaxrl_po.envs` Discrete or Box, not {space!r}"
        )
    if isinstance(space, Discrete):
        if not isinstance(space.n, int | np.integer) or space.n < 1:
            raise ValueError(f"env: action_space must have one action or more, not n={space.n!r}")
        return
    shapes = [np.shape(bound) for bound in (space.low, space.high)]
    if len(shapes[0]) != 1 or shapes[0] != shapes[1] or not np.all(space.low <= space.high):
        raise ValueError(
            f"env: action_space must have two vectors of bounds [D], low <= high, not {space!r}"
        )
    if not shapes[0][0]:
        raise ValueError("env: action_space must have one number or more, not [0]")
    if space.shape is not None and shapes[0] != (math.prod(space.shape),):
        raise ValueError(
            f"env: action_space's shape {space.shape} does not hold the {shapes[0][0]} numbers "
            "of its bounds"
        )


def _check_length(name: str, outcome: Any, wanted: str) -> None:
    count = wanted.count(",") + 1
    if not isinstance(outcome, tuple) or len(outcome) != count:
        found = len(outcome) if isinstance(outcome, tuple) else type(outcome).__name__
        raise ValueError(f"env: {name} must return the {count} values ({wanted}), not {found}")


def _check_leaf(name: str, leaf: Any, shape: tuple[int, ...], kinds: tuple[Any, ...]) -> None:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        raise ValueError(f"env: {name} must be one array, not {leaf!r}")
    if leaf.shape != tuple(shape) or not any(jnp.issubdtype(dtype, kind) for kind in kinds):
        types = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            f"env: {name} must be an array {list(shape)} of {types}, not {dtype} {list(leaf.shape)}"
        )
