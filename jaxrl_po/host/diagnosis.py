"""Why a seed diverged: the iteration it failed in, once more, with an eye on its environment."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.host.divergence import all_finite
from jaxrl_po.train import make_parts, make_step
from jaxrl_po.types import Array, Network, PyTree, TrainState


def make_diagnosis(
    config: Config, env: Any, network: Network | None
) -> Callable[[TrainState], list[str]]:
    """A function of the state [] before the iteration that failed.

    It tells which of "reward" and "observation" the environment gave that was not finite. The
    training loop itself is not burdened: a state that diverged is frozen with its key, so that
    the same rollout can be had again.
    """
    environment, _ = make_parts(config, env, network)
    found: set[str] = set()

    def note(name: str, value: PyTree) -> Array:
        """0, once the host has seen whether the value is finite."""

        def look(finite: np.ndarray) -> np.ndarray:
            if not np.all(finite):
                found.add(name)
            return np.zeros(np.shape(finite), np.float32)

        zero = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(look, zero, all_finite(value), vmap_method="expand_dims")

    def seen(observation: PyTree) -> PyTree:
        zero = note("observation", observation)
        return jax.tree.map(lambda x: x + zero.astype(x.dtype), observation)

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        observation, state = environment.reset(key, params)
        return seen(observation), state

    def step(key: Array, state: PyTree, action: Array, params: PyTree) -> Any:
        observation, state, reward, *ends = environment.step(key, state, action, params)
        reward = reward + note("reward", reward).astype(reward.dtype)
        return seen(observation), state, reward, *ends

    watched = environment._replace(reset=reset, step=step)
    _, iterate = make_step(config.replace(env_params={}), watched, network)
    rollout = jax.jit(lambda state: iterate(state)[0].rollout)

    def diagnose(state: TrainState) -> list[str]:
        found.clear()
        if not all_finite(state.rollout.observation):
            found.add("observation")
        jax.block_until_ready(rollout(state))
        return sorted(found)

    return diagnose
