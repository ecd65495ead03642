"""A reward model as a folder: its torso in Hugging Face's format, its head and scale beside it."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxrl_po.host.language.checkpoints import Pretrained, load_pretrained, save_pretrained
from jaxrl_po.rlhf.reward_model import RewardModel

HEAD = "reward_head.safetensors"


def save_reward_model(
    folder: str | pathlib.Path, pretrained: Pretrained, reward_model: RewardModel
) -> pathlib.Path:
    """Write a reward model that stands on the torso of `pretrained`.

    Raises:
        ValueError: when the folder holds a model.
    """
    params, mean, std = jax.device_get(reward_model)
    path = save_pretrained(folder, pretrained, params["torso"])
    save_file({**params["head"], "mean": np.asarray(mean), "std": np.asarray(std)}, path / HEAD)
    return path


def load_reward_model(folder: str | pathlib.Path) -> tuple[Pretrained, RewardModel]:
    """The model of a folder that `save_reward_model` wrote, and the reward model on it.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    file = pathlib.Path(folder) / HEAD
    if not file.is_file():
        raise ValueError(f"{folder} holds no reward model: there is no {HEAD} in it")
    try:
        head = {name: jnp.asarray(array) for name, array in load_file(file).items()}
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file: {error}") from error
    pretrained = load_pretrained(folder)
    width = pretrained.model.num_features
    shapes = {name: array.shape for name, array in head.items()}
    if shapes != {"kernel": (width,), "bias": (), "mean": (), "std": ()}:
        raise ValueError(f"{file} does not hold the head of a model {width} wide: {shapes}")
    params = {
        "torso": pretrained.params,
        "head": {"kernel": head["kernel"], "bias": head["bias"]},
    }
    return pretrained, RewardModel(params, head["mean"], head["std"])
