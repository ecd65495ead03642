"""The terminal: every encoding, and progress from the first second."""

import io
import re

import jax
import numpy as np
import pytest
from rich.console import Console

from jaxrl_po.host.runs import terminal
from jaxrl_po.host.runs.logging import Visit
from jaxrl_po.host.runs.terminal import in_parts, make_console, progress_bar


def visit(**changes):
    """Iterations 3 and 4 of two seeds."""
    fields = {
        "seeds": [5, 6],
        "iterations": np.array([3, 4]),
        "metrics": {"episode_return": np.array([[np.nan, 0.0], [np.inf, 9.0]], np.float32)},
        "num_done": np.array([2, 1]),
        "events": [],
        "train_seconds": 1.0,
        "other_seconds": 0.1,
    }
    return Visit(**(fields | changes))


@pytest.mark.parametrize("on_terminal", [False, True])
def test_progress_is_quiet_without_a_terminal(on_terminal, capsys):
    bar = progress_bar(Console(force_terminal=on_terminal, width=100), 2, 8, 16)
    assert sum(bar.parts(2)) == 2
    bar.logger.write(visit())
    bar.logger.close()
    shown = capsys.readouterr().out
    assert ("steps/s" in shown) == on_terminal
    assert ("return 4.5" in shown) == on_terminal  # of the finite ones


def test_nothing_is_said_of_a_return_before_an_episode_has_finished(capsys):
    bar = progress_bar(Console(force_terminal=True, width=100), 0, 8, 16)
    bar.logger.write(visit(metrics={"episode_return": np.full((2, 2), np.nan)}))
    bar.logger.close()
    shown = capsys.readouterr().out
    assert "no episode finished yet" in shown
    assert "nan" not in shown


def test_diverged_seed_is_shown(capsys):
    event = {"event": "diverged", "seed": 6, "iteration": 3, "not_finite": {"policy_loss": "-inf"}}
    bar = progress_bar(Console(width=200), 2, 8, 16)
    bar.logger.write(visit(events=[event]))
    bar.logger.close()
    assert "seed 6 diverged in iteration 3 (policy_loss)" in capsys.readouterr().out


def test_the_bar_moves_within_a_segment_by_time_not_by_segments(monkeypatch, capsys):
    clock = 0.0
    monkeypatch.setattr(terminal.time, "perf_counter", lambda: clock)
    bar = progress_bar(Console(force_terminal=True, width=100), 0, 1000, 16)
    taken = []
    for part in bar.parts(100):
        taken.append(part)
        clock += 0.125 * part
    bar.logger.close()
    assert taken[0] == 1  # nothing is known yet
    assert sum(taken) == 100
    assert set(taken[1:-1]) == {4}  # of 0.125 s each: half a second
    assert " 10 %" in capsys.readouterr().out


def test_a_segment_without_a_watcher_is_one_call():
    bar = progress_bar(Console(force_terminal=False), 0, 1000, 16)
    assert list(bar.parts(100)) == [100]
    bar.logger.close()


def test_parts_are_joined_to_what_one_call_gives():
    def advance(blocks, count):
        length = np.arange(8)  # of which only the first `count` are filled

        def one(state):
            values = np.where(length < count, state + length, -1)[None]
            return state + count, {"value": values}

        return [one(state) for state in blocks]

    whole, parts = (in_parts(advance, split) for split in (lambda n: [n], lambda n: [1, 2, n - 3]))
    left, right = (call([np.int32(0), np.int32(10)], 8) for call in (whole, parts))
    assert jax.tree.map(np.array_equal, left, right) == [(True, {"value": True})] * 2
    assert right[1][1]["value"].tolist() == [list(range(10, 18))]


@pytest.mark.parametrize("on_terminal", [False, True])
def test_no_character_stops_a_console(on_terminal, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr(stream, "isatty", lambda: on_terminal, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    console = make_console(quiet=False)
    with console.status("compiling …"):
        console.print("größer: 499.0 ± 1.0")
    stream.flush()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.buffer.getvalue().decode("ascii"))
    assert "gr??er: 499.0 +- 1.0" in shown
    assert ("compiling ..." in shown) == on_terminal
