"""Where the time of a run goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds spent on each kind of work."""

    def __init__(self) -> None:
        """All at zero."""
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0, "host": 0.0}

    @contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        """Count the time of a block as of this kind."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] += time.perf_counter() - started
