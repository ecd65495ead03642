"""Tables that pages of the site put together from those of experiments/results, cell by cell."""

import itertools
import re

import pytest

from docs.hooks import RESULTS, ROOT
from experiments.quoted import parse, stale

SIDES = {"textbook JAX": "textbook JAX", "rejax": "rejax", "SB3": "Stable-Baselines3"}


def rows(table):
    """The cells of a Markdown table's body."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines[2:]]


def table_under(page, heading):
    """A page's table whose first row begins with a heading."""
    text = (ROOT / "docs" / page).read_text()
    lines = text[text.index(f"| {heading}") :].splitlines()
    return "\n".join(itertools.takewhile(lambda line: line.startswith("|"), lines))


def test_the_scores_are_those_of_the_study():
    study = rows((ROOT / RESULTS / "scores.md").read_text())
    measured = {(row[0], row[1]): row for row in study}
    names = [name.split("-")[0] for name, _ in measured]
    for names_here, *cells in rows(table_under("methods/index.md", "final return")):
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
    text = (ROOT / RESULTS / "benchmark.md").read_text()
    sections = re.split(r"^### ", text, flags=re.MULTILINE)
    table = rows(table_under("guide/speed.md", "2 CPU cores"))
    assert len(table) >= 7
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
    """A section's title in the page's spelling."""
    return section.replace("CartPole-v1", "CartPole").replace("Pendulum-v1", "Pendulum")
