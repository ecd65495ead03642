"""The page of the study of SmolLM2: rewards read off where runs are equally far from the start."""

import numpy as np
import pytest
import rlhf_smollm_report as report


def visit(iteration, score, kl):
    return {
        "iteration": iteration,
        "score": score,
        "reference_score": 0.125,
        "win_rate": 0.5 + score / 2,
        "kl": kl,
    }


RECORD = {
    "curve": [
        visit(0, 0.125, 0.0),
        visit(10, 0.25, 0.5),
        visit(20, 0.5, 2.5),
        visit(30, 0.75, 2.4),
    ],
    "seconds": 20.0,
    "texts": {"reference": ["a", "b"], "ppo": ["c", "d"]},
    "measured": "2026-01-01: a machine",
}


@pytest.mark.parametrize(
    ("nats", "score"), [(0.25, 0.1875), (0.5, 0.25), (1.5, 0.375), (2.5, 0.5), (3.0, None)]
)
def test_what_a_run_had_where_it_first_came_so_far(nats, score):
    assert report.at_kl(RECORD, nats, "score") == score
    assert report.at_kl(RECORD, nats, "win_rate") == (score and 0.5 + score / 2)


def test_the_best_of_n_uses_every_answer():
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1, 1, (16, 5))
    found = report.best_of(scores)
    for n, nats in (1, 0.0), (4, np.log(4) - 0.75):
        groups = [scores[i : i + n].max(axis=0) for i in range(0, 16, n)]
        np.testing.assert_allclose(found[str(n)], (np.mean(groups), nats), rtol=1e-12)
    assert found["16"][0] == scores.max(axis=0).mean()


def test_the_page_and_the_figure(tmp_path):
    found = {"best_of": report.best_of(np.zeros((16, 3))), "rows": {"ppo": RECORD}}
    told = {"command": "c", "figure": "f.png", "answers": 8, "iterations": 30}
    told |= {"length": 5, "rank": 2, "every": 10, "every_trpo": 2, "prompts": 3}
    text = report.page(found, told)
    assert "| ppo | 0.312 | 0.438 |  | 0.656 | 0.719 |  |\n" in text
    assert "| ppo | 30 | 0.750 | 0.125 | +0.625 | 2.40 | 0.875 | 20.0 |\n" in text
    assert "reference:\n\n- a\n- b\n\nppo:\n\n- c\n- d\n" in text
    report.draw(found, tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 5000
