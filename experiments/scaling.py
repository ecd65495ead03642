"""One run over two devices against one: weak scaling, and what the mesh costs where it is idle.

    python experiments/scaling.py            # writes experiments/results/scaling.md

The two devices are forced ones: a thread of this machine's CPU each. Every variant is compiled as
`run` compiles it, in one process; they take turns, in a new order each round. A second device comes
with as many environments of its own. What two cores can give at all is shown by two runs at once
that know nothing of each other.
"""

import datetime
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import tyro

from jaxrl_po import PPOConfig, TRPOConfig
from jaxrl_po.config import Config
from jaxrl_po.host.machine.devices import device_mesh
from jaxrl_po.host.machine.execution import compile_blocks, split_members
from jaxrl_po.loop.train import make_step

RESULTS = Path(__file__).parent / "results" / "scaling.md"
LARGE: dict[str, Any] = {"num_steps": 64, "hidden_sizes": (256, 256), "total_timesteps": 10**9}
METHODS: dict[str, tuple[type[Config], dict[str, Any]]] = {
    "PPO": (PPOConfig, {"normalize_observations": True}),
    "TRPO": (TRPOConfig, {"normalize_observations": True, "critic_epochs": 4}),
}


def make_call(config: Config, devices: int | None, num_runs: int = 1) -> Callable[[], float]:
    """An iteration of some runs, compiled as a run's is; its seconds."""
    mesh = device_mesh(devices)
    init, step = make_step(config, mesh=mesh)

    seeds = split_members(np.arange(num_runs, dtype=np.uint32), mesh)
    blocks = compile_blocks(lambda seed: init(jax.random.key(seed)), seeds, mesh=mesh)(seeds)
    compiled = compile_blocks(step, blocks, mesh=mesh)

    def call() -> float:
        began = time.perf_counter()
        jax.block_until_ready(compiled(blocks))
        return time.perf_counter() - began

    return call


def measure(method: str, num_envs: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of an iteration of every variant, round by round."""
    cls, fields = METHODS[method]
    one = cls(**LARGE, **fields, num_envs=num_envs, minibatch_shards=2)
    variants = {
        "no mesh": make_call(one, None),
        "a mesh of one": make_call(one, 1),
        "a mesh of two": make_call(one.replace(num_envs=2 * num_envs), 2),
        "two runs at once, no mesh": make_call(one, None, num_runs=2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for call in variants.values():
        call()
    for _ in range(rounds):
        for name in random.sample(list(variants), len(variants)):
            seconds[name].append(variants[name]())
    return seconds


def rows(method: str, num_envs: int, rounds: int) -> str:
    """Markdown rows of a method."""
    seconds = measure(method, num_envs, rounds)
    base = seconds["no mesh"]
    lines = []
    for name, values in seconds.items():
        work = 2 if "two" in name else 1
        # Neighbours in time had the same neighbours on the machine.
        rate = statistics.median(work * b / v for b, v in zip(base, values, strict=True))
        best = work * min(base) / min(values)
        cells = [
            method,
            name,
            f"{work * num_envs:,}",
            f"{1e3 * statistics.median(values):.1f}",
            f"{1e3 * min(values):.1f}",
            f"{rate:.2f}",
            f"{best:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    print("\n".join(lines), flush=True)
    return "\n".join(lines)


def main(num_envs: int = 128, rounds: int = 15) -> None:
    """Measure PPO and TRPO.

    Args:
        num_envs: environments of one device
        rounds: how often every variant is timed
    """
    load = os.getloadavg()[0]
    body = "\n".join(rows(method, num_envs, rounds) for method in METHODS)
    text = f"""# One run over two devices

CartPole, {num_envs} environments a device, {LARGE["num_steps"]} steps, networks of
{LARGE["hidden_sizes"]} units, `minibatch_shards=2`;
{datetime.date.today()}, {os.cpu_count()} cores, {os.uname().machine}, jax {jax.__version__},
load {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end: what else the machine does
counts in. {rounds} rounds, all variants interleaved in one process. Repeat:
`python experiments/scaling.py`.

"Work" is samples a second against "no mesh": the median over the rounds of the ratio within a
round, and the ratio of the best times of all rounds. Two runs at once show what the machine has for
a second device; 2.00 would be all of a second core.

| method | variant | environments | ms, median | ms, best | work, median | work, best |
|---|---|---|---|---|---|---|
{body}
"""
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    tyro.cli(main)
