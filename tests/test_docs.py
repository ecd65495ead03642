"""The pages on how the code is made name what is there, and the picture is that of the code."""

import ast
import pathlib
import re

import pytest

from docs import draw_imports
from docs.draw_imports import PAGE

ROOT = pathlib.Path(__file__).parent.parent
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w.]+/[\w./]*|[\w.]+\.(?:py|sh|md|toml)")
TEST = re.compile(r"test_\w+")
NAME = re.compile(r"[A-Za-z_]\w*")
CODE = {
    "a/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.d",
    "a/deep.py": "import math\nfrom p.b import helper",
    "b.py": "def f():\n    from p import c",
    "c.py": "",
    "d.py": "import p.a, p.c",
}


def defined_in(paths):
    """Names of the test functions in some files."""
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def missing(page, text):
    """What a page links to or names, and is not there."""
    spans = SPAN.findall(text)
    roots = ROOT, ROOT / "jaxrl_po"
    files = [span for span in spans if FILE.fullmatch(span)]
    named = [span for span in spans if TEST.fullmatch(span)]
    known = defined_in(ROOT.glob("tests/**/*.py"))
    return [
        *(link for link in LINK.findall(text) if not (page.parent / link).exists()),
        *(file for file in files if not any((root / file).exists() for root in roots)),
        *(name for name in named if name not in known),
    ]


@pytest.mark.parametrize("page", [PAGE, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_pages_name_what_is_there(page):
    text = page.read_text()
    assert LINK.search(text)
    assert missing(page, text) == []


def test_what_is_not_there_is_found():
    gone = "[x](../gone.py) `loop/gone.py` `gone/` `test_gone`"
    there = "[x](draw_imports.py) `loop/train.py` `types.py` `ops/` `test_bits` `train(key)` `a.b`"
    assert missing(PAGE, f"{gone} {there}") == ["../gone.py", "loop/gone.py", "gone/", "test_gone"]


def code_of(path):
    """The text of a file, or of all files in a folder."""
    return "".join(p.read_text() for p in (path.glob("*.py") if path.is_dir() else [path]))


def test_each_change_names_a_file_with_its_names_and_a_test_of_that_file():
    _, table = PAGE.read_text().split("| change | file | test that holds it |\n|---|---|---|\n")
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert len(rows) >= 12
    for change, file, test in rows:
        places, tests = ([PAGE.parent / link for link in LINK.findall(x)] for x in (file, test))
        names, held = (set(filter(NAME.fullmatch, SPAN.findall(x))) for x in (file, test))
        assert places, change
        assert tests, change
        assert names <= set(NAME.findall("".join(map(code_of, places)))), change
        assert held <= defined_in(tests), change


def test_the_picture_is_that_of_the_code():
    page = PAGE.read_text()
    assert draw_imports.redrawn(page) == page, "python docs/draw_imports.py"


def test_arrows_are_imports_without_what_a_longer_way_implies(tmp_path):
    """`d` imports `c` by way of `a` and `b`; of `a`'s two imports one is for checkers alone."""
    for name, text in CODE.items():
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    drawn = draw_imports.arrows(tmp_path / "p", ["a", "b", "c", "d"])
    assert drawn == {("a", "b"), ("b", "c"), ("d", "a")}
