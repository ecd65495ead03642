"""The command line: `python -m jaxrl_po train ppo --env-id CartPole-v1 --num-seeds 4`.

Exit status: 0 done; 1 the disk, every seed diverged, or another error; 2 bad input; 75 stopped by
a signal after saving (EX_TEMPFAIL: start `resume`, or the sweep again, and it goes on, which is
what a batch system's requeue does); 130 stopped before there was anything to save.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from safetensors import SafetensorError

from jaxrl_po.algorithms import ALGORITHMS, config_class
from jaxrl_po.config import Config
from jaxrl_po.host.cli import report, rlhf
from jaxrl_po.host.cli.compilations import keep_compilations
from jaxrl_po.host.cli.flags import (
    Parser,
    add_fields,
    add_parameters,
    given_fields,
    given_parameters,
)
from jaxrl_po.host.cli.sweep import sweep_command
from jaxrl_po.host.machine.devices import device_mesh
from jaxrl_po.host.machine.files import new_directory
from jaxrl_po.host.machine.processes import ProcessLostError, connect, peers_of
from jaxrl_po.host.machine.signals import Interrupted
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.policies.export import export_policy
from jaxrl_po.host.policies.play import own_environment, play
from jaxrl_po.host.policies.policy import load_policy
from jaxrl_po.host.runs import logging
from jaxrl_po.host.runs.directory import read_description
from jaxrl_po.host.runs.evaluation import evaluate_run
from jaxrl_po.host.runs.result import RunResult
from jaxrl_po.host.runs.run import resume, run
from jaxrl_po.host.runs.terminal import speak_plainly
from jaxrl_po.host.simulators.pool import SimulatorError
from jaxrl_po.host.sweeps.table import Table
from jaxrl_po.host.tuned import tuned, tuned_table
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.version import __version__

FAILED, BAD_INPUT = 1, 2
INTERRUPTED = 75  # os.EX_TEMPFAIL, where there is one
STOPPED = 130  # what a shell says of SIGINT


def train_command(
    base: Config,
    fields: Mapping[str, Any],
    seed: int = 0,
    num_seeds: int = 1,
    directory: Path | None = None,
    segment_length: int | None = None,
    evaluate_every: int = 5,
    num_episodes: int = 128,
    devices: str | None = None,
    tensorboard: bool = False,
    wandb: str | None = None,
) -> None:
    """Train agents in a run directory, show progress, and report the return of the final policies.

    Args:
        base: the algorithm and its settings
        fields: other values of some settings
        seed: seed of the first agent
        num_seeds: agents to train side by side, with consecutive seeds
        directory: where to keep the run; by default a new folder under runs/
        segment_length: iterations between two checkpoints; by default there are 20
        evaluate_every: segments between two evaluations
        num_episodes: episodes of an evaluation
        devices: all, or how many, to cut the environments over; needs minibatch_shards
        tensorboard: log for TensorBoard too
        wandb: log to this project of Weights & Biases too
    """
    config = base.replace(**fields)
    make_parts(config, None, None)  # before anything is named after its environment
    name = f"{config.env_id}_{config.algorithm.rpartition(':')[2]}_seed{seed}"
    peers = peers_of(device_mesh(_devices(devices)))
    path = directory or Path(peers.told(lambda: str(new_directory(name))))
    result = run(
        config,
        seed=seed,
        num_seeds=num_seeds,
        directory=path,
        segment_length=segment_length,
        evaluate_every=evaluate_every,
        num_episodes=num_episodes,
        devices=_devices(devices),
        loggers=_loggers(config, path, tensorboard, wandb),
    )
    _leave_if_lost(result)


def resume_command(
    directory: Path,
    total_timesteps: int | None = None,
    devices: str | None = None,
    tensorboard: bool = False,
    wandb: str | None = None,
) -> None:
    """Go on with a run from its newest intact checkpoint, to the bit.

    Args:
        directory: the run directory
        total_timesteps: a larger budget than the run began with
        devices: all, or how many, to cut the environments over; as many as before or others
        tensorboard: log for TensorBoard too
        wandb: log to this project of Weights & Biases too
    """
    config = read_description(directory, peers_of(device_mesh(_devices(devices)))).config
    if total_timesteps is not None:
        config = config.replace(total_timesteps=total_timesteps)
    loggers = _loggers(config, directory, tensorboard, wandb)
    _leave_if_lost(resume(directory, config, devices=_devices(devices), loggers=loggers))


def evaluate_command(
    directory: Path, num_episodes: int = 128, seed: int = 0, newest: bool = False
) -> None:
    """Play fresh episodes with the policies of a run, in its own environment.

    Args:
        directory: the run directory
        num_episodes: of each seed, each way: greedy and sampled
        seed: of the episodes
        newest: evaluate the newest checkpoint, not the one with the best greedy evaluation
    """
    print(evaluate_run(directory, num_episodes, seed, best=not newest))


def play_command(
    directory: Path,
    env: str | None = None,
    episodes: int = 20,
    seed: int = 0,
    sampled: bool = False,
    gif: str | None = None,
) -> None:
    """Let a saved policy play, in the real Gymnasium or in gymnax.

    Args:
        directory: a run directory or a policy folder
        env: gymnasium:NAME or gymnax:NAME; by default the environment it was trained in
        episodes: how many
        seed: of the first episode
        sampled: sample actions instead of taking the most likely ones
        gif: a file to draw the first episode into
    """
    policy = load_policy(directory)
    returns, lengths = play(policy, env, episodes, seed=seed, sampled=sampled, gif=gif)
    name = env or own_environment(policy)
    spread = f" ± {returns.std():.2f}" if episodes > 1 else ""
    print(
        f"{name}: return {returns.mean():.2f}{spread}, length {lengths.mean():.1f}, "
        f"over {counted(episodes, 'episode')}"
    )
    if gif:
        print(f"first episode: {gif}")


def export_command(directory: Path, out: Path | None = None) -> None:
    """Write a saved policy as programs that run without this library.

    Args:
        directory: a run directory or a policy folder
        out: where to; by default the folder "export" in the directory
    """
    for path in export_policy(directory, out):
        print(path)


TRAINING: dict[str, Callable[..., Any]] = {"train": train_command, "sweep": sweep_command}
COMMANDS: dict[str, Callable[..., Any]] = {
    "resume": resume_command,
    "evaluate": evaluate_command,
    "play": play_command,
    "export": export_command,
    **report.COMMANDS,
}


FAILURES = (
    OSError,
    MemoryError,
    ProcessLostError,
    SimulatorError,
    SafetensorError,  # of a disk that is full
    jax.errors.JaxRuntimeError,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command that the arguments name; an error ends with one line, see above."""
    speak_plainly()
    if not {"", os.getcwd()} & set(sys.path):  # where `python -m` finds modules of one's own
        sys.path.append("")
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        own = [name for name in arguments[1:2] if ":" in name]
        parsed = make_parser(own).parse(arguments)
        _connect(parsed)
        _check_platform()
        keep_compilations()
        _run_command(parsed)
    except Interrupted as interruption:
        _leave(str(interruption), INTERRUPTED)
    except KeyboardInterrupt:
        _leave("stopped", STOPPED)
    except ValueError as error:
        _leave(f"error: {error}", BAD_INPUT)
    except BrokenPipeError:  # who read along has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except FAILURES as error:
        _leave(f"error: {str(error) or type(error).__name__}", FAILED)


def make_parser(own: Sequence[str] = ()) -> Parser:
    """All commands; `train` and `sweep` have one for each algorithm, with its config's fields.

    Args:
        own: further algorithms, as "module:Class".
    """
    parser = Parser(prog="python -m jaxrl_po", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"jaxrl_po {__version__}")
    parser.add_argument("--list-tuned", action=ListTuned)
    commands = parser.add_commands()
    for name, command in TRAINING.items():
        methods_parser = commands(name, command)
        methods_parser.add_argument("--list-tuned", action=ListTuned)
        methods = methods_parser.add_commands()
        for algorithm in (*ALGORITHMS, *own):
            cls = config_class(algorithm)
            method = methods(algorithm, cls)
            method.fill = functools.partial(_add_training_flags, method, command, cls)
    for name, command in COMMANDS.items():
        parser_of_command = _add_command(commands, name, command)
        if command is resume_command:
            add_parameters(parser_of_command, connect)
    language = commands("rlhf", rlhf).add_commands()
    for name, command in rlhf.COMMANDS.items():
        _add_command(language, name, command)
    for algorithm in ALGORITHMS:
        cls = config_class(algorithm)
        method = language(algorithm, cls)
        method.fill = functools.partial(rlhf.add_update_flags, method, cls)
    return parser


def _add_command(
    commands: Callable[[str, Any], Parser], name: str, command: Callable[..., Any]
) -> Parser:
    parser = commands(name, command)
    parser.set_defaults(command=command)
    add_parameters(parser, command)
    return parser


def _add_training_flags(
    parser: Parser, command: Callable[..., None], config_class: type[Config]
) -> None:
    parser.usage = f"{parser.prog} [FLAGS]"
    parser.set_defaults(command=command, config_class=config_class)
    parser.add_argument("--list-tuned", action=ListTuned)
    parser.add_flag("tuned", "begin with what is tuned for the environment", bool)
    add_parameters(parser, command)
    if command is train_command:
        add_parameters(parser, connect)
    add_fields(parser, config_class(), texts=command is sweep_command)


class ListTuned(argparse.Action):
    """List the tuned settings, and end."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        """A flag without a value."""
        text = "list what is tuned: method, environment, budget, return measured over seeds"
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=text)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the table."""
        rows = tuned_table()
        print(Table(rows).text(len(rows)))
        parser.exit()


def _connect(parsed: argparse.Namespace) -> None:
    """Make this process one of several, where flags ask for it."""
    place = given_parameters(parsed, connect)
    if not place:
        return
    if getattr(parsed, "devices", None) != "all":
        raise ValueError("coordinator needs devices=all beside it")
    connect(**place)


def _check_platform() -> None:
    """Refuse what JAX_PLATFORMS asks for and this machine lacks, in JAX's own words."""
    try:
        jax.devices()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def _run_command(parsed: argparse.Namespace) -> None:
    parameters = given_parameters(parsed, parsed.command)
    if "config_class" not in parsed:
        parsed.command(**parameters)
        return
    base, fields = parsed.config_class(), given_fields(parsed)
    if getattr(parsed, "tuned", False):
        base = tuned(base.algorithm, fields.get("env_id", base.env_id))
    parsed.command(base, fields, **parameters)


def _devices(text: str | None) -> str | int | None:
    """A number of devices, or the word that stands for them."""
    return int(text) if text is not None and text.isdecimal() else text


def _leave_if_lost(result: RunResult) -> None:
    if len(result.diverged) == len(result.state.iteration):
        _leave("error: every seed diverged", FAILED)


def _leave(message: str, status: int) -> NoReturn:
    print(" ".join(map(str.strip, message.splitlines())), file=sys.stderr, flush=True)
    if jax.distributed.is_initialized() and status != INTERRUPTED:
        sys.stdout.flush()
        os._exit(status)  # JAX's own end would wait for the processes that wait for this one
    sys.exit(status)


def _loggers(
    config: Config, directory: Path, tensorboard: bool, wandb: str | None
) -> list[logging.Logger]:
    loggers = []
    if tensorboard:
        loggers.append(logging.tensorboard_logger(directory))
    if wandb:
        loggers.append(logging.wandb_logger(wandb, config.to_dict(), directory))
    return loggers
