"""Figures that a text quotes, looked up in the tables they come from."""

import re
from collections.abc import Iterable

FIGURE = re.compile(r"(?<![\w.,/#-])[-−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?(?:k\b|M\b| ?%)?")
NOT_QUOTED = re.compile(r"`[^`]*`|\]\([^)]*\)|https?:\S+|\d{4}-\d\d-\d\d")
UNITS = {"k": 1e3, "M": 1e6, "%": 1e-2}


def parse(figure: str) -> tuple[float, float]:
    """A figure's value, and half a unit of its last digit."""
    unit = UNITS.get(figure[-1], 1.0)
    digits = figure.rstrip("kM% ").replace(",", "").replace("−", "-")
    mantissa, _, exponent = digits.partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    return float(digits) * unit, 0.5 * 10.0**-decimals * unit


def figures(text: str) -> list[str]:
    """The numbers of a text, code and links aside; single digits count things and are left out."""
    found = [m[0] for m in FIGURE.finditer(NOT_QUOTED.sub(" ", text))]
    return [figure for figure in found if len(re.sub(r"\D", "", figure)) > 1]


def stale(text: str, source: str, more: Iterable[float] = ()) -> list[str]:
    """The figures of a text to which nothing rounds: no number of its source, nor of `more`."""
    known = [parse(m[0])[0] for m in FIGURE.finditer(source)]
    known += [*more]
    missing = []
    for figure in figures(text):
        value, half = parse(figure)
        if not any(abs(value - other) <= half * (1 + 1e-6) for other in known):
            missing.append(figure)
    return missing
