"""What a run returns, and how it reads in the terminal."""

from typing import NamedTuple

import numpy as np

from jaxrl_po.host.machine.wording import counted
from jaxrl_po.loop.evaluate import Evaluation
from jaxrl_po.types import Array, TrainState


class RunResult(NamedTuple):
    """What `run` and `resume` return; S seeds, I iterations of this call, E episodes."""

    state: TrainState  # [S, ...]
    metrics: dict[str, np.ndarray]  # [S, I] each; NaN after a seed diverged
    evaluation: Evaluation  # [S, E], of the final policies, sampled
    greedy_evaluation: Evaluation  # [S, E], of their most likely actions
    diverged: dict[int, int]  # seed -> iteration that was not finite, of those that froze
    timesteps: int  # environment steps of this call, over all seeds
    compile_seconds: float
    train_seconds: float
    evaluation_seconds: float
    host_seconds: float  # logs and checkpoints


def summary(result: RunResult) -> str:
    """The final policies' return over seeds, and what training took."""
    num_seeds, num_episodes = result.evaluation.episode_return.shape
    text = (
        f"final return {over_seeds(result.evaluation.episode_return)} sampled, "
        f"{over_seeds(result.greedy_evaluation.episode_return)} greedy "
        f"({counted(num_seeds, 'seed')} x {counted(num_episodes, 'episode')})"
    )
    if result.metrics and not np.nansum(result.metrics["num_episodes"]):
        text += "\nno episode finished in training"
    if result.diverged:
        lost = (f"seed {s} in iteration {n}" for s, n in sorted(result.diverged.items()))
        text += f"\ndiverged: {', '.join(lost)}; they stand at their last finite state"
    if not result.timesteps:  # there was nothing left to do
        return text
    train_seconds = result.train_seconds
    running = train_seconds + result.evaluation_seconds + result.host_seconds
    return (
        f"{text}\n"
        f"{result.timesteps:,} steps in {train_seconds:.1f} s: "
        f"{result.timesteps / train_seconds:,.0f} steps/s; "
        f"compiling took {result.compile_seconds:.1f} s\n"
        f"evaluation took {result.evaluation_seconds / running:.1%} of the time, "
        f"logs and checkpoints {result.host_seconds / running:.1%}"
    )


def over_seeds(values: np.ndarray | Array) -> str:
    """Mean and standard deviation over seeds of each one's mean [S, E]; one has no spread."""
    means = np.asarray(values).mean(axis=1)
    known = means[np.isfinite(means)]
    if not known.size:
        return "not finite"
    text = f"{known.mean():.1f}"
    if known.size > 1:
        text += f" ± {known.std():.1f}"
    if known.size < means.size:
        text += f" (of {counted(known.size, 'finite one')})"
    return text
