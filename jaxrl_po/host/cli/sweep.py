"""`python -m jaxrl_po sweep ppo --learning-rate log:1e-4..1e-2:7 --clip-eps 0.1,0.2,0.3`."""

import argparse
import itertools
import pathlib
import re
import sys
import typing
from collections.abc import Mapping
from typing import Any, Literal

from jaxrl_po.config import ENV_PARAMS, Config
from jaxrl_po.host.cli.flags import integer
from jaxrl_po.host.machine.files import new_directory
from jaxrl_po.host.sweeps.population import PopulationBased
from jaxrl_po.host.sweeps.ranges import Interval, linear, log
from jaxrl_po.host.sweeps.sweep import sweep
from jaxrl_po.loop.parts import make_parts

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
        if typing.get_origin(hint) is tuple:
            return tuple(integer(size) for size in text.split("x"))
        return integer(text) if hint is int else hint(text)
    except (KeyError, ValueError, argparse.ArgumentTypeError):
        kind = {float: "a number", int: "an integer", bool: "true or false"}.get(
            hint, "integers like 64x64"
        )
        raise ValueError(f"{label}: {text!r} is not {kind}") from None


def _base(base: Config, values: Mapping[str, list[Any] | Interval]) -> Config:
    """The config at the first point of the listed values that makes one.

    What a single value goes with may be another's in the list: a size it divides, an option that
    it belongs to.
    """
    lists = {name: v for name, v in values.items() if isinstance(v, list)}
    refusals = []
    for point in itertools.product(*lists.values()):
        try:
            return base.replace(**dict(zip(lists, point, strict=True)))
        except ValueError as error:
            refusals.append(error)
    raise refusals[0]


def sweep_command(
    base: Config,
    fields: Mapping[str, Any],
    num_seeds: int = 10,
    seed: int = 0,
    sampling: Literal["grid", "random", "sobol"] = "grid",
    num_samples: int | None = None,
    prune: Literal["halving"] | None = None,
    evolve: int | None = None,
    directory: pathlib.Path | None = None,
    keep_policies: bool = False,
    keep_best: int = 0,
    chunk_size: int | None = None,
    devices: Literal["all"] | None = None,
) -> None:
    """Train every combination of values with the same seeds; report the best.

    A field takes one value, a list (0.1,0.2,0.3) or a range (log:1e-4..1e-2:7, linear:0..1:5).

    The exit status is 1 when every member diverged.

    Args:
        base: the algorithm and its settings
        fields: the values of some of them, as texts
        num_seeds: members of each setting
        seed: the first seed
        sampling: all combinations, or num_samples random or quasi-random points
        num_samples: number of points, unless they form a grid
        prune: sequential halving: the worse half of the settings stops at each rung
        evolve: population-based training in so many rounds: after each the worst fifth of the \
settings go on from the best, under values near theirs
        directory: for members, tables and figures, by default a new folder under runs/; a sweep \
that was stopped continues there
        keep_policies: keep the final policies of the best setting
        keep_best: keep the final policies of so many of the best members
        chunk_size: members in memory at a time
        devices: shard the members over all devices
    """
    hints = typing.get_type_hints(type(base))
    values: dict[str, list[Any] | Interval] = {
        name: parse_values(name, text, hints[name])
        for name, text in fields.items()
        if name != "env_params"
    }
    for name, text in fields.get("env_params", {}).items():
        values[ENV_PARAMS + name] = parse_values(ENV_PARAMS + name, text, float)
    config = _base(base, values)
    make_parts(config, None, None)  # before anything is named after its environment
    path = directory or new_directory(
        f"sweep_{config.env_id}_{config.algorithm.rpartition(':')[2]}"
    )
    result = sweep(
        config,
        {name: v for name, v in values.items() if isinstance(v, Interval) or len(v) > 1},
        num_seeds,
        seed=seed,
        sampling=sampling,
        num_samples=num_samples,
        prune=prune,
        evolve=None if evolve is None else PopulationBased(evolve),
        directory=path,
        keep_policies=keep_policies,
        keep_best=keep_best,
        chunk_size=chunk_size,
        devices=devices,
    )
    print(result.summary)
    if result.all_diverged:
        sys.exit(1)
