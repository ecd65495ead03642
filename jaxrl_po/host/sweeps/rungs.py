"""The stages of a sweep: which settings train in each, under what, and where they go on from."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from jaxrl_po.config import Config
from jaxrl_po.host.sweeps.members import Outcome
from jaxrl_po.host.sweeps.ranges import Setting


class Rung(NamedTuple):
    """A stage of a sweep."""

    num_settings: int  # that take part
    fraction: float | Fraction  # of a setting's horizon that is done at its end


class Generation(NamedTuple):
    """The settings that train in a rung, by their numbers."""

    settings: dict[int, Setting]
    configs: dict[int, Config]
    parents: dict[int, int]  # whose members each goes on from: its own, unless it was replaced
    news: str = ""  # what is told of it

    def only(self, numbers: Iterable[int], news: str) -> "Generation":
        """These settings going on."""
        chosen = sorted(numbers)
        return Generation(
            {i: self.settings[i] for i in chosen},
            {i: self.configs[i] for i in chosen},
            {i: i for i in chosen},
            news,
        )


def first_generation(settings: Sequence[Setting], configs: Sequence[Config]) -> Generation:
    """All settings, as a sweep begins."""
    numbers = range(len(settings))
    return Generation(
        dict(enumerate(settings)),
        dict(enumerate(configs)),
        dict(zip(numbers, numbers, strict=True)),
    )


# the rung to come, the generation before it, outcomes of its settings' members -> who trains in it
Follow = Callable[[int, Generation, Sequence[Sequence[Outcome]]], Generation]


class Course(NamedTuple):
    """How a sweep goes from rung to rung."""

    rungs: list[Rung]
    horizon: float  # what a setting trains for that stays to the end, in units of its budget
    follow: Follow
