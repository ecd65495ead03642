"""The script of the whole check: all that fails is told, and nothing of it outlives it."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / ".ci" / "run"
COMMANDS = "pip", "ruff", "codespell", "mypy", "mkdocs", "pytest"
SCRIPTS = "wheel", "versions"
NONE = 'echo "NOT RUN: no Python $2 $3"; exit 3'
VENV = """\
#!/bin/sh
mkdir -p "$3/bin"
touch "$3/bin/activate"
"""
pytestmark = pytest.mark.skipif(os.name != "posix" or not SCRIPT.exists(), reason="no checkout")


@pytest.fixture
def begin(tmp_path):
    """Starts the script with commands that do nothing but what is given, in a folder of its own."""

    def start(**commands):
        stubs = {name: commands.get(name, "exit 0") for name in (*COMMANDS, *SCRIPTS)}
        texts = {name: f"#!/bin/bash\n{text}\n" for name, text in stubs.items()}
        for name, text in (texts | {"python3": VENV}).items():
            file = tmp_path / (".ci" if name in SCRIPTS else "bin") / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            file.chmod(0o755)
        shutil.copy(SCRIPT, tmp_path / ".ci" / "run")
        (tmp_path / "tmp").mkdir()
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "TMPDIR": str(tmp_path / "tmp")}
        return subprocess.Popen(
            [tmp_path / ".ci" / "run"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def test_what_succeeds_ends_with_the_tests(begin):
    process = begin(pytest="echo tested")
    assert process.communicate(timeout=60)[0] == "tested\n"
    assert process.returncode == 0


def test_all_that_fails_is_told_once_all_has_ended(begin, tmp_path):
    late = "sleep 1; ls tmp; exit 1"  # the environment is still there
    process = begin(
        mkdocs="exit 1",
        mypy="exit 2",
        wheel=late,
        versions='echo "$@"; exit 1',
        pytest="echo tested",
    )
    told = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 1
    assert told[0].startswith("tmp.")
    assert told[1:] == ["newest 3.13 3.12", "failed: site types wheel newest"]
    assert not list((tmp_path / "tmp").iterdir())


def test_a_newer_python_that_is_not_there_is_told_twice_and_is_no_failure(begin):
    process = begin(versions=NONE, pytest="echo tested")
    told = process.communicate(timeout=60)[0].splitlines()
    assert told == ["NOT RUN: no Python 3.13 3.12", "tested", "NOT RUN: no Python 3.13 3.12"]
    assert process.returncode == 0


@pytest.mark.parametrize("versions", [NONE, "exit 0"])
def test_tests_that_fail_fail_it_whatever_else_there_is(versions, begin):
    process = begin(versions=versions, pytest="exit 1")
    process.communicate(timeout=60)
    assert process.returncode == 1


def test_a_signal_ends_all_of_it(begin, tmp_path):
    work = "(sleep 3; touch went-on) & wait"
    process = begin(mypy=work, wheel=work, versions=work, mkdocs="touch begun; sleep 2")
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    time.sleep(2)
    assert not (tmp_path / "went-on").exists()
    assert not list((tmp_path / "tmp").iterdir())
