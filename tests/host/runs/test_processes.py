"""Two processes on this machine are one run: whichever is killed, it ends as that of one."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import jax
import pytest

from jaxrl_po import load_state
from jaxrl_po.host.machine import processes
from tests.host.process_of_run import SEGMENT
from tests.host.runs.test_kill import newest_iteration
from tests.host.small import random_walk, same

ROOT = pathlib.Path(__file__).parents[3]
MINUTE = 60


@pytest.fixture
def alive():
    """Processes that a test starts, and that end with it."""
    processes = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ppo"])
def test_two_processes_are_one_run_whichever_is_killed(tmp_path, method, alive):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for lost in (1, 0):
        reached = newest_iteration(killed)
        both = started(alive, killed, method)
        while newest_iteration(killed) <= reached:
            assert all(process.poll() is None for process in both), errors(killed)
            time.sleep(0.01)
        both[lost].kill()
        assert [process.wait(MINUTE) for process in both][1 - lost] != 0
        message = errors(killed)[1 - lost]
        assert ("lost another one" if lost else "coordination service") in message, message
        assert newest_iteration(killed) > reached

    last = newest_iteration(killed) + SEGMENT + 7
    for directory, count in ((killed, 2), (whole, 1)):
        ended = started(alive, directory, method, last, count=count)
        assert [process.wait(5 * MINUTE) for process in ended] == [0] * count, errors(
            directory, count
        )
    env = random_walk()
    assert same(load_state(killed, env=env)[1], load_state(whole, env=env)[1])
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
def test_what_processes_tell_each_other(tmp_path, alive):
    port = free_port()
    commands = [["tests.host.processes_talk", port, i, tmp_path] for i in range(2)]
    both = begun(alive, commands, tmp_path / "talk")
    assert [process.wait(5 * MINUTE) for process in both] == [0, 0], errors(tmp_path / "talk")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("a:1", None, None), "coordinator needs num_processes and process_id beside it"),
        (("a:1", 2, 2), "process_id=2: it must be from 0 to 1"),
        (("a:1", 0, 0), "num_processes"),
        (("a", 2, 0), "coordinator='a': it must be HOST:PORT, or 'auto'"),
        (("a:0", 2, 0), "coordinator='a:0': it must be HOST:PORT, or 'auto'"),
        ((None, 2, 0), "num_processes and process_id need coordinator=HOST:PORT"),
        (("auto", 2, None), "num_processes: the cluster tells"),
        (("auto", None, None), "coordinator='auto': "),  # in words of JAX
        (("127.0.0.1:9", 2, 1), "coordinator=127.0.0.1:9 did not answer for 0 s"),
    ],
)
def test_what_makes_no_cluster_is_named(monkeypatch, place, message):
    monkeypatch.setattr(processes, "CONNECT_SECONDS", 0)
    with pytest.raises(ValueError, match=re.escape(message)):
        processes.connect(*place)


def started(alive, directory, method, until="", count=2):
    """Processes of a run, of which one alone has both devices."""
    port = free_port()
    arguments = [directory, method, *([until] if until else [])]
    commands = [["tests.host.process_of_run", port, count, i, *arguments] for i in range(count)]
    return begun(alive, commands, directory)


def begun(alive, commands, name):
    """Modules with their arguments, as processes that write their errors to files."""
    flags = "" if len(commands) > 1 else " --xla_force_host_platform_device_count=2"
    environment = os.environ | {
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + flags,
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "NPROC": "16",  # jax 0.10 may wait for ever with no more threads than devices
    }
    first = len(alive)
    for i, command in enumerate(commands):
        with error_file(name, i).open("w") as errors:
            line = [sys.executable, "-m", *map(str, command)]
            alive.append(subprocess.Popen(line, cwd=ROOT, env=environment, stderr=errors))
    return alive[first:]


def error_file(directory, process_id):
    return directory.with_name(f"{directory.name}{process_id}.err")


def errors(directory, count=2):
    return [error_file(directory, i).read_text() for i in range(count)]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
