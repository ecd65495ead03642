"""How numbers of things read in messages."""


def counted(number: int, noun: str) -> str:
    """The number with its noun, as in "1 seed" or "2 seeds"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
