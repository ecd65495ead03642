"""Tokenizers: read from a Hugging Face folder, held against a model, and used on its answers."""

import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.host.language.text.chat import Render, make_chat_template
from jaxrl_po.host.language.text.folder import Folder, read_folder, special_ids, special_tokens
from jaxrl_po.host.machine.imports import import_extra
from jaxrl_po.rlhf.checks import vocabulary_size
from jaxrl_po.rlhf.types import Generation, LanguageModel, Tokens

NO_TOKEN = -1  # fills empty slots where no token of the vocabulary can: it lies outside


class Tokenizer(NamedTuple):
    """Text to token ids and back: the door for tokenizers of one's own."""

    # text, begin=False -> ids; `begin` puts the BOS before it that the model is used to, if any
    encode: Callable[..., list[int]]
    decode: Callable[..., str]  # ids, skip_special=True -> text
    apply_chat_template: Render  # messages, add_generation_prompt=True -> text
    stop_ids: tuple[int, ...]  # any of them ends an answer; the first is written after one
    pad_id: int  # what fills empty slots; none of `stop_ids`
    bos_id: int | None
    vocab_size: int  # the largest id, and 1


class Exchange(NamedTuple):
    """A prompt and its answer, as text."""

    prompt: str
    response: str


def load_tokenizer(folder: str | pathlib.Path, template: str = "default") -> Tokenizer:
    """The tokenizer of a Hugging Face folder.

    Of tokenizer.json; what its special tokens are is said by tokenizer_config.json,
    special_tokens_map.json and generation_config.json, its chat template by chat_template.jinja or
    tokenizer_config.json. Where no token is for padding alone, `pad_id` is -1, which no text holds.

    Args:
        folder: that holds the files.
        template: which chat template, where there are several by name.

    Raises:
        ValueError: naming the file that is missing, or what is wrong in it.
    """
    files = read_folder(folder)
    backend = load_backend(files)
    ids = backend.get_vocab(with_added_tokens=True)
    stop_ids = tuple(dict.fromkeys(special_ids(files, "eos", ids)))
    if not stop_ids:
        raise ValueError(f"{folder}: no file names an eos_token, so no answer would end")
    pad_id = next(iter(special_ids(files, "pad", ids)), NO_TOKEN)
    bos_id = next(iter(special_ids(files, "bos", ids)), None)
    begins = files.settings.get("add_bos_token", backend.encode("").ids[:1] == [bos_id])

    def encode(text: str, begin: bool = False) -> list[int]:
        text.encode()  # raises a ValueError of what no UTF-8 holds; the backend would a TypeError
        found: list[int] = backend.encode(text, add_special_tokens=False).ids
        if begin and begins and bos_id is not None and found[:1] != [bos_id]:
            return [bos_id, *found]
        return found

    def decode(ids: Iterable[int], skip_special: bool = True) -> str:
        text: str = backend.decode([int(i) for i in ids], skip_special_tokens=skip_special)
        return text

    return Tokenizer(
        encode,
        decode,
        chat_template(files, template),
        stop_ids,
        NO_TOKEN if pad_id in stop_ids else pad_id,
        bos_id,
        max(ids.values()) + 1,
    )


def load_backend(files: Folder) -> Any:
    """The tokenizer of tokenizer.json, which neither cuts texts nor pads them."""
    tokenizers = import_extra("tokenizers", "text")
    try:
        backend = tokenizers.Tokenizer.from_str(files.tokenizer)
    except Exception as error:  # the package raises no other kind
        raise ValueError(f"{files.path / 'tokenizer.json'}: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def chat_template(files: Folder, name: str) -> Render:
    """The chat template of that name; where there is none at all, what says so of messages."""
    templates = files.chat_templates
    if name in templates:
        label = f"{files.path}: chat template {name!r}"
        return make_chat_template(templates[name], label, special_tokens(files))
    if templates or name != "default":
        known = ", ".join(sorted(templates)) or "none"
        raise ValueError(
            f"template={name!r} is none of the chat templates of {files.path}: {known}"
        )

    def refuse(messages: Any, add_generation_prompt: bool = True) -> str:
        raise ValueError(f"{files.path} has no chat template, so messages have no form as text")

    return refuse


def check_fits(tokenizer: Tokenizer, model: LanguageModel) -> None:
    """Raise unless a model knows all of a tokenizer's ids; it may know more."""
    known = vocabulary_size(model)
    if tokenizer.vocab_size > known:
        raise ValueError(
            f"tokenizer.vocab_size={tokenizer.vocab_size} does not fit the model, "
            f"whose vocabulary has {known}"
        )


def decode_responses(
    tokenizer: Tokenizer, generation: Generation, skip_special: bool = True
) -> list[Exchange]:
    """Prompts and answers as text, with their special tokens or without."""

    def texts(tokens: Tokens) -> list[str]:
        rows = zip(np.asarray(tokens.ids), np.asarray(tokens.mask), strict=True)
        return [tokenizer.decode(ids[mask].tolist(), skip_special) for ids, mask in rows]

    pairs = zip(texts(generation.prompt), texts(generation.response), strict=True)
    return [Exchange(prompt, response) for prompt, response in pairs]
