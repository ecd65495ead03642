"""What becomes of the seeds of a run: which of them diverged, in which iteration, and why."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_po.host.machine.arrays import from_host, to_host
from jaxrl_po.host.runs import events
from jaxrl_po.host.runs.diagnosis import Diagnosis
from jaxrl_po.loop.divergence import is_excessive
from jaxrl_po.types import PyTree, TrainState


class Seen(NamedTuple):
    """What a segment of C iterations shows of S seeds."""

    metrics: dict[str, np.ndarray]  # [S, C] each
    num_done: np.ndarray  # [S] how many of the C a seed did
    events: list[dict[str, Any]]


class Watch:
    """The seeds of a run that went wrong."""

    def __init__(self, seeds: list[int], diagnosis: Callable[[], Diagnosis]) -> None:
        """All seeds are well; `diagnosis` makes what tells why one is not."""
        self.diverged: dict[int, int] = {}  # seed -> iteration, of those that are frozen
        self._excessive: dict[int, int] = {}  # seed -> iteration, of those that go on
        self._seeds = seeds
        # It is compiled for the first seed that diverges.
        self._diagnosis = functools.cache(diagnosis)

    def resumed(self, blocks: list[PyTree], done: int) -> None:
        """Seeds that stand before the iteration of their checkpoint had diverged."""
        for seed, reached in zip(self._seeds, _iterations(blocks).tolist(), strict=True):
            if reached < done:
                self.diverged[seed] = reached + 1

    def look(
        self, segments: list[tuple[TrainState, dict[str, np.ndarray]]], first: int, count: int
    ) -> Seen:
        """Take note of the `count` iterations after the `first` ones."""
        blocks = [state for state, _ in segments]
        metrics = {
            name: np.concatenate([numbers[name] for _, numbers in segments])
            for name in segments[0][1]
        }
        reached = _iterations(blocks)
        # A seed that diverges here did one iteration more than its state has; before, none.
        num_done = np.where(reached < first, 0, np.minimum(reached - first + 1, count))
        lost = events.divergence(self._seeds, reached, first, metrics)
        for event in lost:
            causes = self._diagnosis()(self._state(blocks, event["seed"]))
            event["not_finite"] = {**dict.fromkeys(causes, "nan or inf"), **event["not_finite"]}
            self.diverged[event["seed"]] = event["iteration"]
        flags = np.concatenate([jax.vmap(is_excessive)(state.params) for state in blocks])
        large = events.excess(self._seeds, first + count, flags)
        large = [e for e in large if e["seed"] not in {**self._excessive, **self.diverged}]
        self._excessive |= {event["seed"]: event["iteration"] for event in large}
        return Seen(metrics, num_done, [*lost, *large])

    def _state(self, blocks: list[PyTree], seed: int) -> PyTree:
        size = len(self._seeds) // len(blocks)
        block, member = divmod(self._seeds.index(seed), size)
        here = from_host(blocks[block], to_host([blocks[block]]))  # from all devices it lies on
        return jax.tree.map(lambda x: x[member], here)


def _iterations(blocks: list[PyTree]) -> np.ndarray:
    """Iterations that each seed's state has behind it [S]."""
    return np.concatenate([np.asarray(state.iteration) for state in blocks]).astype(np.int64)
