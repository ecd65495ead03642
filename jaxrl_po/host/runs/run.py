"""Training runs with a directory around them: start one, resume one, look into one."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrl_po.algorithms import make_algorithm
from jaxrl_po.config import Config
from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.machine.arguments import integer, seeds
from jaxrl_po.host.machine.conditions import check_state_flags, differences
from jaxrl_po.host.machine.devices import Devices, mesh_of_run
from jaxrl_po.host.machine.files import lock
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.runs import checkpoint, logs
from jaxrl_po.host.runs.callbacks import Callback
from jaxrl_po.host.runs.checkpoint import Checkpoint
from jaxrl_po.host.runs.directory import (
    Description,
    RunSettings,
    changed_fields,
    describe,
    read_description,
    refuse_occupied,
    write_description,
)
from jaxrl_po.host.runs.logging import Logger
from jaxrl_po.host.runs.loop import Resumption, Session, run_session
from jaxrl_po.host.runs.result import RunResult
from jaxrl_po.host.runs.segments import make_programs
from jaxrl_po.host.runs.terminal import make_console
from jaxrl_po.host.runs.training import restore
from jaxrl_po.host.runs.warm_start import starting_params
from jaxrl_po.loop.parts import Given, as_config, make_parts
from jaxrl_po.types import AlgorithmFactory, Network, Optimizer, Params, TrainState

NUM_SEGMENTS = 20  # visits of the host during a run, unless the caller wants others


def run(
    config: Config | Mapping[str, Any],
    seed: int = 0,
    num_seeds: int = 1,
    directory: str | os.PathLike[str] | None = None,
    *,
    env: Any = None,
    network: Network | None = None,
    algorithm: AlgorithmFactory | None = None,
    optimizer: Optimizer | None = None,
    params: Params | None = None,
    segment_length: int | None = None,
    evaluate_every: int = 5,
    num_episodes: int = 128,
    max_episode_steps: int = 10_000,
    keep_checkpoints: int = 3,
    until: int | None = None,
    devices: Devices = None,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> RunResult:
    """Train `num_seeds` agents with seeds `seed`, `seed + 1`, …, show progress, and evaluate them.

    With a directory, every segment ends with a checkpoint: whatever happens, `resume(directory)`
    goes on from there and ends with the state that the uninterrupted run would have had, to the
    bit. SIGINT and SIGTERM finish the segment, save, and raise `Interrupted`.

    Args:
        config: a config, or a dict with "algorithm".
        seed: the first agent's seed.
        num_seeds: S, agents trained side by side.
        directory: where to keep config, metrics, checkpoints and the best policy; None keeps
            nothing.
        env: as for `make_train`; or a `HostEnvironment`, whose checkpoints hold all but what is
            inside it: a resumed run begins new episodes there.
        network: as for `make_train`.
        algorithm: as for `make_train`.
        optimizer: as for `make_train`.
        params: to start from in place of random ones, as `TrainState.params` of another run: one
            for all seeds, or one for each [S, ...]. Optimiser and normaliser begin afresh.
        segment_length: iterations between two visits of the host; None makes 20 visits.
        evaluate_every: segments between two evaluations, greedy and sampled. There is always one
            at the end.
        num_episodes: E, episodes of an evaluation, each way.
        max_episode_steps: bound on the steps of an evaluation's episode.
        keep_checkpoints: the newest ones kept, beside that of the best greedy evaluation.
        until: pause once so many iterations are done; `resume` goes on.
        devices: "all", a number of devices or a list of them, to cut the environments over, one
            seed after the other; None for one device. `minibatch_shards` must be a multiple of
            their number, and then the numbers are the same on any.
        loggers: further ones, see `jaxrl_po.host.runs.logging`; they are closed at the end.
        callbacks: functions of a `jaxrl_po.host.runs.callbacks.Moment`, called between segments;
            one that returns True ends the run there, evaluated and saved (`stop_at_return`).
        quiet: print nothing.

    Raises:
        ValueError: naming the argument that is out of range, or what is in the directory that
            a run would write over.
        OSError: when the directory cannot be written; what was saved before stays usable.
        SimulatorError: when an environment on the host fails; the iterations before it are saved.

    Examples:
        >>> from jaxrl_po import PPOConfig
        >>> config = PPOConfig(num_envs=2, num_steps=8, total_timesteps=64)
        >>> result = run(config, num_seeds=2, num_episodes=4, quiet=True)
        >>> result.greedy_evaluation.episode_return.shape  # [S, E]
        (2, 4)
    """
    config = as_config(config)
    given = Given(env, network, algorithm, optimizer)
    mesh = mesh_of_run(config, env, devices)
    _, actor_critic = make_parts(config, env, network)  # what does not fit leaves no directory
    make_algorithm(config.at(0.0), actor_critic, algorithm, optimizer)
    numbers = seeds(seed, num_seeds)
    if params is not None:
        params = starting_params(params, actor_critic, len(numbers))
    if segment_length is None:
        segment_length = -(-config.num_iterations // NUM_SEGMENTS)
    settings = RunSettings(
        seed=numbers.start,
        num_seeds=len(numbers),
        segment_length=integer("segment_length", segment_length),
        evaluate_every=integer("evaluate_every", evaluate_every),
        num_episodes=integer("num_episodes", num_episodes),
        max_episode_steps=integer("max_episode_steps", max_episode_steps),
        keep_checkpoints=integer("keep_checkpoints", keep_checkpoints),
        given=given.names + ["params"] * (params is not None),
    )
    until = until if until is None else integer("until", until)
    console = make_console(quiet)
    description = describe(config, settings, mesh.size if mesh else 1)
    session = Session(description, given, until, loggers, callbacks, console, params, mesh)
    if directory is None:
        return run_session(session, None, None)
    path = Path(directory)
    refuse_occupied(path)  # before the lock leaves a file there
    with lock(path):
        refuse_occupied(path)
        console.print(f"run directory: {path}", soft_wrap=True, markup=False, highlight=False)
        write_description(path, session.description)
        return run_session(session, path, None)


def resume(
    directory: str | os.PathLike[str],
    config: Config | Mapping[str, Any] | None = None,
    *,
    env: Any = None,
    network: Network | None = None,
    algorithm: AlgorithmFactory | None = None,
    optimizer: Optimizer | None = None,
    until: int | None = None,
    devices: Devices = None,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> RunResult:
    """Go on with the run in a directory from its newest intact checkpoint, to the bit.

    Args:
        directory: as given to `run`.
        config: None, or the run's config again; only `total_timesteps` may have changed, upwards
            and without `anneal_lr` or a schedule.
        env: again, if `run` was given one.
        network: again, if `run` was given one.
        algorithm: again, if `run` was given one.
        optimizer: again, if `run` was given one.
        until: as for `run`.
        devices: as for `run`; other ones than before change no more than the last bits.
        loggers: as for `run`.
        callbacks: as for `run`.
        quiet: as for `run`.

    Raises:
        ValueError: naming the fields that changed, or what in the directory cannot be used.

    Examples:
        >>> from jaxrl_po import PPOConfig
        >>> config = PPOConfig(num_envs=2, num_steps=8, total_timesteps=64)
        >>> _ = run(config, directory="runs/a", until=2, num_episodes=4, quiet=True)
        >>> resume("runs/a", quiet=True).timesteps  # of 64
        32
    """
    path, console = Path(directory), make_console(quiet)
    saved, settings, began, run_id = read_description(path)
    config = saved if config is None else as_config(config)
    if changed := changed_fields(saved, config):
        raise ValueError(
            f"{path} was run with other values of {', '.join(changed)}: a resumed run must keep "
            "its config (total_timesteps may grow where nothing is annealed or scheduled over it)"
        )
    given = Given(env, network, algorithm, optimizer)
    check_given(path, settings, given)
    mesh = mesh_of_run(config, env, devices)
    until = until if until is None else integer("until", until)
    check_state_flags(path, began)
    description = Description(config, settings, began, run_id)
    session = Session(description, given, until, loggers, callbacks, console, mesh=mesh)
    with lock(path):
        resumption = find_checkpoint(session, path)
        if config != saved:
            write_description(path, description)
        return run_session(session, path, resumption)


def find_checkpoint(session: Session, path: Path) -> Resumption | None:
    """What a run in a directory goes on from; None where it has not come to a checkpoint.

    Raises:
        ValueError: when there was one, and none that is intact is left.
    """
    folder, (config, settings, began, run_id) = path / "checkpoints", session.description
    restored, damaged = checkpoint.load_newest(folder)
    if damaged and restored is None:
        raise ValueError(f"no checkpoint in {folder} is intact: put one back")
    if restored is None:
        reached = logs.reached(path)
        # A first segment is logged before its checkpoint is written.
        if reached > min(settings.segment_length, config.num_iterations) or (
            reached and not folder.is_dir()
        ):
            raise ValueError(
                f"{path} has no checkpoint, though its logs tell of {reached} iterations: put "
                f"{folder} back, or begin again in another directory"
            )
        if "params" in settings.given:
            raise ValueError(
                f"{path} was stopped before the parameters that it was to start from were saved: "
                "begin again in another directory"
            )
        if reached:
            session.warn(
                "the run was stopped before its first checkpoint: it begins again, and does anew "
                f"the {counted(reached, 'iteration')} in its logs"
            )
        return None
    check_run(restored, run_id, folder)
    notices = [
        f"not used: {file.reason}; it is now {checkpoint.set_aside(file.path).name}"
        for file in damaged
    ]
    num_devices = session.mesh.size if session.mesh else 1
    if differing := differences(began, num_devices):
        notices.append(
            f"the run began under other conditions ({'; '.join(differing)}): from here on it may "
            "differ in the last bits from an uninterrupted one"
        )
    if host_environment(config.env_id, session.given.env, config.env_params):
        notices.append(
            "environments on the host are in no checkpoint: each begins a new episode, and what "
            "follows differs from an uninterrupted run"
        )
    return Resumption(restored, notices)


def check_run(saved: Checkpoint, run_id: str, folder: Path) -> None:
    """Raise unless a checkpoint is of the run with this id; before there were ids it says none."""
    if saved.notes.get("run", "") != run_id:
        name = checkpoint.find(folder, saved.iteration)
        raise ValueError(f"{name} belongs to another run: move it away")


def load_state(
    directory: str | os.PathLike[str],
    *,
    best: bool = False,
    env: Any = None,
    network: Network | None = None,
    algorithm: AlgorithmFactory | None = None,
    optimizer: Optimizer | None = None,
) -> tuple[Config, TrainState]:
    """The config and a saved state [S, ...] of a run directory, to look into.

    Args:
        directory: as given to `run`.
        best: the state of the best greedy evaluation (mean over seeds), not the newest.
        env: again, if `run` was given one.
        network: again, if `run` was given one.
        algorithm: again, if `run` was given one.
        optimizer: again, if `run` was given one.

    Raises:
        ValueError: when the directory holds no such state, or a damaged one; or when a part is
            not given as it was to `run`.
    """
    folder = Path(directory) / "checkpoints"
    config, settings, began, run_id = read_description(Path(directory))
    given = Given(env, network, algorithm, optimizer)
    check_given(Path(directory), settings, given)
    check_state_flags(Path(directory), began)
    saved, _ = checkpoint.load_newest(folder)
    if saved is None:
        raise ValueError(f"there is no intact checkpoint in {folder}")
    check_run(saved, run_id, folder)
    if best:
        iteration = saved.notes["best"]["iteration"]
        path = None if iteration is None else checkpoint.find(folder, iteration)
        if path is None:
            raise ValueError(f"no checkpoint in {folder} has been evaluated yet")
        saved = checkpoint.load(path)
        check_run(saved, run_id, folder)
    programs = make_programs(config, given, settings)
    return config, restore(programs, settings.num_seeds, saved)


def check_given(directory: Path, settings: RunSettings, given: Given) -> None:
    """Refuse to go on without an object that a run was given, or with one that it was not.

    Raises:
        ValueError: naming what was given then and now.
    """
    then = [name for name in settings.given if name != "params"]
    if given.names != then:
        raise ValueError(
            f"{directory} was run with {' and '.join(then) or 'no part'} "
            f"given as objects; given now: {' and '.join(given.names) or 'none'}"
        )
