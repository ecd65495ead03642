"""Training runs with a directory around them: start one, resume one, look into one."""

import functools
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jaxrl_po.algorithms import make_algorithm
from jaxrl_po.config import Config
from jaxrl_po.host.machine.arguments import integer, seeds
from jaxrl_po.host.machine.conditions import check_state_flags
from jaxrl_po.host.machine.devices import Devices, device_mesh, mesh_of_run
from jaxrl_po.host.machine.files import lock
from jaxrl_po.host.machine.processes import peers_of
from jaxrl_po.host.runs import checkpoint
from jaxrl_po.host.runs.callbacks import Callback
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
from jaxrl_po.host.runs.loop import Session, run_session
from jaxrl_po.host.runs.result import RunResult
from jaxrl_po.host.runs.resumption import Resumption, check_run, find_checkpoint, found_by_first
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
    peers = peers_of(mesh)
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
    console = make_console(quiet or not peers.first)
    description = describe(config, settings, mesh.size if mesh else 1)
    path = None if directory is None else Path(directory)
    session = Session(
        description, given, path, until, loggers, callbacks, console, peers, params, mesh
    )
    with peers.together(path), ExitStack() as held:
        check_callbacks(session)
        if path is not None:
            peers.told(functools.partial(begin, path, description, held))
            console.print(f"run directory: {path}", soft_wrap=True, markup=False, highlight=False)
        return run_session(session, None)


def begin(path: Path, description: Description, held: ExitStack) -> None:
    """Make a directory that of a run, locked for as long as it is held.

    Raises:
        ValueError: naming what a run would write over.
    """
    refuse_occupied(path)  # before the lock leaves a file there
    held.enter_context(lock(path))
    refuse_occupied(path)
    write_description(path, description)


def check_callbacks(session: Session) -> None:
    """Raise, in each process, unless all have as many callbacks: they are called in all."""
    count = session.peers.told(lambda: len(session.callbacks))
    if session.peers.some(count != len(session.callbacks)):
        raise ValueError(
            f"callbacks: the first process has {count}, and each must be given the same ones"
        )


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
    path, peers = Path(directory), peers_of(device_mesh(devices))
    console = make_console(quiet or not peers.first)
    saved, settings, began, run_id = read_description(path, peers)
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
    session = Session(
        description, given, path, until, loggers, callbacks, console, peers, mesh=mesh
    )
    with peers.together(path), ExitStack() as held:

        def find() -> Resumption | None:
            held.enter_context(lock(path))
            num_devices = mesh.size if mesh else 1
            resumption = find_checkpoint(path, description, env, num_devices, session.warn)
            if config != saved:
                written = (path / "config.json").stat()
                write_description(path, description)
                # A report takes its time for when the run began, and speeds from it.
                times = written.st_atime_ns, written.st_mtime_ns
                os.utime(path / "config.json", ns=times)
            return resumption

        check_callbacks(session)
        return run_session(session, found_by_first(peers, find))


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
