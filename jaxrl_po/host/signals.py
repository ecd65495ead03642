"""Ctrl-C and SIGTERM as requests: what is running is finished first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal, after saving its state; the message says how to go on."""


@contextmanager
def stop_requests(wanted: bool) -> Iterator[list[str]]:
    """Collect the names of SIGINT and SIGTERM as they come; a second one acts at once.

    Unless they are wanted, and outside the main thread, where Python allows no handlers, the
    list stays empty.
    """
    received: list[str] = []
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, frame: Any) -> None:
        received.append(signal.Signals(number).name)
        signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
