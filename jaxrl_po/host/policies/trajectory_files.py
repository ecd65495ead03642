"""Trajectories on disk: one .npz, or a folder of Parquet that readers of datasets know."""

import io
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl_po.envs.environment import named_leaves
from jaxrl_po.host.machine.files import write_whole
from jaxrl_po.host.machine.imports import import_extra
from jaxrl_po.host.policies.trajectories import Trajectories
from jaxrl_po.types import PyTree

PLAIN = ("action", "reward", "terminated", "truncated", "episode")
SEEN = ("observation", "final_observation")
PARQUET = "train-00000-of-00001.parquet"  # the name of the only split's only part


def save_trajectories(file: str | os.PathLike[str], trajectories: Trajectories) -> None:
    """Write trajectories as an .npz: an array for each field.

    Observations that are no single array have one for each leaf, "observation/NAME". bfloat16 is
    kept as float32, which holds all of it: NumPy's files have no bfloat16.

    Args:
        file: its name, which ends with .npz; one of the name is replaced.
        trajectories: what `rollout_policy` gave.

    Raises:
        ValueError: when the file is no .npz, or naming the array that has no type of NumPy's own.
        OSError: when it cannot be written.
    """
    path = _npz(file)
    arrays: dict[str, Any] = {}
    for name in PLAIN:
        arrays |= _columns(name, getattr(trajectories, name), "/")
    for name in SEEN:
        arrays |= _columns(name, getattr(trajectories, name), "/")
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    write_whole(path, data.getvalue())


def load_trajectories(file: str | os.PathLike[str]) -> Trajectories:
    """Read what `save_trajectories` wrote; observations with several leaves come as a flat dict.

    Raises:
        ValueError: when the file is none of these.
    """
    path = _npz(file)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as found:
            arrays = dict(found)
        seen = {name: _observation(name, arrays) for name in SEEN}
        return Trajectories(**seen, **{name: arrays[name] for name in PLAIN})
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} holds no trajectories: {error}") from error


def save_dataset(folder: str | os.PathLike[str], trajectories: Trajectories) -> Path:
    """Write trajectories as a folder that `datasets.load_dataset(folder)` reads; extra `sweep`.

    A row is a step: observation, action, reward, next_observation, terminated, truncated, episode
    and step (its number in the episode). Observations that are no single array have a column for
    each leaf, "observation.NAME"; arrays are lists of fixed sizes.

    Args:
        folder: to make; it must be new or empty.
        trajectories: what `rollout_policy` gave.

    Returns:
        The Parquet file in it.

    Raises:
        ValueError: when the folder holds anything.
    """
    pyarrow = import_extra("pyarrow", "sweep")
    parquet = import_extra("pyarrow.parquet", "sweep")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder={str(folder)!r} must be new or empty")
    columns: dict[str, Any] = {
        **_columns("observation", trajectories.observation, "."),
        **{n: x for f in PLAIN for n, x in _columns(f, getattr(trajectories, f), ".").items()},
        **_columns("next_observation", next_observation(trajectories), "."),
        "step": steps_of_episodes(trajectories.episode),
    }
    table = pyarrow.table({name: _lists(pyarrow, array) for name, array in columns.items()})
    (folder / "data").mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    parquet.write_table(table, data)
    path = folder / "data" / PARQUET
    write_whole(path, data.getvalue())
    return path


def next_observation(trajectories: Trajectories) -> PyTree:
    """What was seen after each step [K, ...], before any reset."""
    episode = trajectories.episode
    last = np.append(episode[1:] != episode[:-1], True)

    def follow(seen: Any, final: Any) -> np.ndarray:
        following = np.roll(np.asarray(seen), -1, axis=0)
        following[last] = np.asarray(final)[episode[last]]
        return following

    return jax.tree.map(follow, trajectories.observation, trajectories.final_observation)


def steps_of_episodes(episode: np.ndarray) -> np.ndarray:
    """The number of each step in its episode [K], from 0."""
    first = np.append(True, episode[1:] != episode[:-1])
    position = np.arange(len(episode))
    return position - np.maximum.accumulate(np.where(first, position, 0))


def _npz(file: str | os.PathLike[str]) -> Path:
    path = Path(file)
    if path.suffix != ".npz":
        raise ValueError(f"file={str(path)!r}: its name must end with .npz")
    return path


def _columns(name: str, tree: PyTree, separator: str) -> dict[str, np.ndarray]:
    """An array for each leaf, by the field's name and the leaf's."""
    leaves = named_leaves(tree).items()
    return {
        column: _storable(column, np.asarray(x))
        for leaf, x in leaves
        for column in [f"{name}{separator}{leaf}" if leaf else name]
    }


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    """The array, if a file brings its type back; bfloat16 as float32, which holds all of it."""
    if array.dtype == jax.numpy.bfloat16:
        return array.astype(np.float32)
    if array.dtype.kind not in "biufcSU":
        raise ValueError(f"{name} has dtype {array.dtype}, which files of arrays do not keep")
    return array


def _observation(name: str, arrays: dict[str, np.ndarray]) -> PyTree:
    if name in arrays:
        return arrays[name]
    leaves = {
        key.removeprefix(f"{name}/"): array
        for key, array in arrays.items()
        if key.startswith(f"{name}/")
    }
    if not leaves:
        raise KeyError(name)
    return leaves


def _lists(pyarrow: Any, array: np.ndarray) -> Any:
    """An array [K, ...] as a column of lists in lists, each of its fixed size."""
    column = pyarrow.array(array.reshape(-1))
    for size in reversed(array.shape[1:]):
        column = pyarrow.FixedSizeListArray.from_arrays(column, size)
    return column
