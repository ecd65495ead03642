"""What goes wrong on real machines ends in a clear error or a fallback, never in a silent loss."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from jaxrl_po import resume, run
from jaxrl_po.host.machine.files import TEMPORARY, lock, write_whole
from jaxrl_po.host.runs import checkpoint, logs
from jaxrl_po.host.runs.directory import RunSettings, describe, write_description
from tests.host.small import RUN, config, random_walk, same

ENV = random_walk()
SETTINGS_OF_RUN = RunSettings(0, 1, 2, 1, 4, 8, 3, ["env"])
SETTINGS = {"env": ENV, "segment_length": 2, **RUN}


@pytest.fixture(scope="module")
def whole():
    """The uninterrupted run."""
    return run(config(), **SETTINGS)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    run(config(), directory=directory, until=6, **SETTINGS)
    return directory


@pytest.fixture
def paused(original, tmp_path):
    """A run directory with checkpoints of iterations 2, 4 and 6, of 8."""
    return shutil.copytree(original, tmp_path / "run")


def checkpoints(directory):
    return sorted((directory / "checkpoints").iterdir())


def test_full_disk_is_an_error_and_what_was_saved_stays(tmp_path, monkeypatch, whole):
    calls = 0

    def fsync(file, real=os.fsync):
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="No space left on device"):
            run(config(), directory=tmp_path / "run", **SETTINGS)
    assert calls > 12
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints")[0].iteration < 8
    assert not list(tmp_path.rglob("*.tmp"))
    assert same(resume(tmp_path / "run", env=ENV, quiet=True).state, whole.state)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_file_that_cannot_be_written_whole_stays_as_it_was(step, tmp_path, monkeypatch):
    path = tmp_path / "policy.json"
    write_whole(path, b"old")

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match=r"cannot write .*policy.json: No space left"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_under_the_logs_names_the_file(tmp_path):
    write_description(tmp_path, describe(config(), SETTINGS_OF_RUN))
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot write .*metrics.csv: No space left on device"):
        resume(tmp_path, env=ENV, quiet=True)


def test_directory_that_cannot_be_written_is_named(tmp_path):
    directory = tmp_path / "closed" / "run"
    directory.parent.mkdir(mode=0o500)
    if os.access(directory.parent, os.W_OK):  # the superuser may write everywhere but here
        directory = Path("/proc/run")
    with pytest.raises(OSError, match=f"cannot write to {directory}: "):
        run(config(), directory=directory, **SETTINGS)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped"])
def test_damaged_newest_checkpoint_is_reported_and_the_one_before_used(
    damage, paused, whole, capsys
):
    newest = checkpoints(paused)[-1]
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes({"truncated": data[:-100], "emptied": b"", "flipped": data}[damage])
    resumed = resume(paused, env=ENV)
    shown = re.sub(r"\s+", "", capsys.readouterr().out)
    assert f"notused:{newest.name}isdamaged" in shown
    assert "from4on" in shown
    assert same(resumed.state, whole.state)


def test_every_flipped_byte_of_a_checkpoint_is_seen(paused):
    path = checkpoints(paused)[-1]
    data = path.read_bytes()
    for position in range(0, len(data), max(1, len(data) // 200)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            checkpoint.load(path)


def test_no_intact_checkpoint_is_an_error(paused):
    for path in checkpoints(paused):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no checkpoint in .* is intact"):
        resume(paused, env=ENV, quiet=True)


def test_unfinished_files_are_ignored_and_cleared(paused, whole):
    name = f"0000000099-{32 * '0'}.safetensors{TEMPORARY}"
    unfinished = paused / "checkpoints" / name
    unfinished.write_bytes(b"half")
    assert same(resume(paused, env=ENV, quiet=True).state, whole.state)
    assert not unfinished.exists()


def test_run_that_never_reached_a_checkpoint_starts_again(tmp_path, monkeypatch, whole, capsys):
    def killed(*args):
        raise MemoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(MemoryError):
            run(config(), directory=tmp_path / "run", **SETTINGS)
    assert logs.reached(tmp_path / "run") == 2
    assert same(resume(tmp_path / "run", env=ENV).state, whole.state)
    assert "before its first checkpoint: it begins again" in capsys.readouterr().out
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == list(range(1, 9))


@pytest.mark.parametrize("lost", ["files", "folder"])
def test_run_whose_checkpoints_are_gone_does_not_start_over(lost, paused):
    shutil.rmtree(paused / "checkpoints")
    if lost == "files":
        (paused / "checkpoints").mkdir()
    before = contents(paused)
    with pytest.raises(ValueError, match="has no checkpoint, though its logs tell of 6 iterations"):
        resume(paused, env=ENV, quiet=True)
    assert contents(paused) == before


def contents(directory):
    """Every file but the lock, by name."""
    files = (p for p in sorted(directory.rglob("*")) if p.is_file() and p.name != "lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_second_process_on_a_directory_is_refused(paused):
    message = f"in use by another process .pid {os.getpid()}"
    with lock(paused), pytest.raises(ValueError, match=message):
        resume(paused, env=ENV)
    resume(paused, env=ENV, quiet=True)


def test_directory_that_holds_a_run_is_not_overwritten(paused):
    with pytest.raises(ValueError, match="already holds a run: resume it"):
        run(config(), directory=paused, env=ENV)


def test_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        resume(tmp_path)
