"""Ctrl-C and SIGTERM as requests: what is running is finished first."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal, after saving its state; the message says how to go on."""


@contextmanager
def stop_requests(wanted: bool, notice: str) -> Iterator[list[str]]:
    """Collect the names of SIGINT and SIGTERM as they come; a second one acts at once.

    Unless they are wanted, and outside the main thread, where Python allows no handlers, the
    list stays empty.

    Args:
        wanted: whether there is something to save.
        notice: what is finished first, for the terminal; "" for silence.
    """
    received: list[str] = []
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: Any) -> None:
        name = signal.Signals(number)
        received.append(name.name)
        signal.signal(number, previous[name])
        if notice:  # not by print, which may be what was interrupted
            os.write(2, f"\n{name.name}: {notice}; once more to stop at once\n".encode())

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
