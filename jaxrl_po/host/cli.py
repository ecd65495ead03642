"""The command line: `python -m jaxrl_po train ppo --env-id CartPole-v1 --num-seeds 4`.

Exit status: 0 done; 1 the disk, or another error; 2 bad input; 75 stopped by a signal after saving
(EX_TEMPFAIL: start `resume`, or the sweep again, and it goes on, which is what a batch system's
requeue does); 130 stopped before there was anything to save.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union

import jax
import tyro

from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.config import Config
from jaxrl_po.host import logging
from jaxrl_po.host.directory import read_description
from jaxrl_po.host.export import export_policy
from jaxrl_po.host.files import new_directory
from jaxrl_po.host.play import play
from jaxrl_po.host.policy import load_policy
from jaxrl_po.host.run import resume, run
from jaxrl_po.host.signals import Interrupted
from jaxrl_po.host.sweep_cli import sweep_command

INTERRUPTED = 75  # os.EX_TEMPFAIL, where there is one
STOPPED = 130  # what a shell says of SIGINT

_CHOICES = tuple(
    Annotated[config_class, tyro.conf.subcommand(name, prefix_name=False)]
    for name, (config_class, _) in ALGORITHMS.items()
)


def train(
    config: Config,
    seed: int = 0,
    num_seeds: int = 1,
    directory: str | None = None,
    segment_length: int | None = None,
    evaluate_every: int = 5,
    num_episodes: int = 128,
    tensorboard: bool = False,
    wandb: str | None = None,
) -> None:
    """Train agents in a run directory, show progress, and report the return of the final policies.

    Args:
        config: the algorithm and its settings.
        seed: seed of the first agent
        num_seeds: agents to train side by side, with consecutive seeds
        directory: where to keep the run; by default a new folder under runs/
        segment_length: iterations between two checkpoints; by default there are 20
        evaluate_every: segments between two evaluations
        num_episodes: episodes of an evaluation
        tensorboard: log for TensorBoard too
        wandb: log to this project of Weights & Biases too
    """
    path = Path(directory or new_directory(f"{config.env_id}_{config.algorithm}_seed{seed}"))
    run(
        config,
        seed=seed,
        num_seeds=num_seeds,
        directory=path,
        segment_length=segment_length,
        evaluate_every=evaluate_every,
        num_episodes=num_episodes,
        loggers=_loggers(config, path, tensorboard, wandb),
    )


# One subcommand for each algorithm, its config's fields as flags beside those of the command.
train.__annotations__["config"] = Annotated[Union[_CHOICES], tyro.conf.arg(name="")]  # noqa: UP007


def resume_command(
    directory: tyro.conf.Positional[str],
    total_timesteps: int | None = None,
    tensorboard: bool = False,
    wandb: str | None = None,
) -> None:
    """Go on with a run from its newest intact checkpoint, to the bit.

    Args:
        directory: the run directory
        total_timesteps: a larger budget than the run began with
        tensorboard: log for TensorBoard too
        wandb: log to this project of Weights & Biases too
    """
    config = read_description(Path(directory)).config
    if total_timesteps is not None:
        config = config.replace(total_timesteps=total_timesteps)
    resume(directory, config, loggers=_loggers(config, Path(directory), tensorboard, wandb))


def play_command(
    directory: tyro.conf.Positional[str],
    env: str,
    episodes: int = 20,
    seed: int = 0,
    sampled: bool = False,
    gif: str | None = None,
) -> None:
    """Let a saved policy play, in the real Gymnasium or in gymnax.

    Args:
        directory: a run directory or a policy folder
        env: gymnasium:NAME or gymnax:NAME
        episodes: how many
        seed: of the first episode
        sampled: sample actions instead of taking the most likely ones
        gif: a file to draw the first episode into
    """
    results = play(load_policy(directory), env, episodes, seed=seed, sampled=sampled, gif=gif)
    returns, lengths = results
    print(
        f"{env}: return {returns.mean():.2f} ± {returns.std():.2f}, "
        f"length {lengths.mean():.1f}, over {episodes} episodes"
    )
    if gif:
        print(f"first episode: {gif}")


def export_command(directory: tyro.conf.Positional[str], out: str | None = None) -> None:
    """Write a saved policy as programs that run without this library.

    Args:
        directory: a run directory or a policy folder
        out: where to; by default the folder "export" in the directory
    """
    for path in export_policy(directory, out):
        print(path)


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": tyro.conf.configure(tyro.conf.CascadeSubcommandArgs)(train),
    "sweep": tyro.conf.configure(tyro.conf.CascadeSubcommandArgs)(sweep_command),
    "resume": resume_command,
    "play": play_command,
    "export": export_command,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command that the arguments name; an error ends with one line, see above."""
    _cache_compilations()
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS, args=arguments, prog="python -m jaxrl_po", description=__doc__
        )
    except Interrupted as interruption:
        _leave(str(interruption), INTERRUPTED)
    except KeyboardInterrupt:
        _leave("stopped", STOPPED)
    except ValueError as error:
        _leave(f"error: {error}", 2)
    except OSError as error:
        _leave(f"error: {error}", 1)


def _leave(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)


def _cache_compilations() -> None:
    """Keep compiled programs between commands, unless JAX_COMPILATION_CACHE_DIR says where."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(root) / "jaxrl_po"))


def _loggers(
    config: Config, directory: Path, tensorboard: bool, wandb: str | None
) -> list[logging.Logger]:
    loggers = []
    if tensorboard:
        loggers.append(logging.tensorboard_logger(directory))
    if wandb:
        loggers.append(logging.wandb_logger(wandb, config.to_dict(), directory))
    return loggers
