"""What the host costs: segments, logs and checkpoints against one compiled program, interleaved.

    python experiments/host_overhead.py            # writes experiments/results/host_overhead.md

Each round runs every variant once, in a new order, in the same process. On a machine that does
other work too, the best time of all rounds and the processor time are what can be compared.
"""

import os
import platform
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import tyro

from jaxrl_po import PPOConfig
from jaxrl_po.config import Config
from jaxrl_po.host.machine.arrays import to_host
from jaxrl_po.host.machine.execution import compile_blocks, split_members
from jaxrl_po.host.policies.policy import describe_policy
from jaxrl_po.host.runs.directory import RunSettings
from jaxrl_po.host.runs.logging import Visit
from jaxrl_po.host.runs.records import Records
from jaxrl_po.host.runs.run import NUM_SEGMENTS
from jaxrl_po.host.runs.segments import make_programs
from jaxrl_po.loop.parts import Given
from jaxrl_po.loop.train import make_step
from jaxrl_po.types import Array, TrainState

RESULTS = Path(__file__).parent / "results" / "host_overhead.md"


def make_variants(config: Config, num_seeds: int) -> dict[str, Callable[[], None]]:
    """The same training four ways, compiled."""
    length = -(-config.num_iterations // NUM_SEGMENTS)
    settings = RunSettings(0, num_seeds, length, 5, 128, 10_000, 3, [])
    programs = make_programs(config, Given(), settings)
    _, step = make_step(config)
    seeds = split_members(np.arange(num_seeds, dtype=np.uint32))
    start = compile_blocks(programs.start, seeds)
    states = start(seeds)

    def train(state: TrainState, count: Array) -> tuple[TrainState, dict[str, Array]]:
        return jax.lax.scan(lambda s, _: step(s), state, length=config.num_iterations)

    whole = compile_blocks(train, states, np.int32(0), donate=True)
    advance = compile_blocks(programs.advance, states, np.int32(0), donate=True)
    description = describe_policy(config, None, None)

    def one_program() -> None:
        whole(start(seeds), np.int32(0))

    def visits(records: Records | None, checkpoints: bool) -> None:
        blocks = start(seeds)
        for first in range(0, config.num_iterations, length):
            count = min(length, config.num_iterations - first)
            outputs = advance(blocks, np.int32(count))
            blocks = [segment.state for segment in outputs]
            if records:
                metrics = {
                    name: np.concatenate([segment.metrics[name] for segment in outputs])[:, :count]
                    for name in outputs[0].metrics
                }
                iterations = np.arange(first + 1, first + count + 1)
                visit = Visit(
                    list(range(num_seeds)),
                    iterations,
                    metrics,
                    np.full(num_seeds, count),
                    [],
                    0.0,
                    0.0,
                )
                for logger in records.loggers:
                    logger.write(visit)
                if checkpoints:
                    records.wait()
                    records.checkpoint(first + count, to_host(blocks))

    def with_files(checkpoints: bool) -> None:
        directory = Path(tempfile.mkdtemp())
        records = Records(directory, settings.keep_checkpoints, description, "", None)
        visits(records, checkpoints)
        records.close()
        shutil.rmtree(directory)

    return {
        "one compiled program": one_program,
        f"{NUM_SEGMENTS} segments": lambda: visits(None, False),
        "segments, logs": lambda: with_files(False),
        "segments, logs, checkpoints": lambda: with_files(True),
    }


def measure(variants: dict[str, Callable[[], None]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds on the clock and of processor time, of every variant in every round [R, 2]."""
    for variant in variants.values():
        variant()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in random.sample(list(variants), len(variants)):
            started, busy = time.perf_counter(), time.process_time()
            variants[name]()
            seconds[name].append((time.perf_counter() - started, time.process_time() - busy))
    return {name: np.array(values) for name, values in seconds.items()}


def table(config: Config, num_seeds: int, rounds: int) -> str:
    """Markdown rows of one setting."""
    seconds = measure(make_variants(config, num_seeds), rounds)
    steps = config.num_iterations * config.num_envs * config.num_steps * num_seeds
    names = list(seconds)
    # Segments against the one program; logs and checkpoints against bare segments.
    baselines = {names[1]: names[0], names[2]: names[1], names[3]: names[1]}
    lines = []
    for name, values in seconds.items():
        cells = [str(num_seeds), name, f"{steps / values[:, 0].min():,.0f}"]
        if name in baselines:
            baseline = seconds[baselines[name]]
            best = values[:, 0].min() / baseline[:, 0].min()
            busy = np.median(values[:, 1]) / np.median(baseline[:, 1])
            cells += [baselines[name], f"{best - 1:+.1%}", f"{busy - 1:+.1%}"]
        else:
            cells += ["", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    print("\n".join(lines), flush=True)
    return "\n".join(lines)


def main(rounds: int = 9, many: int = 64, total_timesteps_of_many: int = 50_000) -> None:
    """Measure one seed at the default length of a run, and many seeds at a tenth of it.

    Args:
        rounds: how often every variant is timed
        many: seeds of the second setting
        total_timesteps_of_many: steps of each of them
    """
    config = PPOConfig(normalize_observations=True)
    shorter = config.replace(total_timesteps=total_timesteps_of_many)
    text = f"""# What the host costs

PPO on CartPole, defaults; {jax.default_backend()}, {os.cpu_count()} cores, {platform.machine()},
jax {jax.__version__}; {rounds} rounds, all variants interleaved in one process. "Clock" compares
the best times of all rounds, "processor" the medians of the processor time (all threads). Repeat:
`python experiments/host_overhead.py`.

| seeds | variant | steps/s | against | clock | processor |
|---|---|---|---|---|---|
{table(config, 1, rounds)}
{table(shorter, many, rounds)}

The run with one seed has {config.total_timesteps:,} steps, that with {many} seeds
{shorter.total_timesteps:,} each; both make {NUM_SEGMENTS} visits. Logs are one row for each seed
and iteration in both files. Checkpoints are brought to the disk by a thread of their own.
"""
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    tyro.cli(main)
