"""A saved policy at work in the real Gymnasium."""

from contextlib import ExitStack
from typing import Any

import jax
import numpy as np

from jaxrl_po.host.machine.imports import import_extra
from jaxrl_po.host.policies.drawing import Film, picture
from jaxrl_po.host.policies.episodes import Played, Wishes, check_spaces
from jaxrl_po.host.policies.numpy_policy import Policy
from jaxrl_po.spaces import as_space
from jaxrl_po.types import PyTree


def play_in_gymnasium(policy: Policy, name: str, wishes: Wishes) -> Played:
    """Play the episodes side by side, each environment an object of its own.

    Raises:
        ValueError: naming what is not installed, or not fitting, or not drawn.
    """
    gymnasium = import_extra("gymnasium", "play")

    def make(mode: str | None) -> Any:
        drawn = {} if mode is None else {"render_mode": mode}  # not all know that argument
        try:
            return gymnasium.make(name, **drawn)
        except (gymnasium.error.Error, ImportError) as error:
            raise ValueError(f"gymnasium:{name}: {error}") from None

    def draw() -> np.ndarray:
        try:
            return picture(f"gymnasium:{name}", envs[0].render())
        except (gymnasium.error.Error, ImportError) as error:
            raise ValueError(f"gymnasium:{name} cannot be drawn: {error}") from None

    with ExitStack() as stack:
        envs = [make(None)]
        stack.callback(envs[0].close)
        action_start = _check_gymnasium(policy, name, envs[0], wishes.gif is not None)
        modes = ["rgb_array" if wishes.gif else None, *[None] * (wishes.num_episodes - 1)]
        envs = [make(mode) for mode in modes]
        for env in envs:
            stack.callback(env.close)
        episode_return, episode_length = np.zeros(len(envs)), np.zeros(len(envs), int)
        observation = [env.reset(seed=wishes.seed + e)[0] for e, env in enumerate(envs)]
        running, film, player, t = np.ones(len(envs), bool), Film(), policy.player(), 0
        while running.any() and t < wishes.max_steps:
            if wishes.gif and running[0]:
                film.add(draw)
            step_key = wishes.key if wishes.key is None else jax.random.fold_in(wishes.key, t)
            rows = jax.tree.map(lambda *each: np.stack(each), *observation)
            action = player(rows, step_key) + action_start
            were_running = running.copy()
            outcome = _step_each(envs, observation, action, running)
            episode_return += outcome[0]
            episode_length += were_running
            running &= ~(outcome[1] | outcome[2])
            if wishes.tape:
                shown = jax.tree.map(lambda *each: np.stack(each), *observation)
                wishes.tape.add(rows, action, outcome, shown, were_running)
            t += 1
    if wishes.gif:
        film.save(wishes.gif)
    return Played(episode_return, episode_length)


def _step_each(
    envs: list[Any], observation: list[PyTree], action: np.ndarray, running: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step those that run, with their observations replaced: reward, terminated, truncated [E]."""
    reward, (terminated, truncated) = np.zeros(len(envs)), np.zeros((2, len(envs)), bool)
    for e in np.flatnonzero(running):
        taken = action[e].reshape(envs[e].action_space.shape)[()]
        observation[e], reward[e], terminated[e], truncated[e], _ = envs[e].step(taken)
    return reward, terminated, truncated


def _check_gymnasium(policy: Policy, name: str, env: Any, drawn: bool) -> Any:
    """Check that an environment fits the policy; the number of its first action, mostly 0, or
    those of the first of each choice [K].
    """
    observed, space = env.observation_space, env.action_space
    shapes = _shapes(observed)
    check_spaces(policy, f"gymnasium:{name}", (shapes, observed), (as_space(space), space))
    modes = env.metadata.get("render_modes") or ()
    if drawn and "rgb_array" not in modes:
        raise ValueError(
            f"gymnasium:{name} draws no pictures: it has no render mode rgb_array, "
            f"only {', '.join(modes) or 'none at all'}"
        )
    return getattr(space, "start", 0)


def _shapes(space: Any, prefix: str = "") -> dict[str, Any]:
    """The shape of each array of a Gymnasium observation by its name; None of what is no array."""
    spaces = import_extra("gymnasium.spaces", "play")
    if isinstance(space, spaces.Dict):
        inner = (_shapes(each, f"{prefix}/{key}".lstrip("/")) for key, each in space.items())
        return {name: shape for shapes in inner for name, shape in shapes.items()}
    arrays = spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete
    return {prefix: space.shape if isinstance(space, arrays) else None}
