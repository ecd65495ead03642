"""What the loop asks of an environment: pure functions of one environment, vmapped by the loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.spaces import Space, check_space
from jaxrl_po.types import Array, PyTree


class Environment(NamedTuple):
    """A Markov decision process. Rewards are floats; an observation is an array of numbers or a
    pytree of arrays, a dict say, whose dtypes are kept until a network casts them.

    Discrete actions arrive as JAX's default integers, those of several choices as a vector of them.
    Continuous ones arrive as flat vectors in units of the action's half-range: where both bounds
    are finite, [-1, 1] covers [low, high], and what lies outside is clipped.

    `terminated` says that the process has ended in s', whose value is then 0. `truncated` says
    that a time limit cuts the episode off there: the value of s' is bootstrapped. Where both are
    true the end counts, so `terminated` must not include the time limit.

    `action_mask` says which discrete actions a state allows: of one observation, as `reset` and
    `step` return it (never normalised), a bool for each of the policy's outputs, [n] or [Σ nvec].
    It is a pure function that may look at nothing else, so what decides must be observed; and each
    choice must keep an action. What it leaves out has probability exactly 0 and no gradient, and
    counts in no entropy, KL or Fisher matrix. Where it allows nothing there is no policy: in a
    start state that is refused, later on the losses become NaN.
    """

    # key, params -> o, s
    reset: Callable[[Array, PyTree], tuple[PyTree, PyTree]]
    # key, s, a, params -> o', s', r, terminated, truncated; never resets by itself
    step: Callable[[Array, PyTree, Array, PyTree], tuple[PyTree, PyTree, Array, Array, Array]]
    params: PyTree
    observation_shape: tuple[int, ...] | None  # of one array; None for what `reset` returns
    action_space: Space
    max_steps: Array | int | None  # the time limit, where the environment says it
    action_mask: Callable[[PyTree], Array] | None = None  # o -> allowed [num_outputs]

    @property
    def observation(self) -> PyTree:
        """Shapes and dtypes of one observation."""
        return jax.eval_shape(lambda key: self.reset(key, self.params)[0], jax.random.key(0))


def check_environment(env: Environment) -> None:
    """Raise unless an environment is what its fields say, by shapes alone.

    Raises:
        ValueError: naming the field, what it gives and what is wanted.
    """
    check_space(env.action_space)
    shape = env.observation_shape
    if shape is not None and not is_shape(shape):
        raise ValueError(
            "env: observation_shape must be a tuple of whole numbers, or None where observations "
            f"are no single array, not {shape!r}"
        )
    key = jax.random.key(0)
    start = jax.eval_shape(lambda: env.reset(key, env.params))
    _check_length("reset", start, "observation, state")
    _check_observation("reset", start[0], shape)
    outcome = jax.eval_shape(
        lambda state, action: env.step(key, state, action, env.params),
        start[1],
        example_action(env.action_space),
    )
    _check_length("step", outcome, "observation, state, reward, terminated, truncated")
    observation, _, reward, terminated, truncated = outcome
    _check_observation("step", observation, shape)
    if forms(observation) != forms(start[0]):
        raise ValueError(
            f"env: step's observation must be as reset's, {forms(start[0])}, "
            f"not {forms(observation)}"
        )
    _check_leaf("step's reward", reward, (), (jnp.floating,))
    _check_leaf("step's terminated", terminated, (), (jnp.bool,))
    _check_leaf("step's truncated", truncated, (), (jnp.bool,))
    if env.action_mask is not None:
        _check_mask(env, env.action_mask)


def is_shape(shape: Any) -> bool:
    """Whether this is the shape of an array."""
    return isinstance(shape, tuple | list) and all(
        isinstance(length, int | np.integer) and length >= 0 for length in shape
    )


def named_leaves(observation: PyTree) -> dict[str, Any]:
    """An observation's arrays by name, "camera" or "arm/position", in the order of names."""
    leaves = jax.tree.leaves_with_path(observation)
    return dict(sorted((leaf_name(path), leaf) for path, leaf in leaves))


def leaf_name(path: Any) -> str:
    """The name of an observation's array, by JAX's path to it; "" of an only one."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def forms(observation: PyTree) -> str:
    """An observation's structure, dtypes and shapes in a few words."""
    return str(jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", observation)).replace("'", "")


def example_action(space: Space) -> Array:
    """An action of the space, as a step takes it."""
    return jnp.zeros(space.sample_shape, float if space.continuous else int)


NUMBER = jnp.integer, jnp.floating, jnp.bool
NUM_STARTS = 16  # start states whose masks are looked at


def _check_mask(env: Environment, action_mask: Callable[[Array], Array]) -> None:
    """Raise unless a mask fits the actions and, in start states, leaves one in each choice."""
    space = env.action_space
    if space.continuous:
        raise ValueError("env: action_mask needs discrete actions; these are continuous")

    def masks(keys: Array) -> Array:
        return jax.vmap(lambda key: action_mask(env.reset(key, env.params)[0]))(keys)

    mask = jax.eval_shape(lambda: action_mask(env.reset(jax.random.key(0), env.params)[0]))
    _check_leaf("action_mask", mask, (space.num_outputs,), (jnp.bool,))
    with jax.ensure_compile_time_eval():
        started = masks(jax.random.split(jax.random.key(0), NUM_STARTS))
        chances = space.distribution(jnp.where(started, 0.0, -jnp.inf)).entropy()
    # What the environment holds may be traced. Nothing to choose from has no entropy, not even 0.
    if not isinstance(chances, jax.core.Tracer) and np.isnan(chances).any():
        raise ValueError("env: action_mask allows no action in a start state")


def _check_observation(name: str, observation: PyTree, shape: Any) -> None:
    if shape is not None:
        _check_leaf(f"{name}'s observation", observation, shape, NUMBER)
        return
    leaves = jax.tree.leaves_with_path(observation)
    if len(named_leaves(observation)) < len(leaves):
        raise ValueError(f"env: {name}'s observation has two arrays of one name: {observation!r}")
    if not leaves:
        raise ValueError(f"env: {name}'s observation holds no array: {observation!r}")
    for path, leaf in leaves:
        place = f"{name}'s observation{jax.tree_util.keystr(path)}"
        _check_leaf(place, leaf, getattr(leaf, "shape", ()), NUMBER)


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
