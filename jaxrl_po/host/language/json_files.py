"""Objects in the JSON files of a model's folder."""

import json
import pathlib
from typing import Any


def read_object(file: pathlib.Path, needed: bool = False) -> dict[str, Any]:
    """The object that a file holds; where there is none, and none is needed, an empty one.

    Raises:
        ValueError: naming the file.
    """
    if not file.is_file():
        if needed:
            raise ValueError(f"there is no {file.name} in {file.parent}")
        return {}
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: not JSON: {error}") from error
    except RecursionError:
        raise ValueError(f"{file}: not JSON: it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file}: must hold an object, not {type(found).__name__}")
    return found
