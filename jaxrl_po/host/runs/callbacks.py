"""Callbacks of a run: each sees what the host sees between two segments, and may end the run."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.host.runs.segments import Assessment
from jaxrl_po.types import TrainState


class Moment(NamedTuple):
    """A run between two segments; S seeds, C iterations of the segment, E episodes."""

    config: Config
    seeds: list[int]  # [S]
    iteration: int  # done so far
    state: TrainState  # [S, ...]; the next segment takes its buffers: copy what you keep
    metrics: dict[str, np.ndarray]  # [S, C] each; of seeds that diverged, what they had
    evaluation: Assessment | None  # [S, E] each way, where it was time for one


# Whether the run is to end here, with a last evaluation and checkpoint; None is no.
Callback = Callable[[Moment], bool | None]


def stop_at_return(value: float) -> Callback:
    """End a run once the mean greedy return over seeds and episodes of an evaluation reaches it.

    Examples:
        >>> from jaxrl_po import PPOConfig, run
        >>> config = PPOConfig(num_envs=2, num_steps=8, total_timesteps=640)
        >>> settings = {"segment_length": 1, "evaluate_every": 1, "num_episodes": 4, "quiet": True}
        >>> run(config, callbacks=[stop_at_return(1)], **settings).timesteps
        16
    """

    def reached(moment: Moment) -> bool:
        evaluation = moment.evaluation
        return evaluation is not None and bool(evaluation.greedy.episode_return.mean() >= value)

    return reached
