"""A pool of environments on the host, which steps all and begins anew those that have ended."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.envs.hosted import (
    HostEnvironment,
    face,
    is_choice,
    is_envpool,
    is_picture,
    single_spaces,
)
from jaxrl_po.types import PyTree


class SimulatorError(RuntimeError):
    """An environment raised, died, or gave what is no observation or reward of its own."""


def float_dtype() -> Any:
    """Of rewards and returns: the precision that JAX computes in."""
    return jax.dtypes.canonicalize_dtype(float)


class Step(NamedTuple):
    """What came of a step of N environments, before any reset."""

    observation: PyTree  # [N, ...] for those that ended, the last of their episode
    reward: Any  # [N]
    terminated: Any  # [N]
    truncated: Any  # [N]


def environment_seeds(seeds: Iterable[int], num_envs: int, *purpose: int) -> list[int]:
    """For each member's seed, `num_envs` numbers of 31 bits for its environments, by purpose.

    Training's are of (0, the iteration that it begins at), an evaluation's of (1 or 2, iteration).
    """
    sources = [np.random.SeedSequence([int(seed), *purpose]) for seed in seeds]
    words = [source.generate_state(num_envs) for source in sources]
    numbers: list[int] = (np.concatenate(words) >> 1).tolist()
    return numbers


class Pool:
    """N environments, of EnvPool or of a Gymnasium vector environment, in one interface.

    `step` shows where a step led, and `restart` the starts of those that are to begin anew, for
    each of Gymnasium's conventions: an environment that would be reset by the next step is reset
    at once, so that no row is lost to it, and one that the step has reset already is looked up.
    """

    def __init__(self, host: HostEnvironment, seeds: list[int]) -> None:
        """Make an environment of each seed.

        Raises:
            ValueError: when these are not as many as were asked for.
        """
        self.name, num_envs = host.name, len(seeds)
        environment = face(host)
        self._shapes = environment.observation
        self._env = host.make(num_envs, seeds)
        self._seeds = seeds
        self._is_envpool = is_envpool(self._env)
        made = getattr(self._env, "num_envs", len(self._env) if self._is_envpool else None)
        if made != num_envs:
            raise ValueError(f"env: {host.name} made {made} environments, not {num_envs}")
        _, acts = single_spaces(self._env)
        self._action_dtype, self._first_action = acts.dtype, getattr(acts, "start", 0)
        self._action_shape = acts.shape
        self._has_failed = False
        self.info: dict[str, Any] = {}  # what the last step told beside
        self._current: PyTree = None  # [N, ...] what is to be acted on
        self._restarted = np.zeros(num_envs, bool)  # whether the last step has reset it

    def reset(self) -> PyTree:
        """The start of an episode in each: observations [N, ...]."""
        if self._is_envpool:
            observation, _ = self._called(self._env.reset)
        else:
            vector = importlib.import_module("gymnasium.vector")
            apart = isinstance(self._env.unwrapped, vector.SyncVectorEnv | vector.AsyncVectorEnv)
            seed = self._seeds if apart else self._seeds[0]  # some draw for all from one generator
            observation, _ = self._called(self._env.reset, seed=seed)
        self._current = self._observations(observation)
        return self._current

    def step(self, action: np.ndarray) -> Step:
        """Act in all of them, [N, ...] in the units of `Space.to_units`."""
        self.send(action)
        return self.receive()

    def send(self, action: np.ndarray) -> None:
        """Begin a step; EnvPool's go on by themselves until it is received."""
        taken = action.reshape(len(action), *self._action_shape) + self._first_action
        self._taken = taken.astype(self._action_dtype)
        if self._is_envpool:
            self._called(self._env.send, self._taken)

    def receive(self) -> Step:
        """What came of the step that was sent."""
        outcome = (
            self._called(self._env.recv)
            if self._is_envpool
            else self._called(self._env.step, self._taken)
        )
        observation, reward, terminated, truncated, self.info = outcome
        self._current = shown = self._observations(observation)
        ended = terminated | truncated
        self._restarted = np.zeros(len(ended), bool)
        if ended.any() and "final_obs" in self.info:  # they have been reset in the same step
            self._restarted = ended
            shown = jax.tree.map(np.copy, shown)
            for i in np.flatnonzero(ended):
                # As a batch of one, which tells an array of integers from one of n.
                one = jax.tree.map(lambda x: np.asarray(x)[None], self.info["final_obs"][i])
                last = self._observations(one)
                jax.tree.map(lambda rows, row, i=i: rows.__setitem__(i, row[0]), shown, last)
        return Step(shown, np.asarray(reward, float_dtype()), terminated, truncated)

    def in_program(self) -> tuple[np.ndarray, Callable[..., Any]] | None:
        """A handle and `step(handle, action [N, ...]) -> handle, Step`, to be compiled into one.

        None where there is none: EnvPool has it on Linux, for programs of a CPU, and it goes past
        what its methods have been changed to. Where environments stand after such a program is to
        be told by `stand_at`.
        """
        if not (self._is_envpool and sys.platform == "linux" and jax.default_backend() == "cpu"):
            return None
        steps = self._env.send, self._env.recv
        if any(method.__module__.partition(".")[0] != "envpool" for method in steps):
            return None
        taken, precision = self._env.spec.action_array_spec["action"].dtype, float_dtype()
        with jax.enable_x64(True):  # in the types that the simulator has
            handle, _, _, simulate = self._env.xla()

        def step(handle: Any, action: Any) -> tuple[Any, Step]:
            with jax.enable_x64(True):
                action = action.reshape(len(action), *self._action_shape) + self._first_action
                handle, outcome = simulate(handle, action.astype(taken))
                observation, reward, terminated, truncated, _ = outcome
                shown = self._observations(observation, jnp)
                return handle, Step(shown, reward.astype(precision), terminated, truncated)

        return handle, step

    def stand_at(self, observation: PyTree) -> None:
        """A program has stepped, and they show this [N, ...]."""
        self._current, self._restarted = observation, np.zeros(len(self._seeds), bool)

    def restart(self, chosen: np.ndarray) -> PyTree:
        """Begin a new episode in those chosen [N]; observations [N, ...] to act on."""
        asked = chosen & ~self._restarted
        if not asked.any():
            return self._current
        before = self._current
        if self._is_envpool:
            fresh, _ = self._called(self._env.reset, np.flatnonzero(asked).astype(np.int32))
            self._current = jax.tree.map(np.copy, before)
            jax.tree.map(
                lambda rows, new: rows.__setitem__(asked, new),
                self._current,
                self._observations(fresh),
            )
            return self._current
        observation, _ = self._called(self._env.reset, options={"reset_mask": asked.copy()})
        self._current = self._observations(observation)
        same = jax.tree.map(
            lambda old, new: np.array_equal(old[~asked], new[~asked], equal_nan=True),
            before,
            self._current,
        )
        if not all(jax.tree.leaves(same)):
            raise SimulatorError(
                f"{self.name}: its reset takes no `reset_mask`, and has reset all environments: "
                "make it with autoreset_mode=AutoresetMode.SAME_STEP, or of single environments "
                '(vectorization_mode="sync")'
            )
        return self._current

    def close(self) -> None:
        """Let go of all environments; where one has failed, others may not close either."""
        with contextlib.suppress(Exception) if self._has_failed else contextlib.nullcontext():
            self._env.close()

    def _called(self, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except Exception as error:
            self._has_failed = True
            raise SimulatorError(f"{self.name}: {type(error).__name__}: {error}") from error

    def _observations(self, observation: Any, numpy: Any = np) -> PyTree:
        """A copy of observations in the precision that they are stored in."""

        def stored(shape: jax.ShapeDtypeStruct, found: Any) -> Any:
            if self._is_envpool and is_picture(found):
                found = numpy.moveaxis(found, -3, -1)
            if is_choice(found, shape):
                found = numpy.eye(shape.shape[0])[found]
            array = numpy.array(found, shape.dtype, order="C" if numpy is np else "K")
            if array.shape[max(0, array.ndim - len(shape.shape)) :] != shape.shape:
                raise SimulatorError(
                    f"{self.name}: an observation is {list(array.shape)}, where each was declared "
                    f"as {list(shape.shape)}"
                )
            return array

        if isinstance(self._shapes, dict) and not isinstance(observation, dict):
            observation = observation._asdict()
        return jax.tree.map(stored, self._shapes, observation)
