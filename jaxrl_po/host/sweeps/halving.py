"""Sequential halving (Karnin, Koren & Somekh 2013): who trains on, and for how long."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl_po.host.sweeps.members import Outcome
from jaxrl_po.host.sweeps.results import scores
from jaxrl_po.host.sweeps.rungs import Course, Generation, Rung


def single_rung(num_settings: int) -> tuple[list[Rung], float]:
    """No pruning: every setting trains for its whole budget."""
    return [Rung(num_settings, 1.0)], 1.0


def halving_rungs(num_settings: int) -> tuple[list[Rung], float]:
    """Rungs of equal cost, each with the better half of the settings of the one before.

    P settings of budget 1 each make R = ⌈log₂ P⌉ rungs of cost P / R. Rung r has P_r = ⌈P / 2^r⌉
    settings, which share it: each gets P / (R P_r). The whole costs what it costs without pruning.

    Returns:
        The rungs, and the horizon: the sum of what a setting gets that stays to the end.
    """
    num_rungs = max(1, math.ceil(math.log2(num_settings)))
    sizes = [math.ceil(num_settings / 2**r) for r in range(num_rungs)]
    shares = [num_settings / (num_rungs * size) for size in sizes]
    horizon = sum(shares)
    done = [sum(shares[: r + 1]) / horizon for r in range(num_rungs - 1)]
    return [Rung(*rung) for rung in zip(sizes, [*done, 1.0], strict=True)], horizon


# prune -> the rungs of so many settings, and the horizon: what a setting trains for that stays
PRUNERS: dict[str | None, Callable[[int], tuple[list[Rung], float]]] = {
    None: single_rung,
    "halving": halving_rungs,
}


def pruned_course(prune: str | None, num_settings: int) -> Course:
    """The course of a sweep in which the best settings train on as they are."""
    rungs, horizon = PRUNERS[prune](num_settings)
    return Course(rungs, horizon, functools.partial(_best_of, rungs))


def _best_of(
    rungs: Sequence[Rung],
    number: int,
    generation: Generation,
    outcomes: Sequence[Sequence[Outcome]],
) -> Generation:
    """The best settings of a generation, as many as rung `number` has."""
    count = rungs[number].num_settings
    order = np.argsort(-scores(outcomes), kind="stable")
    numbers = list(generation.settings)
    return generation.only(
        (numbers[i] for i in order[:count]), f"halving: {count} settings train on"
    )
