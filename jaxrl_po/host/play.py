"""A saved policy at work, in the real Gymnasium or in gymnax, and what it looks like."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_po.envs import make_environment
from jaxrl_po.host.arguments import integer
from jaxrl_po.host.imports import import_extra
from jaxrl_po.host.numpy_policy import Policy

# What gymnax has renderers for.
RENDERED = (
    *("Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"),
    *("Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar"),
    *("SpaceInvaders-MinAtar", "Catch-bsuite", "FourRooms-misc", "MetaMaze-misc", "Pong-misc"),
    "PointRobot-misc",
)
MAX_FRAMES, GIF_WIDTH, GIF_COLORS = 250, 300, 32  # keep a GIF under a few hundred kB


class Played(NamedTuple):
    """Episodes that were played."""

    episode_return: np.ndarray  # [E]
    episode_length: np.ndarray  # [E]


def play(
    policy: Policy,
    env: str,
    num_episodes: int = 20,
    *,
    seed: int = 0,
    sampled: bool = False,
    gif: str | None = None,
) -> Played:
    """Play whole episodes, side by side.

    Args:
        policy: as `load_policy` gives it.
        env: "gymnasium:NAME" or "gymnax:NAME".
        num_episodes: E.
        seed: of the episodes: the e-th starts from seed + e.
        sampled: sample actions instead of taking the most likely ones.
        gif: a file to draw the first episode into.

    Raises:
        ValueError: naming the environment's spaces, where the policy was not made for them.
    """
    suite, _, name = env.partition(":")
    if suite not in _SUITES or not name:
        raise ValueError(f"env={env!r}: it must be gymnasium:NAME or gymnax:NAME")
    num_episodes, seed = integer("num_episodes", num_episodes), integer("seed", seed, 0)
    if gif is not None and not gif.endswith(".gif"):
        raise ValueError(f"gif={gif!r}: its name must end with .gif")
    for driver in ("SDL_AUDIODRIVER", "SDL_VIDEODRIVER"):  # renderers draw into memory alone,
        os.environ.setdefault(driver, "dummy")  # and open the screen and the sound all the same
    key = jax.random.key(seed) if sampled else None
    return _SUITES[suite](policy, name, num_episodes, seed, key, gif)


def _play_gymnasium(
    policy: Policy, name: str, num_episodes: int, seed: int, key: Any, gif: str | None
) -> Played:
    gymnasium = import_extra("gymnasium", "play")
    modes = ["rgb_array" if gif and e == 0 else None for e in range(num_episodes)]
    try:
        envs = [gymnasium.make(name, render_mode=mode) for mode in modes]
    except gymnasium.error.Error as error:
        raise ValueError(f"gymnasium:{name}: {error}") from None
    _check_spaces(policy, name, envs[0])
    starts = [env.reset(seed=seed + e) for e, env in enumerate(envs)]
    observation = np.array([start for start, _ in starts], np.float32)
    episode_return, episode_length = np.zeros(num_episodes), np.zeros(num_episodes, int)
    running, frames, t = set(range(num_episodes)), [], 0
    while running:
        if gif and 0 in running:
            frames.append(envs[0].render())
        step_key = key if key is None else jax.random.fold_in(key, t)
        action = policy(observation, step_key)
        for e in sorted(running):
            taken = action[e].reshape(envs[e].action_space.shape)[()]
            observation[e], reward, terminated, truncated, _ = envs[e].step(taken)
            episode_return[e] += float(reward)
            episode_length[e] += 1
            if terminated or truncated:
                running.remove(e)
        t += 1
    for env in envs:
        env.close()
    if gif:
        _write_gif(gif, frames)
    return Played(episode_return, episode_length)


def _check_spaces(policy: Policy, name: str, env: Any) -> None:
    action = policy.description["action"]
    shape = getattr(env.observation_space, "shape", None)
    if shape != policy.observation_shape:
        raise ValueError(
            f"{name} observes {env.observation_space}; this policy takes "
            f"{list(policy.observation_shape)}"
        )
    if action["kind"] == "discrete":
        fits = getattr(env.action_space, "n", None) == action["n"]
    else:
        bounds = (getattr(env.action_space, side, np.zeros(0)) for side in ("low", "high"))
        fits = all(
            np.array_equal(np.ravel(bound), np.array(action[side], np.float32))
            for side, bound in zip(("low", "high"), bounds, strict=True)
        )
    if not fits:
        raise ValueError(f"{name} acts in {env.action_space}; this policy in {action}")


def _play_gymnax(
    policy: Policy, name: str, num_episodes: int, seed: int, key: Any, gif: str | None
) -> Played:
    if gif and name not in RENDERED:
        raise ValueError(f"gymnax has no renderer for {name!r}; it has for {', '.join(RENDERED)}")
    env_params = policy.description["config"]["env_params"]
    env = make_environment(name, env_params)
    if env.observation_shape != policy.observation_shape:
        raise ValueError(
            f"{name} observes {list(env.observation_shape)}; this policy takes "
            f"{list(policy.observation_shape)}"
        )
    keys = jax.random.split(jax.random.key(seed), num_episodes)
    step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    observation, state = jax.jit(jax.vmap(env.reset, (0, None)))(keys, env.params)
    to_half_ranges = _half_ranges(policy.description["action"])
    episode_return, episode_length = np.zeros(num_episodes), np.zeros(num_episodes, int)
    running, states, t = np.ones(num_episodes, bool), [], 0
    while running.any():
        if gif and running[0]:
            states.append(jax.tree.map(lambda x: x[0], state))
        step_key = key if key is None else jax.random.fold_in(key, t)
        action = to_half_ranges(policy(observation, step_key))
        t += 1
        keys_t = jax.vmap(lambda k, t=t: jax.random.fold_in(k, t))(keys)
        observation, state, reward, terminated, truncated = step(keys_t, state, action, env.params)
        episode_return += np.where(running, reward, 0.0)
        episode_length += running
        running &= ~np.asarray(terminated | truncated)
    if gif:
        _render_gymnax(name, env_params, states, gif)
    return Played(episode_return, episode_length)


_SUITES = {"gymnasium": _play_gymnasium, "gymnax": _play_gymnax}


def _half_ranges(action: Mapping[str, Any]) -> Any:
    """From the environment's units back to those that `Environment.step` takes."""
    if action["kind"] == "discrete":
        return lambda taken: taken
    low, high = (np.array(action[side], float) for side in ("low", "high"))
    bounded = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
    return lambda taken: ((taken - (low + high) / 2) / ((high - low) / 2)).astype(np.float32)


def _render_gymnax(name: str, env_params: Mapping[str, Any], states: list[Any], gif: str) -> None:
    import gymnax  # pulls in pandas and seaborn
    from gymnax.visualize import Visualizer
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    env, params = gymnax.make(name)
    params = dataclasses.replace(params, **env_params)
    Visualizer(env, params, states[:MAX_FRAMES]).animate(gif)


def _write_gif(path: str, frames: list[np.ndarray]) -> None:
    images = import_extra("PIL.Image", "play")
    stride = -(-len(frames) // MAX_FRAMES)
    small = []
    for frame in frames[::stride]:
        image = images.fromarray(frame)
        height = round(image.height * GIF_WIDTH / image.width)
        small.append(image.resize((GIF_WIDTH, height)).quantize(GIF_COLORS))
    small[0].save(
        path, save_all=True, append_images=small[1:], duration=20 * stride, loop=0, optimize=True
    )
