"""Folders of Hugging Face's format: a transformer read from one, and one written."""

import json
import pathlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxrl_po.host.language.json_files import read_object
from jaxrl_po.host.machine.files import TEMPORARY, named, sync_directory, write_whole
from jaxrl_po.rlhf.models.config import TransformerConfig
from jaxrl_po.rlhf.models.families import FAMILIES, family_of, transformer_config
from jaxrl_po.rlhf.models.tensors import Tensor
from jaxrl_po.rlhf.models.transformer import init_params, make_transformer
from jaxrl_po.rlhf.types import LanguageModel
from jaxrl_po.types import PyTree

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
HEAD = "lm_head.weight"
PREFIXES = "transformer.", "model."  # that a file written from the bare model leaves out
COPIED = ".json", ".jinja", ".model", ".txt"  # what may belong to a tokenizer
NOT_READ = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|attn\.bias|attn\.masked_bias)")
OPTIONS = "compute_dtype", "remat", "context_length"


class Pretrained(NamedTuple):
    """A language model from a folder, and what the folder says about it."""

    model: LanguageModel
    params: PyTree
    config: TransformerConfig
    hf_config: Mapping[str, Any]  # its config.json
    folder: pathlib.Path


def load_pretrained(
    folder: str | pathlib.Path, dtype: str = "float32", **options: Any
) -> Pretrained:
    """A language model from a folder of Hugging Face's format, without torch.

    The folder holds config.json and one or several *.safetensors, of GPT-2, Llama (SmolLM too),
    Mistral, Qwen2, Qwen3 or Gemma 1 to 3 (text).

    Args:
        folder: on this machine.
        dtype: of the weights, "float32" or "bfloat16". In the latter they can be sampled from,
            and serve adapters that learn beside them, but not learn: to compute in half precision
            there is `compute_dtype="bfloat16"`.
        options: fields of `TransformerConfig` that no checkpoint sets: compute_dtype, remat, and
            a shorter context_length.

    Raises:
        ValueError: naming the file and what is wrong with it.
    """
    folder = pathlib.Path(folder)
    check_dtype(dtype)
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise ValueError(f"{unknown[0]} is set by the checkpoint; options: {', '.join(OPTIONS)}")
    hf_config = read_object(folder / "config.json", needed=True)
    try:
        config = transformer_config(hf_config, **options)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    params = read_params(folder, config, FAMILIES[family_of(hf_config)].tensors(config), dtype)
    return Pretrained(make_transformer(config), params, config, hf_config, folder)


def check_dtype(dtype: str) -> None:
    """Raise unless weights may be of a precision."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is none of {', '.join(DTYPES)}")


def refuse_model(folder: str | pathlib.Path) -> pathlib.Path:
    """The folder, or an error if there is a model in it."""
    path = pathlib.Path(folder)
    found = [name for name in ("config.json", INDEX) if (path / name).exists()]
    found += [file.name for file in path.glob("*.safetensors")]
    if found:
        raise ValueError(f"{path} already holds a model ({found[0]}): give another folder")
    return path


def make_model_folder(folder: str | pathlib.Path) -> pathlib.Path:
    """The folder, made where it is not there, for a model: before what it is for is trained.

    Raises:
        ValueError: when there is a model in it.
        OSError: when it cannot be made or written to.
    """
    path = refuse_model(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise named(error, f"cannot write to {path}") from None
    return path


def weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files that hold the weights: those of the index, or the only one."""
    if (folder / WEIGHTS).exists():
        names = [WEIGHTS]
    elif (folder / INDEX).exists():
        found = read_object(folder / INDEX).get("weight_map")
        if not isinstance(found, dict) or not all(isinstance(x, str) for x in found.values()):
            raise ValueError(f"{folder / INDEX} has no weight_map from tensors to files")
        names = sorted(set(found.values()))
    else:
        names = sorted(file.name for file in folder.glob("*.safetensors"))
    if not names:
        raise ValueError(f"there is no *.safetensors in {folder}")
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise ValueError(f"{INDEX} names files that are not in {folder}: {', '.join(missing)}")
    return [folder / name for name in names]


def read_params(
    folder: pathlib.Path, config: TransformerConfig, tensors: list[Tensor], dtype: str
) -> PyTree:
    """The transformer's parameters, read one tensor at a time into arrays of the last size."""
    shapes = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
    arrays = jax.tree.map(lambda x: np.empty(x.shape, DTYPES[dtype]), shapes)
    places, head = places_of(config, tensors), None
    unread, tied = set(places), config.tied_embedding
    for file in weight_files(folder):
        try:
            for name in names_of(file):
                own = full_name(name, places)
                if own:
                    put(arrays, places[own], tensor_of(file, name), f"{file}: {name}")
                    unread.discard(own)
                elif tied and name == HEAD:
                    head = tensor_of(file, name)
                elif not NOT_READ.fullmatch(name):
                    raise ValueError(f"{file}: tensor {name} has no place in this model")
        except SafetensorError as error:
            raise ValueError(f"{file} is no safetensors file: {error}") from error
    if unread:
        raise ValueError(f"{folder}: no file holds {', '.join(sorted(unread)[:5])}")
    if head is not None and not np.array_equal(
        head.astype(DTYPES[dtype]), arrays["embedding"]["embedding"]
    ):
        raise ValueError(
            f"{folder}: {HEAD} is another matrix than the embedding, though config.json ties them"
        )
    leaves, structure = jax.tree.flatten(arrays)
    del arrays, head
    for i, leaf in enumerate(leaves):
        # One at a time and waited for: two copies of one, not of all that are yet to be copied.
        leaves[i] = jnp.array(leaf).block_until_ready()
        del leaf
    params: PyTree = jax.tree.unflatten(structure, leaves)
    return params


def names_of(file: pathlib.Path) -> list[str]:
    """The tensors of a file."""
    with safe_open(file, framework="numpy") as opened:
        return list(opened.keys())


def tensor_of(file: pathlib.Path, name: str) -> np.ndarray:
    """A tensor of a file, which is not kept open: what was read of it would count as memory."""
    with safe_open(file, framework="numpy") as opened:
        found: np.ndarray = opened.get_tensor(name)
        return found


Place = tuple[Tensor, int | None]  # and the layer


def places_of(config: TransformerConfig, tensors: list[Tensor]) -> dict[str, list[Place]]:
    """What each tensor of a checkpoint is to the parameters, by its name."""
    places: dict[str, list[Place]] = {}
    for tensor in tensors:
        layers = range(config.num_layers) if "{i}" in tensor.name else [None]
        for i in layers:
            places.setdefault(tensor.name.format(i=i), []).append((tensor, i))
    return places


def full_name(name: str, places: Mapping[str, Any]) -> str:
    """The name as `places` has it, "" if it has none."""
    return next((own for own in (name, *(p + name for p in PREFIXES)) if own in places), "")


def look_up(tree: PyTree, path: tuple[str, ...]) -> Any:
    """The leaf at a path."""
    for name in path:
        tree = tree[name]
    return tree


def put(arrays: PyTree, places: list[Place], found: np.ndarray, label: str) -> None:
    """Write a tensor of a checkpoint to where it belongs."""
    for tensor, layer in places:
        array = look_up(arrays, tensor.path)
        target = array if layer is None else array[layer]
        expected = written_shape(tensor, target)
        if found.shape != expected:
            raise ValueError(
                f"{label} is {list(found.shape)}, where config.json says {list(expected)}"
            )
        k, n = tensor.part
        own = np.split(found, n, axis=-1)[k]
        target[...] = (own.T if tensor.transposed else own).reshape(target.shape)


def as_matrix(tensor: Tensor, array: np.ndarray) -> np.ndarray:
    """A parameter without its axis of layers as the checkpoint has it, its parts apart."""
    if tensor.path[-1] == "bias" or array.ndim < 2:
        return array.reshape(-1)
    if tensor.path[-1] != "kernel":
        return array
    is_out = tensor.path[-2] == "attention_out"
    matrix = array.reshape(-1, array.shape[-1]) if is_out else array.reshape(array.shape[0], -1)
    return matrix.T if tensor.transposed else matrix


def written_shape(tensor: Tensor, array: np.ndarray) -> tuple[int, ...]:
    """The shape that a checkpoint gives a tensor."""
    *front, last = as_matrix(tensor, array).shape
    return (*front, last * tensor.part[1])


def save_pretrained(
    folder: str | pathlib.Path, pretrained: Pretrained, params: PyTree | None = None
) -> pathlib.Path:
    """Write a folder that `load_pretrained`, transformers and what reads its format can load.

    Everything but the weights is the source folder's: its config.json, its tokenizer.

    Args:
        folder: to be made; it must not hold a model yet.
        pretrained: the model that was loaded; `pretrained._replace(params=…)` is one that was
            trained since.
        params: the new parameters, those of `pretrained` if None.

    Returns:
        The folder.

    Raises:
        ValueError: when the folder holds a model, or the parameters are another model's.
        OSError: when the folder cannot be written to.
    """
    folder = refuse_model(folder)
    params = jax.device_get(pretrained.params if params is None else params)
    check_structure(params, pretrained.params)
    make_model_folder(folder)
    parts: dict[str, dict[int, np.ndarray]] = {}
    tensors = FAMILIES[family_of(pretrained.hf_config)].tensors(pretrained.config)
    for name, places in places_of(pretrained.config, tensors).items():
        for tensor, layer in places:
            array = look_up(params, tensor.path)
            own = as_matrix(tensor, array if layer is None else array[layer])
            parts.setdefault(name, {})[tensor.part[0]] = own
    written = {
        name: np.ascontiguousarray(np.concatenate([own[k] for k in sorted(own)], axis=-1))
        for name, own in parts.items()
    }
    save_file(written, folder / WEIGHTS, metadata={"format": "pt"})
    dtype = str(next(iter(written.values())).dtype)
    hf_config = {k: v for k, v in pretrained.hf_config.items() if k not in ("dtype", "torch_dtype")}
    text = json.dumps({**hf_config, "torch_dtype": dtype}, indent=2, sort_keys=True)
    for file in pretrained.folder.iterdir():
        if file.is_file() and file.suffix in COPIED and file.name not in (INDEX, "config.json"):
            shutil.copyfile(file, folder / file.name)
    write_whole(folder / "config.json", f"{text}\n".encode())  # last: the folder is whole
    return folder


def replace_pretrained(folder: pathlib.Path, pretrained: Pretrained, params: PyTree) -> None:
    """`save_pretrained` in the place of a folder that one of its calls wrote before."""
    temporary = folder.with_name(folder.name + TEMPORARY)
    shutil.rmtree(temporary, ignore_errors=True)
    save_pretrained(temporary, pretrained, params)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    sync_directory(folder.parent)


def check_structure(params: PyTree, like: PyTree) -> None:
    """Raise unless parameters are those of a model, whatever their precision."""

    def shapes(tree: PyTree) -> dict[str, Any]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): list(leaf.shape) for path, leaf in leaves}

    found, expected = shapes(params), shapes(like)
    for name in sorted({*found, *expected}):
        one, other = found.get(name), expected.get(name)
        if one != other:
            raise ValueError(f"params{name} is {one}, where the loaded model has {other}")
