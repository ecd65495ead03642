"""The terminal: a console for all encodings, and a bar that moves from the first second."""

import codecs
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple, cast

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from jaxrl_po.host.runs.events import divergence_text
from jaxrl_po.host.runs.logging import Logger, Visit
from jaxrl_po.types import PyTree

PLAIN = {"±": "+-", "×": "x", "…": "...", "–": "-", "−": "-"}
SECONDS = 0.5  # between two moves of the bar, once the speed is known
GROWTH = 8  # of a part over the one before, at most: the first iterations tell little


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in missing), error.end


codecs.register_error("plain", _plain)


class _AnyEncoding:
    """A stream that writes what its encoding lacks in plain characters."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> Any:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return self._stream.write(text.encode(encoding, "plain").decode(encoding))


def make_console(quiet: bool) -> Console:
    """A console that no character stops: a finished run does not fail as it reports."""
    return Console(file=cast(IO[str], _AnyEncoding(sys.stdout)), quiet=quiet)


def speak_plainly() -> None:
    """Let this process print to streams of any encoding."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what took their place may not
            stream.reconfigure(errors="plain")


Parts = Callable[[int], Iterator[int]]  # iterations of a segment -> of its parts, in turn


class Bar(NamedTuple):
    """What a terminal shows of a run under way; elsewhere, only which seeds diverged."""

    logger: Logger
    parts: Parts


def progress_bar(
    console: Console, first: int, num_iterations: int, steps_per_iteration: int
) -> Bar:
    """A bar with speed, time left and the mean return.

    Args:
        console: where to.
        first: iterations done before.
        num_iterations: of the whole run.
        steps_per_iteration: environment steps of all seeds.
    """
    progress = Progress(
        SpinnerColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[result]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal or console.quiet,
    )
    task = progress.add_task("", total=num_iterations, completed=first, speed="training", result="")
    progress.start()
    size, done, seconds = 1, 0, 0.0

    def parts(count: int) -> Iterator[int]:
        nonlocal size, done, seconds
        if progress.disable:
            yield count
            return
        while count:
            part, started = min(size, count), time.perf_counter()
            yield part
            elapsed = time.perf_counter() - started
            count, done, seconds = count - part, done + part, seconds + elapsed
            size = int(np.clip(part * SECONDS / elapsed, 1, GROWTH * part))
            speed = f"{done * steps_per_iteration / seconds:,.0f} steps/s"
            progress.update(task, completed=first + done, speed=speed)

    def write(visit: Visit) -> None:
        returns = visit.metrics["episode_return"]
        known = returns[np.isfinite(returns)]
        if known.size:
            progress.update(task, result=f"return {known.mean():.1f}")
        elif not progress.tasks[task].fields["result"]:
            progress.update(task, result="no episode finished yet")
        for event in visit.events:
            if event["event"] == "diverged":
                text = f"{divergence_text(event)}: frozen at its last finite state"
                console.print(text, style="red")

    return Bar(Logger(write, progress.stop), parts)


def in_parts(
    advance: Callable[..., list[Any]], parts: Parts
) -> Callable[[list[PyTree], int], list[Any]]:
    """`advance(blocks, count) -> [(state, outputs [n, count])]` as a call for each part.

    Args:
        advance: as compiled, see `make_programs`.
        parts: of a `Bar`.
    """

    def call(blocks: list[PyTree], count: int) -> list[Any]:
        outputs: list[list[Any]] = [[] for _ in blocks]
        for part in parts(count):
            segments = advance(blocks, np.int32(part))
            blocks = [state for state, _ in segments]
            for pieces, (_, metrics) in zip(outputs, segments, strict=True):
                pieces.append(jax.tree.map(lambda x, n=part: np.asarray(x)[:, :n], metrics))
        joined = [
            jax.tree.map(lambda *values: np.concatenate(values, axis=1), *pieces)
            for pieces in outputs
        ]
        return list(zip(blocks, joined, strict=True))

    return call
