"""Settings: frozen dataclasses whose floats are data and whose everything else is structure."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar

import jax
import numpy as np

from jaxrl_po.config.fields import (
    ANY,
    checked_bool,
    checked_float,
    checked_int,
    checked_integers,
    checked_parameters,
    checked_schedule,
    checked_static_float,
    checked_string,
)
from jaxrl_po.config.messages import suggestion
from jaxrl_po.schedules import as_schedule, is_schedule, name_of


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

    def filled(self, **values: Any) -> Self:
        """A copy with other values in some fields, which count as set by name no more than here."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return self._built({**fields, **values}, checked=(), given=self._given_names())

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


ConfigClass = TypeVar("ConfigClass", bound=type[Settings])


def data_fields(cls: type[Settings]) -> tuple[str, ...]:
    """Names of the fields that are data: floats, environment parameters, settings within settings.

    A float that must shape the program is annotated `Annotated[float, "static"]`.
    """
    hints = _hints(cls)
    return tuple(
        f.name
        for f in dataclasses.fields(cls)
        if f.name == "env_params" or hints[f.name] is float or _is_settings(hints[f.name])
    )


_HINTS: dict[type[Settings], dict[str, Any]] = {}


def _hints(cls: type[Settings]) -> dict[str, Any]:
    """The types of the fields; looked up once, for every field of every config is checked by it."""
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls, include_extras=True)
    return _HINTS[cls]


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
    annotated = _hints(type(config))[name]
    is_static = typing.get_origin(annotated) is typing.Annotated
    hint = typing.get_args(annotated)[0] if is_static else annotated
    allowed = field.metadata.get("allowed", ANY)
    label = f"{type(config).__name__}.{name}"
    if name == "env_params":
        return checked_parameters(label, value)
    if _is_settings(hint):
        if not isinstance(value, hint):
            raise ValueError(f"{label} must be a {hint.__name__}, not {value!r}")
        return value
    if hint is float:
        check = checked_static_float if is_static else checked_float
        if isinstance(value, str) and ":" in value:
            value = as_schedule(label, value)
        if is_schedule(value):
            movable = not (is_static or field.metadata.get("only_at_start"))
            return checked_schedule(label, value, allowed, movable)
    else:
        by_kind = {bool: checked_bool, int: checked_int, str: checked_string}
        check = by_kind.get(hint, checked_integers)
    return check(label, value, allowed)


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
