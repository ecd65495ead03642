"""The tuned settings reach their gates, on seeds that they were not tuned on."""

import json

import numpy as np
import pytest
from scores import RESULTS, finals, measure, measured, row

from jaxrl_po.host.tuned import MEASURED, SCORES

SEEDS = range(10_000, 10_004)


@pytest.mark.slow
# The others learn in test_probe_environments.py, PPO on the host in test_suites.py.
@pytest.mark.parametrize("name", ["trpo-cartpole"])
def test_a_setting_reaches_its_gate(name):
    score = SCORES[name]

    record = measure(score.config, SEEDS)

    assert record["timesteps"] <= score.config.total_timesteps
    assert np.mean(record["final"]) >= score.gate, row(name, record)


def test_names_say_algorithm_and_task():
    for name, score in SCORES.items():
        assert name.startswith(f"{score.config.algorithm}-"), name


def test_what_the_command_line_lists_is_what_was_measured():
    records = json.loads(RESULTS.with_suffix(".json").read_text())
    assert MEASURED.read_text() == measured(finals(records))
