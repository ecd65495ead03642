"""Configs: frozen dataclasses whose floats are data and whose everything else is structure."""

import dataclasses
import difflib
import numbers
import typing
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl_po.aliases import alias, difference
from jaxrl_po.schedules import Schedule, as_schedule, is_schedule, name_of, values_of


@dataclasses.dataclass(frozen=True)
class Range:
    """The values a number may take, for checks and for error messages."""

    low: float = -np.inf
    high: float = np.inf
    open_low: bool = False  # the bound itself is not allowed
    infinite: bool = False  # infinity is meant where a float may be that large

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high

    def __str__(self) -> str:
        lower = f"{'>' if self.open_low else '>='} {self.low:.10g}" if self.low > -np.inf else ""
        upper = f"<= {self.high:.10g}" if self.high < np.inf else ""
        return " and ".join(filter(None, [lower, upper])) or "any number"


POSITIVE = Range(0.0, open_low=True)
NON_NEGATIVE = Range(0.0)
FRACTION = Range(0.0, 1.0)
COUNT = Range(1)
ANY = Range()
ENV_PARAMS = "env_params."  # prefix of the name of an environment's parameter


def setting(
    default: Any, allowed: Range | tuple[str, ...] = ANY, *, only_at_start: bool = False
) -> Any:
    """A config field with its default and the values it may take.

    What acts only at the start of a run has nothing that a schedule could move.
    """
    metadata = {"allowed": allowed, "only_at_start": only_at_start}
    return dataclasses.field(default=default, metadata=metadata)


def check_count(name: str, value: Any) -> int:
    """The number as an int, or an error unless it is a whole number of 1 or more."""
    return _checked_int(name, value, COUNT)


def suggestion(name: str, known: typing.Iterable[str]) -> str:
    """The tail of an error message on an unknown name: ours for it, or the nearest; and all."""
    by_spelling = {item.lower(): item for item in sorted(known)}
    tail = f"known: {', '.join(by_spelling.values())}"
    if ours := alias(name, by_spelling):
        return f"did you mean {ours!r}?{difference(name)} {tail}"
    nearest = difflib.get_close_matches(name.lower(), by_spelling, n=1)
    return f"did you mean {by_spelling[nearest[0]]!r}? {tail}" if nearest else tail


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What every config is: a frozen dataclass of checked fields, and (by `pytree`) a pytree.

    Its `float` fields are leaves: they can be traced, vmapped and changed without recompiling. So
    are the floats of settings within settings. All other fields are static: they shape the
    program. Values are checked on construction and by `replace`; traced leaves cannot be.

    A float may also be given as a function of the fraction of the run that is done, from 0 at the
    first iteration towards 1, or as its name, "module:function": a schedule, which is static.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse unknown fields by name, before dataclass's own terser error."""
        cls._check_names(kwargs)
        config = super().__new__(cls)
        object.__setattr__(config, "_given", frozenset(kwargs))
        return config

    def given(self, name: str) -> bool:
        """Whether a field was set by name, not left at its default; of a copy all of them were."""
        return name in self._given_names()

    def _given_names(self) -> frozenset[str]:
        everything = frozenset(field.name for field in dataclasses.fields(self))
        given: frozenset[str] = vars(self).get("_given", everything)
        return given

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _checked(self, field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        self.validate()

    def validate(self) -> None:
        """Check fields against each other; subclasses add their own rules."""

    def check_effect(self, name: str, has_effect: Any, condition: str) -> None:
        """Refuse a field that is set from its default where another choice disables it.

        What was set before, and is disabled by a later choice, stays for a choice after that.
        """
        value = getattr(self, name)
        default = next(f.default for f in dataclasses.fields(self) if f.name == name)
        if has_effect or not self.given(name):
            return
        if isinstance(value, jax.core.Tracer) or np.all(value == default):
            return
        raise ValueError(
            f"{type(self).__name__}.{name}={value!r} has no effect: it needs {condition}"
        )

    def check_unscheduled(self, name: str, moved: Any, reason: str) -> None:
        """Refuse a schedule of a field that another choice moves."""
        if moved and is_schedule(getattr(self, name)):
            raise ValueError(f"{type(self).__name__}.{name} takes a number here: {reason}")

    def at(self, done: Any) -> Self:
        """The config with the values of its schedules; itself where it has none.

        Args:
            done: the fraction of the run that is done [], from 0 towards 1.
        """
        now = {}
        for name in data_fields(type(self)):
            value = getattr(self, name)
            if is_schedule(value):
                now[name] = value(done)
            elif isinstance(value, Settings):
                now[name] = value.at(done)
        if all(value is getattr(self, name) for name, value in now.items()):
            return self
        config = object.__new__(type(self))
        vars(config).update({**vars(self), **now})
        return config

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, checked like a new config."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given = self._given_names() | set(changes)
        return self._built({**values, **changes}, checked=changes, given=given)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """The config of these fields; where they are all there are, a copy as `to_dict` has it."""
        is_copy = fields.keys() >= {field.name for field in dataclasses.fields(cls)}
        return cls._built(fields, checked=(), given=fields) if is_copy else cls(**fields)

    @classmethod
    def _built(
        cls, values: Mapping[str, Any], checked: Iterable[str], given: Iterable[str]
    ) -> Self:
        """A config some fields of which are checked to have an effect, and some set by name."""
        cls._check_names(values)
        config = object.__new__(cls)
        object.__setattr__(config, "_given", frozenset(checked))
        cls.__init__(config, **values)
        object.__setattr__(config, "_given", frozenset(given))
        return config

    def to_dict(self) -> dict[str, Any]:
        """A plain dict of the fields."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def _check_names(cls, names: Mapping[str, Any]) -> None:
        known = [field.name for field in dataclasses.fields(cls)]
        for name in names:
            if name not in known:
                raise ValueError(f"{cls.__name__} has no field {name!r}: {suggestion(name, known)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvironmentConfig(Settings):
    """What an environment needs. The values of `env_params` are data, like the floats."""

    # name of a gymnax environment
    env_id: str = "CartPole-v1"
    # overrides of the environment's parameters, by name (data)
    env_params: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # shift and scale observations by running statistics
    normalize_observations: bool = False
    # scale rewards by the running standard deviation of the discounted return
    normalize_rewards: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig(Settings):
    """What the library's own networks need."""

    # widths of the hidden dense layers
    hidden_sizes: tuple[int, ...] = setting((64, 64), COUNT)
    # nonlinearity of the hidden layers
    activation: str = setting("tanh", ("tanh", "relu", "swish", "elu", "gelu"))
    # "cnn" puts a convolution on grid observations before the dense layers
    network: str = setting("mlp", ("mlp", "cnn"))
    # initial log standard deviation of a Gaussian policy, in half-ranges of the action
    log_std_init: float = setting(0.0, ANY, only_at_start=True)
    # bound continuous actions by tanh instead of clipping them
    squash_actions: bool = False

    def validate(self) -> None:
        """Check that a nonlinearity has a layer to follow."""
        super().validate()
        hidden = self.hidden_sizes or self.network != "mlp"
        self.check_effect("activation", hidden, "a hidden layer (hidden_sizes is empty)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(NetworkConfig, EnvironmentConfig):
    """Fields that every method has: an environment's, a network's, the loop's and the update's."""

    algorithm: ClassVar[str]

    # N, environments stepped side by side
    num_envs: int = setting(4, COUNT)
    # T, steps of each environment in a rollout
    num_steps: int = setting(128, COUNT)
    # budget in environment steps over all environments; never exceeded
    total_timesteps: int = setting(500_000, Range(1, 2**32 - 1))
    # discount γ
    gamma: float = setting(0.99, FRACTION)
    # λ of generalised advantage estimation
    gae_lambda: float = setting(0.95, FRACTION)
    # step size of Adam
    learning_rate: float = setting(3e-4, NON_NEGATIVE)
    # anneal learning rates linearly to 0 over the run
    anneal_lr: bool = False
    # bound on the global norm of the gradient; inf for none
    max_grad_norm: float = setting(0.5, Range(0.0, open_low=True, infinite=True))
    # one network with a policy head and a value head
    shared_torso: bool = False
    # over what advantages are standardised
    advantage_normalization: str = setting("batch", ("batch", "minibatch", "none"))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A class without a name of its own is known by where it can be imported from."""
        super().__init_subclass__(**kwargs)
        if "algorithm" not in vars(cls):
            cls.algorithm = f"{cls.__module__}:{cls.__qualname__}"

    def make_optimizer(
        self, learning_rate: jax.Array | float
    ) -> optax.GradientTransformation | None:
        """The optimiser of minibatch descent; None for Adam behind `max_grad_norm`.

        For subclasses: any optax transformation. Floats of the config inside it, and inside its
        schedules, stay data.

        Args:
            learning_rate: that of the field that the method uses, as annealing has left it.
        """
        return None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; "env_params.NAME" is a single parameter's name."""
        return super().replace(**with_env_params(self.env_params, changes))

    def validate(self) -> None:
        """Check that the budget holds one iteration; subclasses add their own rules."""
        super().validate()
        per_iteration = self.num_envs * self.num_steps
        if self.total_timesteps < per_iteration:
            raise ValueError(
                f"total_timesteps={self.total_timesteps} is less than one iteration of "
                f"num_envs * num_steps = {per_iteration} steps"
            )
        self.check_advantages("batch", per_iteration)
        for name in data_fields(type(self)):
            if name.endswith("learning_rate"):
                self.check_unscheduled(name, self.anneal_lr, "anneal_lr=True anneals it")

    def check_advantages(self, over: str, num_samples: int) -> None:
        """Refuse to standardise single advantages: each less its own mean is 0."""
        if self.advantage_normalization == over and num_samples == 1:
            raise ValueError(
                f"advantage_normalization={over!r} with one sample a {over} makes every advantage "
                f"0, and the policy would never move: use 'none', or more samples a {over}"
            )

    @property
    def num_iterations(self) -> int:
        """I, the whole iterations that fit in `total_timesteps`."""
        return self.total_timesteps // (self.num_envs * self.num_steps)

    def fraction_done(self, iteration: jax.Array) -> jax.Array:
        """How much of the run is done: 0 at first, 1 from the planned end on."""
        return jnp.minimum(iteration / self.num_iterations, 1.0)

    def learning_rate_factor(self, iteration: jax.Array) -> jax.Array:
        """What annealing leaves of the learning rates: 1 at first, 0 from the planned end on."""
        if not self.anneal_lr:
            return jnp.ones(())
        return jnp.maximum(1.0 - iteration / self.num_iterations, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """A plain dict that `config_from_dict` reads back, with the algorithm's name."""
        return {"algorithm": self.algorithm, **super().to_dict()}


def with_env_params(env_params: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of a config in which each "env_params.NAME" has become part of "env_params"."""
    single = {
        name.removeprefix(ENV_PARAMS): value
        for name, value in changes.items()
        if name.startswith(ENV_PARAMS)
    }
    if not single:
        return dict(changes)
    fields = {name: value for name, value in changes.items() if not name.startswith(ENV_PARAMS)}
    return {**fields, "env_params": {**fields.get("env_params", env_params), **single}}


ConfigClass = TypeVar("ConfigClass", bound=type[Settings])


def data_fields(cls: type[Settings]) -> tuple[str, ...]:
    """Names of the fields that are data: floats, environment parameters, settings within settings.

    A float that must shape the program is annotated `Annotated[float, "static"]`.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(
        f.name
        for f in dataclasses.fields(cls)
        if f.name == "env_params" or hints[f.name] is float or _is_settings(hints[f.name])
    )


def pytree(cls: ConfigClass) -> ConfigClass:
    """Class decorator: register a config as a pytree whose leaves are its data fields."""
    data = data_fields(cls)
    static = tuple(f.name for f in dataclasses.fields(cls) if f.name not in data)

    def flatten_with_keys(config: Settings) -> tuple[Any, Any]:
        scheduled = tuple(name for name in data if is_schedule(getattr(config, name)))
        names = tuple(name for name in data if name not in scheduled)
        children = [(jax.tree_util.GetAttrKey(name), getattr(config, name)) for name in names]
        fixed = (*scheduled, *static)
        return children, (names, fixed, tuple(getattr(config, name) for name in fixed))

    def unflatten(aux: Any, children: Any) -> Settings:
        # Past the checks: JAX also builds trees of placeholders that are not numbers.
        names, fixed, values = aux
        config = object.__new__(cls)
        for name, value in (*zip(names, children, strict=True), *zip(fixed, values, strict=True)):
            object.__setattr__(config, name, value)
        return config

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
    return cls


def _is_settings(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Settings)


def _checked(config: Settings, name: str, value: Any) -> Any:
    """The value in its canonical type, or an error that names the field and what it may be."""
    field = next(f for f in dataclasses.fields(config) if f.name == name)
    hint = typing.get_type_hints(type(config))[name]
    is_static = typing.get_type_hints(type(config), include_extras=True)[name] is not hint
    allowed = field.metadata.get("allowed", ANY)
    label = f"{type(config).__name__}.{name}"
    if name == "env_params":
        return _checked_parameters(label, value)
    if _is_settings(hint):
        if not isinstance(value, hint):
            raise ValueError(f"{label} must be a {hint.__name__}, not {value!r}")
        return value
    if hint is float:
        check = _checked_static_float if is_static else _checked_float
        if isinstance(value, str) and ":" in value:
            value = as_schedule(label, value)
        if is_schedule(value):
            movable = not (is_static or field.metadata.get("only_at_start"))
            return _checked_schedule(label, value, allowed, movable)
    else:
        by_kind = {bool: _checked_bool, int: _checked_int, str: _checked_string}
        check = by_kind.get(hint, _checked_integers)
    return check(label, value, allowed)


def _checked_schedule(label: str, schedule: Schedule, allowed: Range, movable: bool) -> Schedule:
    if not movable:
        raise ValueError(
            f"{label} takes a number: it acts at the start of a run, where no schedule moves it"
        )
    for value in values_of(label, schedule):
        _checked_float(f"{label} (a value of its schedule)", float(value), allowed)
    return schedule


def _checked_bool(label: str, value: Any, allowed: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{label} must be True or False, not {value!r}")
    return bool(value)


def _checked_string(label: str, value: Any, allowed: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{label} must be a string, not {value!r}")
    if isinstance(allowed, tuple) and value not in allowed:
        raise ValueError(f"{label}={value!r}: {suggestion(value, allowed)}")
    return value


def _checked_integers(label: str, value: Any, allowed: Range) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{label} must be a tuple of integers, not {value!r}")
    return tuple(_checked_int(label, item, allowed) for item in value)


def _checked_int(label: str, value: Any, allowed: Range) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{label} must be an integer ({allowed}), not {value!r}")
    if int(value) not in allowed:
        raise ValueError(f"{label}={value} is out of range: it must be {allowed}")
    return int(value)


def _checked_float(label: str, value: Any, allowed: Range) -> Any:
    if isinstance(value, jax.core.Tracer):
        return value
    if not _is_real(value):
        raise ValueError(f"{label} must be a number ({allowed}), not {value!r}")
    if not all(item in allowed for item in np.asarray(value).flat):
        raise ValueError(f"{label}={value} is out of range: it must be {allowed}")
    # What JAX's floats cannot hold would be infinite in the program.
    largest = float(jnp.finfo(jnp.result_type(float)).max)
    if not allowed.infinite and any(abs(item) > largest for item in np.asarray(value).flat):
        raise ValueError(f"{label}={value} is out of range: it must be {allowed}, and finite")
    return value if hasattr(value, "shape") and np.ndim(value) else _as_scalar(value)


def _checked_static_float(label: str, value: Any, allowed: Range) -> float:
    if isinstance(value, jax.core.Tracer) or np.ndim(value):
        raise ValueError(f"{label} shapes the program: it must be one known number, not {value!r}")
    return float(_checked_float(label, value, allowed))


def _checked_parameters(label: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{label} must map parameter names to values, not {value!r}")
    return {key: _checked_parameter(f"{label}[{key!r}]", x) for key, x in value.items()}


def _checked_parameter(label: str, value: Any) -> Any:
    """A value for an environment's parameter: a number, a truth value, or an array of them."""
    if isinstance(value, jax.core.Tracer):
        return value
    is_bool = jnp.issubdtype(getattr(value, "dtype", type(value)), jnp.bool)
    if not (is_bool or _is_real(value)):
        raise ValueError(f"{label} must be a number, not {value!r}")
    if any(item != item for item in np.asarray(value).flat):
        raise ValueError(f"{label}={value} is not a number")
    return value


def _is_real(value: Any) -> bool:
    if hasattr(value, "dtype"):
        kinds = jnp.integer, jnp.floating
        return any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _as_scalar(value: Any) -> Any:
    """Python numbers stay Python floats; device scalars stay arrays."""
    return value if isinstance(value, jax.Array) else float(value)


def _plain(value: Any) -> Any:
    """JSON-ready form of a field's value."""
    if isinstance(value, Settings):
        return value.to_dict()
    if is_schedule(value):
        return name_of(value) or value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    if hasattr(value, "dtype") and not isinstance(value, jax.core.Tracer):
        return np.asarray(value).tolist()
    return value
