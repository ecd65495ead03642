"""Saved policies with NumPy alone: no JAX, and no other file of this library. Copy it at will.

policy = load("runs/cartpole/policy")
action = policy(observation)                                  # greedy
action = policy(observation, np.random.default_rng(0))        # sampled
action, memory = policy(observation, key, memory)             # of a policy that remembers
player = policy.player()                                      # or one that keeps its memory itself
policy = load("runs/game/policy", action_mask)                # of a policy with an action_mask
"""

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# 1 had no checksum of the description, and no shape of the action; 2 no action masks; 3 no
# observations of several arrays.
FORMAT = 4
DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "U32": np.uint32}
BOUND = "bound"  # a number, or an infinity as text: JSON has no number for them
# What the fields of policy.json must be.
FIELDS: dict[str, Any] = {
    "config": {
        "algorithm": str,
        "env_id": str,
        "env_params": dict,
        "network": str,
        "activation": str,
        "hidden_sizes": [int],
        "shared_torso": bool,
    },
    "network": str,
    "observation": dict,
    "action": {"kind": str},
    "normalizer": (None, {"epsilon": float, "clip": float}),
    "weights": {"file": str, "sha256": str},
}
ACTIONS: dict[str, Any] = {
    "discrete": {"n": int},
    "multidiscrete": {"nvec": [int]},
    "box": {"low": [BOUND], "high": [BOUND], "squash": bool},
}
NAMES: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number of 32 bits",
    float: "a number",
    BOUND: "a number or inf or -inf",
    dict: "an object",
    list: "a list",
}

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


Rows = dict[str, np.ndarray]
ActionMask = Callable[[Any], Any]  # one raw observation -> bool, one for each logit


class Policy(NamedTuple):
    """A policy to be called: `policy(observation)` is greedy, `policy(observation, key)` samples.

    Observations are [*batch, *observation_shape] with any number of batch axes, none included; or
    dicts of such arrays, nested as they were in training, or records with attributes of the names.
    Actions come back as NumPy arrays in the environment's own units, within its bounds.

    A policy that remembers is called with its memory, None where episodes begin, and returns the
    next one beside the action: `action, memory = policy(observation, key, memory)`.
    """

    description: dict[str, Any]  # policy.json
    # observations by name {name: [B, ...]}, key, memory by name {name: [B, ...]}
    #   -> actions [B, ...], next memory
    act: Callable[[Rows, Any, Rows], tuple[np.ndarray, Rows]]
    start: Rows  # the memory [1, ...] at the start of an episode; {} for a policy without

    @property
    def remembers(self) -> bool:
        """Whether the action depends on what came before in the episode."""
        return bool(self.start)

    def player(self) -> "Player":
        """The same policy, keeping its memory itself; for those without a memory too."""
        return Player(self)

    @property
    def observation_shape(self) -> Any:
        """Shape of one observation; of several arrays, that of each {name: shape}."""
        shapes = {name: tuple(leaf["shape"]) for name, leaf in leaves_of(self.description).items()}
        return shapes.get("", shapes)

    def __repr__(self) -> str:
        config, action = self.description["config"], self.description["action"]
        shape = self.observation_shape
        return (
            f"Policy({config['algorithm']} on {config['env_id']}: "
            f"observation {shape if isinstance(shape, dict) else list(shape)}, action {action})"
        )

    def __call__(self, observation: Any, key: Any = None, memory: Rows | None = None) -> Any:
        """The action for one observation or a batch of them, and the memory of what remembers.

        Raises:
            ValueError: when the observation has another shape or type than the policy takes, or is
                not finite (of NaN logits the largest is the first); when the memory is not one
                that the policy returned for as many observations.
        """
        leaves = leaves_of(self.description)
        _check_names("observation", observation, "", set(leaves))
        arrays = {name: _taken(observation, name, leaf) for name, leaf in leaves.items()}
        batches = {x.shape[: x.ndim - len(leaves[name]["shape"])] for name, x in arrays.items()}
        if len(batches) > 1:
            raise ValueError(f"observation has arrays of unlike batch axes: {sorted(batches)}")
        (batch,) = batches
        count = math.prod(batch)
        rows = {
            name: x.reshape(count, *leaf["shape"])
            if count
            else np.zeros((1, *leaf["shape"]), x.dtype)
            for (name, x), leaf in zip(arrays.items(), leaves.values(), strict=True)
        }
        remembered = self._remembered(memory, batch)
        action, after = self.act(rows, key, remembered)
        action = action[:count].reshape((*batch, *action.shape[1:]))[()]
        if not self.remembers:
            return action
        return action, {
            name: x[:count].reshape((*batch, *x.shape[1:])) for name, x in after.items()
        }

    def _remembered(self, memory: Rows | None, batch: tuple[int, ...]) -> Rows:
        """A memory [*batch, ...] in rows."""
        count = max(1, math.prod(batch))
        if memory is None:
            return {name: np.repeat(x, count, axis=0) for name, x in self.start.items()}
        if not self.remembers:
            raise ValueError("memory: this policy remembers nothing")
        wanted = {name: (*batch, *x.shape[1:]) for name, x in self.start.items()}
        found = {name: np.shape(x) for name, x in memory.items()}
        if found != wanted:
            raise ValueError(f"memory holds {found}; for these observations it must be {wanted}")
        if not math.prod(batch):
            return self._remembered(None, batch)
        return {
            name: np.asarray(memory[name]).reshape(count, *x.shape[1:])
            for name, x in self.start.items()
        }


class Player:
    """A policy that keeps its memory from call to call: `player(observation)`."""

    def __init__(self, policy: Policy) -> None:
        """At the start of an episode."""
        self.policy = policy
        self._memory: Rows | None = None

    def reset(self) -> None:
        """Episodes begin."""
        self._memory = None

    def __call__(self, observation: Any, key: Any = None, starts: Any = None) -> Any:
        """The action for an observation, or for a batch of them, always as large.

        Args:
            observation: as the policy takes it.
            key: as the policy takes it.
            starts: where in the batch an episode begins with this observation [*batch].
        """
        if not self.policy.remembers:
            return self.policy(observation, key)
        if starts is not None and self._memory is not None:
            self._memory = {
                name: np.where(
                    np.reshape(starts, (*np.shape(starts), *[1] * (first.ndim - 1))),
                    first[0],
                    self._memory[name],
                )
                for name, first in self.policy.start.items()
            }
        action, self._memory = self.policy(observation, key, self._memory)
        return action


def leaves_of(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Shape and dtype of each array of an observation by its name; the name of an only one is "".

    Names are those of `jaxrl_po.envs.environment.named_leaves`, "camera" or "arm/position", and in
    their order.
    """
    observation = description["observation"]
    leaves: dict[str, dict[str, Any]] = observation.get("leaves", {"": observation})
    return leaves


def nested(leaves: dict[str, Any]) -> Any:
    """Arrays by name as nested dicts; the one of the name "" as it is."""
    if "" in leaves:
        return leaves[""]
    found: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *folders, last = name.split("/")
        inner = found
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = leaf
    return found


def _check_names(place: str, observation: Any, prefix: str, names: set[str]) -> None:
    """Refuse what a dict of observations holds beside the arrays of these names."""
    if prefix in names or not isinstance(observation, dict):
        return
    for key, inner in observation.items():
        path = f"{prefix}/{key}".lstrip("/")
        if not any(name == path or name.startswith(f"{path}/") for name in names):
            known = ", ".join(sorted(names - {""})) or "a single array"
            raise ValueError(f"{place} has {path!r}; this policy takes {known}")
        _check_names(place, inner, path, names)


def _taken(observation: Any, name: str, leaf: dict[str, Any]) -> np.ndarray:
    """The array of a name in an observation, in the type that the policy takes."""
    label = f"observation {name}".rstrip()
    array = observation
    for part in filter(None, name.split("/")):
        try:
            array = _part(array, part)
        except (LookupError, AttributeError, TypeError, ValueError):
            raise ValueError(f"{label} is missing: this policy takes it") from None
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise ValueError(f"{label} is no array: {error}") from None
    shape, dtype = leaf["shape"], np.dtype(leaf["dtype"])
    batch = array.shape[: array.ndim - len(shape)]
    if array.shape != (*batch, *shape):
        raise ValueError(
            f"{label} has shape {list(array.shape)}; this policy takes {shape}, or batches of it"
        )
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{label} has dtype {array.dtype}; this policy takes {dtype} "
            "(any real numbers are converted)"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{label} holds numbers that are not finite")
    with np.errstate(invalid="ignore"):
        converted = array.astype(dtype)
    if dtype.kind != "f" and (converted != array).any():
        raise ValueError(f"{label} holds numbers that {dtype}, as this policy takes, lacks")
    return converted


def _part(record: Any, name: str) -> Any:
    """What a dict, a record or a sequence has under a name."""
    if isinstance(record, dict):
        return record[name] if name in record else record[int(name)]
    return record[int(name)] if name.isdigit() else getattr(record, name)


def load(directory: str | os.PathLike[str], action_mask: ActionMask | None = None) -> Policy:
    """Load a policy folder; the network must be a perceptron of the library's, or one with memory.

    Args:
        directory: the folder, or one with a folder `policy` in it.
        action_mask: what the environment's was, which no file can hold: of one raw observation
            (nested dicts where it is several arrays) a bool for each output of the policy.

    Raises:
        ValueError: naming what is missing, damaged, from a newer version, or of another network.
    """
    description, arrays = read_folder(directory)
    config = description["config"]
    if description["action_mask"] and action_mask is None:
        raise ValueError(
            f"{directory}: its environment has an action_mask, a function, which no file can hold: "
            "give it as action_mask="
        )
    if action_mask is not None and not description["action_mask"]:
        raise ValueError(f"{directory}: action_mask: this policy was trained with none")
    if not _is_known(description):
        known = ", ".join(["mlp", *CELLS])
        raise ValueError(
            f"{directory}: NumPy alone runs policies whose network is one of {known}, not this one"
        )
    dtype = arrays[_layers(description)[-1][0] + "/kernel"].dtype
    start = {
        f"{layer}/{part}": np.zeros((1, config["memory_size"]), dtype)
        for layer in range(_num_memories(description))
        for part in CELLS[config["network"]].parts
    }
    return Policy(description, _network(description, arrays, action_mask), start)


def _is_known(description: dict[str, Any]) -> bool:
    """Whether the network is one that NumPy alone runs."""
    kinds = "mlp", *CELLS
    return description["network"] == "config" and description["config"]["network"] in kinds


def _num_memories(description: dict[str, Any]) -> int:
    """Layers of memory."""
    config = description["config"]
    return config["memory_layers"] if config["network"] in CELLS else 0


def read_folder(
    directory: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the weights of a policy folder, or of the `policy` folder in it.

    Raises:
        ValueError: naming what is missing, damaged, edited or from a newer version.
    """
    folder = Path(directory)
    folder = folder / "policy" if (folder / "policy" / "policy.json").is_file() else folder
    path = folder / "policy.json"
    if not path.is_file():
        raise ValueError(f"{directory} holds no policy: there is no policy.json in it")
    description = _read_description(path)
    file = folder / description["weights"]["file"]
    if not file.is_file():
        raise ValueError(f"{file} is missing")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != description["weights"]["sha256"]:
        raise ValueError(f"{file} is not the file that was saved: its SHA-256 differs")
    try:
        arrays = _safetensors(data)
        check_arrays(description, arrays)
    except ValueError as error:
        raise ValueError(f"{file} cannot be used: {error}") from None
    return description, arrays


def checksum(description: dict[str, Any]) -> str:
    """SHA-256 of a description read from JSON, but for that number itself."""
    rest = {name: value for name, value in description.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def check_arrays(description: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Refuse numbers that are not finite, and arrays that do not fit the description.

    Raises:
        ValueError: naming the array.
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    for name, shape in _shapes(description).items():
        if name not in arrays:
            raise ValueError(f"{name} is missing")
        array = arrays[name]
        if array.shape != shape or array.dtype.kind != "f":
            raise ValueError(
                f"{name} is {array.dtype}{list(array.shape)}, where float{list(shape)} is needed"
            )
    for name in normalized_leaves(description):
        if (arrays[statistic("variance", name)] < 0).any():
            raise ValueError(f"{statistic('variance', name)} is negative")


def _shapes(description: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each array that a policy must have, as far as its description tells."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, leaf in normalized_leaves(description).items():
        for moment in ("mean", "variance"):
            shapes[statistic(moment, name)] = tuple(leaf["shape"])
    if _is_known(description):
        for layer, rows, columns in _memory_layers(description):
            shapes |= {f"{layer}/kernel": (rows, columns), f"{layer}/bias": (columns,)}
        for layer, rows, columns in _layers(description):
            shapes |= {f"{layer}/kernel": (rows, columns), f"{layer}/bias": (columns,)}
        if description["action"]["kind"] == "box" and not _has_state_dependent_std(description):
            shapes[f"{_places(description)[1]}/log_std"] = (len(description["action"]["low"]),)
    return shapes


def normalized_leaves(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The arrays of an observation that the policy's normaliser acts on: those of floats."""
    leaves = leaves_of(description) if description["normalizer"] else {}
    return {name: leaf for name, leaf in leaves.items() if np.dtype(leaf["dtype"]).kind == "f"}


def statistic(moment: str, name: str) -> str:
    """Where the mean or the variance of an observation's array is among the weights."""
    return f"normalizer/{moment}/{name}".rstrip("/")


def sampled(action: dict[str, Any], outputs: Any, key: np.random.Generator | None) -> np.ndarray:
    """Actions [B, ...] in the environment's units, from logits [B, A] or (mean, log_std) [B, D].

    The same as `jaxrl_po.spaces` says, in a copy, for this file stands alone.
    """
    if not isinstance(key, np.random.Generator | None):
        raise ValueError(f"key must be a numpy.random.Generator, not {key!r}")
    if action["kind"] != "box":
        logits = outputs if key is None else outputs + key.gumbel(size=outputs.shape)
        if action["kind"] == "discrete":
            chosen: np.ndarray = logits.argmax(-1)
            return chosen
        choices = np.split(logits, np.cumsum(action["nvec"])[:-1], axis=-1)
        return np.stack([choice.argmax(-1) for choice in choices], axis=-1)
    mean, log_std = outputs
    x = mean if key is None else mean + np.exp(log_std) * key.standard_normal(mean.shape)
    x = np.tanh(x) if action["squash"] else x
    low, high = (np.array(action[side], float) for side in ("low", "high"))
    bounded = np.isfinite(low) & np.isfinite(high)
    low0, high0 = np.where(bounded, low, 0), np.where(bounded, high, 0)
    half_range = np.where(bounded, (high0 - low0) / 2, 1)
    taken = np.clip(x * half_range + (low0 + high0) / 2, low, high).astype(mean.dtype)
    shaped: np.ndarray = taken.reshape(len(taken), *action["shape"])
    return shaped


def allowed(action: dict[str, Any], action_mask: ActionMask, observation: Rows) -> np.ndarray:
    """What a mask allows [B, A] in each of the observations [B, ...].

    Raises:
        ValueError: when the mask is not one, or allows no action.
    """
    nvec = [action["n"]] if action["kind"] == "discrete" else action["nvec"]
    masks = []
    for i in range(len(next(iter(observation.values())))):
        mask = np.asarray(action_mask(nested({name: x[i] for name, x in observation.items()})))
        if mask.shape != (sum(nvec),) or mask.dtype != bool:
            raise ValueError(
                f"action_mask must be an array [{sum(nvec)}] of bool, not {mask.dtype}"
                f"{list(mask.shape)}"
            )
        if not all(choice.any() for choice in np.split(mask, np.cumsum(nvec)[:-1])):
            raise ValueError("observation: the action_mask allows no action there")
        masks.append(mask)
    return np.stack(masks)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    positive: np.ndarray = (1 + np.tanh(x / 2)) / 2
    return positive


def _gru(x: np.ndarray, z: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
    (x_r, x_z, x_n), (u_r, u_z, u_n) = (np.split(a, 3, axis=-1) for a in (x, z))
    reset, keep = _sigmoid(x_r + u_r), _sigmoid(x_z + u_z)
    return [(1 - keep) * np.tanh(x_n + reset * u_n) + keep * state[0]]


def _lstm(x: np.ndarray, z: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
    i, f, g, o = np.split(x + z, 4, axis=-1)
    c = _sigmoid(f) * state[0] + _sigmoid(i) * np.tanh(g)
    return [c, _sigmoid(o) * np.tanh(c)]


def _mingru(x: np.ndarray, z: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
    write, new = np.split(x, 2, axis=-1)
    return [(1 - _sigmoid(write)) * state[0] + _sigmoid(write) * new]


class Cell(NamedTuple):
    """A step of memory: `jaxrl_po.networks.memory` says what it computes."""

    parts: tuple[str, ...]  # of its state, h the last
    gates: int
    recurrent: bool  # whether the gates see h
    # what input and h bring to each gate [B, gates · H], state -> next state
    step: Callable[[np.ndarray, np.ndarray, list[np.ndarray]], list[np.ndarray]]


CELLS = {
    "gru": Cell(("h",), 3, True, _gru),
    "lstm": Cell(("c", "h"), 4, True, _lstm),
    "mingru": Cell(("h",), 2, False, _mingru),
}


def _network(
    description: dict[str, Any], arrays: dict[str, np.ndarray], action_mask: ActionMask | None
) -> Callable[[Rows, Any, Rows], tuple[np.ndarray, Rows]]:
    config, action = description["config"], description["action"]
    activation, box = ACTIVATIONS[config["activation"]], action["kind"] == "box"
    *hidden, last = [name for name, _, _ in _layers(description)]
    log_std, depends = f"{_places(description)[1]}/log_std", _has_state_dependent_std(description)
    dtype = arrays[f"{last}/kernel"].dtype

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        outputs: np.ndarray = x @ arrays[f"{name}/kernel"] + arrays[f"{name}/bias"]
        return outputs

    normalizer, normalized = description["normalizer"], normalized_leaves(description)

    def seen(name: str, x: np.ndarray) -> np.ndarray:
        x = x.astype(dtype)
        if name in normalized:
            mean, variance = (arrays[statistic(of, name)] for of in ("mean", "variance"))
            x = (x - mean) / np.sqrt(variance + dtype.type(normalizer["epsilon"]))
            x = np.clip(x, -normalizer["clip"], normalizer["clip"])
        return x.reshape(len(x), -1)

    def act(observation: Rows, key: Any, memory: Rows) -> tuple[np.ndarray, Rows]:
        x = np.concatenate([seen(name, x) for name, x in observation.items()], axis=1)
        for name in hidden:
            x = activation(dense(x, name))
        after: Rows = {}
        for i in range(_num_memories(description)):
            cell, place = CELLS[config["network"]], f"{_memory_place(description)}/{i}"
            state = [memory[f"{i}/{part}"] for part in cell.parts]
            recurrent = dense(state[-1], f"{place}/recurrent") if cell.recurrent else state[-1]
            state = cell.step(dense(x, f"{place}/input"), recurrent, state)
            after |= {f"{i}/{part}": s for part, s in zip(cell.parts, state, strict=True)}
            x = state[-1]
        outputs = dense(x, last)
        if action_mask is not None:
            outputs = np.where(allowed(action, action_mask, observation), outputs, -np.inf)
        if not box:
            return sampled(action, outputs, key), after
        if not depends:
            return sampled(action, (outputs, arrays[log_std]), key), after
        mean, offset = np.split(outputs, 2, axis=-1)
        return sampled(action, (mean, offset + dtype.type(config["log_std_init"])), key), after

    return act


def _places(description: dict[str, Any]) -> tuple[str, str]:
    """Where the torso and the head are among the arrays."""
    shared, remembers = description["config"]["shared_torso"], _num_memories(description) > 0
    if not shared:
        return "params/policy/torso/params", "params/policy/head/params"
    torso = "params/torso/torso/params" if remembers else "params/torso/params"
    return torso, "params/policy/params"


def _has_state_dependent_std(description: dict[str, Any]) -> bool:
    return bool(description["config"].get("state_dependent_std", False))


def _memory_place(description: dict[str, Any]) -> str:
    """Where the layers of memory are among the arrays."""
    return f"params/{'torso' if description['config']['shared_torso'] else 'policy'}/memory"


def _memory_layers(description: dict[str, Any]) -> list[tuple[str, int, int]]:
    """The products of memories: name, rows, columns."""
    config, found = description["config"], []
    *_, (_, _, inputs) = [("", 0, _num_inputs(description)), *_torso_layers(description)]
    for i in range(_num_memories(description)):
        cell, place = CELLS[config["network"]], f"{_memory_place(description)}/{i}"
        columns = cell.gates * config["memory_size"]
        found.append((f"{place}/input", inputs, columns))
        if cell.recurrent:
            found.append((f"{place}/recurrent", config["memory_size"], columns))
        inputs = config["memory_size"]
    return found


def _num_inputs(description: dict[str, Any]) -> int:
    return sum(math.prod(leaf["shape"]) for leaf in leaves_of(description).values())


def _torso_layers(description: dict[str, Any]) -> list[tuple[str, int, int]]:
    """The dense layers before the memories or the head: name, rows, columns."""
    torso, hidden = _places(description)[0], description["config"]["hidden_sizes"]
    sizes = [_num_inputs(description), *hidden]
    names = [f"{torso}/Dense_{i}" for i in range(len(hidden))]
    return list(zip(names, sizes[:-1], sizes[1:], strict=True))


def _layers(description: dict[str, Any]) -> list[tuple[str, int, int]]:
    """The dense layers, first to last: name, rows, columns."""
    action, config = description["action"], description["config"]
    if action["kind"] == "discrete":
        outputs = action["n"]
    else:
        outputs = len(action["low"]) if action["kind"] == "box" else sum(action["nvec"])
        outputs *= 1 + _has_state_dependent_std(description)
    layers = _torso_layers(description)
    features = layers[-1][2] if layers else _num_inputs(description)
    if _num_memories(description):
        features = config["memory_size"]
    return [*layers, (f"{_places(description)[1]}/Dense_0", features, outputs)]


def _read_description(path: Path) -> dict[str, Any]:
    """What policy.json says, checked to be of this form and, where it has a checksum, unedited."""
    try:
        description = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None
    version = description.get("format") if isinstance(description, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError(f"{path} is not the description of a policy: it has no format")
    if version > FORMAT:
        raise ValueError(
            f"{path} has format {version}, from a newer version of jaxrl_po; "
            f"this one reads up to {FORMAT}"
        )
    if missing := [name for name in FIELDS if name not in description]:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    if version > 1 and description.get("sha256") != checksum(description):
        raise ValueError(f"{path} is not what was saved: it was edited, or its checksum was")
    try:
        _check_fields(description)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from None
    if version == 1:
        warnings.warn(
            f"{path} is from an earlier version, which kept no checksum of the settings: had they "
            "been edited, it would not show. A policy saved anew has one.",
            stacklevel=4,
        )
    checked: dict[str, Any] = description
    return checked


def _check_fields(description: dict[str, Any]) -> None:
    _check_form("", description, FIELDS)
    action = description["action"]
    if action["kind"] not in ACTIONS:
        raise ValueError(f"action.kind={action['kind']!r} is none of {', '.join(ACTIONS)}")
    _check_form("action", action, ACTIONS[action["kind"]])
    description.setdefault("action_mask", False)
    _check_form("", description, {"action_mask": bool})
    if action["kind"] == "box":
        action.setdefault("shape", [len(action["low"])])
        _check_form("action", action, {"shape": [int]})
        low, high = (np.array(action[side], float) for side in ("low", "high"))
        if low.shape != high.shape or not (low <= high).all():
            raise ValueError("action.low must be at most action.high, number by number")
        if math.prod(action["shape"]) != len(low) or min(action["shape"], default=1) < 1:
            raise ValueError(f"action.shape={action['shape']} does not hold {len(low)} numbers")
    elif action["kind"] == "discrete":
        if action["n"] < 1:
            raise ValueError(f"action.n={action['n']} must be >= 1")
    elif min(action["nvec"], default=0) < 1:
        raise ValueError(f"action.nvec={action['nvec']} must be of numbers >= 1")
    _check_network(description["config"])
    if description["network"] not in ("config", "given"):
        raise ValueError(f"network={description['network']!r} is neither config nor given")
    _check_observation(description["observation"])
    normalizer = description["normalizer"]
    if normalizer and not (0 <= normalizer["epsilon"] < math.inf and normalizer["clip"] > 0):
        raise ValueError(f"normalizer={normalizer} must hold positive numbers")
    if not re.fullmatch(r"[\w-]+\.safetensors", description["weights"]["file"], re.ASCII):
        raise ValueError(
            f"weights.file={description['weights']['file']!r} must be the plain name of a "
            ".safetensors file in the folder"
        )


def _check_network(config: dict[str, Any]) -> None:
    if config["activation"] not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"config.activation={config['activation']!r} is none of {known}")
    if "state_dependent_std" in config:
        _check_form("config", config, {"state_dependent_std": bool, "log_std_init": float})
    if config["network"] in CELLS:
        _check_form("config", config, {"memory_size": int, "memory_layers": int})


def _check_observation(observation: dict[str, Any]) -> None:
    leaves = {"observation": observation}
    if "leaves" in observation:
        _check_form("observation", observation, {"leaves": dict})
        leaves = {f"observation.{name}": leaf for name, leaf in observation["leaves"].items()}
        if not leaves or list(leaves) != sorted(leaves):
            raise ValueError("observation.leaves must be arrays by name, in the order of names")
    for place, leaf in leaves.items():
        _check_form(place, leaf, {"shape": [int], "dtype": str})
        if min(leaf["shape"], default=1) < 1:
            raise ValueError(f"{place}.shape={leaf['shape']} must be of numbers >= 1")
        if not re.fullmatch(r"bool|u?int(8|16|32|64)|float(16|32|64)", leaf["dtype"]):
            raise ValueError(f"{place}.dtype={leaf['dtype']!r} is not a type of numbers")


def _check_form(place: str, value: Any, form: Any) -> None:
    """Check a value from JSON against a form: a type, [form], {name: form}, or (None, form)."""
    if isinstance(form, tuple):
        if value is not None:
            _check_form(place, value, form[1])
    elif isinstance(form, dict) and isinstance(value, dict):
        for name, inner in form.items():
            where = f"{place}.{name}" if place else name
            if name not in value:
                raise ValueError(f"it lacks {where}")
            _check_form(where, value[name], inner)
    elif isinstance(form, list) and isinstance(value, list):
        for item in value:
            _check_form(f"each of {place}", item, form[0])
    elif not _is_a(value, form):
        what = NAMES[type(form) if isinstance(form, dict | list) else form]
        raise ValueError(f"{place} must be {what}, not {repr(value)[:60]}")


def _is_a(value: Any, form: Any) -> bool:
    if form == BOUND:
        return value in ("inf", "-inf") or _is_a(value, float)
    if form is float:
        return type(value) is float or _is_a(value, int)
    return type(value) is form and (form is not int or abs(value) < 2**31)


def _safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file: a header's length, a JSON header, raw numbers."""
    start = 8 + int.from_bytes(data[:8], "little")
    if start > len(data):
        raise ValueError("it ends before its header does")
    try:
        header = json.loads(data[8:start])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is not readable as JSON: {error}") from None
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    header.pop("__metadata__", None)
    return {name: _array(name, entry, data[start:]) for name, entry in header.items()}


def _array(name: str, entry: Any, body: bytes) -> np.ndarray:
    try:
        _check_form(name, entry, {"dtype": str, "shape": [int], "data_offsets": [int]})
    except ValueError as error:
        raise ValueError(f"its header is damaged: {error}") from None
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in DTYPES:
        raise ValueError(f"{name} has type {dtype}; a policy's have {', '.join(DTYPES)}")
    size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    first, last = offsets if len(offsets) == 2 else (-1, -1)
    if min(shape, default=0) < 0 or not 0 <= first <= last <= len(body) or last - first != size:
        raise ValueError(f"{name} is {dtype}{shape} by its header, but not by its bytes {offsets}")
    return np.frombuffer(body[first:last], DTYPES[dtype]).reshape(shape)
