"""Metrics of ten short runs with fixed seeds: whether a change left the numbers as they were.

    python experiments/fixed_seed_runs.py before.npz          # on the old commit
    python experiments/fixed_seed_runs.py after.npz           # on the new one
    python experiments/fixed_seed_runs.py --compare before.npz after.npz

The five methods, continuous actions, normalisation and annealing, pixels with and without a
convolution, and language: each metric of three iterations. The comparison prints the largest
difference of each run, as a part of the largest number of its metric, and ends with status 1 when
one is above 1e-5.
"""

import argparse
import sys
from typing import Any

import jax
import numpy as np
import rlhf_enumerable as task

from jaxrl_po import config_from_dict, make_train
from jaxrl_po.config import Config
from jaxrl_po.rlhf import make_rlhf_step

SMALL = {"num_envs": 4, "num_steps": 64, "total_timesteps": 3 * 256}
NORMALIZED = {"normalize_observations": True, "normalize_rewards": True, "anneal_lr": True}
PIXELS = {"env_id": "Breakout-MinAtar", "num_envs": 8, "num_steps": 32, "num_minibatches": 8}
RUNS: dict[str, dict[str, Any]] = {
    "ppo cartpole": {"algorithm": "ppo"},
    "ppo_penalty cartpole": {"algorithm": "ppo_penalty"},
    "vpg cartpole": {"algorithm": "vpg"},
    "npg cartpole": {"algorithm": "npg"},
    "trpo cartpole": {"algorithm": "trpo"},
    "ppo pendulum normalised annealed": {"algorithm": "ppo", "env_id": "Pendulum-v1", **NORMALIZED},
    "trpo pendulum normalised": {"algorithm": "trpo", "env_id": "Pendulum-v1", **NORMALIZED},
    "ppo breakout": {"algorithm": "ppo", **PIXELS},
    "ppo breakout cnn": {"algorithm": "ppo", "network": "cnn", **PIXELS},
}
TOLERANCE = 1e-5


def control(settings: dict[str, Any]) -> dict[str, Any]:
    """The metrics [I] of a run on an environment."""
    config: Config = config_from_dict(SMALL | settings)
    metrics: dict[str, Any] = jax.jit(make_train(config))(jax.random.key(0)).metrics
    return metrics


def language() -> dict[str, Any]:
    """The metrics [3] of three updates on the language whose optimum is known."""
    reference = jax.jit(task.LANGUAGE_MODEL.init)(jax.random.key(7))
    init, step = make_rlhf_step(task.PPO, task.REWARD, task.PROMPT)

    def train(key: Any) -> Any:
        state = init(key, reference)
        return jax.lax.scan(lambda state, _: step(state, reference), state, length=3)[1]

    metrics: dict[str, Any] = jax.jit(train)(jax.random.key(0))
    return metrics


def compare(before: str, after: str) -> bool:
    """Print the largest difference of each run; whether all are within the tolerance."""
    old, new = (dict(np.load(path)) for path in (before, after))
    worst: dict[str, tuple[float, str]] = {}
    for name in sorted(old.keys() | new.keys()):
        run, _, metric = name.rpartition(": ")
        difference = np.inf
        if name in old and name in new and old[name].shape == new[name].shape:
            a, b = (np.nan_to_num(x[name].astype(float)) for x in (old, new))
            difference = float(np.abs(a - b).max() / max(1e-8, np.abs(a).max()))
        worst[run] = max(worst.get(run, (0.0, "")), (difference, metric))
    for run, (difference, metric) in worst.items():
        print(f"{difference:9.1e}  {run}  {metric}")
    return all(difference <= TOLERANCE for difference, _ in worst.values())


def main() -> None:
    """Run, or compare two runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="?", help="where to write the metrics")
    parser.add_argument("--compare", nargs=2, metavar=("BEFORE", "AFTER"))
    options = parser.parse_args()
    if options.compare:
        sys.exit(0 if compare(*options.compare) else 1)
    if not options.path:
        parser.error("a path to write to, or --compare BEFORE AFTER")
    metrics = {name: control(settings) for name, settings in RUNS.items()}
    metrics["ppo language"] = language()
    arrays: dict[str, Any] = {
        f"{run}: {name}": np.asarray(value)
        for run, found in metrics.items()
        for name, value in found.items()
    }
    np.savez(options.path, **arrays)


if __name__ == "__main__":
    main()
