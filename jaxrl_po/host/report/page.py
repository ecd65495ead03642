"""The page: a template, a style sheet and a script in the package, and the data in its midst."""

import html
import json
import re
from importlib.resources import files
from typing import Any

PLACE = re.compile(r"@@(\w+)@@")
# Characters of JSON that a page of HTML could take for its own.
UNSAFE = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&"})


def page(data: dict[str, Any], live: bool, stamp: str = "") -> str:
    """One HTML file that needs no other.

    Args:
        data: as `page_data` gives it.
        live: it asks where it came from for newer data, every few seconds.
        stamp: when it was written.
    """
    folder = files("jaxrl_po.host.report")
    text = (folder / "page.html").read_text(encoding="utf-8")
    names = ", ".join(run["name"] for run in data["runs"])
    style, script = ((folder / f"page.{end}").read_text(encoding="utf-8") for end in ("css", "js"))
    parts = {
        "title": html.escape(names.encode(errors="replace").decode()),
        "style": style,
        "data": json_text({**data, "live": live, "stamp": stamp}).translate(UNSAFE),
        "script": script,
    }
    return PLACE.sub(lambda place: parts[place[1]], text)


def json_text(data: dict[str, Any]) -> str:
    """The data as strict JSON."""
    return json.dumps(data, allow_nan=False)
