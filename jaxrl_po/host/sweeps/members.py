"""A member of a sweep: one setting and one seed as data, its training, and what is kept of it."""

import hashlib
import io
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.host.machine.files import write_whole
from jaxrl_po.host.runs.curves import latest_mean
from jaxrl_po.loop.divergence import has_diverged
from jaxrl_po.loop.parts import Given
from jaxrl_po.loop.train import make_step
from jaxrl_po.types import Array, PyTree, TrainState

MAX_POINTS = 100  # of a learning curve
FINAL_FRACTION = 0.1  # of the curve that `final_return` is the mean of
# Added to the number that a copy's key is folded with: beyond what a split counts to, for
# fold_in(key, 0) is the first of split(key), with which the parent goes on.
COPIES = 2**31
DIGEST_LENGTH = 64  # of the SHA-256 at the end of a member's file, in hexadecimal digits


class Member(NamedTuple):
    """What tells one member of a group from another."""

    config: Config
    seed: Any  # []


class Record(NamedTuple):
    """What is kept of a member, C points of its curve."""

    episode_return: Any  # [C] sum over the episodes that finished
    num_episodes: Any  # [C]
    diverged: Any  # [] a loss, gradient or parameter was not finite, or a parameter huge


def curve_points(config: Config) -> np.ndarray:
    """Iterations done at each point of the learning curve [C]."""
    stride = -(-config.num_iterations // MAX_POINTS)
    return np.minimum(
        np.arange(stride, config.num_iterations + stride, stride), config.num_iterations
    )


def make_member_function(
    example: Config, given: Given, keep_state: bool
) -> Callable[[tuple[Member, PyTree], Array, Array], tuple[Record, PyTree]]:
    """Training of a member whose static side is `example`'s, as one pure function.

    (member, progress), first, last -> record, state: trains from iteration `first` to `last`.
    With `keep_state` the output is the next call's `progress`, and at `first == 0` progress is
    passed over; without it, progress and state are empty and every call starts anew.
    """
    points = curve_points(example)
    stride = int(points[0])

    def train_on(
        member_and_progress: tuple[Member, PyTree], first: Array, last: Array
    ) -> tuple[Record, PyTree]:
        member, progress = member_and_progress
        init, step = make_step(member.config, *given)

        def fresh() -> tuple[Record, TrainState]:
            record = jax.tree.map(jnp.asarray, blank_record(len(points)))
            return record, init(jax.random.key(member.seed))

        def iterate(i: Array, carry: tuple[Record, TrainState]) -> tuple[Record, TrainState]:
            record, state = carry
            state, metrics = step(state)
            return note(record, i // stride, metrics, state), state

        if keep_state:
            template = jax.eval_shape(fresh)
            begin = jax.lax.cond(first == 0, fresh, lambda: data_as_keys(template, progress))
        else:
            begin = fresh()
        record, state = jax.lax.fori_loop(first, last, iterate, begin)
        return record, keys_as_data(state) if keep_state else ()

    return train_on


def blank_progress(example: Config, given: Given) -> PyTree:
    """Zeros in the shape of a member's progress: its record and state."""
    init, _ = make_step(example, *given)
    state = jax.eval_shape(lambda: keys_as_data(init(jax.random.key(0))))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
    return blank_record(len(curve_points(example))), zeros


def blank_record(num_points: int) -> Record:
    """Of a member that has not begun."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    return Record(
        np.zeros(num_points, dtype), np.zeros(num_points, np.int32), np.zeros((), np.bool_)
    )


def note(record: Record, point: Array, metrics: dict[str, Array], state: TrainState) -> Record:
    """Add an iteration to the record."""
    count = metrics["num_episodes"]
    total = jnp.where(count > 0, metrics["episode_return"] * count, 0.0)
    return Record(
        record.episode_return.at[point].add(total),
        record.num_episodes.at[point].add(count),
        record.diverged | has_diverged(metrics, state),
    )


def known_returns(record: Record, points: np.ndarray, iterations: int) -> np.ndarray:
    """The learning curve [C]: mean return of the latest finished episodes at each point.

    NaN before the first episode finishes, and after the iterations that were done.
    """
    known = latest_mean(record.episode_return, record.num_episodes)
    return np.where(np.concatenate([[0], points[:-1]]) < iterations, known, np.nan)


def aggregates(curve: np.ndarray) -> dict[str, float]:
    """Final return, best return and normalised area of a curve; NaN if no episode finished."""
    known = curve[np.isfinite(curve)]
    if not known.size:
        return dict.fromkeys(("final_return", "best_return", "area"), np.nan)
    last = max(1, round(FINAL_FRACTION * len(known)))
    return {
        "final_return": float(known[-last:].mean()),
        "best_return": float(known.max()),
        "area": float(known.mean()),
    }


class Outcome(NamedTuple):
    """A member when it stops."""

    timesteps: np.ndarray  # [C] of the points of its learning curve
    curve: np.ndarray  # [C] returns
    row: dict[str, Any]  # of the table, beside its setting


class Saved(NamedTuple):
    """A member as its file has it."""

    record: Record
    seconds: float
    state: list[np.ndarray]  # its leaves, or none


def save_member(path: pathlib.Path, saved: Saved, identity: str) -> None:
    """Write a member's file whole or not at all.

    It is an .npz whose comment, at its end, is the SHA-256 of all before it.

    Args:
        path: of the file.
        saved: its contents.
        identity: of what was trained, in hexadecimal digits.
    """
    arrays: dict[str, Any] = {f"state_{i}": leaf for i, leaf in enumerate(saved.state)}
    data = io.BytesIO()
    key = np.frombuffer(bytes.fromhex(identity), np.uint8)
    np.savez(data, **saved.record._asdict(), seconds=saved.seconds, identity=key, **arrays)
    # An archive ends with the length of its comment, in two bytes.
    body = data.getvalue()[:-2] + DIGEST_LENGTH.to_bytes(2, "little")
    write_whole(path, body + _digest(body))


def load_member(path: pathlib.Path, identity: str) -> Saved:
    """Read a member's file.

    Raises:
        ValueError: naming the file, when it is not what was written, or not of this identity.
    """
    data = path.read_bytes()
    body, digest = data[:-DIGEST_LENGTH], data[-DIGEST_LENGTH:]
    if digest != _digest(body):  # nothing in it is looked at
        raise ValueError(f"{path.name} is damaged: its bytes are not those that were written")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        if file["identity"].tobytes().hex() != identity:
            raise ValueError(f"{path.name} is of another sweep, setting or seed")
        record = Record(*(file[name] for name in Record._fields))
        count = sum(name.startswith("state_") for name in file.files)
        state = [file[f"state_{i}"] for i in range(count)]
        return Saved(record, float(file["seconds"]), state)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def stack_leaves(*leaves: Any) -> np.ndarray:
    """One leaf of several members, in the precision that JAX computes in."""
    stacked = np.stack([np.asarray(leaf) for leaf in leaves])
    return stacked.astype(jax.dtypes.canonicalize_dtype(stacked.dtype))


def copied(parent: Saved, structure: Any, number: int, seconds: float) -> Saved:
    """A member that goes on from another's state, with random numbers of its own.

    Args:
        parent: as its file has it.
        structure: of the tree that its state is the leaves of.
        number: of the setting that takes it over.
        seconds: that the copy's own training took so far.
    """
    state = jax.tree.unflatten(structure, parent.state)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), np.uint32(COPIES + number))
    own = state._replace(key=np.asarray(jax.random.key_data(key)))
    return parent._replace(state=jax.tree.leaves(own), seconds=seconds)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def keys_as_data(tree: PyTree) -> PyTree:
    """A state as arrays that a file can hold."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def data_as_keys(template: PyTree, tree: PyTree) -> PyTree:
    """The way back."""
    return jax.tree.map(
        lambda t, x: jax.random.wrap_key_data(x) if _is_key(t) else x, template, tree
    )
