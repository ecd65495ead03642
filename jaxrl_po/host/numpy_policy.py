"""Saved policies with NumPy alone: no JAX, and no other file of this library. Copy it at will.

policy = load("runs/cartpole/policy")
action = policy(observation)                                  # greedy
action = policy(observation, np.random.default_rng(0))        # sampled
"""

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT = 1
FIELDS = ("config", "network", "observation", "action", "normalizer", "weights")  # of policy.json
DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "U32": np.uint32}

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


class Policy(NamedTuple):
    """A policy to be called: `policy(observation)` is greedy, `policy(observation, key)` samples.

    Observations are [*batch, *observation_shape] with any number of batch axes, none included.
    Actions come back as NumPy arrays in the environment's own units, within its bounds.
    """

    description: dict[str, Any]  # policy.json
    act: Callable[[np.ndarray, Any], np.ndarray]  # observations [B, ...], key -> actions [B, ...]

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return tuple(self.description["observation"]["shape"])

    def __repr__(self) -> str:
        config, action = self.description["config"], self.description["action"]
        return (
            f"Policy({config['algorithm']} on {config['env_id']}: "
            f"observation {list(self.observation_shape)}, action {action})"
        )

    def __call__(self, observation: Any, key: Any = None) -> Any:
        """The action for one observation or a batch of them.

        Raises:
            ValueError: when the observation has another shape or type than the policy takes.
        """
        shape = self.observation_shape
        observation = np.asarray(observation)
        batch = observation.shape[: observation.ndim - len(shape)]
        if observation.shape != (*batch, *shape):
            raise ValueError(
                f"observation has shape {list(observation.shape)}; this policy takes "
                f"{list(shape)}, or batches of it"
            )
        if not np.issubdtype(observation.dtype, np.floating):
            raise ValueError(
                f"observation has dtype {observation.dtype}; this policy takes "
                f"{self.description['observation']['dtype']} (any floating type is converted)"
            )
        action = self.act(observation.reshape(-1, *shape), key)
        return action.reshape((*batch, *action.shape[1:]))[()]


def load(directory: str | os.PathLike[str]) -> Policy:
    """Load a policy folder; the network must be one of the library's multi-layer perceptrons.

    Raises:
        ValueError: naming what is missing, damaged, from a newer version, or not an MLP.
    """
    description, arrays = read_folder(directory)
    config = description["config"]
    if description["network"] != "config" or config["network"] != "mlp":
        raise ValueError(f"{directory}: NumPy alone runs network='mlp' policies, not this one")
    return Policy(description, _mlp(description, arrays))


def read_folder(
    directory: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the weights of a policy folder, or of the `policy` folder in it.

    Raises:
        ValueError: naming what is missing, damaged or from a newer version.
    """
    folder = Path(directory)
    folder = folder / "policy" if (folder / "policy" / "policy.json").is_file() else folder
    path = folder / "policy.json"
    if not path.is_file():
        raise ValueError(f"{directory} holds no policy: there is no policy.json in it")
    try:
        description = json.loads(path.read_text())
        version = int(description["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not readable as JSON with a format") from error
    if version > FORMAT:
        raise ValueError(
            f"{path} has format {version}, from a newer version of jaxrl_po; "
            f"this one reads up to {FORMAT}"
        )
    missing = [name for name in FIELDS if name not in description]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    weights = description["weights"]
    file = folder / weights["file"]
    if not file.is_file():
        raise ValueError(f"{file} is missing")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != weights["sha256"]:
        raise ValueError(f"{file} is not the file that was saved: its SHA-256 differs")
    return description, _safetensors(data)


def sampled(action: dict[str, Any], outputs: Any, key: np.random.Generator | None) -> np.ndarray:
    """Actions [B, ...] in the environment's units, from logits [B, A] or (mean, log_std) [B, D]."""
    if not isinstance(key, np.random.Generator | None):
        raise ValueError(f"key must be a numpy.random.Generator, not {key!r}")
    if action["kind"] == "discrete":
        logits = outputs if key is None else outputs + key.gumbel(size=outputs.shape)
        return logits.argmax(-1)
    mean, log_std = outputs
    x = mean if key is None else mean + np.exp(log_std) * key.standard_normal(mean.shape)
    x = np.tanh(x) if action["squash"] else x
    low, high = (np.array(action[side], float) for side in ("low", "high"))
    bounded = np.isfinite(low) & np.isfinite(high)
    low0, high0 = np.where(bounded, low, 0), np.where(bounded, high, 0)
    half_range = np.where(bounded, (high0 - low0) / 2, 1)
    return np.clip(x * half_range + (low0 + high0) / 2, low, high).astype(mean.dtype)


def _mlp(
    description: dict[str, Any], arrays: dict[str, np.ndarray]
) -> Callable[[np.ndarray, Any], np.ndarray]:
    config, action = description["config"], description["action"]
    activation = ACTIVATIONS[config["activation"]]
    if config["shared_torso"]:
        torso, head = "params/torso/params", "params/policy/params"
    else:
        torso, head = "params/policy/torso/params", "params/policy/head/params"
    dtype = np.dtype(description["observation"]["dtype"])

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ arrays[f"{name}/kernel"] + arrays[f"{name}/bias"]

    def act(observation: np.ndarray, key: np.random.Generator | None) -> np.ndarray:
        x = observation.astype(dtype)
        if normalizer := description["normalizer"]:
            x = (x - arrays["normalizer/mean"]) / np.sqrt(
                arrays["normalizer/variance"] + dtype.type(normalizer["epsilon"])
            )
            x = np.clip(x, -normalizer["clip"], normalizer["clip"])
        x = x.reshape(len(x), -1)
        for i in range(len(config["hidden_sizes"])):
            x = activation(dense(x, f"{torso}/Dense_{i}"))
        outputs = dense(x, f"{head}/Dense_0")
        if action["kind"] == "discrete":
            return sampled(action, outputs, key)
        return sampled(action, (outputs, arrays[f"{head}/log_std"]), key)

    return act


def _safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: a header's length, a JSON header, raw numbers."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = (start + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[first:last], np.dtype(DTYPES[entry["dtype"]]))
            arrays[name] = array.reshape(entry["shape"])
    return arrays
