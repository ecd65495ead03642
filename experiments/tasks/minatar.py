"""Rows of the tables of MinAtar in gymnax: what is swept, what came of it, what was published."""

import json
import pathlib
from typing import Any

from jaxrl_po import PPOConfig, TRPOConfig
from jaxrl_po.config import Config

TASKS = (
    "Breakout-MinAtar",
    "Asterix-MinAtar",
    "Freeway-MinAtar",
    "SpaceInvaders-MinAtar",
    "Seaquest-MinAtar",
)
# PPO after 9.9M steps, one seed, sampled: gymnax-blines, the higher end of its curves at its own
# learning rate. Of Seaquest none has published a return in this port.
BLINES = {"Breakout": 23.0, "Asterix": 15.4, "Freeway": 59.0, "SpaceInvaders": 137.0}
PUBLISHED = {"ppo": {f"{task}-MinAtar": score for task, score in BLINES.items()}}

SHARED: dict[str, Any] = {
    "num_envs": 64,
    "num_steps": 128,
    "hidden_sizes": (256, 256),
    "activation": "relu",
    "total_timesteps": 10_000_000,
}
PPO = PPOConfig(**SHARED, num_minibatches=8, update_epochs=4, anneal_lr=True, ent_coef=0.01)
TRPO = TRPOConfig(**SHARED, critic_epochs=4, critic_minibatches=8, cg_damping=0.01, anneal_lr=True)
# The one setting of each method; PPO's is gymnax-blines's.
METHODS: dict[str, Config] = {
    "ppo": PPO.replace(learning_rate=5e-4, gamma=0.999),
    "trpo": TRPO,
}
# What is swept, one task at a time, at half of the budget and on seeds of its own.
SWEPT = PPO.replace(network="cnn")
SPACE: dict[str, list[Any]] = {
    "learning_rate": [5e-4, 1e-3, 2.5e-3],
    "gamma": [0.99, 0.999],
}
SWEEP_STEPS, SWEEP_SEEDS, FIRST_SEED = 5_000_000, 2, 100
SWEEPS = pathlib.Path(__file__).parents[1] / "results" / "tables_minatar_sweeps.json"


def swept() -> dict[str, dict[str, Any]]:
    """What the sweeps found best, by task."""
    found = json.loads(SWEEPS.read_text()) if SWEEPS.exists() else {}
    return {task: record["best"] for task, record in found.items()}


ROWS = {
    f"{task}:{method}:one": config.replace(env_id=task)
    for task in TASKS
    for method, config in METHODS.items()
} | {f"{task}:ppo:swept": SWEPT.replace(env_id=task, **best) for task, best in swept().items()}
