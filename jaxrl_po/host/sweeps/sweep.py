"""A sweep: every setting of a space times every seed, as few programs, to a table."""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from jaxrl_po.config import Config
from jaxrl_po.host.machine.arguments import integer, seeds
from jaxrl_po.host.machine.execution import check_layout
from jaxrl_po.host.machine.identity import fingerprint
from jaxrl_po.host.machine.signals import stop_requests
from jaxrl_po.host.machine.strict_json import digest
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.runs.terminal import make_console
from jaxrl_po.host.sweeps.directory import opened
from jaxrl_po.host.sweeps.groups import make_groups
from jaxrl_po.host.sweeps.halving import PRUNERS, pruned_course
from jaxrl_po.host.sweeps.launch import Launcher
from jaxrl_po.host.sweeps.member_files import MemberFiles
from jaxrl_po.host.sweeps.members import Outcome
from jaxrl_po.host.sweeps.population import (
    Evolution,
    PopulationBased,
    lineage,
    make_evolution,
)
from jaxrl_po.host.sweeps.ranges import Setting, Space, settings_of, trained
from jaxrl_po.host.sweeps.remote import RemoteLauncher, conditions_in
from jaxrl_po.host.sweeps.results import SweepResult, make_result
from jaxrl_po.host.sweeps.rungs import Course, first_generation
from jaxrl_po.host.sweeps.tasks import TASK_SIZE, Packer, check_parts, conditions
from jaxrl_po.host.sweeps.winner import Kept, keep_best_members, keep_winner, train_command
from jaxrl_po.host.sweeps.workers import Workers
from jaxrl_po.loop.parts import Given, as_config
from jaxrl_po.types import AlgorithmFactory, Network, Optimizer


def sweep(
    config: Config | Mapping[str, Any],
    space: Space,
    num_seeds: int = 10,
    *,
    seed: int = 0,
    sampling: str = "grid",
    num_samples: int | None = None,
    prune: str | None = None,
    evolve: PopulationBased | None = None,
    directory: str | pathlib.Path | None = None,
    keep_policies: bool = False,
    keep_best: int = 0,
    chunk_size: int | None = None,
    devices: str | None = None,
    executor: Any = None,
    retries: int | None = None,
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
        evolve: `PopulationBased(...)` for population-based training: after each round the worst
            settings go on from the best, under values near theirs. Floats of the config alone can
            be swept so. The result has the `lineage`, its tables the values of the last round.
        directory: where each member is kept as it finishes, and the tables and figures at the
            end. A sweep that was stopped continues there: SIGINT and SIGTERM let the members that
            are under way finish, and raise `Interrupted`. None keeps nothing.
        keep_policies: keep the final policies of the best setting, for `load_policy`, in
            policies/seed0 and so on of the directory. Members' files then have their states.
        keep_best: keep the final policies of so many of the best members, whatever their
            settings, in best/1 (the best of all), best/2 and so on of the directory.
        chunk_size: members in memory at a time; None for as many as fit, or with an executor for
            8, for there they are a task.
        devices: "all" shards the members over all devices; with an executor a worker's.
        executor: whose workers train the members: any in the sense of `concurrent.futures`, such
            as Dask's `Client.get_executor()`, submitit's, loky's or a pool of spawned processes;
            or a function without arguments that makes one, called again when the loss of a worker
            broke it. A stop request then cancels what has not come back.
        retries: how often members are submitted again whose worker was lost; None for 3.
        env: as for `make_train`.
        network: as for `make_train`.
        algorithm: as for `make_train`.
        optimizer: as for `make_train`.
        quiet: print nothing.

    Raises:
        ValueError: naming the field that is unknown or out of range, before anything is compiled;
            or the part that cannot be sent to an executor's workers, before anything is submitted.
        RuntimeError: when members have lost their worker once more than they are submitted again.

    Examples:
        >>> from jaxrl_po import PPOConfig
        >>> config = PPOConfig(num_envs=2, num_steps=64, total_timesteps=256)
        >>> result = sweep(config, {"clip_eps": [0.1, 0.3]}, num_seeds=2, quiet=True)
        >>> len(result.table.rows()), len(result.summary.rows())
        (4, 2)
    """
    config = as_config(config)
    given = Given(env, network, algorithm, optimizer)
    numbers = seeds(seed, num_seeds)
    console = make_console(quiet)
    check_layout(chunk_size, devices)
    workers = _workers(executor, retries, given, console)
    _check_course(prune, evolve)
    settings = settings_of(config, space, sampling, num_samples, numbers.start)
    course, evolution = pruned_course(prune, len(settings)), None
    if evolve is not None:
        evolution = make_evolution(evolve, config, space, settings, numbers.start)
        course = evolution.course(len(settings))
    keep_best = integer("keep_best", keep_best, 0)
    with_states = keep_policies or keep_best > 0
    for name, given_value in (("keep_policies", keep_policies), ("keep_best", keep_best)):
        if given_value and directory is None:
            raise ValueError(f"{name}={given_value} needs a directory to keep them in")
    configs = [trained(config, setting, course.horizon) for setting in settings]
    fractions = [rung.fraction for rung in course.rungs]
    groups = make_groups(configs, fractions, given, with_states)
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
    identity = _identity(config, settings, numbers, prune, evolution, with_states, given)
    notice = "finishing the members that are under way" if workers is None else "cancelling tasks"
    with contextlib.ExitStack() as stack:
        where = conditions() if workers is None else conditions_in(stack.enter_context(workers))
        identity |= where
        folder = stack.enter_context(opened(directory, identity))
        requests = stack.enter_context(
            stop_requests(directory is not None, "" if quiet else notice)
        )
        start = first_generation(settings, configs)
        files = MemberFiles(groups, numbers, digest(identity), folder, [start])
        launcher: Launcher | RemoteLauncher
        if workers is None:
            launcher = Launcher(files, chunk_size, devices, console, requests)
        else:
            pack = Packer(given, chunk_size or TASK_SIZE, devices, where)
            launcher = RemoteLauncher(files, workers, pack, console, requests)
        history = _climb(launcher, files, course, console)
        ended = {i: rung for rung, outcomes in enumerate(history) for i in outcomes}
        last = [files.generations[ended[i]] for i in range(len(settings))]
        settings = [generation.settings[i] for i, generation in enumerate(last)]
        configs = [generation.configs[i] for i, generation in enumerate(last)]
        outcomes = [history[ended[i]][i] for i in range(len(settings))]
        result = make_result(
            settings,
            configs,
            outcomes,
            launcher.num_compilations,
            None if evolution is None else lineage(files.generations, history),
        )
        if directory is not None:
            result.write(directory)
        kept = Kept(result, files, ended, {"env": env, "network": network})
        if keep_policies and result.best is not None:
            keep_winner(folder.parent / "policies", kept, result.first)
        elif keep_policies:
            console.print("no policies are kept: no setting is the best")
        if keep_best:
            places = keep_best_members(folder.parent / "best", kept, keep_best)
            found = f"best/ has the policies of {counted(len(places), 'member')}"
            console.print(found if places else "no policies are kept: no member has a return")
    console.print(result.summary_text(), style="bold", soft_wrap=True, markup=False)
    if result.lineage is not None:
        console.print(str(result.schedule()), soft_wrap=True, markup=False, highlight=False)
    elif result.best is not None and not given.names:
        command = train_command(configs[result.first], numbers.start, len(numbers))
        console.print(f"to train it: {command}", soft_wrap=True, markup=False, highlight=False)
    return result


def _check_course(prune: Any, evolve: Any) -> None:
    """Refuse ways from rung to rung that there are not, or two at once."""
    if prune not in PRUNERS:
        raise ValueError(f'prune={prune!r}: it must be None or "halving"')
    if prune is not None and evolve is not None:
        raise ValueError(f"prune={prune!r} with evolve: a population is not pruned: choose one")


def _workers(executor: Any, retries: Any, given: Given, console: Console) -> Workers | None:
    """The workers of an executor, if there is one, and what is given can be sent to them."""
    if executor is None:
        if retries is not None:
            raise ValueError(f"retries={retries!r} has no effect without an executor")
        return None

    def report(loss: str) -> None:
        console.print(loss, style="red", soft_wrap=True, markup=False)

    workers = Workers(executor, retries, report)
    check_parts(given)
    return workers


def _identity(
    config: Config,
    settings: Sequence[Setting],
    numbers: range,
    prune: str | None,
    evolution: Evolution | None,
    keep_policies: bool,
    given: Given,
) -> dict[str, Any]:
    """What a sweep is, but for where it runs."""
    own = {name: getattr(given, name) for name in ("algorithm", "optimizer")}
    env, network = given.env, given.network
    return {
        "config": config.to_dict(),
        "settings": settings,
        "num_seeds": len(numbers),
        "seed": numbers.start,
        "prune": prune,
        "keep_policies": bool(keep_policies),
        **({} if evolution is None else {"evolve": evolution.identity()}),
        "env": None if env is None else fingerprint(env, getattr(env, "default_params", None)),
        "network": None if network is None else fingerprint(network),
        **{name: fingerprint(part) for name, part in own.items() if part is not None},
    }


def _climb(
    launcher: Launcher | RemoteLauncher, files: MemberFiles, course: Course, console: Console
) -> list[dict[int, list[Outcome]]]:
    """Run rung after rung: what came of the settings that trained in each, by their numbers."""
    history: list[dict[int, list[Outcome]]] = []
    for number in range(len(course.rungs)):
        if number:
            outcomes = list(history[-1].values())
            files.generations.append(course.follow(number, files.generations[-1], outcomes))
            if news := files.generations[-1].news:
                console.print(news, highlight=False)
        settings = list(files.generations[-1].settings)
        launcher.run(settings, number)
        history.append({setting: files.outcomes(setting, number) for setting in settings})
    return history
