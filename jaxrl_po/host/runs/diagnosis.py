"""Why a seed diverged: the iteration it failed in, once more, with an eye on its environment."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.loop.divergence import all_finite
from jaxrl_po.loop.parts import Given, as_environment
from jaxrl_po.loop.train import make_step
from jaxrl_po.types import Array, PyTree, TrainState

Diagnosis = Callable[[TrainState], list[str]]  # a state that diverged -> what was not finite


def make_diagnosis(config: Config, given: Given) -> Diagnosis:
    """A function of the state [] before the iteration that failed.

    It tells which of "reward" and "observation" the environment gave that was not finite. The
    training loop itself is not burdened: a state that diverged is frozen with its key, so that
    the same rollout can be had again.
    """
    environment = as_environment(config, given.env)
    found: list[str] = []

    def look(finite: dict[str, np.ndarray]) -> np.ndarray:
        if not found:  # what follows from the first that is not finite is no cause
            found.extend(name for name, flags in finite.items() if not np.all(flags))
        return np.zeros(np.shape(finite["observation"]), np.float32)

    def noted(observation: PyTree, **others: Array) -> PyTree:
        """The observation, once the host has seen whether all is finite."""
        finite = {
            name: all_finite(x) for name, x in (("observation", observation), *others.items())
        }
        zero = jax.pure_callback(
            look, jax.ShapeDtypeStruct((), jnp.float32), finite, vmap_method="expand_dims"
        )
        return jax.tree.map(lambda x: x + zero.astype(x.dtype), observation)

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        observation, state = environment.reset(key, params)
        return noted(observation), state

    def step(key: Array, state: PyTree, action: Array, params: PyTree) -> Any:
        observation, state, reward, *ends = environment.step(key, state, action, params)
        return noted(observation, reward=reward), state, reward, *ends

    watched = environment._replace(reset=reset, step=step)
    _, iterate = make_step(config.replace(env_params={}), *given._replace(env=watched))
    rollout = jax.jit(lambda state: iterate(state)[0].rollout)

    def diagnose(state: TrainState) -> list[str]:
        found.clear()
        with jax.debug_nans(False), jax.debug_infs(False):
            if not all_finite(state.rollout.observation):
                found.append("observation")
            jax.block_until_ready(rollout(state))
        return list(found)

    return diagnose
