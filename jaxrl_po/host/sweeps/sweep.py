"""A sweep: every setting of a space times every seed, as few programs, to a table."""

import contextlib
import pathlib
import reprlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from jaxrl_po.config import Config
from jaxrl_po.host.machine.arguments import seeds
from jaxrl_po.host.machine.files import lock, write_whole
from jaxrl_po.host.machine.identity import fingerprint, numerics, versions
from jaxrl_po.host.machine.signals import stop_requests
from jaxrl_po.host.machine.strict_json import digest, from_json, to_json
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.policies.policy import save_policy
from jaxrl_po.host.runs.terminal import make_console
from jaxrl_po.host.sweeps.groups import make_groups
from jaxrl_po.host.sweeps.halving import Rung, halving_rungs, single_rung
from jaxrl_po.host.sweeps.launch import Launcher
from jaxrl_po.host.sweeps.member_files import MemberFiles
from jaxrl_po.host.sweeps.ranges import Space, configure, settings_of
from jaxrl_po.host.sweeps.results import SweepResult, make_result, scores
from jaxrl_po.loop.parts import Given, as_config
from jaxrl_po.types import AlgorithmFactory, Network, Optimizer

PRUNERS: dict[str | None, Callable[[int], tuple[list[Rung], float]]] = {
    None: single_rung,
    "halving": halving_rungs,
}

# What a sweep writes beside its sweep.json, and a sensitivity for each field.
PRODUCTS = (
    *("members", "members.csv", "summary.csv", "curves.npz", "policies"),
    *("learning_curves.png", "heatmap.png"),
)


def sweep(
    config: Config | Mapping[str, Any],
    space: Space,
    num_seeds: int = 10,
    *,
    seed: int = 0,
    sampling: str = "grid",
    num_samples: int | None = None,
    prune: str | None = None,
    directory: str | pathlib.Path | None = None,
    keep_policies: bool = False,
    chunk_size: int | None = None,
    devices: str | None = None,
    env: Any = None,
    network: Network | None = None,
    algorithm: AlgorithmFactory | None = None,
    optimizer: Optimizer | None = None,
    quiet: bool = False,
) -> SweepResult:
    """Train every setting of a space with the same seeds, and compare them.

        sweep(PPOConfig(), {"learning_rate": log(1e-4, 1e-2, 7), "clip_eps": [0.1, 0.2, 0.3]})

    Settings that differ in floats alone are one compiled program. A member is the agent that
    `run(config, seed=...)` trains under its setting.

    Args:
        config: what the fields outside the space are set to.
        space: field -> values, see `jaxrl_po.host.sweeps.ranges.settings_of`.
        num_seeds: S, members of each setting.
        seed: the first seed; all settings have seeds seed … seed + S - 1.
        sampling: "grid", or "random" or "sobol" for `num_samples` points of the space.
        num_samples: number of points, unless they form a grid.
        prune: "halving" for sequential halving: at each rung the worse half of the settings
            stops, and the budget it leaves goes to the others. The whole costs
            num_members * total_timesteps, as it does without.
        directory: where each member is kept as it finishes, and the tables and figures at the
            end. A sweep that was stopped continues there: SIGINT and SIGTERM let the members that
            are under way finish, and raise `Interrupted`. None keeps nothing.
        keep_policies: keep the final policies of the best setting, for `load_policy`, in
            policies/seed0 and so on of the directory. Members' files then have their states.
        chunk_size: members in memory at a time; None for as many as fit.
        devices: "all" shards the members over all devices.
        env: as for `make_train`.
        network: as for `make_train`.
        algorithm: as for `make_train`.
        optimizer: as for `make_train`.
        quiet: print nothing.

    Raises:
        ValueError: naming the field that is unknown or out of range, before anything is compiled.
    """
    config = as_config(config)
    given = Given(env, network, algorithm, optimizer)
    numbers = seeds(seed, num_seeds)
    if prune not in PRUNERS:
        raise ValueError(f'prune={prune!r}: it must be None or "halving"')
    settings = settings_of(config, space, sampling, num_samples, numbers.start)
    if keep_policies and directory is None:
        raise ValueError("keep_policies=True needs a directory to keep them in")
    rungs, horizon = PRUNERS[prune](len(settings))
    configs = [configure(config, setting) for setting in settings]
    configs = [c.replace(total_timesteps=int(c.total_timesteps * horizon)) for c in configs]
    fractions = [rung.fraction for rung in rungs]
    groups = make_groups(configs, fractions, given, keep_policies)
    console = make_console(quiet)
    if directory is not None:
        console.print(
            f"sweep directory: {directory}", soft_wrap=True, markup=False, highlight=False
        )
    console.print(
        f"sweep: {counted(len(settings), 'setting')} x {counted(len(numbers), 'seed')} = "
        f"{counted(len(settings) * len(numbers), 'member')} in "
        f"{counted(len(groups), 'compilation')}",
        highlight=False,
    )
    own = {name: getattr(given, name) for name in ("algorithm", "optimizer")}
    identity = {
        "config": config.to_dict(),
        "settings": settings,
        "num_seeds": len(numbers),
        "seed": numbers.start,
        "prune": prune,
        "keep_policies": bool(keep_policies),
        "env": None if env is None else fingerprint(env, getattr(env, "default_params", None)),
        "network": None if network is None else fingerprint(network),
        **{name: fingerprint(part) for name, part in own.items() if part is not None},
        "numerics": numerics(),
        "versions": versions(),
    }
    notice = "" if quiet else "finishing the members that are under way"
    with (
        _opened(directory, identity) as folder,
        stop_requests(directory is not None, notice) as requests,
    ):
        files = MemberFiles(groups, numbers, digest(identity), folder)
        launcher = Launcher(files, chunk_size, devices, console, requests)
        ended = _climb(launcher, files, rungs, len(settings), console)
        outcomes = [files.outcomes(i, ended[i]) for i in range(len(settings))]
        result = make_result(settings, configs, outcomes, launcher.num_compilations)
        if directory is not None:
            result.write(directory)
        if keep_policies and result.best is not None:
            best = settings.index(result.best)
            for number, trained, state in files.states(best, ended[best]):
                path = folder.parent / "policies" / f"seed{number}"
                save_policy(path, trained, state, env=env, network=network)
        elif keep_policies:
            console.print("no policies are kept: no setting is the best")
    console.print(result.summary_text(), style="bold", soft_wrap=True, markup=False)
    return result


def _climb(
    launcher: Launcher,
    files: MemberFiles,
    rungs: Sequence[Rung],
    num_settings: int,
    console: Console,
) -> dict[int, int]:
    """Run rung after rung with the settings that are still in; the last rung of each setting."""
    alive = list(range(num_settings))
    ended: dict[int, int] = {}
    for number, rung in enumerate(rungs):
        if number:
            returns = scores([files.outcomes(i, number - 1) for i in alive])
            order = np.argsort(-returns, kind="stable")
            alive = sorted(alive[i] for i in order[: rung.num_settings])
            console.print(f"halving: {rung.num_settings} settings train on")
        launcher.run(alive, number)
        ended |= dict.fromkeys(alive, number)
    return ended


@contextlib.contextmanager
def _opened(
    directory: str | pathlib.Path | None, identity: dict[str, Any]
) -> Iterator[pathlib.Path]:
    """The folder for the members' files: of this very sweep, new or to be continued."""
    if directory is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield pathlib.Path(temporary)
        return
    path = pathlib.Path(directory) / "sweep.json"
    with lock(path.parent):
        if path.exists():
            _check_same(path, identity)
        else:
            _check_free(path.parent, list(identity["settings"][0]))
            write_whole(path, (to_json(identity, indent=2) + "\n").encode())
        members = path.parent / "members"
        members.mkdir(exist_ok=True)
        yield members


def _check_free(directory: pathlib.Path, fields: list[str]) -> None:
    """Refuse to write over files that are of no known sweep."""
    names = [*PRODUCTS, *(f"sensitivity_{field}.png" for field in fields)]
    found = [name for name in names if (directory / name).exists()]
    if found:
        raise ValueError(
            f"directory={str(directory)!r} holds {', '.join(found)} but no sweep.json that says "
            "of what: choose another directory, or move them away"
        )


def _check_same(path: pathlib.Path, identity: dict[str, Any]) -> None:
    """Refuse to go on with a sweep that is not this one, naming what differs."""
    try:
        found = dict(from_json(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    if difference := _difference(found, from_json(to_json(identity))):
        raise ValueError(f"{path} is of another sweep: {difference}; choose another directory")


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first entry in which two descriptions differ, or nothing."""
    for name in wanted | found:
        one, other = (entries.get(name, "missing") for entries in (found, wanted))
        if to_json(one) == to_json(other):  # as text, for NaN is not itself
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            return _difference(one, other)
        return f"its {name} is {reprlib.repr(one)}, not {reprlib.repr(other)}"
    return ""
