"""What a release says of itself is said in one way, and what its checks name is there."""

import importlib.util
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from docs.hooks import ROOT
from jaxrl_po import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALL = (ROOT / "docs/guide/install.md").read_text()
QUICK = (ROOT / "tests/quick.txt").read_text().splitlines()


def script(name):
    """A module of .ci, by its file."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_say_the_same_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__ == script("archives").version()
    assert citation["license"] == PROJECT["license"]
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    named = re.findall(r"jaxrl_po-([\d.]+)-py3", pages)
    assert set(named) == {__version__}


def test_the_changelog_begins_with_what_is_not_released_and_goes_down():
    titles = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert titles[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", title) for title in titles[1:])
    assert titles[1].startswith(__version__)


def test_pythons_are_those_that_the_classifiers_name():
    pythons = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c}
    assert pythons == {"3.11", "3.12", "3.13"}
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains("3.13.9")
    assert not Requirement(f"python{PROJECT['requires-python']}").specifier.contains("3.14")


def test_every_extra_names_its_use():
    named = {
        name
        for line in INSTALL.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert named == set(PROJECT["optional-dependencies"])


def test_every_dependency_has_a_lower_bound_that_is_one():
    bounds = script("lowest").lowest()
    for name in ("jax", "numpy", "pandas"):
        assert (name in bounds) == (name != "numpy")  # NumPy comes with JAX
    requirements = {Requirement(line).name: Requirement(line) for line in PROJECT["dependencies"]}
    for name, requirement in requirements.items():
        assert requirement.specifier.contains(bounds[name])


def test_a_wheel_with_tests_or_without_types_is_found():
    archives = script("archives")
    files = [
        p for p in (ROOT / "jaxrl_po").rglob("*") if p.is_file() and "__pycache__" not in str(p)
    ]
    names = [path.relative_to(ROOT).as_posix() for path in files]
    licence = f"jaxrl_po-{__version__}.dist-info/licenses/LICENSE"
    said = "Typing :: Typed, Apache-2.0"
    assert archives.faults_of_wheel([*names, licence], said) == []
    without = [name for name in [*names, licence] if not name.endswith("py.typed")]
    assert archives.faults_of_wheel([*without, "tests/conftest.py"], said) == [
        "missing: jaxrl_po/py.typed",
        "does not belong there: tests/conftest.py",
    ]


@pytest.mark.parametrize("line", QUICK)
def test_what_the_quick_tests_name_is_there(line):
    path, _, test = line.partition("::")
    assert (ROOT / path).exists()
    assert test.partition("[")[0] in (ROOT / path).read_text() if test else True
