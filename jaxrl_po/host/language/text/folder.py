"""The files of a Hugging Face folder that say what a tokenizer is."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxrl_po.host.language.json_files import read_object

SPECIAL = "bos", "eos", "pad", "unk"


class Folder(NamedTuple):
    """What the files hold; empty where one of them, but tokenizer.json, is not there."""

    path: pathlib.Path
    tokenizer: str  # tokenizer.json
    settings: dict[str, Any]  # tokenizer_config.json
    special_tokens_map: dict[str, Any]
    generation_config: dict[str, Any]
    chat_templates: dict[str, str]  # by name; the one without a name is "default"


def read_folder(folder: str | pathlib.Path) -> Folder:
    """The files of a folder.

    Raises:
        ValueError: naming the file that is missing or malformed.
    """
    path = pathlib.Path(folder)
    file = path / "tokenizer.json"
    if not file.is_file():
        raise ValueError(f"{file}: no such file, and it is what a tokenizer is read from")
    settings = read_object(path / "tokenizer_config.json")
    return Folder(
        path,
        file.read_text(encoding="utf-8"),
        settings,
        read_object(path / "special_tokens_map.json"),
        read_object(path / "generation_config.json"),
        read_templates(path, settings),
    )


def read_templates(path: pathlib.Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Chat templates by name: of a file of their own, or a string or list in the settings."""
    file = path / "chat_template.jinja"
    if file.is_file():
        return {"default": file.read_text(encoding="utf-8")}
    found = settings.get("chat_template")
    if found is None:
        return {}
    if isinstance(found, str):
        return {"default": found}
    try:
        templates = {entry["name"]: entry["template"] for entry in found}
    except (TypeError, KeyError):
        templates = {"": None}
    if not all(isinstance(x, str) for pair in templates.items() for x in pair) or not templates:
        raise ValueError(
            f"{path / 'tokenizer_config.json'}: chat_template must be a string or a list of "
            f'{{"name": str, "template": str}}, not {found!r}'
        )
    return templates


def special_tokens(files: Folder) -> dict[str, str]:
    """The special tokens that the files name: "bos_token" and its like, as text."""
    found: dict[str, str] = {}
    for name in (f"{kind}_token" for kind in SPECIAL):
        for settings in (files.settings, files.special_tokens_map):
            token = settings.get(name)
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                found.setdefault(name, token)
    return found


def special_ids(files: Folder, kind: str, vocabulary: Mapping[str, int]) -> list[int]:
    """The ids of a kind of special token: the tokenizer's own, then those to generate with.

    Raises:
        ValueError: naming the file, and the token that the vocabulary does not hold.
    """
    found, token = [], special_tokens(files).get(f"{kind}_token")
    if token is not None:
        if token not in vocabulary:
            raise ValueError(f"{files.path}: {kind}_token={token!r} is not in tokenizer.json")
        found.append(vocabulary[token])
    name = f"{kind}_token_id"
    value = files.generation_config.get(name)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    known = set(vocabulary.values())
    if not all(isinstance(i, int) and i in known for i in ids):
        raise ValueError(
            f"{files.path / 'generation_config.json'}: {name}={value!r} must be an id, "
            "or a list of ids, of tokenizer.json"
        )
    return found + ids
