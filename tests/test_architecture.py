"""The layout of DESIGN: imports go downwards only, and the core knows no host."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "jaxrl_po"
# From the bottom up; a module may import its own layer and those below.
LAYERS = [
    {"types", "config", "aliases"},
    {"ops", "packing", "prng"},
    {"distributions", "envs"},
    {"networks", "network_check"},
    {"rollout", "algorithms"},
    {"train", "evaluate"},
    {"rlhf"},
    {"host"},
    {"__init__", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
HOST = {"host", "__init__", "__main__"}
HOST_MODULES = {
    *("argparse", "asyncio", "concurrent", "csv", "io", "json", "logging", "multiprocessing"),
    *("os", "pathlib", "pickle", "random", "shutil", "subprocess", "sys", "tempfile", "threading"),
    *("time", "matplotlib", "orbax", "rich", "tyro"),
}
FETCHES_DATA = {"rlhf/tasks/snippets.py"}  # long before anything is traced
FILES = {
    str(path.relative_to(PACKAGE)): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "__pycache__" not in path.parts
}
EACH_FILE = pytest.mark.parametrize("name", FILES)


def component(name):
    """The part of the package a file belongs to."""
    return pathlib.Path(name).parts[0].removesuffix(".py")


def imports(name):
    """Full names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            yield node.module


def internal_imports(name):
    parts = [module.split(".") for module in imports(name) if module.split(".")[0] == "jaxrl_po"]
    return {path[1] if len(path) > 1 else "__init__" for path in parts}


@EACH_FILE
def test_imports_go_downwards_only(name):
    own = component(name)
    assert own in RANK, f"{name} belongs to no layer"
    assert {module for module in internal_imports(name) if RANK[module] > RANK[own]} == set()


@EACH_FILE
def test_algorithms_and_ops_take_parts_as_values(name):
    allowed = {
        "ops": {"ops", "types"},
        "algorithms": {"algorithms", "config", "ops", "packing", "types"},
        "rollout": {"envs", "packing", "prng", "types"},
    }
    own = component(name)
    assert internal_imports(name) <= allowed.get(own, set(RANK))


@EACH_FILE
def test_the_core_knows_no_host(name):
    outside = {module.split(".")[0] for module in imports(name)}
    assert component(name) in HOST or name in FETCHES_DATA or not outside & HOST_MODULES


@EACH_FILE
def test_a_file_says_what_it_does_in_its_first_line(name):
    docstring = ast.get_docstring(ast.parse(FILES[name].read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))
