"""Rollouts of environments on the host, around a compiled policy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.envs import Environment
from jaxrl_po.fast.packing import Packed, pack
from jaxrl_po.fast.prng import split, unrolled
from jaxrl_po.host.machine.execution import CPU_OPTIONS
from jaxrl_po.host.simulators.pool import Pool, SimulatorError, Step, float_dtype
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.loop.rollout import EpisodeSums
from jaxrl_po.types import Array, Network, PyTree, RolloutState, TrainState, Transition


class Acted(NamedTuple):
    """What a policy does at one step, for S members of N environments each."""

    memory: PyTree  # [S, N, ...] that it acted on
    distribution: Any  # [S, N, ...]
    action: Array  # [S, N, ...] as sampled
    next_memory: PyTree  # [S, N, ...]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of members [S, ...], compiled for all of them side by side."""
    options = CPU_OPTIONS if jax.default_backend() == "cpu" else None
    return jax.jit(jax.vmap(function), compiler_options=options)


class PolicyPrograms(NamedTuple):
    """What is compiled of a rollout on the host, for members side by side."""

    draw: Callable[..., Any]  # states -> action noise [S, T, N, ...], step 0 [S]
    act: Callable[..., Any]  # (params, normalizer), what is seen, noise -> see `act`
    initial_memory: PyTree  # [N, ...]


def policy_programs(config: Config, environment: Environment, network: Network) -> PolicyPrograms:
    """The programs of a config's policies; of its floats they know nothing."""
    initial, space = network.initial_memory(config.num_envs), environment.action_space

    def draw(state: TrainState) -> tuple[Array, Array]:
        """Action noise [T, N, ...], drawn as `loop.rollout` draws it, and the first step."""
        _, rollout_key, _ = split(state.key, 3)
        action_key, _, _ = split(rollout_key, 3)
        distribution, _ = network.policy(
            state.params, observe(state.normalizer, state.rollout.observation), initial
        )
        noise: Array = distribution.noise(unrolled(action_key), leading=(config.num_steps,))
        return noise, jnp.int32(0)

    def act(
        policy: Any, observation: PyTree, memory: PyTree, noise: Array, t: Array
    ) -> tuple[Array, Packed, PyTree, Array]:
        """Actions in the environment's units, what is kept in few arrays, next memory and step.

        Of what it takes, observations alone come from the host: an array is ten microseconds.
        """
        params, normalizer = policy
        distribution, next_memory = network.policy(params, observe(normalizer, observation), memory)
        action = distribution.sample(noise[t])
        taken = space.to_units(distribution.to_env(action))
        acted = Acted(memory, distribution, action, next_memory)
        return taken, pack(acted, num_axes=1), next_memory, t + 1

    return PolicyPrograms(compiled(draw), compiled(act), initial)


class Collector:
    """The rollouts of S members, each with N environments of one pool: `Collector` on the host.

    Actions are sampled from the same numbers as in the compiled rollout.
    """

    def __init__(
        self, config: Config, programs: PolicyPrograms, pool: Pool, state: TrainState
    ) -> None:
        """Begin an episode in each environment, for members of states [S, ...]."""
        self.shape = len(state.iteration), config.num_envs
        self._num_steps, self._pool, self._programs = config.num_steps, pool, programs
        self._initial = programs.initial_memory
        S, N = self.shape
        self._observation = self._of_members(self._pool.reset())
        self._memory = jax.tree.map(
            lambda x: np.broadcast_to(np.asarray(x), (S, *x.shape)), self._initial
        )
        self._return: Any = np.zeros((S, N), float_dtype())
        self._length: Any = np.zeros((S, N), np.int32)
        zeros = np.zeros((S, N), float_dtype())
        outcome = Step(self._observation, zeros, zeros > 0, zeros > 0)
        policy = state.params, state.normalizer
        _, packed, _, _ = programs.act(
            policy, self._observation, self._memory, *programs.draw(state)
        )
        # Where rollouts [S, T, N, ...] are written; and one that is empty, without episodes.
        self._rows = jax.tree.map(
            lambda x: np.zeros((S, config.num_steps, *x.shape[1:]), x.dtype),
            (self._observation, packed, outcome),
        )
        self.rows = _transitions(*self._rows)
        nothing: Any = np.zeros(S, float_dtype()), *np.zeros((2, S), np.int32)
        self.sums = EpisodeSums(*nothing)

    def standing(self) -> RolloutState:
        """Where the environments stand [S, N, ...], as far as it is seen from outside."""
        memory = jax.device_get(self._memory)
        return RolloutState((), self._observation, memory, self._return, self._length)

    def collect(self, state: TrainState) -> tuple[Transition, EpisodeSums]:
        """T steps of all environments: transitions [S, T, N, ...], and the episodes that ended.

        Raises:
            SimulatorError: what an environment raised, or that it gave NaN.
        """
        S, N = self.shape
        policy, (noise, t) = (state.params, state.normalizer), self._programs.draw(state)
        seen, packs, outcomes = jax.tree.map(np.empty_like, self._rows)
        before, after = jax.tree.leaves((seen, packs)), jax.tree.leaves(outcomes)
        sums = self.sums
        for row in range(self._num_steps):
            action, packed, memory, t = self._programs.act(
                policy, self._observation, self._memory, noise, t
            )
            taken = np.asarray(action)
            self._pool.send(taken.reshape(S * N, *taken.shape[2:]))
            known = self._observation, packed  # and written while they step
            for column, leaf in zip(before, jax.tree.leaves(known), strict=True):
                column[:, row] = leaf
            outcome = self._of_members(self._pool.receive())
            for column, leaf in zip(after, jax.tree.leaves(outcome), strict=True):
                column[:, row] = leaf
            ended = outcome.terminated | outcome.truncated
            self._return = self._return + outcome.reward
            self._length = self._length + 1
            self._observation = outcome.observation
            if ended.any():
                sums = EpisodeSums(
                    sums.episode_return + (self._return * ended).sum(1),
                    sums.episode_length + (self._length * ended).sum(1, dtype=np.int32),
                    sums.num_episodes + ended.sum(1, dtype=np.int32),
                )
                self._return, self._length = self._return * ~ended, self._length * ~ended
                self._observation = self._of_members(self._pool.restart(ended.ravel()))
                memory = fresh_where(ended, self._initial, memory)
            self._memory = memory
        rows = _transitions(seen, packs, outcomes)
        self._check(rows)
        return rows, sums

    def _of_members(self, rows: PyTree) -> PyTree:
        """What is of S·N environments as [S, N, ...]."""
        return jax.tree.map(lambda x: x.reshape(*self.shape, *x.shape[1:]), rows)

    def _check(self, rows: Transition) -> None:
        """Raise where an observation or reward is not finite."""
        for name in ("observation", "next_observation", "reward"):
            for leaf in jax.tree.leaves(getattr(rows, name)):
                if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
                    kind = name.removeprefix("next_")
                    raise SimulatorError(f"{self._pool.name}: its {kind} became NaN or infinite")


def _transitions(seen: PyTree, packs: Packed, outcomes: Step) -> Transition:
    """A rollout from what was seen, what the policy did, and what came of it."""
    acted = packs.unpack()
    return Transition(
        observation=seen,
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
