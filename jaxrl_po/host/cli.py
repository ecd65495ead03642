"""The command line: `python -m jaxrl_po train ppo --env-id CartPole-v1 --num-seeds 4`."""

import sys
from typing import Annotated, Union

import tyro

from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.config import Config
from jaxrl_po.host.run import run

_CHOICES = tuple(
    Annotated[config_class, tyro.conf.subcommand(name, prefix_name=False)]
    for name, (config_class, _) in ALGORITHMS.items()
)


def train(config: Config, seed: int = 0, num_seeds: int = 1) -> None:
    """Train agents, show progress, and report the return of the final policies.

    Args:
        config: the algorithm and its settings.
        seed: seed of the first agent
        num_seeds: agents to train side by side, with consecutive seeds
    """
    run(config, seed=seed, num_seeds=num_seeds)


# One subcommand for each algorithm, its config's fields as flags beside those of the command.
train.__annotations__["config"] = Annotated[Union[_CHOICES], tyro.conf.arg(name="")]  # noqa: UP007


def main(arguments: list[str] | None = None) -> None:
    """Run the command that the arguments name; bad input ends with one line and exit status 2."""
    commands = {"train": tyro.conf.configure(tyro.conf.CascadeSubcommandArgs)(train)}
    try:
        tyro.extras.subcommand_cli_from_dict(commands, args=arguments, prog="jaxrl_po")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
