"""What is left of a sweep beside its tables: policies, and the command that trains the winner."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.host.policies.policy import save_policy
from jaxrl_po.host.sweeps.member_files import MemberFiles
from jaxrl_po.host.sweeps.results import SweepResult


def train_command(config: Config, seed: int, num_seeds: int) -> str:
    """The command line that trains a config: a flag for each field that is not at its default."""
    default = type(config)()
    words = ["python", "-m", "jaxrl_po", "train", config.algorithm]
    for name, value in config.to_dict().items():
        if name != "algorithm" and value != default.to_dict()[name]:
            words += _flag(name, value)
    words += ["--seed", str(seed), "--num-seeds", str(num_seeds)]
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, Mapping):
        return [f"--{flag}", *(text for pair in value.items() for text in map(_text, pair))]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{flag}", *map(_text, values)]


def _text(value: Any) -> str:
    """A value as a flag takes it: a negative number in a list must not look like a flag."""
    if isinstance(value, bool):  # of an environment's parameters, which are numbers there
        return str(int(value))
    if isinstance(value, float) and value < 0:
        return np.format_float_positional(value, trim="-")
    return str(value)


class Kept(NamedTuple):
    """A sweep that has ended, with the states of its members."""

    result: SweepResult
    files: MemberFiles
    ended: dict[int, int]  # the last rung of each setting
    parts: dict[str, Any]  # env and network, as for `save_policy`


def keep_winner(folder: Path, kept: Kept, setting: int) -> None:
    """Save the final policies of all seeds of a setting, in `folder`/seed0 and so on."""
    for number, config, state in kept.files.states(setting, kept.ended[setting]):
        save_policy(folder / f"seed{number}", config, state, **kept.parts)


def keep_best_members(folder: Path, kept: Kept, count: int) -> list[Path]:
    """Save the final policies of the best members of all, the best one in `folder`/1.

    Returns:
        Their folders: fewer than `count` where fewer trained to the end and have a return.
    """
    rows = [
        row
        for row in kept.result.table.rows()
        if np.isfinite(row["final_return"]) and not row["diverged"] and not row["pruned"]
    ]
    rows.sort(key=lambda row: (-row["final_return"], row["setting"], row["seed"]))
    paths = []
    for place, row in enumerate(rows[:count], start=1):
        setting = row["setting"]
        states = kept.files.states(setting, kept.ended[setting])
        config, state = next((c, s) for seed, c, s in states if seed == row["seed"])
        paths.append(folder / str(place))
        notes = {name: row[name] for name in ("setting", "seed", "final_return")}
        save_policy(paths[-1], config, state, notes=notes, **kept.parts)
    return paths
