"""What error messages are made of."""

import difflib
from collections.abc import Iterable
from typing import Any

from jaxrl_po.config.aliases import alias, difference


def suggestion(name: str, known: Iterable[str]) -> str:
    """The tail of an error message on an unknown name: ours for it, or the nearest; and all."""
    by_spelling = {item.lower(): item for item in sorted(known)}
    tail = f"known: {', '.join(by_spelling.values())}"
    if ours := alias(name, by_spelling):
        return f"did you mean {ours!r}?{difference(name)} {tail}"
    nearest = difflib.get_close_matches(name.lower(), by_spelling, n=1)
    return f"did you mean {by_spelling[nearest[0]]!r}? {tail}" if nearest else tail


def described(thing: Any) -> str:
    """What something is, in a few words."""
    kind = thing if isinstance(thing, type) else type(thing)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return f"the class {name} (an instance is wanted)" if isinstance(thing, type) else f"a {name}"
