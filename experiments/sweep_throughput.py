"""Seeds side by side on a CPU: the sweep's threads, `jax.vmap(train)`, Stable-Baselines3 in turn.

    python experiments/sweep_throughput.py --sb3-python PATH

PATH is a Python that has stable-baselines3. The ways take turns, round after round, so that other
load on the machine meets them alike; medians over the rounds are compared. Compiling is left out.
"""

import argparse
import datetime
import importlib.metadata
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrl_po import PPOConfig, make_train
from jaxrl_po.host.machine.execution import plan_members
from jaxrl_po.host.sweeps.members import (
    Member,
    Saved,
    make_member_function,
    save_member,
    stack_leaves,
)
from jaxrl_po.loop.parts import Given

ROOT = pathlib.Path(__file__).parent.parent
NUM_SEEDS = 16
CONFIG = PPOConfig(total_timesteps=20_480)
SB3_STEPS = 10_240


def make_sweep(folder: pathlib.Path) -> Callable[[int], Any]:
    """The sweep's way: a thread per core, every member written to a file as it ends."""

    def load(members: range) -> Any:
        config = jax.tree.map(np.float32, CONFIG)
        each = [Member(config, np.int32(first_seed[0] + i)) for i in members]
        return jax.tree.map(stack_leaves, *each), ()

    def save(members: range, output: Any, seconds: float) -> None:
        record = jax.tree.map(lambda x: x[0], output[0])
        save_member(folder / f"{members[0]}.npz", Saved(record, seconds, []), identity="")

    first_seed = [0]
    function = make_member_function(CONFIG, Given(), keep_state=False)
    example = jax.tree.map(lambda x: x[0], load(range(1)))
    plan = plan_members(function, example, (np.int32(0), np.int32(1)), NUM_SEEDS)

    def call(seed: int) -> None:
        first_seed[0] = seed
        plan.run(NUM_SEEDS, load, save, np.int32(0), np.int32(CONFIG.num_iterations))

    return call


def make_vmap() -> Callable[[int], Any]:
    """All seeds in one program."""
    train = jax.jit(jax.vmap(make_train(CONFIG)))
    compiled = train.lower(jax.random.split(jax.random.key(0), NUM_SEEDS)).compile()
    return lambda seed: jax.block_until_ready(
        compiled(jax.random.split(jax.random.key(seed), NUM_SEEDS))
    )


def steps_per_second(call: Callable[[int], Any], seed: int) -> tuple[float, float]:
    """Steps of all seeds together, a second of the clock and a second of a core."""
    started, cpu_started = time.perf_counter(), time.process_time()
    call(seed)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    steps = NUM_SEEDS * CONFIG.num_iterations * CONFIG.num_envs * CONFIG.num_steps
    return steps / seconds, steps / cpu_seconds


def sb3_steps_per_second(python: str, seed: int) -> float:
    """One seed at a time: the throughput of one is that of all. Warmed up by an iteration."""
    worker = ROOT / "experiments" / "sweep_throughput_sb3.py"
    output = subprocess.run(
        [python, str(worker), str(seed), str(SB3_STEPS)], check=True, capture_output=True, text=True
    ).stdout
    return float(output.splitlines()[-1])


def report(rates: dict[str, list[float]], per_core: dict[str, list[float]], versions: str) -> str:
    """The measurements as Markdown."""
    median = {name: statistics.median(values) for name, values in rates.items()}
    sweep, vmap, sb3 = median.values()
    lines = [
        "# Sixteen seeds of PPO on CartPole, on a CPU",
        "",
        f"{datetime.date.today()}; {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end; {versions}.",
        "",
        f"`python {' '.join(map(str, ['experiments/sweep_throughput.py', *sys.argv[1:]]))}`",
        "",
        f"{CONFIG.num_envs} environments x {CONFIG.num_steps} steps, {CONFIG.update_epochs} epochs "
        f"of {CONFIG.num_minibatches} minibatches, 2 x 64 tanh. Environment steps a second over "
        f"all seeds, without compiling; {len(rates['sweep'])} interleaved rounds.",
        "",
        "| way | median | lowest | highest | sweep is faster by (medians) |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {median[name]:,.0f} | {min(values):,.0f} | {max(values):,.0f} | "
        f"{sweep / median[name]:.2f} x |"
        for name, values in rates.items()
    ]
    rounds = [s / v for s, v in zip(rates["sweep"], rates["jax.vmap(train)"], strict=True)]
    lines += [
        "",
        "Steps a second of a core's time, less changed by other load (medians): "
        + ", ".join(f"{name} {statistics.median(v):,.0f}" for name, v in per_core.items())
        + ".",
        f"Ratio to vmap round by round: {', '.join(f'{ratio:.2f}' for ratio in rounds)}.",
        f"Asked for: at least 1.8 x vmap (measured {sweep / vmap:.2f}) and 45 x SB3 "
        f"(measured {sweep / sb3:.1f}).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sb3-python", required=True, help="a Python with stable-baselines3")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {"sweep": [], "jax.vmap(train)": [], "SB3, in turn": []}
    per_core: dict[str, list[float]] = {"sweep": [], "jax.vmap(train)": []}
    with tempfile.TemporaryDirectory() as folder:
        sweep, vmap = make_sweep(pathlib.Path(folder)), make_vmap()
        for warm_up in (sweep, vmap):
            warm_up(0)
        for seed in range(1, 1 + arguments.rounds):
            for name, call in (("sweep", sweep), ("jax.vmap(train)", vmap)):
                rate, rate_per_core = steps_per_second(call, 100 * seed)
                rates[name].append(rate)
                per_core[name].append(rate_per_core)
            rates["SB3, in turn"].append(sb3_steps_per_second(arguments.sb3_python, seed))
            print({name: round(values[-1]) for name, values in rates.items()}, flush=True)
    sb3_versions = subprocess.run(
        [
            arguments.sb3_python,
            "-c",
            "import stable_baselines3 as s, torch; "
            "print(f'stable-baselines3 {s.__version__}, torch {torch.__version__}')",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    versions = f"jax {importlib.metadata.version('jax')}, {sb3_versions}"
    text = report(rates, per_core, versions)
    print(text)
    (ROOT / "experiments" / "results" / "sweep_throughput.md").write_text(text)


if __name__ == "__main__":
    main()
