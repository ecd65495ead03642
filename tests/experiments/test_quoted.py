"""Figures that a text quotes are found in its tables, or named as stale."""

import json
import pathlib

import pytest

from experiments.quoted import stale

RESULTS = pathlib.Path(__file__).parents[2] / "experiments" / "results"


@pytest.mark.parametrize(
    ("text", "source", "missing"),
    [
        ("457k steps/s, -7.1, 92 %", "456,912 and -7.1023 and 0.922", []),
        ("453 ± 41", "499.0 ± 1.0", ["453", "41"]),
        ("0.98 at 1e-4", "0.9751 0.0001", []),
        ("CartPole-v1 with `n=12` and 3 seeds", "", []),
        ("-7.1", "7.1", ["-7.1"]),
    ],
)
def test_rounded_figures(text, source, missing):
    assert stale(text, source) == missing


def test_the_committed_discussion_quotes_its_measurements():
    tables = (RESULTS / "four_criteria.md").read_text().split("## Discussion")[0]
    raw = json.loads((RESULTS / "four_criteria.json").read_text())
    swept = [sum(row) / len(row) for part in raw["sweep"].values() for row in part["final"]]
    discussion = (RESULTS / "four_criteria_discussion.md").read_text()
    assert stale(discussion, tables, swept) == []
