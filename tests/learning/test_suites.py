"""Suites that are quick to install are learned to what experiments/suites.py asks for."""

import numpy as np
import pytest
from suites import ROWS, trial

SEEDS = range(10_000, 10_001)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the suites' own code
@pytest.mark.parametrize("env_id", ["xminigrid:MiniGrid-Empty-8x8", "gymnasium:CartPole-v1"])
def test_a_suite_is_learned(env_id):
    pytest.importorskip(env_id.split(":")[0])
    record = trial(env_id, SEEDS)
    assert record["timesteps"] <= ROWS[env_id].settings["total_timesteps"]
    assert record["random"] < ROWS[env_id].gate / 2
    assert np.mean(record["final"]) >= ROWS[env_id].gate
