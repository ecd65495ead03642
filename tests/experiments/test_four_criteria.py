"""The comparative study: its arithmetic, and a smoke run from the command to the figures."""

import importlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "experiments"


@pytest.fixture
def load(monkeypatch):
    """Import a script's module as the script itself would."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module


def test_windows_and_thresholds(load):
    study = load("four_criteria")
    window = study.WINDOW
    sums = study.windowed(np.ones((2, 3 * window)))
    np.testing.assert_array_equal(sums[0], np.minimum(np.arange(1, 3 * window + 1), window))
    curve = [[None, 1.0, 5.0, 3.0], [0.0, 0.0, None, 0.0]]
    assert study.steps_to_threshold(curve, 4.0) == [3 * study.BLOCK, np.inf]


def test_step_sizes_are_chosen_by_mean_score(load):
    study = load("four_criteria")
    sweep = {
        "a": {"x": {"final": [[0, 0], [10, 10]]}, "y": {"final": [[-5, -5], [-9, -11]]}},
        "b": {"x": {"final": [[20, 20], [0, 0]]}},
    }
    scores = study.sweep_scores(sweep, {"x": 0.0, "y": -10.0})
    np.testing.assert_allclose(scores["a"]["x"], [0, 0.5])
    np.testing.assert_allclose(scores["a"]["y"], [1, 0])
    np.testing.assert_allclose(scores["b"]["x"], [1, 0])
    grids = {"a": (0.1, 0.2), "b": (0.3, 0.4)}
    assert study.choose(scores, grids) == {"a": 0.1, "b": 0.3}


def test_plateau_in_decades(load):
    report = load("four_criteria_report")
    grid = np.array([1e-4, 1e-3, 1e-2, 1e-1])
    assert report.plateau(grid, np.array([0.0, 1.0, 1.0, 0.0])) == pytest.approx(1.2, abs=1e-3)
    assert report.plateau(grid, np.full(4, 0.5)) == 0.0
    assert report.plateau(grid, np.ones(4)) == pytest.approx(3.0)


def test_lines_leave_out_comments_and_follow_calls(load, tmp_path, monkeypatch):
    (tmp_path / "sized.py").write_text(
        'def leaf():\n    """Docs."""\n    # comment\n\n    return 1\n\n\n'
        "def root():\n    return (\n        leaf()\n        + leaf()\n    )\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    root = load("sized").root
    num_lines = load("source_size").num_lines
    assert num_lines(root, ("sized",)) == (2, 4)
    assert num_lines(root, ("elsewhere",)) == (2, 2)


@pytest.mark.slow
def test_smoke_run(tmp_path):
    command = [sys.executable, str(EXPERIMENTS / "four_criteria.py"), "--quick"]
    subprocess.run([*command, "--directory", str(tmp_path)], check=True)
    report = (tmp_path / "four_criteria.md").read_text()
    for heading in ("Generally applicable", "Data efficient", "Robust", "Simple"):
        assert f"## {heading}" in report
    for figure in ("curves", "robust", "epochs"):
        assert 0 < (tmp_path / f"four_criteria_{figure}.png").stat().st_size < 200_000
