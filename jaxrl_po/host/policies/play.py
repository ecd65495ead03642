"""A saved policy at work, in the real Gymnasium or in gymnax, and what it looks like."""

import os
from contextlib import closing

import jax
import numpy as np

from jaxrl_po.envs import SUITES, make_environment, suite_and_name
from jaxrl_po.envs.environment import named_leaves
from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.machine.arguments import integer, seeds
from jaxrl_po.host.policies.drawing import CLASSIC, check_drawing, draw_states
from jaxrl_po.host.policies.episodes import Played, Wishes, check_spaces
from jaxrl_po.host.policies.gymnasium import play_in_gymnasium
from jaxrl_po.host.policies.numpy_policy import Policy
from jaxrl_po.host.policies.trajectories import Tape, Trajectories
from jaxrl_po.host.simulators.pool import Pool
from jaxrl_po.spaces import space_from_json

# Renderers draw into memory alone, and open the screen and the sound and greet all the same.
UNSEEN = {
    "SDL_AUDIODRIVER": "dummy",
    "SDL_VIDEODRIVER": "dummy",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
}


def play(
    policy: Policy,
    env: str | None = None,
    num_episodes: int = 20,
    *,
    seed: int = 0,
    sampled: bool = False,
    gif: str | os.PathLike[str] | None = None,
    max_steps: int = 10_000,
) -> Played:
    """Play whole episodes, side by side.

    Args:
        policy: as `load_policy` gives it.
        env: "gymnasium:NAME", or "gymnax:NAME" or another suite's; None for the policy's own, see
            `own_environment`.
        num_episodes: E.
        seed: of the episodes: the e-th starts from seed + e.
        sampled: sample actions instead of taking the most likely ones.
        gif: a file to draw the first episode into.
        max_steps: bound on an episode's steps, for environments that never end.

    Raises:
        ValueError: naming the environment's spaces, where the policy was not made for them; or
            what is missing for drawing it.
    """
    gif = None if gif is None else os.fspath(gif)
    numbers = integer("num_episodes", num_episodes), seeds(seed, num_episodes).start
    key = jax.random.key(numbers[1]) if sampled else None
    return _play(policy, env, Wishes(*numbers, key, gif, integer("max_steps", max_steps)))


def rollout_policy(
    policy: Policy,
    env: str | None = None,
    num_episodes: int = 20,
    *,
    seed: int = 0,
    sampled: bool = False,
    max_steps: int = 10_000,
) -> Trajectories:
    """Play whole episodes and keep each step, for imitation, analysis or a dataset.

    Args:
        policy: as for `play`.
        env: as for `play`.
        num_episodes: as for `play`.
        seed: as for `play`, which plays the same episodes.
        sampled: as for `play`.
        max_steps: as for `play`.

    Raises:
        ValueError: as `play` does.

    Examples:
        >>> from jaxrl_po import PPOConfig, load_policy, make_step, save_policy
        >>> config = PPOConfig(env_id="CartPole-v1")
        >>> save_policy("runs/b", config, make_step(config)[0](jax.random.key(0)))
        >>> played = rollout_policy(load_policy("runs/b"), "gymnax:CartPole-v1", num_episodes=2)
        >>> played.observation.shape[1:], played.final_observation.shape
        ((4,), (2, 4))
    """
    numbers = integer("num_episodes", num_episodes), seeds(seed, num_episodes).start
    key, tape = jax.random.key(numbers[1]) if sampled else None, Tape()
    _play(policy, env, Wishes(*numbers, key, None, integer("max_steps", max_steps), tape))
    return tape.trajectories()


def _play(policy: Policy, env: str | None, wishes: Wishes) -> Played:
    env = own_environment(policy) if env is None else env
    suite, _, name = env.partition(":")
    if suite not in SUITES or not name:
        known = ", ".join(f"{suite}:NAME" for suite in SUITES)
        raise ValueError(f"env={env!r}: it must be one of {known}")
    for variable, value in UNSEEN.items():
        os.environ.setdefault(variable, value)
    if wishes.gif is not None:
        check_drawing(suite, name, wishes.gif)
    if suite == "gymnasium":
        return play_in_gymnasium(policy, name, wishes)
    if suite == "envpool":
        return _play_envpool(policy, env, wishes)
    return _play_jax(policy, env, wishes)


def own_environment(policy: Policy) -> str:
    """Where a policy was trained, as a name for `play`.

    That is Gymnasium's environment of the same name where there is one and no parameter was
    changed, and gymnax's otherwise.

    Raises:
        ValueError: when it was trained in an object.
    """
    config = policy.description["config"]
    if policy.description.get("env", "config") == "given":
        raise ValueError(
            "env=None: this policy was trained in an environment given as an object, which has no "
            "name: say env=gymnasium:NAME or gymnax:NAME"
        )
    suite, name = suite_and_name(config["env_id"])
    if name in CLASSIC and suite == "gymnax" and not config["env_params"]:
        suite = "gymnasium"
    return f"{suite}:{name}"


def _play_envpool(policy: Policy, env_id: str, wishes: Wishes) -> Played:
    if wishes.gif:
        raise ValueError(f"{env_id} cannot be drawn: EnvPool gives no pictures of it")
    config, asked = policy.description["config"], suite_and_name(env_id)
    env_params = config["env_params"] if asked == suite_and_name(config["env_id"]) else {}
    host = host_environment(env_id, None, env_params)
    assert host is not None  # EnvPool's are on the host
    environment = make_environment(env_id, env_params)
    observed, space = environment.observation, environment.action_space
    shapes = {key: leaf.shape for key, leaf in named_leaves(observed).items()}
    shown = list(shapes[""]) if "" in shapes else shapes
    check_spaces(policy, env_id, (shapes, shown), (space, space))
    count, player, t = wishes.num_episodes, policy.player(), 0
    episode_return, episode_length = np.zeros(count), np.zeros(count, int)
    running = np.ones(count, bool)
    with closing(Pool(host, [wishes.seed + e for e in range(count)])) as pool:
        observation = pool.reset()
        while running.any() and t < wishes.max_steps:
            step_key = wishes.key if wishes.key is None else jax.random.fold_in(wishes.key, t)
            action = np.asarray(player(observation, step_key))
            outcome = pool.step(action)
            if wishes.tape:
                ends = outcome.reward, outcome.terminated, outcome.truncated
                wishes.tape.add(observation, action, ends, outcome.observation, running)
            episode_return += np.where(running, outcome.reward, 0.0)
            episode_length += running
            ended = outcome.terminated | outcome.truncated
            running &= ~ended
            observation = pool.restart(ended)
            t += 1
    return Played(episode_return, episode_length)


def _play_jax(policy: Policy, env_id: str, wishes: Wishes) -> Played:
    config = policy.description["config"]
    _, name = asked = suite_and_name(env_id)
    env_params = config["env_params"] if asked == suite_and_name(config["env_id"]) else {}
    env = make_environment(env_id, env_params)
    observed, space = env.observation, env.action_space
    shapes = {key: leaf.shape for key, leaf in named_leaves(observed).items()}
    check_spaces(
        policy,
        env_id,
        (shapes, list(shapes[""]) if "" in shapes else shapes),
        (space, space),
    )
    keys = jax.random.split(jax.random.key(wishes.seed), wishes.num_episodes)
    step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    observation, state = jax.jit(jax.vmap(env.reset, (0, None)))(keys, env.params)
    from_units = space_from_json(policy.description["action"]).from_units
    episode_return = np.zeros(wishes.num_episodes)
    episode_length = np.zeros(wishes.num_episodes, int)
    running, states, t = np.ones(wishes.num_episodes, bool), [], 0
    player = policy.player()
    while running.any() and t < wishes.max_steps:
        if wishes.gif and running[0]:
            states.append(jax.tree.map(lambda x: x[0], state))
        step_key = wishes.key if wishes.key is None else jax.random.fold_in(wishes.key, t)
        taken = player(observation, step_key)
        action, seen = from_units(taken), observation
        t += 1
        keys_t = jax.vmap(lambda k, t=t: jax.random.fold_in(k, t))(keys)
        observation, state, reward, terminated, truncated = step(keys_t, state, action, env.params)
        if wishes.tape:
            wishes.tape.add(seen, taken, (reward, terminated, truncated), observation, running)
        episode_return += np.where(running, reward, 0.0)
        episode_length += running
        running &= ~np.asarray(terminated | truncated)
    if wishes.gif:
        draw_states(asked[0], name, env_params, states, wishes.gif)
    return Played(episode_return, episode_length)
