"""The README: its Python runs, its figures are those of the tables, it stands alone."""

import pathlib
import re
import tomllib

import pytest

from experiments.quoted import figures, stale

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BUDGET = "total_timesteps=150_000"
TABLE = re.compile(r"`(experiments/results/\w+\.md)`")
PATH = re.compile(r"`((?:docs|experiments)/[\w./]+|[A-Z]+\.\w+|LICENSE)`")


def test_the_quickstart_runs(capsys):
    (quickstart,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert BUDGET in quickstart
    assert quickstart.count("\n") <= 8
    exec(quickstart.replace(BUDGET, "total_timesteps=2_048"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_it_fits_two_screens():
    assert len(README.splitlines()) <= 110
    assert max(map(len, README.splitlines())) <= 180


def test_the_two_commands_are_there():
    block = README.split("## Two commands\n")[1].split("```sh\n")[1].split("```")[0]
    assert [line.partition("#")[0].strip() for line in block.splitlines()] == [
        'pip install -e ".[dev]" && python experiments/ppo_cartpole.py',
        'pip install -e ".[dev]" && pytest',
    ]


def test_it_stands_on_a_package_index():
    """There a link to a file of the repository is dead: paths are named, the one figure is told."""
    links = re.findall(r"(!?)\[([^]]*)\]\((?!https?:)([^)]+)\)", README)
    ((mark, told, figure),) = links
    assert mark == "!"
    assert len(told.split()) >= 5
    assert (ROOT / figure).exists()


def test_every_path_exists():
    paths = PATH.findall(README)
    assert len(paths) >= 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_extra_that_it_names_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {name for names in re.findall(r"\.\[([\w,]+)\]", README) for name in names.split(",")}
    assert named <= set(project["optional-dependencies"])


QUOTING = [part for part in re.split(r"\n\n|\n(?=\|)", README) if TABLE.search(part)]


@pytest.mark.parametrize("part", QUOTING, ids=lambda part: part[:30])
def test_a_row_or_paragraph_quotes_the_table_that_it_names(part):
    source = "".join((ROOT / name).read_text() for name in TABLE.findall(part))
    assert stale(part, source) == []


def test_most_of_them_quote_figures():
    assert sum(bool(figures(part)) for part in QUOTING) >= 7
