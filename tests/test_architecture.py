"""The layout by file: imports go downwards only, never in a circle; the core knows no host."""

import ast
import re
import subprocess
import sys

import pytest

from docs.draw_imports import PACKAGE, PAGE, ROOM, imports, modules_of, room_of

# From the bottom up. A file may import from its own room and from those below; rooms of a row are
# strangers.
ROOMS = [
    ["types", "version", "schedules"],
    ["config", "fast"],
    ["ops", "distributions"],
    ["spaces"],
    ["envs"],
    ["networks"],
    ["algorithms"],
    ["loop"],
    ["rlhf/types"],
    ["rlhf/models"],
    ["rlhf"],
    ["host", "host/machine"],
    ["host/simulators"],
    ["host/policies"],
    ["host/runs"],
    ["host/language"],
    ["host/sweeps", "host/tuned"],
    ["host/report"],
    ["host/cli", "host/spaces"],
    ["__init__", "__main__"],
]
RANK = {room: rank for rank, row in enumerate(ROOMS) for room in row}
# Parts that take others as values, and so import fewer rooms than lie below them.
ALLOWED = {
    "fast": {"types"},
    "ops": {"fast", "types"},
    "distributions": {"types"},
    "spaces": {"distributions", "types"},
    "algorithms": {"config", "fast", "ops", "types"},
}
HOST_MODULES = {
    *("argparse", "asyncio", "concurrent", "csv", "fcntl", "io", "json", "logging"),
    *("multiprocessing", "os", "pathlib", "pickle", "random", "shutil", "subprocess", "sys"),
    *("tempfile", "threading", "time", "matplotlib", "orbax", "rich"),
}
MODULES = modules_of(PACKAGE)
EACH_MODULE = pytest.mark.parametrize("module", MODULES)


def room(module):
    """The room that a module is in: its folder, or itself; folders of host/ and rlhf/ apart."""
    return room_of(module, RANK)


def internal_imports(module):
    names = imports(MODULES[module], MODULES)
    return {name for name in names if name.split(".")[0] == "jaxrl_po"}


@EACH_MODULE
def test_imports_go_downwards_only(module):
    own = room(module)
    for other in internal_imports(module):
        below = RANK[room(other)] < RANK[own] and room(other) in ALLOWED.get(own, RANK)
        assert room(other) == own or below, f"{module} imports {other}"


def test_no_circle_of_files():
    finished, under_way = set(), []

    def visit(module):
        assert module not in under_way, under_way[under_way.index(module) :]
        if module in finished or module not in MODULES:
            return
        under_way.append(module)
        for other in internal_imports(module):
            visit(other)
        finished.add(under_way.pop())

    for module in MODULES:
        visit(module)


@EACH_MODULE
def test_the_core_knows_no_host(module):
    outside = {name.split(".")[0] for name in imports(MODULES[module], MODULES)}
    assert room(module).startswith(("host", "__")) or not outside & HOST_MODULES


def test_the_core_comes_without_the_host():
    """In a process of its own, on a platform without `fcntl`."""
    code = (
        "import sys; sys.modules['fcntl'] = None; import jaxrl_po; "
        "print(sorted(m for m in sys.modules if m.startswith('jaxrl_po.host'))); "
        "jaxrl_po.run; jaxrl_po.sweep"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@EACH_MODULE
def test_a_file_says_what_it_does_in_its_first_line(module):
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


def test_the_page_shows_these_rooms_from_the_top_down():
    rooms = [name for name, _ in ROOM.findall(PAGE.read_text())]
    ranks = [RANK[name] for name in rooms]
    assert ranks == sorted(ranks, reverse=True)
    assert sorted(rooms) == sorted(set(RANK) - {"host"})  # a folder of rooms: it imports nothing
    assert internal_imports("jaxrl_po.host") == set()


@EACH_MODULE
def test_only_spaces_know_their_kinds(module):
    """But for the file that runs without the library."""
    if module in ("jaxrl_po.spaces", "jaxrl_po.host.policies.numpy_policy"):
        return
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            kinds = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
            assert not kinds & {"Discrete", "MultiDiscrete", "Box"}, module
        if isinstance(node, ast.Compare):
            compared = ast.unparse(node)
            assert not re.search(r"'(discrete|multidiscrete|box)'", compared), (module, compared)
