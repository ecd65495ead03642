"""Packing: several texts in a row, each a segment of its own, so that few slots are empty."""

import bisect

import jax.numpy as jnp
import numpy as np

from jaxrl_po.config import check_count
from jaxrl_po.rlhf.checks import check_completion, check_one_text, check_some_token
from jaxrl_po.rlhf.types import Tokens
from jaxrl_po.types import Array


def pack(
    tokens: Tokens, length: int, completion: Array | None = None
) -> tuple[Tokens, Array | None]:
    """The same texts in fewer rows, which a model reads as if each stood alone.

    The longest first, each into the row in which it leaves the least room ("best fit decreasing":
    Krell et al. 2021, arXiv:2107.02027).

    Args:
        tokens: a text a row [R, L], padding on either side.
        length: slots of a packed row.
        completion: which tokens count, bool [R, L], if not all do.

    Returns:
        `Tokens` [rows, length] with segments, padded on the right; `completion`, moved alike.

    Raises:
        ValueError: when a row holds no token, several texts, or more tokens than `length`.
    """
    length = check_count("length", length)
    check_one_text("tokens", tokens)
    check_some_token("tokens", tokens)
    check_completion(tokens, completion)
    mask = np.asarray(tokens.mask)
    lengths = mask.sum(axis=1)
    if lengths.max() > length:
        row = int(lengths.argmax())
        raise ValueError(
            f"tokens: row {row} has {lengths[row]} tokens, more than a packed row's length={length}"
        )
    rows = rows_of(lengths, length)
    source = np.full((len(rows), length), -1)  # which slot of `tokens` each packed one is
    segment = np.zeros_like(source, np.int32)
    for row, texts in enumerate(rows):
        start = 0
        for number, text in enumerate(texts):
            slots = slice(start, start + lengths[text])
            source[row, slots] = text * mask.shape[1] + np.flatnonzero(mask[text])
            segment[row, slots] = number
            start = slots.stop
    there = source >= 0

    def moved(x: Array) -> Array:
        return jnp.asarray(np.ravel(x)[source] * there)

    packed = Tokens(moved(tokens.ids), jnp.asarray(there), jnp.asarray(segment))
    return packed, None if completion is None else moved(completion)


def rows_of(lengths: np.ndarray, length: int) -> list[list[int]]:
    """Which texts each packed row holds, by best fit: the longest first."""
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # rows by the room they have left
    rooms: list[int] = []  # its keys, ascending
    for text in np.argsort(-lengths, kind="stable").tolist():
        size = int(lengths[text])
        found = bisect.bisect_left(rooms, size)
        if found == len(rooms):
            row, room = len(rows), length
            rows.append([])
        else:
            room = rooms[found]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[found]
        rows[row].append(text)
        left = room - size
        if left not in with_room:
            with_room[left] = []
            bisect.insort(rooms, left)
        with_room[left].append(row)
    return rows
