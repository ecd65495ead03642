"""The README's Python runs as written, on a smaller budget."""

import itertools
import pathlib
import re

import numpy as np
import pytest

from experiments.quoted import parse, stale

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
BUDGET = "total_timesteps=150_000"


def test_the_quickstart_and_the_sweep_run(capsys):
    quickstart, sweep = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[:2]
    assert BUDGET in quickstart
    assert quickstart.count("\n") <= 8
    namespace = {}
    exec(quickstart.replace(BUDGET, "total_timesteps=2_048"), namespace)
    exec(sweep, namespace)
    assert len(capsys.readouterr().out.splitlines()) >= 2
    assert namespace["returns"].shape == (3,)
    assert np.isfinite(namespace["returns"]).any()
    assert len(set(np.asarray(namespace["returns"]).tolist())) > 1


def test_every_linked_file_exists():
    root = pathlib.Path(__file__).parent.parent
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (root / link).exists()] == []


RESULTS = pathlib.Path(__file__).parent.parent / "experiments" / "results"
RESULT_LINK = re.compile(r"\]\(experiments/results/(\w+)\.md\)")
SIDES = {"textbook JAX": "textbook JAX", "rejax": "rejax", "SB3": "Stable-Baselines3"}


def rows(table):
    """The cells of a Markdown table's body."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines[2:]]


def table_under(heading):
    """The README's table whose first row begins with a heading."""
    lines = README[README.index(f"| {heading}") :].splitlines()
    return "\n".join(itertools.takewhile(lambda line: line.startswith("|"), lines))


@pytest.mark.parametrize(
    "paragraph",
    [p for p in re.split(r"\n\n|\n- ", README) if RESULT_LINK.search(p) and "|" not in p],
    ids=lambda paragraph: paragraph[:30],
)
def test_a_paragraph_that_cites_results_quotes_them(paragraph):
    source = "".join(
        (RESULTS / f"{name}.md").read_text() for name in RESULT_LINK.findall(paragraph)
    )
    assert stale(paragraph, source) == []


def test_the_scores_are_those_of_the_study():
    measured = {(row[0], row[1]): row for row in rows((RESULTS / "scores.md").read_text())}
    names = [name.split("-")[0] for name, _ in measured]
    for names_here, *cells in rows(table_under("final return")):
        environments = [part.split("-")[0].strip() for part in names_here.split(",")[0].split("/")]
        assert set(environments) <= set(names)
        for algorithm, cell in zip(("ppo", "trpo"), cells, strict=True):
            for environment, quoted in zip(environments, re.split(r" / ", cell), strict=True):
                (row,) = (
                    row
                    for (name, method), row in measured.items()
                    if (name.split("-")[0], method) == (environment, algorithm)
                )
                score, _, steps = quoted.partition(" @")
                assert stale(score, row[5]) == []
                if steps:  # budgets are rounded down to whole rollouts
                    assert parse(steps)[0] == pytest.approx(parse(row[2])[0], rel=0.01)


def test_the_speeds_are_those_of_the_benchmark():
    sections = re.split(r"^### ", (RESULTS / "benchmark.md").read_text(), flags=re.MULTILINE)
    table = rows(table_under("2 CPU cores"))
    for name, *cells in table:
        title = name.split(" (")[0]
        if seeds := re.match(r"(\d+) seeds of the first row", name):
            title = f"{table[0][0].split(' (')[0]}, {seeds[1]} seeds"
        (section,) = (s for s in sections if re.match(rf"{title}(\n|:)", plain(s)))
        measured = {row[0]: row for row in rows(section)}
        assert stale(cells[0], measured["jaxrl_po"][1]) == []
        for side, cell in zip(SIDES.values(), cells[1:], strict=True):
            if cell:
                (row,) = (row for key, row in measured.items() if key.startswith((side, "sb3-")))
                assert stale(cell, " ".join(row)) == []


def plain(section):
    """A section's title in the README's spelling."""
    return section.replace("CartPole-v1", "CartPole").replace("Pendulum-v1", "Pendulum")
