"""What a sweep says of its members: no more than they show."""

import numpy as np
import pytest

from jaxrl_po import PPOConfig
from jaxrl_po.host.report.sweeps import label
from jaxrl_po.host.sweeps.members import Outcome
from jaxrl_po.host.sweeps.plots import plot_heatmap, plot_learning_curves, plot_sensitivity
from jaxrl_po.host.sweeps.results import make_result, scores

NAN = float("nan")


def outcome(seed, final, diverged=False, pruned=False):
    row = {
        "seed": seed,
        "timesteps": 512,
        **dict.fromkeys(("final_return", "best_return", "area"), final),
        "seconds": 1.0,
        "diverged": diverged,
        "pruned": pruned,
    }
    return Outcome(np.array([256, 512]), np.array([final, final]), row)


def made(*finals, field="clip_eps", values=None):
    """The result of settings whose members ended so; None for one that diverged at 1000."""
    values = values or [0.1 * (i + 1) for i in range(len(finals))]
    settings = [{field: value} for value in values]
    outcomes = [
        [outcome(s, 1000.0 if x is None else x, x is None) for s, x in enumerate(seeds)]
        for seeds in finals
    ]
    return make_result(settings, [PPOConfig().replace(**s) for s in settings], outcomes, 1)


def row(result, setting):
    return next(row for row in result.summary.rows() if row["setting"] == setting)


def test_where_no_episode_finished_there_is_nothing_to_compare(tmp_path):
    result = made([NAN, NAN], [NAN, NAN])
    assert result.best is None
    assert result.summary_text() == "nothing to compare: no episode finished in 512 steps"
    assert "nan" not in str(result.summary)
    for name in ("final_return", "low", "high", "score", "best_return", "area"):
        assert np.isnan(result.summary[name]).all()
    assert np.isnan(result.compared).all()
    result.write(str(tmp_path))
    assert {p.name for p in tmp_path.glob("*.png")} == {"learning_curves.png"}
    with pytest.raises(ValueError, match="nothing to compare"):
        plot_sensitivity(result, "clip_eps")


def test_where_every_member_diverged_there_is_nothing_to_compare():
    result = made([None, None], [None, None])
    assert result.best is None
    assert result.all_diverged
    assert result.summary_text() == "nothing to compare: every member diverged"
    mixed = made([None, None], [NAN, NAN])
    assert not mixed.all_diverged
    reason = "2 of 4 members diverged, no episode finished in 512 steps"
    assert mixed.summary_text() == f"nothing to compare: {reason}"


@pytest.mark.parametrize(
    ("what", "left"),
    [
        ("numpy.savez", {"summary.csv"}),
        ("matplotlib.figure.Figure.savefig", {"summary.csv", "curves.npz", "members.csv"}),
    ],
)
def test_a_sweep_has_ended_once_its_tables_are_written(what, left, tmp_path, monkeypatch):
    def killed(*arguments, **settings):
        (file,) = (x for x in arguments if hasattr(x, "write"))
        file.write(b"half")  # into memory: no path
        raise KeyboardInterrupt

    monkeypatch.setattr(what, killed)
    with pytest.raises(KeyboardInterrupt):
        made([1.0, 2.0], [3.0, 4.0]).write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_setting_shows_no_return_but_its_own(tmp_path):
    result = made([10.0, 12.0], [NAN, NAN], [None, None], [20.0, None])
    assert result.best == {"clip_eps": 0.1}
    for setting in (1, 2):
        shown = row(result, setting)
        assert np.isnan([shown[name] for name in ("final_return", "low", "high", "score")]).all()
        assert shown["num_sound"] == 0
    half = row(result, 3)
    assert (half["final_return"], half["num_sound"], half["num_seeds"]) == (20.0, 1, 2)
    assert np.isnan([half["low"], half["high"]]).all()
    # It is ranked as if the one that diverged had been the worst of all.
    assert half["score"] == pytest.approx(15.0 - 5.0)
    assert np.isnan(result.compared[1:3]).all()
    result.write(tmp_path)
    assert (tmp_path / "sensitivity_clip_eps.png").exists()
    ranks = scores([[outcome(0, NAN)], [outcome(0, 3.0)], [outcome(0, 5.0)]])
    assert np.argsort(-ranks, kind="stable").tolist() == [2, 1, 0]


def test_one_seed_has_no_interval():
    result = made([3.0], [5.0], [4.0])
    assert result.best == {"clip_eps": 0.2}
    assert result.summary_text() == "best: clip_eps=0.2: final return 5.0 (1 seed: no interval)"
    assert np.isnan(result.summary["low"]).all()
    assert np.isnan(result.summary["high"]).all()
    assert str(result.summary).splitlines()[1].split()[6:8] == ["-", "-"]
    assert plot_sensitivity(result, "clip_eps").axes[0].get_ylabel() == "final return (one seed)"


def test_the_interval_says_of_how_many_seeds_it_is():
    text = made([3.0, 5.0, 4.0]).summary_text()
    assert text.endswith("final return 4.0 [1.5, 6.5] (IQM and 95 % interval over 3 seeds)")
    text = made([3.0, 5.0, None]).summary_text()
    assert "95 % interval over 2 of 3 seeds); 1 member diverged" in text


def test_two_seeds_that_differ_do_not_hand_the_best_to_a_setting_that_learned_nothing():
    result = made([20.0, 22.0], [300.0, 500.0])
    assert row(result, 1)["low"] < row(result, 0)["low"]
    assert result.best == {"clip_eps": 0.2}


@pytest.mark.parametrize(
    ("field", "values", "best", "edges"),
    [
        ("learning_rate", [1e-4, 1e-3, 1e-2], 2, {"learning_rate": "greatest"}),
        ("learning_rate", [1e-4, 1e-3, 1e-2], 0, {"learning_rate": "least"}),
        ("learning_rate", [1e-4, 1e-3, 1e-2], 1, {}),
        ("env_params.length", [0.5, 1.0], 1, {"env_params.length": "greatest"}),
        ("num_envs", [2, 4, 8], 2, {"num_envs": "greatest"}),
        ("gae_lambda", [0.9, 0.95, 1.0], 2, {}),  # there is nothing beyond
        ("anneal_lr", [False, True], 1, {}),
        ("hidden_sizes", [(4,), (8,)], 1, {}),
        ("gamma", [0.9], 0, {}),
    ],
)
def test_a_best_value_at_the_edge_of_its_range_is_told(field, values, best, edges):
    finals = [[float(i == best)] * 2 for i in range(len(values))]
    result = made(*finals, field=field, values=values)
    assert result.edges == edges
    told = "is the {} of the sweep: a better one may lie beyond"
    for name, end in edges.items():
        assert f"the best {name} {told.format(end)}" in result.summary_text()
    assert bool(edges) == ("beyond" in result.summary_text())


def test_an_infinite_value_has_its_place_in_the_figures():
    result = made([1.0, 2.0], [3.0, 4.0], field="max_grad_norm", values=[0.5, float("inf")])
    labels = plot_sensitivity(result, "max_grad_norm").axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["0.5", "inf"]


def test_values_that_differ_late_are_told_apart():
    result = made([1.0, 2.0], [3.0, 4.0], field="gamma", values=[0.9995, 0.9999])
    ticks = plot_sensitivity(result, "gamma").axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["0.9995", "0.9999"]
    lines = plot_learning_curves(result).axes[0].lines
    assert [line.get_label() for line in lines] == ["0.9999", "0.9995"]
    assert [label({"gamma": value}) for value in (0.99995, 1.0)] == ["gamma 0.99995", "gamma 1"]
    assert label({"n": (4, 0.25), "b": True, "s": "tanh"}) == "n (4, 0.25), b True, s tanh"
    finest = made([1.0], [2.0], field="gamma", values=[0.9, 0.99995])
    assert "gamma=0.99995" in finest.summary_text()


def test_cells_without_a_return_are_left_empty():
    settings = [{"clip_eps": c, "gamma": g} for c in (0.1, 0.2) for g in (0.9, 0.99)]
    outcomes = [[outcome(0, x)] for x in (1.0, 2.0, NAN, 4.0)]
    configs = [PPOConfig(**s) for s in settings]
    figure = plot_heatmap(make_result(settings, configs, outcomes, 1), "clip_eps", "gamma")
    assert [t.get_text() for t in figure.axes[0].texts] == ["1", "–", "2", "4"]
    with pytest.raises(ValueError, match="needs a grid of both"):
        plot_heatmap(make_result(settings[:3], configs[:3], outcomes[:3], 1), "clip_eps", "gamma")
