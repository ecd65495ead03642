"""Action spaces: each owns what its kind of action means: outputs, distribution, units, JSON."""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.distributions import Categorical, Gaussian, MultiCategorical, TanhGaussian
from jaxrl_po.types import Array, Distribution


class Space(Protocol):
    """What the library asks of a kind of action. Nothing else asks which kind it is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one action in the environment's own units."""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one action as it is sampled, and as `Environment.step` takes it."""

    @property
    def num_outputs(self) -> int:
        """Numbers that a policy's head gives for one observation."""

    @property
    def continuous(self) -> bool:
        """Whether actions are real numbers, and a head has a log standard deviation for each."""

    def check(self) -> None:
        """Raise a ValueError unless this is a space."""

    def distribution(
        self, outputs: Array, log_std: Any = None, squash: bool = False
    ) -> Distribution:
        """π(·|s) of a head's outputs.

        Args:
            outputs: logits or means [..., num_outputs].
            log_std: of continuous actions, as the outputs.
            squash: whether continuous actions are bounded by tanh.
        """

    def to_units(self, action: Array) -> Array:
        """Actions [..., *sample_shape] in the environment's own units [..., *shape]."""

    def from_units(self, action: Any) -> Any:
        """The way back: actions [..., *shape] as `Environment.step` takes them."""

    def to_json(self) -> dict[str, Any]:
        """A description that `space_from_json` reads back."""


class Discrete(NamedTuple):
    """One choice: actions 0 … n-1, single integers.

    Examples:
        >>> Discrete(4).num_outputs, Discrete(4).shape
        (4, ())
    """

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        """No axes."""
        return ()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """No axes."""
        return ()

    @property
    def continuous(self) -> bool:
        """They are counted."""
        return False

    @property
    def num_outputs(self) -> int:
        """One logit an action."""
        return self.n

    def check(self) -> None:
        """Raise unless there is an action."""
        if not _is_count(self.n):
            raise ValueError(f"env: action_space must have one action or more, not n={self.n!r}")

    def distribution(
        self, outputs: Array, log_std: Any = None, squash: bool = False
    ) -> Categorical:
        """Of logits [..., n]."""
        return Categorical(outputs)

    def to_units(self, action: Array) -> Array:
        """As sampled."""
        return action

    def from_units(self, action: Any) -> Any:
        """As they are."""
        return action

    def to_json(self) -> dict[str, Any]:
        """The number of actions."""
        return {"kind": "discrete", "n": int(self.n)}


class MultiDiscrete(NamedTuple):
    """K choices at once: an action is a vector [K] of integers, the k-th from 0 … nvec[k]-1.

    Examples:
        >>> MultiDiscrete((2, 3)).num_outputs, MultiDiscrete((2, 3)).shape
        (5, (2,))
    """

    nvec: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """One integer a choice."""
        return (len(self.nvec),)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """One integer a choice."""
        return self.shape

    @property
    def continuous(self) -> bool:
        """They are counted."""
        return False

    @property
    def num_outputs(self) -> int:
        """The logits of all choices, side by side."""
        return int(sum(self.nvec))

    def check(self) -> None:
        """Raise unless there are choices, and an action in each."""
        if np.ndim(self.nvec) != 1 or not len(self.nvec) or not all(map(_is_count, self.nvec)):
            raise ValueError(
                "env: action_space must have one choice or more, of one action or more each, "
                f"not nvec={self.nvec!r}"
            )

    def distribution(
        self, outputs: Array, log_std: Any = None, squash: bool = False
    ) -> MultiCategorical:
        """Of logits [..., Σ nvec]."""
        return MultiCategorical(outputs, tuple(int(n) for n in self.nvec))

    def to_units(self, action: Array) -> Array:
        """As sampled."""
        return action

    def from_units(self, action: Any) -> Any:
        """As they are."""
        return action

    def to_json(self) -> dict[str, Any]:
        """The number of actions of each choice."""
        return {"kind": "multidiscrete", "nvec": [int(n) for n in self.nvec]}


class Box(NamedTuple):
    """Real numbers, each within its bounds (which may be infinite), in an array of any shape.

    Policies think in flat vectors [D] of half-ranges: where both bounds are finite, [-1, 1] covers
    [low, high], and what lies outside is clipped.

    Examples:
        >>> space = Box(np.array([-2.0]), np.array([2.0]))
        >>> space.to_units(jnp.array([0.5])), space.num_outputs
        (Array([1.], dtype=float32), 1)
    """

    low: np.ndarray  # [*shape]
    high: np.ndarray  # [*shape]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the bounds."""
        return np.shape(self.low)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """All numbers in a row."""
        return (self.num_outputs,)

    @property
    def continuous(self) -> bool:
        """They are measured."""
        return True

    @property
    def num_outputs(self) -> int:
        """D, one mean a number."""
        return math.prod(self.shape)

    def check(self) -> None:
        """Raise unless the bounds are two arrays of one shape, in order."""
        low, high = (np.asarray(bound) for bound in self)
        numbers = all(np.issubdtype(x.dtype, np.number) for x in (low, high))
        if not numbers or low.shape != high.shape or not low.size or not (low <= high).all():
            raise ValueError(
                "env: action_space must have two arrays of bounds of one shape, one number or more "
                "in each, low <= high, "
                f"not {self!r}"
            )

    def distribution(
        self, outputs: Array, log_std: Any = None, squash: bool = False
    ) -> Gaussian | TanhGaussian:
        """Of means and log standard deviations [..., D]."""
        return (TanhGaussian if squash else Gaussian)(outputs, log_std)

    def to_units(self, action: Array) -> Array:
        """Actions [..., D] from half-ranges to the environment's units [..., *shape]."""
        return to_bounds(action, self).reshape(*action.shape[:-1], *self.shape)

    def from_units(self, action: np.ndarray) -> np.ndarray:
        """Actions [..., *shape] to half-ranges [..., D]."""
        middle, half_range = _half_ranges(self, np)
        flat = action.reshape(*action.shape[: action.ndim - len(self.shape)], self.num_outputs)
        half_ranges: np.ndarray = ((flat - middle) / half_range).astype(action.dtype)
        return half_ranges

    def to_json(self) -> dict[str, Any]:
        """Bounds in a row, infinite ones as text (JSON has no number for them), and the shape."""
        low, high = (
            [x if math.isfinite(x) else str(x) for x in np.ravel(bound).astype(float).tolist()]
            for bound in self
        )
        return {"kind": "box", "low": low, "high": high, "shape": list(self.shape)}


KINDS = Discrete, MultiDiscrete, Box


def check_space(space: Any) -> None:
    """Raise unless this is one of the library's spaces.

    Raises:
        ValueError: saying what an action space must be.
    """
    if not isinstance(space, KINDS):
        raise ValueError(
            "env: action_space must be a `jaxrl_po.envs` Discrete, MultiDiscrete or Box, not "
            f"{space!r}"
        )
    space.check()


def as_space(space: Any, xp: Any = np) -> Discrete | MultiDiscrete | Box | None:
    """What Gymnasium's or gymnax's space is here; None of one that is not supported.

    Args:
        space: a space of another library, known by its attributes.
        xp: what makes the bounds: NumPy, or `jax.numpy` for those that are traced.
    """
    if np.ndim(getattr(space, "nvec", 0)) == 1:
        return MultiDiscrete(tuple(np.asarray(space.nvec).tolist()))
    if getattr(space, "n", None) is not None:
        single = getattr(space, "shape", None) in (None, ())  # not so of n switches at once
        return Discrete(int(space.n)) if single else None
    if hasattr(space, "low") and hasattr(space, "high"):
        bounds = (xp.asarray(bound, float) for bound in (space.low, space.high))
        return Box(*(xp.broadcast_to(bound, space.shape) for bound in bounds))
    return None


def same_actions(one: Any, other: Any) -> bool:
    """Whether two spaces have the same actions, up to their shape and to single precision."""

    def same(x: Any, y: Any) -> bool:
        return np.array_equal(np.ravel(x).astype(np.float32), np.ravel(y).astype(np.float32))

    return type(one) is type(other) and all(map(same, one, other))


def space_from_json(description: dict[str, Any]) -> Discrete | MultiDiscrete | Box:
    """The space that `to_json` described."""
    if description["kind"] == "discrete":
        return Discrete(description["n"])
    if description["kind"] == "multidiscrete":
        return MultiDiscrete(tuple(description["nvec"]))
    low, high = (np.array(description[side], float) for side in ("low", "high"))
    return Box(low.reshape(description["shape"]), high.reshape(description["shape"]))


def to_bounds(action: Array, space: Box) -> Array:
    """Actions [..., D] from half-ranges to the bounds of D numbers; unbounded ones stay.

    Examples:
        >>> to_bounds(jnp.array([0.5, 2.0]), Box(np.array([0.0, 0.0]), np.array([4.0, 4.0])))
        Array([3., 4.], dtype=float32)
    """
    xp = _numpy_of(space)
    middle, half_range = _half_ranges(space, xp)

    def spread(numbers: Any) -> Array:
        return jnp.broadcast_to(jnp.asarray(numbers, action.dtype), action.shape)

    scaled = action * spread(half_range) + spread(middle)
    # Clipped in the environment's units, so that a bound is met exactly.
    return jnp.clip(scaled, spread(xp.ravel(space.low)), spread(xp.ravel(space.high)))


def _half_ranges(space: Box, xp: Any) -> tuple[Any, Any]:
    """The middle of each number's interval and half of its width [D]; 0 and 1 if unbounded."""
    low, high = (xp.ravel(xp.asarray(bound)) for bound in space)
    bounded = xp.isfinite(low) & xp.isfinite(high)
    low, high = (xp.where(bounded, bound, 0.0) for bound in (low, high))
    return (low + high) / 2, xp.where(bounded, (high - low) / 2, 1.0)


def _numpy_of(space: Box) -> Any:
    """JAX's NumPy for bounds that a sweep traces; NumPy for others, which stay constants."""
    return jnp if any(isinstance(bound, jax.Array) for bound in space) else np


def _is_count(n: Any) -> bool:
    return isinstance(n, int | np.integer) and not isinstance(n, bool) and bool(n >= 1)
