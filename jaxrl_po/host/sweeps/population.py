"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846): who goes on from whom."""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.config import ANY, ENV_PARAMS, Config
from jaxrl_po.config.messages import described
from jaxrl_po.host.machine.arguments import integer
from jaxrl_po.host.sweeps.members import Outcome
from jaxrl_po.host.sweeps.ranges import Interval, Setting, Space, configure, is_data
from jaxrl_po.host.sweeps.results import scores
from jaxrl_po.host.sweeps.rungs import Course, Generation, Rung
from jaxrl_po.host.sweeps.table import Table


class PopulationBased(NamedTuple):
    """Population-based training: what `sweep(..., evolve=PopulationBased())` does after each round.

    The worst settings are replaced (truncation selection): each takes over the training of one of
    the best, seed by seed, and its values, moved a little. A value that the space gives as a range
    is multiplied by one of the factors, within what its field allows; one that the space lists
    moves to a neighbour in the list.
    """

    num_rounds: int = 10  # R, of equal length
    fraction: float = 0.2  # of the settings that are replaced after a round, at least one
    factors: tuple[float, float] = (0.8, 1.2)


class Evolution(NamedTuple):
    """How the population of a sweep evolves."""

    population: PopulationBased
    config: Config  # what the fields outside the space are set to
    choices: dict[str, list[float]]  # fields that the space lists -> their values, in order
    seed: int  # of what is drawn

    def identity(self) -> dict[str, Any]:
        """What it depends on beside the sweep's config, settings and seed."""
        return {**self.population._asdict(), "choices": self.choices}

    def course(self, num_settings: int) -> Course:
        """Rounds of equal length in which all settings train."""
        count = self.population.num_rounds
        rungs = [Rung(num_settings, Fraction(r + 1, count)) for r in range(count)]
        return Course(rungs, 1.0, self.follow)

    def follow(
        self, number: int, generation: Generation, outcomes: Sequence[Sequence[Outcome]]
    ) -> Generation:
        """The population of round `number`.

        What is drawn depends on the sweep's seed and the round alone, and is as much whoever is
        replaced: so a sweep that was stopped goes on as it would have, wherever it runs.
        """
        settings = generation.settings
        shape = len(settings), 1 + len(settings[0])
        draws = np.random.default_rng([self.seed, number]).random(shape)
        diverged = np.array([any(o.row["diverged"] for o in seeds) for seeds in outcomes])
        parents = selected(scores(outcomes), diverged, self.population.fraction, draws[:, 0])
        settings = {
            i: settings[i] if parent == i else self.explored(settings[parent], draws[i, 1:])
            for i, parent in enumerate(parents)
        }
        configs = {i: configure(self.config, setting) for i, setting in settings.items()}
        moved = [f"{i} from {parent}" for i, parent in enumerate(parents) if parent != i]
        news = f"round {number + 1}: setting {', '.join(moved)}" if moved else ""
        return Generation(settings, configs, dict(enumerate(parents)), news)

    def explored(self, setting: Setting, draws: np.ndarray) -> Setting:
        """A setting with its values moved, each down or up with probability 1/2.

        Args:
            setting: of the parent.
            draws: a number from [0, 1) for each field.
        """
        moves = zip(setting.items(), draws >= 0.5, strict=True)
        return {name: self._moved(name, value, bool(up)) for (name, value), up in moves}

    def _moved(self, name: str, value: float, up: bool) -> float:
        if name in self.choices:
            choices = self.choices[name]
            neighbour = choices.index(value) + (1 if up else -1)
            return choices[min(max(neighbour, 0), len(choices) - 1)]
        allowed = _allowed(self.config, name)
        moved = value * self.population.factors[up]
        moved = float(min(max(moved, allowed.low), allowed.high))
        return moved if moved in allowed else value


def selected(
    returns: np.ndarray, diverged: np.ndarray, fraction: float, draws: np.ndarray
) -> list[int]:
    """Truncation selection: the setting that each goes on from [P], itself where it stays.

    The worst n settings are each replaced by one of the best n, all alike likely; n is the whole
    number next to P · fraction, but 1 at least, and half of those that are compared at most. Those
    that diverged are the worst, and all replaced. One without a return, for no episode has
    finished yet, is not compared: it may be the one that lives longest.

    Args:
        returns: [P], NaN where there is none.
        diverged: [P] whether any of a setting's members did.
        fraction: of the settings that are replaced.
        draws: numbers from [0, 1) [P], by which those who are replaced choose.
    """
    parents = np.arange(len(returns))
    compared = np.flatnonzero(np.isfinite(returns) & ~diverged)
    order = compared[np.argsort(-returns[compared], kind="stable")]
    if order.size:
        num = min(max(1, round(fraction * len(returns))), max(1, order.size // 2))
        best = order[:num]
        num_others = min(max(0, num - int(diverged.sum())), order.size // 2)
        worst = np.union1d(order[order.size - num_others :], np.flatnonzero(diverged))
        parents[worst] = best[(draws[worst] * best.size).astype(int)]
    return [int(parent) for parent in parents]


def lineage(
    generations: Sequence[Generation], history: Sequence[Mapping[int, Sequence[Outcome]]]
) -> Table:
    """A row for each round and setting: where it came from, its values, its return at the end.

    Args:
        generations: of each round.
        history: outcomes of each round's members, by the number of their setting.
    """
    rounds = enumerate(zip(generations, history, strict=True))
    return Table(
        [
            {
                "round": number + 1,
                "timesteps": seeds[0].row["timesteps"],
                "setting": i,
                "parent": generation.parents[i],
                **generation.settings[i],
                "final_return": float(value),
                "num_diverged": sum(outcome.row["diverged"] for outcome in seeds),
            }
            for number, (generation, outcomes) in rounds
            for (i, seeds), value in zip(
                outcomes.items(), scores(list(outcomes.values())), strict=True
            )
        ]
    )


def make_evolution(
    population: PopulationBased,
    config: Config,
    space: Space,
    settings: Sequence[Setting],
    seed: int,
) -> Evolution:
    """How the population of these settings evolves.

    Raises:
        ValueError: naming what is not as it must be.
    """
    if not isinstance(population, PopulationBased):
        raise ValueError(f"evolve: give a PopulationBased, not {described(population)}")
    if len(settings) < 2:
        raise ValueError("evolve: a single setting is no population; give the space more values")
    for name in settings[0]:
        _check_field(config, name, [setting[name] for setting in settings])
    listed: Mapping[str, Any] = space if isinstance(space, Mapping) else {}
    choices = {
        name: sorted(float(value) for value in values)
        for name, values in listed.items()
        if not isinstance(values, Interval)
    }
    return Evolution(_checked(population, config.num_iterations), config, choices, seed)


def _checked(population: PopulationBased, num_iterations: int) -> PopulationBased:
    num_rounds = integer("evolve: num_rounds", population.num_rounds, 2)
    if num_rounds > num_iterations:
        raise ValueError(
            f"evolve: num_rounds={num_rounds} is out of range: total_timesteps is of "
            f"{num_iterations} iterations"
        )
    fraction, factors = population.fraction, population.factors
    if not (_is_number(fraction) and 0 < fraction <= 0.5):
        raise ValueError(f"evolve: fraction={fraction!r}: it must be > 0 and <= 0.5")
    pair = isinstance(factors, Sequence) and len(factors) == 2 and all(map(_is_number, factors))
    if not (pair and 0 < factors[0] < 1 < factors[1] < np.inf):
        raise ValueError(f"evolve: factors={factors!r}: two numbers, one below 1 and one above")
    down, up = map(float, factors)
    return PopulationBased(num_rounds, float(fraction), (down, up))


def _check_field(config: Config, name: str, values: Sequence[Any]) -> None:
    """Refuse a field that no one could change between two rounds."""
    if name.startswith(ENV_PARAMS):
        raise ValueError(f"evolve: {name} is the task, which is one for all of a population")
    if not is_data(config, name):
        raise ValueError(f"evolve: {name} is static, it shapes the program: sweep floats alone")
    for value in values:
        if not _is_number(value):
            raise ValueError(f"evolve: {name} must be numbers, not {value!r}")
    try:  # what may be a schedule is looked at in every iteration; annealing is no hindrance
        config.replace(anneal_lr=False, **{name: lambda done: values[0]})
    except ValueError as error:
        raise ValueError(f"evolve: {name} cannot change in the middle: {error}") from None


def _allowed(config: Config, name: str) -> Any:
    field = next(field for field in dataclasses.fields(config) if field.name == name)
    return field.metadata.get("allowed", ANY)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
