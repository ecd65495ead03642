"""Prompts, completions and preferences: from files of JSON lines to tokens."""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl_po.config import check_count
from jaxrl_po.host.language.text.examples import (
    Record,
    Text,
    completion_text,
    pair_texts,
    prompt_text,
)
from jaxrl_po.host.language.text.tokenizer import Tokenizer
from jaxrl_po.rlhf.types import Tokens
from jaxrl_po.types import Array

File = str | pathlib.Path


class Prompts(NamedTuple):
    """Prompts to answer."""

    tokens: Tokens  # [R, P] padded on the left
    lines: np.ndarray  # [R] where each stands in the file, the first line being 1
    num_dropped: int  # that were too long


class Completions(NamedTuple):
    """Prompts with the answers to learn."""

    tokens: Tokens  # [R, L] padded on the right
    completion: Array  # [R, L] the tokens of answers, with the one that ends them
    lines: np.ndarray  # [R]
    num_dropped: int


class Pairs(NamedTuple):
    """Prompts with two answers each, as `make_reward_model` takes them."""

    tokens: Tokens  # [2 R, L] padded on the right
    chosen: Array  # [R] rows of `tokens` with the better answers
    rejected: Array  # [R] rows with the worse
    lines: np.ndarray  # [R]
    num_dropped: int


def read_prompts(file: File, tokenizer: Tokenizer, max_prompt_length: int) -> Prompts:
    """Prompts of a file whose lines are {"prompt": text or messages}; other keys are left alone.

    A prompt of messages ends where the model is to answer, as the chat template has it. One of more
    than `max_prompt_length` tokens is dropped, and counted.

    Raises:
        ValueError: naming the file and the line of what is wrong; or where no prompt is left.
    """
    length = check_count("max_prompt_length", max_prompt_length)
    (texts,), lines, num_dropped = read(file, tokenizer, prompt_text, "max_prompt_length", length)
    return Prompts(pad(texts, tokenizer.pad_id, left=True), lines, num_dropped)


def read_completions(
    file: File, tokenizer: Tokenizer, max_length: int, *, all_turns: bool = False
) -> Completions:
    """Prompts and completions: lines of {"prompt", "completion"}, or of {"messages"}.

    Each is text or messages. Of "messages" the last is the assistant's, and it alone is the
    completion; with `all_turns` so is every message of the assistant's that answers others. Each
    ends with a token of `stop_ids`, which a chat template must write after earlier ones. A prompt
    and completion of more than `max_length` tokens are dropped, and counted.

    Raises:
        ValueError: naming the file and the line of what is wrong; or where nothing is left.
    """
    length = check_count("max_length", max_length)
    texts_of = functools.partial(completion_text, all_turns=all_turns)
    (texts,), lines, num_dropped = read(file, tokenizer, texts_of, "max_length", length)
    tokens = pad(texts, tokenizer.pad_id)
    completion = np.zeros(tokens.ids.shape, bool)
    for row, text in zip(completion, texts, strict=True):
        row[: len(text.learned)] = text.learned
    return Completions(tokens, jnp.asarray(completion), lines, num_dropped)


def read_preferences(file: File, tokenizer: Tokenizer, max_length: int) -> Pairs:
    """Pairs of answers: lines of {"prompt", "chosen", "rejected"}, each text or messages.

    Answers end as in `read_completions`. A pair is dropped, and counted, where one of the two has
    with its prompt more than `max_length` tokens.

    Raises:
        ValueError: naming the file and the line of what is wrong; or where nothing is left.
    """
    length = check_count("max_length", max_length)
    columns, lines, num_dropped = read(file, tokenizer, pair_texts, "max_length", length)
    chosen, rejected = columns
    row = jnp.arange(len(lines))
    tokens = pad([*chosen, *rejected], tokenizer.pad_id)
    return Pairs(tokens, row, row + len(lines), lines, num_dropped)


def read(
    file: File,
    tokenizer: Tokenizer,
    texts_of: Callable[[Tokenizer, Record], tuple[Text, ...]],
    name: str,
    max_length: int,
) -> tuple[list[tuple[Text, ...]], np.ndarray, int]:
    """Each line's texts, column by column, their lines, and how many lines were too long."""
    kept, lines, num_dropped = [], [], 0
    try:
        content = pathlib.Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            texts = texts_of(tokenizer, as_record(line))
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error
        if max(len(text.ids) for text in texts) > max_length:
            num_dropped += 1
            continue
        kept.append(texts)
        lines.append(number)
    if not kept:
        all_long = f"all {num_dropped} lines have more than {name}={max_length} tokens"
        raise ValueError(f"{file}: {all_long if num_dropped else 'there are no lines in it'}")
    return list(zip(*kept, strict=True)), np.array(lines), num_dropped


def as_record(line: bytes) -> Record:
    """The object in a line of JSON."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    except RecursionError:
        raise ValueError("not JSON: it is nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError(f"must hold an object, not {type(record).__name__}")
    return record


def pad(texts: Any, pad_id: int, left: bool = False) -> Tokens:
    """Texts as tokens [R, L], as long as the longest of them."""
    length = max(len(text.ids) for text in texts)
    ids = np.full((len(texts), length), pad_id, np.int32)
    mask = np.zeros(ids.shape, bool)
    for row, text in enumerate(texts):
        size = len(text.ids)
        slots = slice(length - size, length) if left else slice(0, size)
        ids[row, slots], mask[row, slots] = text.ids, True
    return Tokens(jnp.asarray(ids), jnp.asarray(mask))
