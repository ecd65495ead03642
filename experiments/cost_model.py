"""How long an iteration takes on D devices, by a written model; how to use many of them.

    python experiments/cost_model.py           # counts what is not counted yet; the page
    python experiments/cost_model.py --again   # counts everything anew: minutes

The model is in cost_formulas.py. Its counts come from compiled programs, ℓ and F from measurements
of one device; of the links there is no measurement, their figures are public ones. To count Ant's
programs takes the extra "brax".
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

if __name__ == "__main__":  # before JAX is there: eight devices; with few threads jax 0.10 may hang
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"
    os.environ |= {"NPROC": "16", "JAX_PLATFORMS": "cpu"}

import numpy as np
from baselines import own
from benchmark import BREAKOUT, PPO, TRPO, Setting
from compiled_counts import compile_iteration, count_text
from cost_formulas import Device, Seconds, Task, flops_per_sample, iteration
from cost_model_report import Check, Counted, Findings, write_report
from gpu import ANT
from scores import machine

RESULTS = pathlib.Path(__file__).with_name("results")
SMALL: Setting = {
    "env_id": "CartPole-v1",
    "num_envs": 32,
    "num_steps": 16,
    "total_timesteps": 512,
    "hidden_sizes": [64, 64],
    "minibatch_shards": 8,
}
LARGE: Setting = {"hidden_sizes": [1280] * 4}
ANT_SHAPE = 27, 8, True  # observation, outputs, continuous
SETTINGS: dict[str, tuple[str, Setting, tuple[Any, ...]]] = {
    "cartpole": ("PPO CartPole, 4 x 128", PPO, (4, 2)),
    "cartpole_wide": ("PPO CartPole, 1,024 x 128", PPO | {"num_envs": 1024}, (4, 2)),
    "breakout": ("PPO Breakout, 64 x 128", PPO | BREAKOUT, (400, 3)),
    "trpo": ("TRPO CartPole, 8 x 256", TRPO, (4, 2)),
    "trpo_wide": ("TRPO CartPole, 1,024 x 256", TRPO | {"num_envs": 1024}, (4, 2)),
    "pendulum": ("PPO Pendulum, 4 x 128", PPO | {"env_id": "Pendulum-v1"}, (3, 1, True)),
    "ant": ("PPO Ant, 4,096 x 20", ANT, ANT_SHAPE),
    "ant_10m": ("PPO Ant, 4,096 x 20, 10M parameters", ANT | LARGE, ANT_SHAPE),
}
# What the tables show: tasks, and their numbers of environments.
SHOWN = {
    "cartpole": (4,),
    "cartpole_wide": (1024,),
    "ant": (2048, 8192),
    "ant_10m": (4096,),
    "trpo_wide": (1024,),
}
MOST = 0.5 * 494e12  # flops a second: half of an H200's nominal TF32


def make_task(title: str, setting: Setting, shape: tuple[Any, ...]) -> Task:
    """A task without its launches; how long it is trained does not count."""
    return Task(title, own.make_config(setting | {"total_timesteps": 10**9}), *shape)


def count(task: Task, devices: int | None) -> dict[str, Any]:
    """The counts of a task's iteration over so many devices, and XLA's own of its flops."""
    compiled = compile_iteration(task.config, devices=devices)
    counts = count_text(compiled.as_text())._asdict()
    print(task.title, devices, counts, flush=True)
    return counts | {"xla_flops": compiled.cost_analysis()["flops"]}


def missing(kept: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Everything that is counted or measured and is not kept yet, one by one."""
    for name, (task, devices) in small_tasks().items():
        if name not in kept:
            yield name, count(task, devices)
    for name, (title, setting, shape) in SETTINGS.items():
        if "brax" in setting["env_id"] and not importlib.util.find_spec("brax"):
            continue
        if name not in kept:
            yield name, count(make_task(title, setting, shape), None)


def small_tasks() -> dict[str, tuple[Task, int]]:
    """What is counted on several devices."""
    variants: dict[str, Setting] = {
        "PPO": {"algorithm": "ppo"},
        "TRPO": {"algorithm": "trpo"},
        'PPO, advantages over the "batch"': {
            "algorithm": "ppo",
            "advantage_normalization": "batch",
        },
    }
    return {
        f"{name}, {devices}": (make_task(name, SMALL | fields, (4, 2)), devices)
        for name, fields in variants.items()
        for devices in (1, 2, 4, 8)
    }


class Row(NamedTuple):
    """An iteration that was measured."""

    title: str
    task: str
    seconds: float
    members: int = 1
    num_envs: int = 0  # where they are not the task's
    fits: str = ""  # what was set by it, if anything was


def gpu_rows(gpu: dict[str, Any]) -> dict[str, Row]:
    """Rows of results/gpu.md, as seconds of an iteration."""

    def row(
        section: str, side: str, task: str, steps: int, members: int = 1, fits: str = ""
    ) -> Row:
        title, setting, _ = SETTINGS[task]
        iterations = steps / (setting["num_envs"] * setting["num_steps"])
        title += f", {members:,} agents" if members > 1 else ""
        return Row(title, task, gpu[section][side]["seconds"] / iterations, members, 0, fits)

    return {
        "one": row("cartpole_1", "own", "cartpole", 51_200, fits="ℓ"),
        "many": row("cartpole_2048_5e5", "own", "cartpole", 500_000, 2048, "F"),
        "some": row("cartpole_64", "own", "cartpole", 51_200, 64),
        "wide": row("mesh", "no mesh", "cartpole_wide", 20_000_000),
        "breakout": row("breakout_1e7", "own", "breakout", 10_000_000),
        "trpo": row("trpo_64", "own", "trpo", 40_960, 64),
        "ant": row("ant", "own", "ant", 50_000_000),
    }


def six_of_ant(gpu: dict[str, Any]) -> float:
    """Seconds of an iteration of six agents of Ant, less the seconds that one takes to compile."""
    iterations: float = 50_000_000 / (ANT["num_envs"] * ANT["num_steps"])
    training = gpu["ant_settings"]["seconds"] - gpu["ant"]["own"]["compile_seconds"]
    return float(training) / iterations


def rate(section: dict[str, Any]) -> float:
    """Steps a second, the median over the rounds of a section of the benchmark."""
    rounds: list[dict[str, float]] = section["measured"]["rounds"]["own"]
    return statistics.median(one["steps_per_second"] for one in rounds)


def cpu_rows(cpu: dict[str, Any]) -> dict[str, Row]:
    """Rows of results/benchmark.md, as seconds of a core for an iteration."""

    def row(section: str, task: str, num_envs: int, fits: str = "") -> Row:
        rounds = cpu[section]["measured"]["rounds"]["own"]
        samples = num_envs * SETTINGS[task][1]["num_steps"]
        seconds = samples / statistics.median(one["steps_per_cpu_second"] for one in rounds)
        return Row(cpu[section]["measured"]["title"], task, seconds, 1, num_envs, fits)

    return {
        "cartpole": row("cartpole_4x128", "cartpole", 4, "F"),
        "pendulum": row("pendulum_4x128", "pendulum", 4),
        "trpo": row("trpo_8x256", "trpo", 8, "ℓ"),
        "wide": row("cartpole_64x128", "cartpole", 64),
        "breakout": row("breakout_64x128", "breakout", 64),
    }


class Fitted(NamedTuple):
    """Devices, and tasks with the launches that they have on a GPU, or kernels on a CPU."""

    gpu: Device
    cpu: Device
    ratio: float  # of a GPU's launches to the kernels of the program for a CPU
    ratio_of_ant: float  # the same, as Ant's row has it
    gpu_tasks: dict[str, Task]  # all by the first ratio
    cpu_tasks: dict[str, Task]
    tasks: list[Task]  # of the page's tables: Ant's by its own


def fit(kept: dict[str, Any], gpu: dict[str, Any], cpu: dict[str, Any]) -> Fitted:
    """ℓ and F from two rows of each device, a GPU's launches from its trace; Ant from its own."""
    made = {name: make_task(*SETTINGS[name]) for name in SETTINGS}
    kernels = {name: float(kept[name]["kernels"]) for name in SETTINGS}
    flops = {name: count_flops(task) for name, task in made.items()}

    launches = gpu["profile_1"]["launches_per_iteration"]
    ratio = launches / kernels["cartpole"]
    rows = gpu_rows(gpu)
    one, many = (launches, flops["cartpole"]), (launches, 2048 * flops["cartpole"])
    card = solve([one, many], [rows["one"].seconds, rows["many"].seconds])._replace(most=MOST)
    by_rule = {name: task._replace(launches=ratio * kernels[name]) for name, task in made.items()}

    work = (six_of_ant(gpu) - rows["ant"].seconds) / 5
    of_ant = (rows["ant"].seconds - work) / card.launch / kernels["ant"]
    step = (work - iteration(by_rule["ant"], card).work) / samples(made["ant"])

    tasks = []
    for name, numbers in SHOWN.items():
        title, is_ant = SETTINGS[name][0], name.startswith("ant")
        for num_envs in numbers:
            task = made[name]._replace(
                title=title.replace("4,096", f"{num_envs:,}"),
                config=made[name].config.replace(num_envs=num_envs),
                launches=(of_ant if is_ant else ratio) * kernels[name],
                step=step if is_ant else 0.0,
            )
            tasks.append(task)

    both = [(kernels[name], flops[name]) for name in ("cartpole", "trpo")]
    core = solve(both, [cpu_rows(cpu)[name].seconds for name in ("cartpole", "trpo")])
    on_cpu = {name: task._replace(launches=kernels[name]) for name, task in made.items()}
    return Fitted(card, core, ratio, of_ant, by_rule, on_cpu, tasks)


def samples(task: Task) -> int:
    """Of an iteration."""
    return task.config.num_envs * task.config.num_steps


def count_flops(task: Task) -> float:
    """Of an iteration."""
    return float(flops_per_sample(task) * samples(task))


def solve(counts: list[tuple[float, float]], seconds: list[float]) -> Device:
    """The device that takes these seconds for so many launches and flops, of two rows."""
    launch, of_flop = np.linalg.solve(np.array(counts), np.array(seconds))
    return Device(float(launch), 1 / float(of_flop))


def modelled(fitted: Fitted, row: Row, on_gpu: bool) -> Seconds:
    """What the model says of a row."""
    if on_gpu:
        return iteration(fitted.gpu_tasks[row.task], fitted.gpu, 1, row.members)
    task = fitted.cpu_tasks[row.task]
    config = task.config.replace(num_envs=row.num_envs)
    return iteration(task._replace(config=config), fitted.cpu)


def findings(kept: dict[str, Any]) -> Findings:
    """All that the page is made of, from counts and from measurements of other pages."""
    gpu, cpu = (
        json.loads((RESULTS / f"{name}.json").read_text()) for name in ("gpu", "benchmark_cpu")
    )
    fitted = fit(kept, gpu, cpu)
    counted = []
    for name, (task, devices) in small_tasks().items():
        method = name.rpartition(",")[0]
        ratio = devices * kept[name]["xla_flops"] / kept[f"{method}, 1"]["xla_flops"]
        counted.append(Counted(method, task, devices, kept[name], ratio))
    six = next(task for task in fitted.tasks if "Ant" in task.title)
    six = six._replace(config=six.config.replace(num_envs=ANT["num_envs"]))
    checks = [
        *(
            Check(row.title, "H200", row.seconds, modelled(fitted, row, True), row.fits)
            for row in gpu_rows(gpu).values()
        ),
        Check(
            f"{SETTINGS['ant'][0]}, 6 agents",
            "H200",
            six_of_ant(gpu),
            iteration(six, fitted.gpu, 1, 6),
            "c and launches of Ant",
        ),
        *(
            Check(row.title, "a core", row.seconds, modelled(fitted, row, False), row.fits)
            for row in cpu_rows(cpu).values()
        ),
    ]
    rates = [rate(cpu[name]) for name in ("sweep_16", "cartpole_4x128")]
    return Findings(
        kept["measured"],
        fitted.gpu,
        fitted.cpu,
        fitted.ratio,
        fitted.ratio_of_ant,
        kept["ant"]["kernels"],
        gpu["profile_1"]["launches_per_iteration"],
        kept["cartpole"]["kernels"],
        counted,
        [Counted("", make_task(*SETTINGS[name]), 1, kept[name], 1.0) for name in SETTINGS],
        checks,
        fitted.tasks,
        rates[0] / rates[1],
    )


def main() -> None:
    """Count what is missing, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--again", action="store_true", help="count what is there, too")
    again = parser.parse_args().again
    path = RESULTS / "cost_model.json"
    kept = json.loads(path.read_text()) if path.exists() and not again else {}
    for name, found in missing(kept):
        kept[name] = found
        commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True)
        kept["measured"] = f"{time.strftime('%Y-%m-%d')}, commit {commit.strip()}: {machine()}"
        if importlib.util.find_spec("brax"):
            kept["measured"] += f", brax {importlib.metadata.version('brax')}"
        path.write_text(json.dumps(kept, indent=1))
    write_report(findings(kept), RESULTS / "cost_model.md")


if __name__ == "__main__":
    main()
