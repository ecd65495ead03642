"""Policies on disk: a folder of weights, config, spaces, normaliser and versions."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from jaxrl_po.algorithms import config_from_dict
from jaxrl_po.config import Config
from jaxrl_po.envs.environment import leaf_name
from jaxrl_po.host.machine.arguments import integer
from jaxrl_po.host.machine.arrays import from_host, path_name, to_host
from jaxrl_po.host.machine.files import write_whole
from jaxrl_po.host.machine.identity import version
from jaxrl_po.host.machine.strict_json import revived, to_json
from jaxrl_po.host.policies import numpy_policy
from jaxrl_po.host.policies.numpy_policy import Policy, Rows, normalized_leaves, statistic
from jaxrl_po.host.policies.observation import (
    check_reads_dicts,
    describe_observation,
    in_form_of,
    observations,
)
from jaxrl_po.loop.masks import heed_mask
from jaxrl_po.loop.normalizer import Normalizer, observe
from jaxrl_po.loop.parts import as_config, as_environment, make_parts
from jaxrl_po.networks import make_network
from jaxrl_po.ops import normalization
from jaxrl_po.spaces import same_actions, space_from_json
from jaxrl_po.types import Array, MaskedObservation, Network, PyTree, TrainState

WEIGHTS = re.compile(r"weights-[0-9a-f]{12}\.safetensors")  # what has another name is not ours
Leaves = dict[str, Array]  # arrays [B, ...] by name
# observations, key, memory -> actions [B, ...], next memory, and whether all observations allow one
Act = Callable[[Leaves, Array | None, Leaves], tuple[Array, Leaves, Array]]


def save_policy(
    directory: str | os.PathLike[str],
    config: Config | Mapping[str, Any],
    state: TrainState,
    *,
    member: int | None = None,
    env: Any = None,
    network: Network | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write one member's policy to a folder, replacing the policy in it.

    The weights' file is new each time and policy.json, replaced in one move, names it: whoever
    reads finds the old policy or the new one.

    Args:
        directory: the folder.
        config: what the state was trained under.
        state: of one member [...], or of several [S, ...], as `run` returns it.
        member: which of several; the only one needs no number.
        env: as for `make_train`; with an `action_mask` it must be given to `load_policy` too.
        network: as for `make_train`; it must then be given to `load_policy` too.
        notes: anything to keep beside it, as JSON: arrays become lists.

    Raises:
        ValueError: naming what does not fit the config, or is not finite.

    Examples:
        >>> from jaxrl_po import PPOConfig, make_step
        >>> config = PPOConfig(env_id="CartPole-v1")
        >>> save_policy("runs/b", config, make_step(config)[0](jax.random.key(0)))
        >>> load_policy("runs/b", backend="numpy")([0.0, 0.1, 0.0, -0.1]) in (0, 1)
        True
    """
    config = as_config(config)
    try:
        if not isinstance(notes, Mapping | None):
            raise ValueError(f"{notes!r} is no dict")
        to_json(notes)
    except ValueError as error:
        raise ValueError(f"notes: {error}") from None
    description = describe_policy(config, env, network)
    state = one_member(state, member)
    if (state.normalizer.observation != ()) != config.normalize_observations:
        raise ValueError(
            f"state was not trained under normalize_observations={config.normalize_observations}"
        )
    arrays = policy_arrays(config, jax.tree.map(lambda x: x[None], state), 0)
    try:
        _params(make_parts(config, env, network)[1], arrays)
        numpy_policy.check_arrays(description, arrays)
    except ValueError as error:
        raise ValueError(f"state does not give a policy of this config: {error}") from None
    write_policy(Path(directory), description, arrays, dict(notes or {}))


def one_member(state: TrainState, member: int | None = None) -> TrainState:
    """One of the members of a state [S, ...]; the only one, or the state [...] itself, by default.

    Raises:
        ValueError: saying how to choose, where there are several.
    """
    if not isinstance(state, TrainState):
        raise ValueError(
            f"state must be a TrainState, as in `result.state`, not a {type(state).__name__}"
        )
    shape = np.shape(state.iteration)
    if not shape and member is None:
        return state
    if len(shape) != 1:
        raise ValueError(
            f"member={member}: the state has {len(shape)} axes of members; to choose by member= it "
            "must have one, [S, ...]"
        )
    if member is None and shape != (1,):
        raise ValueError(
            f"the state is of {shape[0]} members: choose one, member=0 to member={shape[0] - 1}"
        )
    index = integer("member", np.asarray(0 if member is None else member).item(), 0)
    if index >= shape[0]:
        raise ValueError(f"member={index} is out of range: it must be < {shape[0]}")
    member_state: TrainState = jax.tree.map(lambda x: x[index], state)
    return member_state


def describe_policy(config: Config, env: Any, network: Network | None) -> dict[str, Any]:
    """All of policy.json but the weights."""
    environment = as_environment(config, env)
    space = environment.action_space
    squash = {"squash": config.squash_actions} if space.continuous else {}
    return {
        "format": numpy_policy.FORMAT,
        "config": config.to_dict(),
        "env": "config" if env is None else "given",
        "network": "config" if network is None else "given",
        "observation": describe_observation(environment.observation),
        "action": space.to_json() | squash,
        "action_mask": environment.action_mask is not None,
        "normalizer": {"epsilon": normalization.EPSILON, "clip": normalization.CLIP}
        if config.normalize_observations
        else None,
        "versions": {name: version(name) for name in ("jaxrl-po", "jax")},
    }


def policy_arrays(config: Config, states: TrainState, member: int) -> dict[str, np.ndarray]:
    """What a policy is made of, of one member of a block [n, ...].

    Floating types that NumPy lacks are widened to float32, which changes no number.
    """
    arrays: dict[str, Any] = {"params": states.params}
    if config.normalize_observations:
        statistics = states.normalizer.observation
        arrays["normalizer"] = {
            moment: jax.tree.map(
                lambda x, moment=moment: getattr(x, moment),
                statistics,
                is_leaf=lambda x: isinstance(x, normalization.RunningStatistics),
            )
            for moment in ("mean", "variance")
        }
    return {
        name: x[member].astype(np.float32) if _floating(x) and x.dtype.kind != "f" else x[member]
        for name, x in to_host([arrays]).items()
    }


def write_policy(
    folder: Path,
    description: dict[str, Any],
    arrays: dict[str, np.ndarray],
    notes: dict[str, Any],
) -> None:
    """Write a policy folder, or replace the policy in it."""
    data = safetensors.numpy.save({n: np.ascontiguousarray(x) for n, x in arrays.items()})
    digest = hashlib.sha256(data).hexdigest()
    weights = {"file": f"weights-{digest[:12]}.safetensors", "sha256": digest}
    complete = {**description, "weights": weights, "notes": notes}
    read = json.loads(to_json(complete))
    text = to_json(read | {"sha256": numpy_policy.checksum(read)}, indent=2)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / weights["file"], data)
    write_whole(folder / "policy.json", (text + "\n").encode())
    for path in folder.glob("*.safetensors"):
        if WEIGHTS.fullmatch(path.name) and path.name != weights["file"]:
            path.unlink()


def load_policy(
    directory: str | os.PathLike[str],
    *,
    network: Network | None = None,
    env: Any = None,
    action_mask: numpy_policy.ActionMask | None = None,
    backend: str = "jax",
) -> Policy:
    """Load the policy in a folder, or in the `policy` folder of a run directory.

        policy = load_policy("runs/cartpole")
        action = policy(observation)                           # greedy
        action = policy(observation, jax.random.key(0))        # sampled
        action, memory = policy(observation, key, memory)      # of a policy that remembers
        player = policy.player()                               # or one that keeps its memory

    Args:
        directory: the folder.
        network: the network, where it was not the one that the config describes.
        env: the environment, where it has an `action_mask`: a file cannot hold that function.
        action_mask: that function alone, in place of the environment, for backend="numpy".
        backend: "jax"; or "numpy", for perceptrons with or without a memory, whose keys are NumPy
            generators.

    Raises:
        ValueError: naming what is missing, damaged, or from a newer version; or what is given and
            does not fit.

    Examples:
        >>> from jaxrl_po import PPOConfig, run
        >>> config = PPOConfig(env_id="CartPole-v1", num_envs=2, num_steps=8, total_timesteps=64)
        >>> _ = run(config, directory="runs/c", num_episodes=4, quiet=True)
        >>> policy = load_policy("runs/c")
        >>> policy([[0.0, 0.1, 0.0, -0.1]] * 3).shape, policy([0.0, 0.1, 0.0, -0.1]).shape
        ((3,), ())
    """
    if backend == "numpy":
        for name, given in (("network", network), ("env", env)):
            if given is not None:
                raise ValueError(f"{name}= goes with backend='jax' only")
        return numpy_policy.load(directory, action_mask)
    if backend != "jax":
        raise ValueError(f'backend={backend!r}: it must be "jax" or "numpy"')
    if action_mask is not None:
        raise ValueError(
            "action_mask= goes with backend='numpy' only; give the environment as env="
        )
    description, pure, start = read_policy(directory, network, env)
    compiled = jax.jit(pure)

    def act(observation: Rows, key: Any, memory: Rows) -> tuple[np.ndarray, Rows]:
        if not isinstance(key, jax.Array | None):
            raise ValueError(f"key must be a key of jax.random, not {key!r}")
        action, after, is_possible = compiled(observation, key, memory)
        if not is_possible:
            raise ValueError("observation: the action_mask allows no action there")
        return np.asarray(action), {name: np.asarray(x) for name, x in after.items()}

    return Policy(description, act, {name: np.asarray(x) for name, x in start.items()})


def read_policy(
    directory: str | os.PathLike[str], network: Network | None, env: Any
) -> tuple[dict[str, Any], Act, Leaves]:
    """The description in a folder, its policy as a pure function, and its memory [1, ...] at first.

    Raises:
        ValueError: as `load_policy` does.
    """
    description, arrays = numpy_policy.read_folder(directory)
    try:
        return description, *_make_act(description, arrays, network, env)
    except ValueError as error:
        raise ValueError(f"the policy in {directory} cannot be used: {error}") from error


def _make_act(
    description: dict[str, Any], arrays: dict[str, np.ndarray], network: Network | None, env: Any
) -> tuple[Act, Leaves]:
    if network is None and description["network"] == "given":
        raise ValueError("this policy's network was given as an object: pass it as network=")
    config = config_from_dict(revived(description["config"]))
    space = space_from_json(description["action"])
    action_mask = _action_mask(description, config, env)
    example = observations(description) if env is None else as_environment(config, env).observation
    if network is None:
        network = make_network(config, example, space)
    if "leaves" in description["observation"] and env is None:
        check_reads_dicts(network, example)
    params = _params(network, arrays)
    policy = network.policy if action_mask is None else heed_mask(network).policy
    normalizer = Normalizer(_statistics(description, arrays, example), ())

    start = network.initial_memory(1)

    def act(leaves: Leaves, key: Array | None, memory: Leaves) -> tuple[Array, Leaves, Array]:
        observation = in_form_of(example, leaves)
        seen = observe(normalizer, observation)
        if action_mask is not None:
            seen = MaskedObservation(seen, jax.vmap(action_mask)(observation))
        remembered = jax.tree.map_with_path(lambda path, _: memory[path_name(path)], start)
        distribution, after = policy(params, seen, remembered)
        sample = (
            distribution.mode() if key is None else distribution.sample(distribution.noise(key))
        )
        # Nothing to choose from has no entropy, not even 0.
        is_possible = action_mask is None or ~jnp.isnan(distribution.entropy()).any()
        taken = space.to_units(distribution.to_env(sample))
        return taken, _named(after), jnp.asarray(is_possible)

    return act, _named(start)


def _named(memory: PyTree) -> Leaves:
    """A memory's arrays by name, in their order."""
    return {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(memory)}


def _action_mask(
    description: dict[str, Any], config: Config, env: Any
) -> Callable[[Array], Array] | None:
    """The mask that a policy was trained with, from the environment given for it."""
    if env is None:
        if description["action_mask"]:
            raise ValueError(
                "its environment has an action_mask, a function, which no file can hold: pass the "
                "environment as env="
            )
        return None
    environment = as_environment(config, env)
    if (environment.action_mask is not None) != description["action_mask"]:
        had, has = ("an", "none") if description["action_mask"] else ("no", "one")
        raise ValueError(f"env: this policy was trained with {had} action_mask; env has {has}")
    space, observation = space_from_json(description["action"]), description["observation"]
    observed = describe_observation(environment.observation)
    if not same_actions(environment.action_space, space) or observed != observation:
        raise ValueError(
            f"env: it observes {observed} and acts in {environment.action_space}; this policy "
            f"observes {observation} and acts in {space}"
        )
    return environment.action_mask


def _statistics(
    description: dict[str, Any], arrays: Mapping[str, np.ndarray], example: PyTree
) -> PyTree:
    """The normaliser's statistics in the structure of an observation; () without a normaliser."""
    if not description["normalizer"]:
        return ()

    def of_leaf(path: Any, _: Any) -> PyTree:
        name = leaf_name(path)
        if name not in normalized_leaves(description):
            return ()
        mean, variance = (jnp.asarray(arrays[statistic(m, name)]) for m in ("mean", "variance"))
        return normalization.RunningStatistics(mean, variance, jnp.zeros(()))

    return jax.tree.map_with_path(of_leaf, example)


def _params(network: Network, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """The network's parameters from named arrays, in the network's own precision."""
    template = {"params": jax.eval_shape(network.init, jax.random.key(0))}
    saved = {name: x for name, x in arrays.items() if name.startswith("params/")}
    for path, leaf in jax.tree.leaves_with_path(template):
        name = path_name(path)
        if _floating(leaf) and name in saved and _floating(saved[name]):
            saved[name] = saved[name].astype(leaf.dtype)
    return from_host(template, saved)["params"]


def _floating(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
