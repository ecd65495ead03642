"""The tables: what is kept of a row, when it is measured anew, and what its page says."""

import json

import gymnax
import numpy as np
import pytest
import tables
import tables_report
from suites import random_return_in_jax
from tasks import gymnax as gymnax_rows
from tasks import minatar
from tasks.tables import SUITES, Suite

from experiments.quoted import stale
from jaxrl_po import PPOConfig, TRPOConfig, VPGConfig, tuned
from jaxrl_po.envs.gymnax import REFUSED
from jaxrl_po.host.tuned import MEASURED_ON_MUJOCO

SMALL = PPOConfig(num_envs=2, num_steps=8, total_timesteps=64, hidden_sizes=(4,))
ROWS = {
    "Cart:ppo:one": SMALL,
    "Pole:ppo:one": SMALL,
    "Cart:vpg:one": VPGConfig(num_envs=2, num_steps=8, total_timesteps=64, hidden_sizes=(4,)),
    "Pole:vpg:one": VPGConfig(num_envs=2, num_steps=8, total_timesteps=64, hidden_sizes=(4,)),
}
SUITE = Suite(
    "small", "Small", "Two tasks.", ROWS, 5, published={"ppo": {"Cart": 100.0, "Pole": 50.0}}
)


@pytest.fixture
def calls(monkeypatch):
    """What is asked of a stand-in for training, whose returns are the seeds' numbers and more."""
    asked = []

    def trial(config, seeds, num_episodes, in_training):
        asked.append((config.algorithm, config.clip_eps if config == SMALL else None, *seeds))
        return {
            str(s): {
                "sampled": 10.0 * s + len(asked),
                "greedy": 1.0,
                "curve": [None, 70.0, 20.0 + s],
                **({"epochs": [num_episodes, 90.0]} if in_training else {}),
                "diverged": None,
                "cpu_seconds": 360.0,
                "measured": "here",
            }
            for s in seeds
        }

    monkeypatch.setattr(tables, "trial", trial)
    monkeypatch.setattr(tables, "random_return", lambda env_id: 10.0)
    return asked


def test_seeds_that_are_there_are_not_run_again(calls, tmp_path):
    output = tmp_path / "tables_small"
    tables.fill(SUITE, output, ["Cart:ppo:one"], 2, 5)
    first = json.loads(output.with_suffix(".json").read_text())["Cart:ppo:one"]
    assert [call[2:] for call in calls] == [(5, 6)]
    assert first["seeds"]["5"]["sampled"] == 51.0
    tables.fill(SUITE, output, ["Cart:ppo:one", "Pole:ppo:one"], 5, 2)
    assert [call[2:] for call in calls[1:]] == [(7, 8), (9,), (5, 6), (7, 8), (9,)]
    later = json.loads(output.with_suffix(".json").read_text())
    assert later["Cart:ppo:one"]["seeds"]["5"] == first["seeds"]["5"]
    assert list(later["Pole:ppo:one"]["seeds"]) == ["5", "6", "7", "8", "9"]


def test_a_row_whose_settings_have_changed_is_run_again(calls, tmp_path):
    output = tmp_path / "tables_small"
    tables.fill(SUITE, output, list(ROWS), 2, 5)
    changed = SUITE._replace(rows=ROWS | {"Pole:ppo:one": SMALL.replace(clip_eps=0.3)})
    records = tables.fill(changed, output, list(ROWS), 2, 5)
    assert len(calls) == len(ROWS) + 1
    assert records["Pole:ppo:one"]["config"]["clip_eps"] == 0.3
    assert records["Pole:ppo:one"]["seeds"]["5"]["sampled"] == 55.0  # of the fifth call
    assert records["Cart:ppo:one"]["seeds"]["5"]["sampled"] == 51.0


def test_seeds_without_evaluations_in_training_are_run_again_where_a_suite_has_them(
    calls, tmp_path
):
    output = tmp_path / "tables_small"
    tables.fill(SUITE, output, ["Cart:ppo:one"], 2, 5)
    evaluated = SUITE._replace(in_training=True, num_episodes=10)
    tables.write(evaluated, output, tables.kept(output))
    assert "| 1 ± 0 |  | " in output.with_suffix(".md").read_text()  # no best epoch
    records = tables.fill(evaluated, output, ["Cart:ppo:one"], 2, 5)
    assert [call[2:] for call in calls] == [(5, 6), (5, 6)]
    assert records["Cart:ppo:one"]["seeds"]["5"]["epochs"] == [10, 90.0]
    assert "| 90 ± 0 |" in output.with_suffix(".md").read_text()  # and not 70, of its curve
    tables.fill(evaluated, output, ["Cart:ppo:one"], 2, 5)
    assert len(calls) == 2


def test_settings_are_kept_as_json_that_any_reader_takes():
    unbounded = SMALL.replace(max_grad_norm=np.inf)
    assert tables.settings(unbounded)["max_grad_norm"] == "Infinity"
    assert tables.settings(SMALL) == json.loads(json.dumps(SMALL.to_dict()))


def test_gaps_are_filled_in_runs_of_neighbours():
    record = {"seeds": dict.fromkeys("257")}
    assert list(tables.missing(record, range(1, 9), 2)) == [
        range(1, 2),
        range(3, 5),
        range(6, 7),
        range(8, 9),
    ]


def test_a_page_tells_rows_and_what_holds_over_tasks(calls, tmp_path):
    output = tmp_path / "tables_small"
    records = tables.fill(SUITE, output, list(ROWS), 2, 5)
    text = output.with_suffix(".md").read_text()
    # Final returns are 51 and 61, the curves' best 70 though they end at 25.5.
    assert (
        "| Cart | ppo | one | 64 | 5–6 | 56 ± 5 | 1 ± 0 | 70 ± 0 | -7.531 … 119.5 | 10 | 100 "
        "| 360 | `--rows Cart:ppo:one --seeds 2` |"
    ) in text
    # (51 - 10) / 90, 61; Pole (52 - 10) / 40, 62: the middle two of four runs.
    assert f"| ppo | 2 | {np.mean([51 / 90, 42 / 40]):.2f} (" in text
    assert "over all tasks" in text.lower()
    assert "| vpg | 2 |" in text
    assert "0.80 CPU hours" in text
    tables.draw(SUITE, output, records)
    assert (tmp_path / "tables_small_curves.png").stat().st_size > 1000
    assert (tmp_path / "tables_small_profile.png").stat().st_size > 1000


def test_as_published_counts_tasks_by_best_epochs(calls, tmp_path):
    records = tables.fill(SUITE, tmp_path / "t", list(ROWS), 2, 5)
    # The best is 70, of 50 and not of 100; greedily it is 1.
    assert tables_report.as_published(SUITE, records, "ppo") == "1 of 2 | 0 of 2"
    assert tables_report.as_published(SUITE, records, "vpg") == " | "


def test_the_papers_normalisation():
    def record(*last):
        seeds = {str(i): {"curve": [99.0, x]} for i, x in enumerate(last)}
        return {"random": 10.0, "seeds": seeds}

    suite = Suite("p", "P", "", {}, columns={"a": 0.5, "b": 0.1})
    records = {
        "Cart:ppo:a": record(20.0, 40.0),
        "Cart:ppo:b": record(-10.0, 10.0),
        "Pole:ppo:a": record(60.0, 60.0),
        "Pole:ppo:b": record(110.0, 10.0),
        "Cart:trpo:one": record(50.0, 50.0),  # beside them: of the scale it is no part
        "Pole:trpo:one": record(60.0, 10.0),
        "Pole:npg:one": record(60.0, 10.0),  # lacks a task that the others have
        "Half:ppo:a": record(1.0),  # has not all settings, and does not count
    }
    text = tables_report.columns(suite, records)
    # a: Cart 20/20 and 20/30, Pole 50/50 and 50/100; b: Cart -10/20 and -10/30, Pole 50/50, 50/100.
    assert f"| a | 1.00 | {(20 / 30 + 0.5) / 2:.2f} | 0.50 |" in text
    assert f"| b | {(-0.5 + 1) / 2:.2f} | {(-1 / 3 + 0.5) / 2:.2f} | 0.10 |" in text
    assert f"| trpo | {(40 / 20 + 0.5) / 2:.2f} | {(40 / 30 + 0.25) / 2:.2f} |  |" in text
    assert "npg" not in text
    assert "all of them: Cart, Pole." in text


def test_settings_name_the_tasks_on_which_alone_they_are_so():
    rows = {
        "CartPole-v1:ppo:one": PPOConfig(num_envs=2, normalize_rewards=True),
        "Acrobot-v1:ppo:one": PPOConfig(num_envs=2, normalize_rewards=True),
        "Catch-bsuite:ppo:one": PPOConfig(num_envs=2, gamma=0.5),
        "Catch-bsuite:trpo:one": TRPOConfig(gamma=0.5),
    }
    told = tables_report.changed(Suite("p", "P", "", rows), dict.fromkeys(rows))
    assert told.splitlines() == [
        "- ppo: `normalize_rewards=True` (not on Catch-bsuite), `num_envs=2`, "
        "`gamma=0.5` (on Catch-bsuite)",
        "- trpo: `gamma=0.5`",
    ]


def test_a_deviation_has_two_digits_and_no_exponent():
    assert tables_report.spread_of(np.array([1000.0, 3512.0])) == "2256 ± 1300"
    assert tables_report.spread_of(np.array([1.0, 1.246])) == "1.123 ± 0.12"


def test_rows_are_found_by_patterns_and_unknown_ones_refused():
    assert tables.chosen(SUITE, ["Pole:*", "*:ppo:*"]) == [
        "Pole:ppo:one",
        "Pole:vpg:one",
        "Cart:ppo:one",
    ]
    with pytest.raises(SystemExit, match="--rows Walker: no such row"):
        tables.chosen(SUITE, ["Walker"])


def test_no_seed_that_was_tuned_on_is_reported():
    tuning = {suite.first_seed for name, suite in SUITES.items() if name.endswith("_tuning")}
    reported = {suite.first_seed for name, suite in SUITES.items() if not name.endswith("_tuning")}
    assert tuning == {100}
    assert reported == {0, 10}


def test_every_task_of_gymnax_has_rows_but_for_those_of_minatar_and_those_that_are_refused():
    left_out = set(gymnax.registered_envs) - set(gymnax_rows.TASKS)
    assert left_out == {*minatar.TASKS, *REFUSED}
    tasks = {method: [] for method in ("ppo", "trpo")}
    for name, config in SUITES["gymnax"].rows.items():
        task, method, setting = tables_report.parts(name)
        assert config.env_id == task
        if setting == "one":
            tasks[method].append(task)
    assert tasks == {method: list(gymnax_rows.TASKS) for method in tasks}


def test_a_memory_has_the_budget_of_the_row_without():
    rows = SUITES["gymnax"].rows
    remembering = [name for name in rows if name.endswith(":gru")]
    assert len(remembering) == 2 * len(gymnax_rows.HIDING)
    for name in remembering:
        without = rows[name.replace(":gru", ":one")]
        assert rows[name] == without.replace(**gymnax_rows.MEMORY)


def test_random_actions_and_chances_of_the_environment_are_drawn_apart():
    # All but the last of its rewards are 1 or -1 by chance; with one key for both they were not.
    assert abs(random_return_in_jax("UmbrellaChain-bsuite", 4096, 10)) < 0.2


def test_what_the_page_of_gymnax_says_stands_in_its_table():
    pages = [(tables.RESULTS / f"tables_gymnax{name}.md").read_text() for name in ("", "_tuning")]
    rows = "".join(page.split("## Rows")[1] for page in pages)
    _, shown = SUITES["gymnax"].text.split("What the rows show")
    assert stale(shown, rows) == []


def test_no_clipping_and_no_penalty_is_the_surrogate_alone():
    rows = SUITES["ppo_paper"].rows
    none = rows["Hopper-v4:ppo_penalty:none"]
    assert (none.kl_coef, none.adaptive_kl) == (0.0, False)
    assert rows["Hopper-v4:ppo:clip0.3"].clip_eps == 0.3
    assert rows["Hopper-v4:ppo_penalty:adaptive0.003"].target_kl == 0.003
    fixed = rows["Hopper-v4:ppo_penalty:fixed10"]
    assert (fixed.kl_coef, fixed.adaptive_kl) == (10.0, False)


def test_a_row_is_trained_and_told(monkeypatch):
    outcome = tables.trial(SMALL, range(3, 5), 2)
    assert list(outcome) == ["3", "4"]
    assert "epochs" not in outcome["3"]
    evaluated = tables.trial(SMALL, range(3, 5), 2, in_training=True)
    assert evaluated["4"]["curve"] == outcome["4"]["curve"]  # evaluation changes no training
    assert len(evaluated["4"]["epochs"]) == SMALL.num_iterations
    assert evaluated["4"]["epochs"][-1] == evaluated["4"]["greedy"]
    assert outcome["3"]["sampled"] >= 1
    assert len(outcome["4"]["curve"]) == 20
    assert "commit" in outcome["4"]["measured"]


def test_the_settings_of_mujoco_are_those_that_the_command_line_has():
    records = json.loads((tables.RESULTS / "tables_mujoco.json").read_text())
    text = tables.scores.measured(tables.finals(SUITES["mujoco"], records))
    assert MEASURED_ON_MUJOCO.read_text() == text
    for name, reached in json.loads(text).items():
        algorithm, env_id = name.split(" ")
        row = f"{env_id.removeprefix('envpool:')}:{algorithm}:one"
        assert tables.settings(tuned(algorithm, env_id)) == records[row]["config"]
        sampled = [seed["sampled"] for seed in records[row]["seeds"].values()]
        assert reached["num_seeds"] == len(sampled)
        assert reached["mean"] == round(np.mean(sampled), 4)
