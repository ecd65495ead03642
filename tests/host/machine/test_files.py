"""One process a directory: the lock, whoever forks, and where the system has none."""

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrl_po.host.machine import files
from jaxrl_po.host.machine.files import lock, sync_directory, write_whole

SOURCE = Path(files.__file__)
OWNER = f"""
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("files", {str(SOURCE)!r})
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
held = files.lock(files.Path(sys.argv[1]))
reading, writing = os.pipe()
child = os.fork()
if not child:
    os.write(writing, b".")
    os.close(1)
    time.sleep(60)
    os._exit(0)
os.read(reading, 1)  # the child runs
print(child, flush=True)
time.sleep(60)
"""


def test_lock_dies_with_its_owner_whatever_that_forked(tmp_path):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    child = int(owner.stdout.readline())
    try:
        with pytest.raises(ValueError, match=rf"another process \(pid {owner.pid}\)"):
            lock(tmp_path)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        os.kill(child, 0)  # it lives
        lock(tmp_path).close()
    finally:
        owner.kill()
        owner.communicate()
        os.kill(child, signal.SIGKILL)


def test_owner_that_is_gone_is_called_so(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with lock(tmp_path):
        (tmp_path / "lock").write_text(f"{gone.pid} {socket.gethostname()}")
        with pytest.raises(ValueError, match=f"pid {gone.pid} took it and is gone"):
            lock(tmp_path)
        (tmp_path / "lock").write_text(f"{gone.pid} elsewhere")
        with pytest.raises(ValueError, match=rf"\(pid {gone.pid} on elsewhere\)"):
            lock(tmp_path)


@pytest.mark.parametrize("content", [b"precious", b"\xff\xfe", b"12 a b"])
def test_lock_that_is_not_ours_is_left_alone(content, tmp_path):
    (tmp_path / "lock").write_bytes(content)
    with pytest.raises(ValueError, match="lock is not a lock of jaxrl_po: move it away"):
        lock(tmp_path)
    assert (tmp_path / "lock").read_bytes() == content


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_file_system_without_locks_is_used_with_a_warning(number, tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with pytest.warns(RuntimeWarning, match=f"file system without locks .{os.strerror(number)}"):
        lock(tmp_path).close()


def test_failing_lock_names_its_file(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with pytest.raises(OSError, match=r"cannot write .*/lock: Input/output error"):
        lock(tmp_path)


def test_platform_without_fcntl_has_no_locks(tmp_path, monkeypatch):
    code = f"""
import sys, warnings
sys.modules["fcntl"] = None  # as on Windows
import jaxrl_po
from jaxrl_po.host.machine.files import Path, lock
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    lock(Path({str(tmp_path)!r})).close()
print([str(w.message) for w in caught if w.category is RuntimeWarning])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "without locks" in shown.stdout


def test_names_are_brought_to_the_disk_after_a_rename(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "replace", lambda a, b, real=os.replace: (done.append("r"), real(a, b)))

    def fsync(descriptor, real=os.fsync):
        done.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(tmp_path / "a", b"")
    assert done == ["file", "r", "directory"]
    lock(tmp_path / "new").close()
    assert done[3:] == ["directory"]


def test_file_system_that_cannot_sync_names_is_used_all_the_same(tmp_path, monkeypatch):
    tried = []

    def fsync(descriptor):
        tried.append(descriptor)
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    sync_directory(tmp_path)
    assert len(tried) == 1
