"""Modules of the optional extras, imported where they are used."""

import importlib
from typing import Any


def import_extra(module: str, extra: str) -> Any:
    """A module that an extra brings.

    Raises:
        ValueError: that says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"this needs {module}, which is not installed: pip install 'jaxrl-po[{extra}]'"
        ) from error
