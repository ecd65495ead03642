"""Policies on disk: a folder of weights, config, spaces, normaliser and versions."""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from jaxrl_po.algorithms import config_from_dict
from jaxrl_po.config import Config
from jaxrl_po.envs import Box, Discrete, to_bounds
from jaxrl_po.host import numpy_policy
from jaxrl_po.host.arrays import from_host, to_host
from jaxrl_po.host.files import write_whole
from jaxrl_po.host.numpy_policy import Policy
from jaxrl_po.networks import make_network
from jaxrl_po.ops import normalization
from jaxrl_po.train import make_parts
from jaxrl_po.types import Array, Network, PyTree, TrainState

Act = Callable[[Array, Array | None], Array]  # observations [B, ...], key -> actions [B, ...]


def save_policy(
    directory: str | os.PathLike[str],
    config: Config,
    state: TrainState,
    *,
    env: Any = None,
    network: Network | None = None,
    notes: dict[str, Any] | None = None,
) -> None:
    """Write one member's policy to a folder, replacing the policy in it.

    The weights' file is new each time and policy.json, replaced in one move, names it: whoever
    reads finds the old policy or the new one.

    Args:
        directory: the folder.
        config: what the state was trained under.
        state: of one member.
        env: as for `make_train`.
        network: as for `make_train`; it must then be given to `load_policy` too.
        notes: anything to keep beside it, as JSON.
    """
    write_policy(
        Path(directory),
        describe_policy(config, env, network),
        policy_arrays(config, jax.tree.map(lambda x: x[None], state), 0),
        notes or {},
    )


def describe_policy(config: Config, env: Any, network: Network | None) -> dict[str, Any]:
    """All of policy.json but the weights."""
    environment, _ = make_parts(config, env, network)
    return {
        "format": numpy_policy.FORMAT,
        "config": config.to_dict(),
        "network": "config" if network is None else "given",
        "observation": {
            "shape": list(environment.observation_shape),
            "dtype": str(jnp.zeros(()).dtype),
        },
        "action": _describe(environment.action_space, config.squash_actions),
        "normalizer": {"epsilon": normalization.EPSILON, "clip": normalization.CLIP}
        if config.normalize_observations
        else None,
        "versions": {name: importlib.metadata.version(name) for name in ("jaxrl-po", "jax")},
    }


def policy_arrays(config: Config, states: TrainState, member: int) -> dict[str, np.ndarray]:
    """What a policy is made of, of one member of a block [n, ...]."""
    arrays: dict[str, Any] = {"params": states.params}
    if config.normalize_observations:
        statistics = states.normalizer.observation
        arrays["normalizer"] = {"mean": statistics.mean, "variance": statistics.variance}
    return {name: x[member] for name, x in to_host([arrays]).items()}


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
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / weights["file"], data)
    write_whole(folder / "policy.json", (json.dumps(complete, indent=2) + "\n").encode())
    for path in folder.glob("weights-*.safetensors"):
        if path.name != weights["file"]:
            path.unlink()


def load_policy(
    directory: str | os.PathLike[str], *, network: Network | None = None, backend: str = "jax"
) -> Policy:
    """Load the policy in a folder, or in the `policy` folder of a run directory.

        policy = load_policy("runs/cartpole")
        action = policy(observation)                           # greedy
        action = policy(observation, jax.random.key(0))        # sampled

    Args:
        directory: the folder.
        network: the network, where it was not the one that the config describes.
        backend: "jax"; or "numpy" for MLP policies, whose keys are NumPy generators.

    Raises:
        ValueError: naming what is missing, damaged, or from a newer version.
    """
    if backend == "numpy":
        return numpy_policy.load(directory)
    if backend != "jax":
        raise ValueError(f'backend={backend!r}: it must be "jax" or "numpy"')
    description, arrays = numpy_policy.read_folder(directory)
    compiled = jax.jit(make_act(description, arrays, network))

    def act(observation: np.ndarray, key: Any) -> np.ndarray:
        if not isinstance(key, jax.Array | None):
            raise ValueError(f"key must be a key of jax.random, not {key!r}")
        return np.asarray(compiled(observation, key))

    return Policy(description, act)


def make_act(
    description: dict[str, Any], arrays: dict[str, np.ndarray], network: Network | None = None
) -> Act:
    """The policy of a folder as a pure function of observations [B, ...] and a key, or None."""
    if network is None and description["network"] == "given":
        raise ValueError("this policy's network was given as an object: pass it as network=")
    config = config_from_dict(description["config"])
    shape, action = tuple(description["observation"]["shape"]), description["action"]
    space = _read_space(action)
    if network is None:
        network = make_network(config, shape, space)
    if jax.tree.leaves(network.initial_memory(1)):
        raise ValueError("a policy with memory cannot be called without it")
    params = from_host(
        {"params": jax.eval_shape(network.init, jax.random.key(0))},
        {name: x for name, x in arrays.items() if name.startswith("params/")},
    )["params"]
    statistics = None
    if description["normalizer"]:
        mean, variance = arrays["normalizer/mean"], arrays["normalizer/variance"]
        statistics = normalization.RunningStatistics(
            jnp.asarray(mean), jnp.asarray(variance), jnp.zeros(())
        )

    def act(observation: Array, key: Array | None) -> Array:
        observation = jnp.asarray(observation, description["observation"]["dtype"])
        if statistics is not None:
            observation = normalization.normalize(statistics, observation)
        distribution, _ = network.policy(params, observation, ())
        sample = (
            distribution.mode() if key is None else distribution.sample(distribution.noise(key))
        )
        taken = distribution.to_env(sample)
        return to_bounds(taken, space) if isinstance(space, Box) else taken

    return act


def _describe(space: Discrete | Box, squash: bool) -> dict[str, PyTree]:
    if isinstance(space, Discrete):
        return {"kind": "discrete", "n": space.n}
    # Infinite bounds as strings: JSON has no number for them.
    low, high = ([x if np.isfinite(x) else str(x) for x in side.tolist()] for side in space)
    return {"kind": "box", "low": low, "high": high, "squash": squash}


def _read_space(action: dict[str, Any]) -> Discrete | Box:
    if action["kind"] == "discrete":
        return Discrete(action["n"])
    return Box(np.array(action["low"], float), np.array(action["high"], float))
