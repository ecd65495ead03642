"""What is stepped on the host is learned to what experiments/suites.py asks for."""

import numpy as np
import pytest
from suites import ROWS, trial

SEEDS = range(10_000, 10_001)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the suite's own code
def test_a_suite_is_learned():
    env_id = "gymnasium:CartPole-v1"
    record = trial(env_id, SEEDS)
    assert record["timesteps"] <= ROWS[env_id].settings["total_timesteps"]
    assert record["random"] < ROWS[env_id].gate / 2
    assert np.mean(record["final"]) >= ROWS[env_id].gate
