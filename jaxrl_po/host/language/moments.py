"""What a visit to an RLHF run finds, what callbacks see of it, and what a run gives back."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.train import RLHFState


class Assessment(NamedTuple):
    """The policy on held-out prompts, beside its reference."""

    score: float  # mean of the policy's answers
    reference_score: float
    win_rate: float  # against the reference, prompt by prompt, ties half
    left_out: int  # prompts with a score that is not finite, which count in none of these
    kl: float  # nats a response, exact given each token


class Moment(NamedTuple):
    """A run at a visit."""

    config: RLHFConfig
    iteration: int  # done so far
    state: RLHFState  # the next iteration takes its buffers: copy what you keep
    metrics: dict[str, np.ndarray]  # [C] each, since the visit before
    evaluation: Assessment | None


class RLHFRun(NamedTuple):
    """What has come of a run."""

    state: RLHFState
    metrics: dict[str, np.ndarray]  # [I] each, of the iterations of this session
    evaluations: list[tuple[int, Assessment]]  # of this session, with their iterations
    seconds: dict[str, float]  # compile, train, evaluate, host


Callback = Callable[[Moment], bool | None]


class Settings(NamedTuple):
    """What a run is beside its config."""

    seed: int
    visit_every: int
    keep_checkpoints: int
    num_samples: int
