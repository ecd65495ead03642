"""Tasks that need a memory: each method with one, and without.

python experiments/memory.py                                   # all; rows that are there are kept
python experiments/memory.py chain30-ppo-gru --seeds 5 --again # one, anew
"""

import argparse
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scores import keep, kept, measure

from jaxrl_po import config_from_dict
from jaxrl_po.envs import Environment, make_environment, transform_observation

RESULTS = pathlib.Path(__file__).with_name("results") / "memory"
PAGE = """\
# Memory: `python experiments/memory.py`

{measured}

Final return: mean ± standard deviation over seeds, 128 sampled episodes each, of the last policy.
"mlp" is the same method, budget and environment without a memory. Settings were chosen on seeds
from 100 on; the table's begin at 0. CPU s: processor seconds of all threads and all seeds together,
with the evaluation, without compiling. Settings: [memory.py](../memory.py).

| task | algorithm | network | steps | seeds | final return | worst seed | asked | CPU s |
|---|---|---|---|---|---|---|---|---|
{rows}
"""


class Task(NamedTuple):
    """An environment in which what is seen does not say what to do."""

    name: str
    make: Callable[[], Environment]
    gate: float  # the mean return that a memory is held to
    settings: dict[str, dict[str, Any]]  # algorithm -> fields


def chain(length: int) -> Callable[[], Environment]:
    """A bit is shown once; `length` steps later it must be said."""
    return lambda: make_environment("MemoryChain-bsuite", {"memory_length": length})


def cartpole() -> Environment:
    """Position and angle alone."""
    seen = jnp.array([0, 2])
    return transform_observation(make_environment("CartPole-v1", {}), lambda o: o[seen])


def pendulum() -> Environment:
    """Cosine and sine of the angle alone."""
    return transform_observation(make_environment("Pendulum-v1", {}), lambda o: o[:2])


CHAIN = {"num_envs": 16, "num_steps": 128, "memory_size": 64}
PPO_CHAIN = {**CHAIN, "learning_rate": 5e-4, "anneal_lr": True, "shared_torso": True}
TRPO_CHAIN = {**CHAIN, "critic_epochs": 4, "max_kl": 0.003}
# Only where a stretch holds a whole episode is there a gradient from the question to the bit. Of
# episodes of 101 steps, stretches of 128 hold a fifth, and stretches of 256 three fifths.
LONG_CHAIN = {"num_steps": 256, "total_timesteps": 2_000_000}
POLE = {
    "num_envs": 8,
    "num_steps": 128,
    "memory_size": 64,
    "total_timesteps": 500_000,
    "sequence_length": 32,
    "normalize_observations": True,
    "normalize_rewards": True,
}
SWING = {
    "num_envs": 16,
    "num_steps": 200,
    "memory_size": 64,
    "total_timesteps": 1_000_000,
    "gamma": 0.95,
    "normalize_observations": True,
    "normalize_rewards": True,
}
TASKS = {
    task.name: task
    for task in (
        Task(
            "chain30",
            chain(30),
            0.95,
            {
                "ppo": PPO_CHAIN | {"total_timesteps": 1_000_000},
                "trpo": TRPO_CHAIN | {"total_timesteps": 1_000_000},
            },
        ),
        Task(
            "chain100",
            chain(100),
            0.9,
            {
                "ppo": PPO_CHAIN | LONG_CHAIN,
                "trpo": TRPO_CHAIN | LONG_CHAIN | {"num_envs": 32},
            },
        ),
        Task(
            "cartpole",
            cartpole,
            480.0,
            {
                "ppo": POLE
                | {"learning_rate": 5e-4, "anneal_lr": True, "clip_eps": 0.1, "ent_coef": 0.01},
                "trpo": POLE,
            },
        ),
        Task(
            "pendulum",
            pendulum,
            -250.0,
            {
                "ppo": SWING | {"learning_rate": 1e-3, "anneal_lr": True, "update_epochs": 10},
                "trpo": SWING,
            },
        ),
    )
}
NAMES = [
    f"{task}-{algorithm}-{network}"
    for task in TASKS
    for algorithm in ("ppo", "trpo")
    for network in ("gru", "mingru", "mlp")
]


def trial(name: str, seeds: range) -> dict[str, Any]:
    """Train and evaluate the row of a name."""
    task, algorithm, network = name.split("-")
    fields = {**TASKS[task].settings[algorithm], "network": network}
    if network == "mlp":
        fields = {k: v for k, v in fields.items() if k not in ("memory_size", "sequence_length")}
    config = config_from_dict({"algorithm": algorithm, **fields})
    return measure(config, seeds, TASKS[task].make())


def row(name: str, record: dict[str, Any]) -> str:
    """A line of the table."""
    task, algorithm, network = name.split("-")
    final, first = np.array(record["final"]), record["first_seed"]
    gate = TASKS[task].gate
    asked = f"≥ {gate:g}{'' if final.mean() >= gate else ' MISSED'}" if network == "gru" else ""
    return (
        f"| {task} | {algorithm} | {network} | {record['timesteps']:,} "
        f"| {first}–{first + len(final) - 1} | **{final.mean():.4g}** ± {final.std():.2g} "
        f"| {final.min():.4g} | {asked} | {record['seconds'][2]:.0f} |"
    )


def main() -> None:
    """Measure what is missing or asked for, and rewrite the table after each row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    records = kept(arguments.output)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for name in arguments.names or NAMES:
        if name in records and not arguments.again:
            continue
        records[name] = trial(name, seeds)
        print(row(name, records[name]), flush=True)
        keep(arguments.output, records, NAMES, row, PAGE)


if __name__ == "__main__":
    main()
