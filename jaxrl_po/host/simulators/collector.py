"""Rollouts of environments on the host, around a compiled policy."""

from typing import Any

import jax
import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.host.simulators.advance import (
    PolicyPrograms,
    Rows,
    Standing,
    make_advance,
    of_members,
)
from jaxrl_po.host.simulators.pool import Pool, SimulatorError, Step, float_dtype
from jaxrl_po.loop.rollout import EpisodeSums
from jaxrl_po.types import PyTree, RolloutState, TrainState, Transition


class Collector:
    """The rollouts of S members, each with N environments of one pool: `Collector` on the host.

    Actions are sampled from the same numbers as in the compiled rollout.
    """

    def __init__(
        self, config: Config, programs: PolicyPrograms, pool: Pool, state: TrainState
    ) -> None:
        """Begin an episode in each environment, for members of states [S, ...], and compile."""
        self.shape = S, N = len(state.iteration), config.num_envs
        self._num_steps, self._pool, self._programs = config.num_steps, pool, programs
        memory = jax.tree.map(
            lambda x: np.broadcast_to(np.asarray(x), (S, *x.shape)), programs.initial_memory
        )
        zeros: Any = np.zeros((S, N), float_dtype())
        observation = of_members(pool.reset(), self.shape)
        policy, (noise, t) = (state.params, state.normalizer), programs.draw(state)
        lengths: Any = np.zeros((S, N), np.int32)
        self._standing = Standing(t, observation, memory, zeros, lengths, zeros > 0)
        # Where rollouts [S, T, N, ...] are written; and one that is empty, without episodes.
        _, packed, _, _ = jax.eval_shape(programs.act, policy, observation, memory, noise, t)
        self._rows = jax.tree.map(
            lambda x: np.zeros((S, config.num_steps, *x.shape[1:]), x.dtype),
            Rows(observation, packed, Step(observation, zeros, zeros > 0, zeros > 0)),
        )
        self.rows = _transitions(self._rows)
        nothing: Any = np.zeros(S, float_dtype()), *np.zeros((2, S), np.int32)
        self.sums = EpisodeSums(*nothing)
        self._advance = make_advance(programs, pool, policy, noise, self._standing, self._rows)

    def standing(self) -> RolloutState:
        """Where the environments stand [S, N, ...], as far as it is seen from outside."""
        _, observation, memory, *episodes, _ = self._standing
        return RolloutState((), observation, jax.device_get(memory), *episodes)

    def collect(self, state: TrainState) -> tuple[Transition, EpisodeSums]:
        """T steps of all environments: transitions [S, T, N, ...], and the episodes that ended.

        Raises:
            SimulatorError: what an environment raised, or that it gave NaN.
        """
        policy, (noise, t) = (state.params, state.normalizer), self._programs.draw(state)
        standing = self._standing._replace(t=t)
        rows, sums, done = jax.tree.map(np.empty_like, self._rows), self.sums, 0
        while done < self._num_steps:
            done, standing, rows = self._advance(policy, noise, done, standing, rows)
            if standing.ended.any():
                standing, sums = self._begin_anew(standing, sums)
        self._standing = standing
        transitions = _transitions(jax.tree.map(np.asarray, rows))
        self._check(transitions)
        return transitions, sums

    def _begin_anew(self, standing: Standing, sums: EpisodeSums) -> tuple[Standing, EpisodeSums]:
        """New episodes where they have ended, and the ended ones added to the sums."""
        _, _, memory, returns, lengths, ended = standing
        sums = EpisodeSums(
            sums.episode_return + (returns * ended).sum(1),
            sums.episode_length + (lengths * ended).sum(1, dtype=np.int32),
            sums.num_episodes + ended.sum(1, dtype=np.int32),
        )
        return standing._replace(
            observation=of_members(self._pool.restart(ended.ravel()), self.shape),
            memory=fresh_where(ended, self._programs.initial_memory, memory),
            episode_return=returns * ~ended,
            episode_length=lengths * ~ended,
        ), sums

    def _check(self, rows: Transition) -> None:
        """Raise where an observation or reward is not finite."""
        for name in ("observation", "next_observation", "reward"):
            for leaf in jax.tree.leaves(getattr(rows, name)):
                if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
                    kind = name.removeprefix("next_")
                    raise SimulatorError(f"{self._pool.name}: its {kind} became NaN or infinite")


def _transitions(rows: Rows) -> Transition:
    """A rollout from what was seen, what the policy did, and what came of it."""
    acted, outcomes = rows.acted.unpack(), rows.outcome
    return Transition(
        observation=rows.observation,
        memory=acted.memory,
        distribution=acted.distribution,
        action=acted.action,
        reward=outcomes.reward,
        next_observation=outcomes.observation,
        next_memory=acted.next_memory,
        terminated=outcomes.terminated,
        truncated=outcomes.truncated,
    )


def fresh_where(episodes: np.ndarray, initial: PyTree, memory: PyTree) -> PyTree:
    """Memory [S, N, ...] with the initial one [N, ...] where an episode begins [S, N]."""

    def chosen(new: Any, old: Any) -> np.ndarray:
        mask = episodes.reshape(*episodes.shape, *[1] * (np.ndim(old) - episodes.ndim))
        return np.where(mask, new, np.asarray(old))

    return jax.tree.map(chosen, initial, memory)
