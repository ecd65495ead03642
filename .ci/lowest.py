"""Prints constraints for pip: the lowest versions that pyproject.toml allows of what it names."""

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)")
LEFT_OUT = "docs", "cuda"  # extras that no test needs


def lowest() -> dict[str, str]:
    """Name -> lower bound, of the dependencies and of every extra that tests use."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"].items()
    named = [line for extra, lines in extras if extra not in LEFT_OUT for line in lines]
    bounds: dict[str, str] = {}
    for line in [*project["dependencies"], *named]:
        if line.startswith(project["name"]):
            continue
        match = REQUIREMENT.match(line)
        if match is None:
            raise SystemExit(f"{line}: has no lower bound")
        if bounds.setdefault(match[1], match[2]) != match[2]:
            raise SystemExit(f"{match[1]}: has two lower bounds, {bounds[match[1]]} and {match[2]}")
    return bounds


if __name__ == "__main__":
    print("\n".join(f"{name}=={bound}" for name, bound in lowest().items()))
