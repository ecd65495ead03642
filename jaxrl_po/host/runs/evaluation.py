"""The policies of a run directory, evaluated again on episodes of their own."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.machine import arguments
from jaxrl_po.host.machine.arguments import integer
from jaxrl_po.host.machine.execution import compile_blocks, join_blocks, split_members
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.runs.directory import read_description
from jaxrl_po.host.runs.result import over_seeds
from jaxrl_po.host.runs.run import load_state
from jaxrl_po.host.runs.segments import Assessment
from jaxrl_po.host.simulators.evaluation import Evaluator
from jaxrl_po.loop.evaluate import Evaluation, evaluate
from jaxrl_po.loop.parts import Given, make_parts
from jaxrl_po.types import AlgorithmFactory, Array, Network, Optimizer, TrainState

UNSEEN = 2**31  # from which on numbers of evaluations on the host are none of a run's iterations


class RunEvaluation(NamedTuple):
    """What `evaluate_run` returns; S seeds, E episodes each way."""

    env_id: str
    seeds: list[int]  # [S], of the training runs
    iterations: list[int]  # [S], that the policies have behind them
    sampled: Evaluation  # [S, E]
    greedy: Evaluation  # [S, E], of the most likely actions

    def __str__(self) -> str:
        """Means and, over several seeds, standard deviations of their means."""
        num_seeds, num_episodes = np.shape(self.sampled.episode_return)
        return (
            f"{self.env_id} after iteration {max(self.iterations)}: "
            f"return {over_seeds(self.sampled.episode_return)} sampled, "
            f"{over_seeds(self.greedy.episode_return)} greedy; "
            f"length {over_seeds(self.sampled.episode_length)} sampled, "
            f"{over_seeds(self.greedy.episode_length)} greedy "
            f"({counted(num_seeds, 'seed')} x {counted(num_episodes, 'episode')})"
        )


def evaluate_run(
    directory: str | os.PathLike[str],
    num_episodes: int = 128,
    seed: int = 0,
    *,
    best: bool = True,
    env: Any = None,
    network: Network | None = None,
    algorithm: AlgorithmFactory | None = None,
    optimizer: Optimizer | None = None,
    max_episode_steps: int | None = None,
) -> RunEvaluation:
    """Evaluate the policies of all seeds of a run in its own environment, both ways.

    The episodes are none of those that the run was evaluated on: what was best there by chance is
    not so here.

    Args:
        directory: as given to `run`.
        num_episodes: E, of each seed, each way.
        seed: of the episodes.
        best: the states of the best greedy evaluation (mean over seeds), not the newest.
        env: again, if `run` was given one.
        network: again, if `run` was given one.
        algorithm: again, if `run` was given one.
        optimizer: again, if `run` was given one.
        max_episode_steps: bound on an episode's steps; None for the run's.

    Raises:
        ValueError: naming what is out of range, or what the directory lacks.
    """
    num_episodes = integer("num_episodes", num_episodes)
    key = jax.random.key(arguments.seeds(seed, 1).start)
    _, settings, *_ = read_description(Path(directory))
    if max_episode_steps is None:
        max_episode_steps = settings.max_episode_steps
    max_steps = integer("max_episode_steps", max_episode_steps)
    given = Given(env, network, algorithm, optimizer)
    config, states = load_state(directory, best=best, **given._asdict())

    def assess(member: tuple[TrainState, Array], key: Array) -> Assessment:
        state, number = member
        ways = zip(jax.random.split(jax.random.fold_in(key, number)), (True, False), strict=True)
        return Assessment(
            *(
                evaluate(
                    config,
                    state,
                    key,
                    num_episodes,
                    deterministic,
                    env=env,
                    network=network,
                    max_steps=max_steps,
                )
                for key, deterministic in ways
            )
        )

    seeds = list(range(settings.seed, settings.seed + settings.num_seeds))
    numbers = np.array(seeds, np.uint32)
    if host := host_environment(config.env_id, env, config.env_params):
        keys = jax.vmap(lambda number: jax.random.split(jax.random.fold_in(key, number)))(numbers)
        evaluator = Evaluator(host, *make_parts(config, env, network))
        episodes = num_episodes, max_steps
        both = evaluator.evaluate(states, keys, seeds, UNSEEN + seed, *episodes)
        greedy, sampled = jax.tree.map(np.asarray, both)
    else:
        blocks = split_members((states, numbers))
        assessment = join_blocks(compile_blocks(assess, blocks, key)(blocks, key))
        greedy, sampled = jax.tree.map(np.asarray, assessment)
    name = config.env_id if env is None else type(env).__name__
    return RunEvaluation(name, seeds, np.asarray(states.iteration).tolist(), sampled, greedy)
