"""Sequential halving (Karnin, Koren & Somekh 2013): who trains on, and for how long."""

import math
from collections.abc import Callable
from typing import NamedTuple


class Rung(NamedTuple):
    """A stage of a sweep."""

    num_settings: int  # that take part, the best so far
    fraction: float  # of a setting's horizon that is done at its end


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
