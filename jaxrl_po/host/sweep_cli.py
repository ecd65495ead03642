"""`python -m jaxrl_po sweep ppo --learning-rate log:1e-4..1e-2:7 --clip-eps 0.1,0.2,0.3`."""

import dataclasses
import pathlib
import re
import sys
import typing
from typing import Annotated, Any, Literal, Union

import tyro

from jaxrl_po.algorithms import ALGORITHMS, config_from_dict
from jaxrl_po.config import Config
from jaxrl_po.host.files import new_directory
from jaxrl_po.host.spaces import ENV_PARAMS, Interval, linear, log
from jaxrl_po.host.sweep import sweep

RANGE = re.compile(r"(?P<kind>log|linear):(?P<low>[^.:]\S*?)\.\.(?P<high>[^:]+)(:(?P<num>\d+))?")
BOOLEANS = {"true": True, "false": False}


def parse_values(name: str, text: str, hint: Any) -> list[Any] | Interval:
    """The values that a flag's text stands for.

    Args:
        name: of the field, for error messages.
        text: "0.1,0.2", "log:1e-4..1e-2:7", "linear:0..1:5" (without the number to sample from),
            "64x64,32x32" for tuples.
        hint: the field's type.

    Raises:
        ValueError: naming the field, when the text does not have its type.
    """
    label = "--" + name.replace("_", "-")
    match = RANGE.fullmatch(text)
    if match:
        make = {"log": log, "linear": linear}[match["kind"]]
        low, high = (_parse_value(label, match[bound], float) for bound in ("low", "high"))
        return make(low, high, int(match["num"]) if match["num"] else None)
    if text.startswith(("log:", "linear:")):
        raise ValueError(f"{label} {text}: a range is log:LOW..HIGH:NUMBER or linear:LOW..HIGH")
    return [_parse_value(label, item, hint) for item in text.split(",")]


def _parse_value(label: str, text: str, hint: Any) -> Any:
    try:
        if hint is bool:
            return BOOLEANS[text]
        if hint is int:
            return _whole(text)
        if typing.get_origin(hint) is tuple:
            return tuple(_whole(size) for size in text.split("x"))
        return hint(text)
    except (KeyError, ValueError):
        kind = {float: "a number", int: "an integer", bool: "true or false"}.get(
            hint, "integers like 64x64"
        )
        raise ValueError(f"{label}: {text!r} is not {kind}") from None


def _whole(text: str) -> int:
    """A whole number, as 1000000 or 1e6."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


def _flags(name: str, config_class: type[Config]) -> type:
    """A dataclass of texts, with the fields of a config."""
    default = config_class()
    text = tyro.conf.arg(metavar="VALUES")
    fields: list[tuple[str, Any, Any]] = [
        (field.name, Annotated[str, text], _as_text(getattr(default, field.name)))
        for field in dataclasses.fields(config_class)
        if field.name != "env_params"
    ]
    env_params: Any = dataclasses.field(default_factory=dict)
    fields.append(("env_params", dict[str, str], env_params))
    flags = dataclasses.make_dataclass(f"{config_class.__name__}Flags", fields, kw_only=True)
    summary = (config_class.__doc__ or "").splitlines()[0]
    flags.__doc__ = f"{summary}\n\n`train {name} --help` says what the fields mean."
    flags.algorithm = name  # type: ignore[attr-defined]
    return flags


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def sweep_command(
    space: Any,
    num_seeds: int = 10,
    seed: int = 0,
    sampling: Literal["grid", "random", "sobol"] = "grid",
    num_samples: int | None = None,
    prune: Literal["halving"] | None = None,
    directory: pathlib.Path | None = None,
    keep_policies: bool = False,
    chunk_size: int | None = None,
    devices: Literal["all"] | None = None,
) -> None:
    """Train every combination of values with the same seeds; report the best.

    A field takes one value, a list (0.1,0.2,0.3) or a range (log:1e-4..1e-2:7, linear:0..1:5).

    The exit status is 1 when every member diverged.

    Args:
        space: the algorithm, and the values of its fields.
        num_seeds: members of each setting
        seed: the first seed
        sampling: all combinations, or num_samples random or quasi-random points
        num_samples: number of points, unless they form a grid
        prune: sequential halving: the worse half of the settings stops at each rung
        directory: for members, tables and figures, by default a new folder under runs/; a sweep \
that was stopped continues there
        keep_policies: keep the final policies of the best setting
        chunk_size: members in memory at a time
        devices: shard the members over all devices
    """
    hints = typing.get_type_hints(ALGORITHMS[space.algorithm][0])
    values: dict[str, list[Any] | Interval] = {
        field.name: parse_values(field.name, getattr(space, field.name), hints[field.name])
        for field in dataclasses.fields(space)
        if field.name != "env_params"
    }
    for name, text in space.env_params.items():
        values[ENV_PARAMS + name] = parse_values(ENV_PARAMS + name, text, float)
    fixed = {name: v[0] for name, v in values.items() if isinstance(v, list) and len(v) == 1}
    env_params = {
        n.removeprefix(ENV_PARAMS): v for n, v in fixed.items() if n.startswith(ENV_PARAMS)
    }
    fields = {n: v for n, v in fixed.items() if not n.startswith(ENV_PARAMS)}
    path = directory or new_directory(f"sweep_{space.env_id}_{space.algorithm}")
    result = sweep(
        config_from_dict({"algorithm": space.algorithm, "env_params": env_params, **fields}),
        {name: v for name, v in values.items() if name not in fixed},
        num_seeds,
        seed=seed,
        sampling=sampling,
        num_samples=num_samples,
        prune=prune,
        directory=path,
        keep_policies=keep_policies,
        chunk_size=chunk_size,
        devices=devices,
    )
    print(result.summary)
    if result.all_diverged:
        sys.exit(1)


_CHOICES = tuple(
    Annotated[_flags(name, config_class), tyro.conf.subcommand(name, prefix_name=False)]
    for name, (config_class, _) in ALGORITHMS.items()
)
sweep_command.__annotations__["space"] = Annotated[  # one subcommand for each algorithm
    Union[_CHOICES],  # noqa: UP007
    tyro.conf.arg(name=""),
]
