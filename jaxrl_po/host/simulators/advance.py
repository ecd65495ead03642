"""Steps of environments on the host: a compiled policy acts, a pool steps, rows are written."""

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
from jaxrl_po.host.simulators.pool import Pool, SimulatorError, Step
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.types import Array, Network, PyTree, TrainState


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
    part: Callable[..., Any]  # `act` as a part of a larger program
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

    return PolicyPrograms(compiled(draw), compiled(act), jax.vmap(act), initial)


class Standing(NamedTuple):
    """Where S members of N environments each stand between two steps."""

    t: Array  # [S], steps of this rollout
    observation: PyTree  # [S, N, ...]
    memory: PyTree  # [S, N, ...]
    episode_return: Any  # [S, N], so far
    episode_length: Any  # [S, N]
    ended: Any  # [S, N], whether the last step has ended the episode

    def after(self, t: Array, memory: PyTree, outcome: Step) -> "Standing":
        """Where they stand a step later."""
        return Standing(
            t,
            outcome.observation,
            memory,
            self.episode_return + outcome.reward,
            self.episode_length + 1,
            outcome.terminated | outcome.truncated,
        )


class Rows(NamedTuple):
    """Steps of a rollout [S, T, N, ...], as they are written."""

    observation: PyTree
    acted: Packed
    outcome: Step


# policy, noise [S, T, N, ...], rows written, where environments stand, rows -> the last three anew:
# one step more, or several, of which only the last may have ended an episode.
Advance = Callable[[Any, Array, int, Standing, Rows], tuple[int, Standing, Rows]]


def make_advance(
    programs: PolicyPrograms, pool: Pool, policy: Any, noise: Array, standing: Standing, rows: Rows
) -> Advance:
    """What steps a pool, compiled for what it is given: in programs where the pool can be in one.

    Of an iteration's time the way from one program to the next, by way of Python, can be half.
    """
    inside = pool.in_program()
    if inside is None:
        programs.act(policy, standing.observation, standing.memory, noise, standing.t)
        return _one_by_one(programs, pool)
    handle, step = inside
    steps = _compiled_steps(programs, step)
    steps.lower(policy, noise, handle, standing, rows).compile()

    def advance(
        policy: Any, noise: Array, done: int, standing: Standing, rows: Rows
    ) -> tuple[int, Standing, Rows]:
        try:
            standing, rows = steps(policy, noise, handle, standing, rows)
            standing = jax.tree.map(np.asarray, standing)  # rows stay where they are written
        except jax.errors.JaxRuntimeError as error:
            raise SimulatorError(f"{pool.name}: {error}") from error
        pool.stand_at(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), standing.observation))
        return int(standing.t[0]), standing, rows

    return advance


def _one_by_one(programs: PolicyPrograms, pool: Pool) -> Advance:
    """A step at a time, the pool's beside the writing of what is known before."""

    def advance(
        policy: Any, noise: Array, done: int, standing: Standing, rows: Rows
    ) -> tuple[int, Standing, Rows]:
        t, observation, memory, *_ = standing
        action, packed, memory, t = programs.act(policy, observation, memory, noise, t)
        taken = np.asarray(action)
        pool.send(taken.reshape(-1, *taken.shape[2:]))
        write(rows[:2], done, (observation, packed))
        outcome = of_members(pool.receive(), taken.shape[:2])
        write(rows.outcome, done, outcome)
        return done + 1, standing.after(t, memory, outcome), rows

    def write(columns: Any, row: int, values: Any) -> None:
        for column, leaf in zip(jax.tree.leaves(columns), jax.tree.leaves(values), strict=True):
            column[:, row] = leaf

    return advance


def _compiled_steps(programs: PolicyPrograms, step: Callable[..., Any]) -> Any:
    """Steps until an episode ends, or the rollout does, in one program.

    Args:
        programs: the policy's.
        step: of a pool, see `Pool.in_program`.
    """

    def steps(
        policy: Any, noise: Array, handle: Array, standing: Standing, rows: Rows
    ) -> tuple[Standing, Rows]:
        num_steps = rows.outcome.reward.shape[1]

        def goes_on(carry: Any) -> Array:
            _, standing, _ = carry
            more: Array = (standing.t[0] < num_steps) & ~standing.ended.any()
            return more

        def one(carry: Any) -> Any:
            handle, standing, rows = carry
            row, observation, memory, *_ = standing
            action, packed, memory, t = programs.part(policy, observation, memory, noise, row)
            shape = action.shape[:2]
            handle, stepped = step(handle, action.reshape(-1, *action.shape[2:]))
            outcome = of_members(stepped, shape)

            def write(column: Array, value: Array) -> Array:  # `.at[:, i].set` would scatter
                written: Array = jax.lax.dynamic_update_index_in_dim(column, value, row[0], axis=1)
                return written

            rows = jax.tree.map(write, rows, Rows(observation, packed, outcome))
            return handle, standing.after(t, memory, outcome), rows

        begun = standing._replace(ended=jnp.zeros_like(standing.ended))
        _, standing, rows = jax.lax.while_loop(goes_on, one, (handle, begun, rows))
        return standing, rows

    return jax.jit(steps, donate_argnames="rows", compiler_options=CPU_OPTIONS)


def of_members(rows: PyTree, shape: tuple[int, ...]) -> PyTree:
    """What is of S·N environments as [S, N, ...]."""
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), rows)
