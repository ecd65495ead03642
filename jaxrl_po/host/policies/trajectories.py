"""Episodes of a policy as arrays: what it saw, did and was paid, in the environment's units."""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_po.types import PyTree


class Trajectories(NamedTuple):
    """K steps of E episodes, one after the other, each in its order."""

    observation: PyTree  # [K, ...] acted on, as the environment shows it
    action: np.ndarray  # [K, ...] in the environment's units
    reward: np.ndarray  # [K]
    terminated: np.ndarray  # [K] the episode ended there
    truncated: np.ndarray  # [K] a time limit cut it off there
    episode: np.ndarray  # [K] which of the E it is
    final_observation: PyTree  # [E, ...] after the last step of each


class Tape:
    """Steps of E episodes side by side, as they are played."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._rows: list[tuple[PyTree, Any, Any, Any, Any]] = []
        self._running: list[np.ndarray] = []
        self._final: PyTree = None

    def add(self, seen: PyTree, action: Any, outcome: Any, shown: PyTree, running: Any) -> None:
        """A step of all of them.

        Args:
            seen: observations [E, ...] before it.
            action: [E, ...].
            outcome: reward, terminated, truncated [E] each.
            shown: observations [E, ...] after it, before any reset.
            running: the episodes that it belongs to [E].
        """
        running = np.array(running)
        row = (seen, action, *outcome)
        self._rows.append(jax.tree.map(lambda x: np.array(x)[running], row))
        self._running.append(running)
        if self._final is None:
            self._final = jax.tree.map(np.array, shown)
        jax.tree.map(
            lambda last, new: last.__setitem__(running, np.asarray(new)[running]),
            self._final,
            shown,
        )

    def trajectories(self) -> Trajectories:
        """All that was played, sorted by episode."""
        episode = np.concatenate([np.flatnonzero(running) for running in self._running])
        order = np.argsort(episode, kind="stable")
        observation, action, reward, terminated, truncated = jax.tree.map(
            lambda *parts: np.concatenate(parts)[order], *self._rows
        )
        ends = terminated, truncated
        return Trajectories(observation, action, reward, *ends, episode[order], self._final)
