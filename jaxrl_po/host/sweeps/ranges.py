"""Search spaces: which values of which config fields a sweep tries."""

import itertools
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_po.algorithms import ALGORITHMS, config_from_dict
from jaxrl_po.config import ENV_PARAMS, Config, data_fields, with_env_params
from jaxrl_po.config.messages import suggestion
from jaxrl_po.host.machine.arguments import integer

SAMPLINGS = ("grid", "random", "sobol")

Setting = dict[str, Any]  # field -> value; one point of a space


class Interval(NamedTuple):
    """The numbers between two bounds: `num` of them, evenly spaced, or all (to sample from)."""

    low: float
    high: float
    num: int | None
    logarithmic: bool

    def at(self, fraction: Any) -> Any:
        """The value at a fraction in [0, 1] of the way from low to high."""
        if self.logarithmic:
            value = self.low * (self.high / self.low) ** fraction
        else:
            value = self.low + (self.high - self.low) * fraction
        return np.clip(value, self.low, self.high)

    def points(self) -> list[float]:
        """The `num` values of a grid."""
        assert self.num is not None
        return [float(value) for value in self.at(np.linspace(0.0, 1.0, self.num))]

    def __str__(self) -> str:
        kind = "log" if self.logarithmic else "linear"
        return f"{kind}({self.low:g}, {self.high:g}{'' if self.num is None else f', {self.num}'})"


def linear(low: float, high: float, num: int | None = None) -> Interval:
    """`num` evenly spaced values from low to high; without `num`, a range to sample from.

    Examples:
        >>> linear(0.9, 1.0, 3).num
        3
    """
    return Interval(low, high, num, logarithmic=False)


def log(low: float, high: float, num: int | None = None) -> Interval:
    """Like `linear`, evenly spaced in the logarithm.

    Examples:
        >>> log(1e-4, 1e-2, 3).logarithmic
        True
    """
    return Interval(low, high, num, logarithmic=True)


Space = Mapping[str, Sequence[Any] | np.ndarray | Interval] | Sequence[Setting]


def settings_of(
    config: Config,
    space: Space,
    sampling: str = "grid",
    num_samples: int | None = None,
    seed: int = 0,
) -> list[Setting]:
    """The points of a space, each checked to make a config.

    Args:
        config: what the fields outside the space are set to.
        space: field -> list of values, `linear(low, high, num)` or `log(low, high, num)`. Fields
            are the config's, "algorithm", and "env_params.NAME". Or the points themselves, as a
            list of dicts of the same fields.
        sampling: "grid" for all combinations; "random" or "sobol" (scrambled, quasi-random) for
            `num_samples` points, where ranges need no `num`.
        num_samples: number of points, unless they form a grid; each is drawn once, so there are
            fewer where lists of values have no more combinations.
        seed: of the samples.

    Raises:
        ValueError: naming the field and what is wrong with its values.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling={sampling!r}: {suggestion(str(sampling), SAMPLINGS)}")
    if sampling == "grid" and num_samples is not None:
        raise ValueError('num_samples: a grid takes all combinations; sample with "sobol"')
    if not isinstance(space, Mapping):
        if sampling != "grid":
            raise ValueError(f"sampling={sampling!r}: the points of this space are given")
        return _checked_points(config, space)
    values = {name: _checked_values(config, name, space[name], sampling) for name in space}
    if sampling == "grid":
        settings = _combinations(values)
    elif num_samples is None:
        raise ValueError(f"num_samples=None: sampling={sampling!r} needs at least 1")
    else:
        settings = _sampled(values, sampling, integer("num_samples", num_samples), seed)
    for setting in settings:
        configure(config, setting)
    return settings


def configure(config: Config, setting: Setting) -> Config:
    """The config at one point of a space.

    Where the point names another algorithm, that algorithm's config takes over every field that
    `config` changes from its default; one that it lacks is an error.
    """
    changes = dict(setting)
    algorithm = changes.pop("algorithm", config.algorithm)
    if algorithm == config.algorithm:
        return config.replace(**changes)
    default = type(config)().to_dict()
    changed = {name: value for name, value in config.to_dict().items() if value != default[name]}
    changes = with_env_params(config.env_params, changes)
    return config_from_dict({**changed, **changes, "algorithm": algorithm})


def trained(config: Config, setting: Setting, horizon: float) -> Config:
    """What a setting trains under, if it is never pruned: the horizon is in units of its budget."""
    found = configure(config, setting)
    return found.replace(total_timesteps=int(found.total_timesteps * horizon))


def is_data(config: Config, name: str) -> bool:
    """Whether a field is data (a float or an environment's parameter) rather than structure."""
    return name.startswith(ENV_PARAMS) or name in data_fields(type(config))


def value_text(value: Any) -> str:
    """A value of a field for people: floats with as many digits as tell 0.9995 and 0.9999 apart."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _checked_points(config: Config, points: Sequence[Setting]) -> list[Setting]:
    """Points that were chosen elsewhere."""
    if isinstance(points, str) or not isinstance(points, Sequence):
        raise ValueError(
            f"space must be a dict of field -> values, or a list of points, not {points!r}"
        )
    if not points:
        raise ValueError("space has no points")
    checked: list[Setting] = []
    for point in points:
        if not isinstance(point, Mapping):
            raise ValueError(f"space: a point is a dict of field -> value, not {point!r}")
        if list(point) != list(points[0]):
            raise ValueError(f"space: its points differ in their fields: {points[0]} and {point}")
        setting = {}
        for name, value in point.items():
            _check_name(config, name)
            setting[name] = _checked_list(name, [value])[0]
        configure(config, setting)
        if setting in checked:
            raise ValueError(f"space lists the point {setting} twice")
        checked.append(setting)
    return checked


def _checked_values(config: Config, name: str, values: Any, sampling: str) -> list[Any] | Interval:
    """A field's values as a list, or as a range to sample from."""
    _check_name(config, name)
    if isinstance(values, Interval):
        return _checked_interval(config, name, values, sampling)
    if isinstance(values, np.ndarray | jax.Array) and values.ndim:
        values = list(values)
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(
            f"space: {name} must be a list of values, linear(low, high, num) or "
            f"log(low, high, num), not {values!r}"
        )
    if not values:
        raise ValueError(f"space: {name} has no values")
    return _checked_list(name, values)


def _check_name(config: Config, name: str) -> None:
    classes = [type(config), *(cls for cls, _ in ALGORITHMS.values())]
    known = {"algorithm"} | {field for cls in classes for field in cls.__dataclass_fields__}
    known |= {f"{ENV_PARAMS}NAME"}
    known -= {"env_params"}
    if name not in known and not str(name).startswith(ENV_PARAMS):
        raise ValueError(f"space: there is no field {name!r}: {suggestion(str(name), known)}")


def _checked_list(name: str, values: Sequence[Any]) -> list[Any]:
    plain = [_plain(name, value) for value in values]
    for i, value in enumerate(plain):
        if name.startswith(ENV_PARAMS) and not _is_number(value):
            raise ValueError(f"space: {name} must be numbers, not {value!r}")
        if name == "algorithm" and not isinstance(value, str):
            raise ValueError(f"space: {name} must be names of algorithms, not {value!r}")
        if value in plain[:i]:
            raise ValueError(f"space: {name} lists {value!r} twice")
    return plain


def _plain(name: str, value: Any) -> Any:
    """A value as Python has it: what tables and files show, and comparisons take for the same."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"space: {name} is traced: a sweep is planned from concrete values")
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        value = np.asarray(value).tolist()
    return tuple(_plain(name, v) for v in value) if isinstance(value, list | tuple) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _checked_interval(
    config: Config, name: str, interval: Interval, sampling: str
) -> list[Any] | Interval:
    interval = interval._replace(low=_plain(name, interval.low), high=_plain(name, interval.high))
    bounds = interval.low, interval.high
    if not all(_is_number(bound) and math.isfinite(bound) for bound in bounds):
        raise ValueError(f"space: {name}: the bounds of a range must be finite, not {bounds}")
    label = f"space: {name}={interval}"
    if not is_data(config, name):
        raise ValueError(f"{label}: {name} is static, it shapes the program: list its values")
    if interval.low >= interval.high:
        raise ValueError(f"{label} is empty: low must be less than high")
    if interval.logarithmic and interval.low <= 0:
        raise ValueError(f"{label}: a logarithmic range must start above 0")
    if interval.num is not None:
        return interval._replace(num=integer(f"{label}: num", interval.num, 2)).points()
    if sampling == "grid":
        raise ValueError(
            f'{label}: a grid needs num, the number of values; or sample with "random" or "sobol"'
        )
    return interval


def _combinations(values: Mapping[str, Any]) -> list[Setting]:
    combinations = itertools.product(*values.values())
    return [dict(zip(values, point, strict=True)) for point in combinations]


def _sampled(
    values: Mapping[str, list[Any] | Interval], sampling: str, num_samples: int, seed: int
) -> list[Setting]:
    """The first `num_samples` points of a sequence that differ, or as many as there are."""
    lists = [v for v in values.values() if not isinstance(v, Interval)]
    finite = len(lists) == len(values)
    if finite:
        num_samples = min(num_samples, math.prod(map(len, lists)))
    drawn = num_samples
    while True:
        points = {
            tuple(_pick(v, u) for v, u in zip(values.values(), row, strict=True)): None
            for row in _unit_points(sampling, drawn, len(values), seed)
        }
        if len(points) >= num_samples or not finite:
            return [dict(zip(values, p, strict=True)) for p in list(points)[:num_samples]]
        drawn *= 2


def _unit_points(sampling: str, num_samples: int, dimension: int, seed: int) -> np.ndarray:
    """Points in the unit cube [num_samples, dimension]."""
    if sampling == "random" or not dimension:
        return np.random.default_rng(seed).random((num_samples, dimension))
    from scipy.stats import qmc

    # The sequence is balanced over powers of 2; what is drawn beyond num_samples is left out. More
    # points begin with the fewer.
    sobol = qmc.Sobol(dimension, scramble=True, rng=seed)
    points: np.ndarray = sobol.random_base2(math.ceil(math.log2(num_samples)))[:num_samples]
    return points


def _pick(values: list[Any] | Interval, fraction: float) -> Any:
    if isinstance(values, Interval):
        return float(values.at(fraction))
    return values[int(fraction * len(values))]
