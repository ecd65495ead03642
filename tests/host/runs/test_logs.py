"""Logs that are not what was written are brought back or refused, never appended to."""

import shutil

import pytest

from jaxrl_po import resume, run
from jaxrl_po.host.runs import checkpoint, logs
from jaxrl_po.host.runs.directory import STREAMS
from tests.host.small import RUN, config, random_walk

ENV = random_walk(hazard=0.01)  # a table with numbers that are not finite, too
SETTINGS = {"num_seeds": 2, "env": ENV, "segment_length": 2, "evaluate_every": 1, **RUN}
METRICS = ("metrics.jsonl", "metrics.csv")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A paused run of 6 iterations of 8, and its logs when it is done."""
    directory = tmp_path_factory.mktemp("runs")
    run(config(), directory=directory / "paused", until=6, **SETTINGS)
    shutil.copytree(directory / "paused", directory / "whole")
    resume(directory / "whole", env=ENV, quiet=True)
    return directory / "paused", {n: (directory / "whole" / n).read_bytes() for n in STREAMS}


@pytest.fixture
def paused(original, tmp_path):
    return shutil.copytree(original[0], tmp_path / "run")


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
        return
    if how == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes(
        {"truncated": data[:-20], "emptied": b"", "flipped": data, "cut": data[:40]}[how]
    )


@pytest.mark.parametrize("how", ["truncated", "cut", "emptied", "flipped", "gone"])
@pytest.mark.parametrize("name", METRICS)
def test_metrics_log_is_brought_back_from_the_other(name, how, paused, original, capsys):
    assert b"nan" in (paused / "metrics.csv").read_bytes()
    damage(paused / name, how)
    resume(paused, env=ENV)
    (other,) = set(METRICS) - {name}
    shown = capsys.readouterr().out
    assert f"{name} was not what had been written: brought back from {other}" in shown
    for log in METRICS:
        assert (paused / log).read_bytes() == original[1][log]
    assert '"notices": ["' + name in (paused / "events.jsonl").read_text()


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped"])
@pytest.mark.parametrize("names", [METRICS, ("events.jsonl",)])
def test_log_that_nothing_brings_back_is_refused(names, how, paused):
    for name in names:
        damage(paused / name, how)
    before = {name: (paused / name).read_bytes() for name in STREAMS}
    with pytest.raises(ValueError, match=f"{names[0]} is not what had been written.*move it away"):
        resume(paused, env=ENV, quiet=True)
    assert {name: (paused / name).read_bytes() for name in STREAMS} == before


def test_log_that_was_moved_away_is_begun_anew(paused, capsys):
    for name in STREAMS:
        (paused / name).unlink()
    resume(paused, env=ENV)
    shown = capsys.readouterr().out
    assert all(f"{name} is gone: a new one begins here" in shown for name in STREAMS)
    header, *rows = (paused / "metrics.csv").read_text().splitlines()
    assert header.startswith("seed,iteration,")
    assert {row.split(",")[1] for row in rows} <= {"7", "8"}
    assert resume(paused, env=ENV, quiet=True).timesteps == 0


def test_logs_of_checkpoints_without_digests_are_checked_by_length(paused):
    saved, _ = checkpoint.load_newest(paused / "checkpoints")
    (paused / "metrics.csv").write_bytes(b"seed")
    _, done = logs.mend(paused, saved.notes["positions"], {})
    assert done == ["metrics.csv was not what had been written: brought back from metrics.jsonl"]


def test_columns_of_another_version_are_refused(paused):
    path = paused / "metrics.csv"
    table = path.read_text()
    path.write_text(table.replace(",kl,", ",divergence,", 1))
    with pytest.raises(ValueError, match="differ in divergence, kl: resume it with that version"):
        logs.check_columns(paused, sorted(set(table.split("\n")[0].split(",")[2:])))
