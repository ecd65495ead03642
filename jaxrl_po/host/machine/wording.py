"""How numbers of things, and commands, read in messages."""

import pathlib
import shlex


def counted(number: int, noun: str) -> str:
    """The number with its noun, as in "1 seed" or "2 seeds"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def resume_command(directory: str | pathlib.Path) -> str:
    """What a shell is told to go on with a run."""
    return f"python -m jaxrl_po resume {shlex.quote(str(directory))}"
