"""Environments on the host: raw steps, this library's PPO with its updates, Stable-Baselines3's.

    experiments/baselines/environments.sh .venv-peers python3.11 sb3         # once
    .venv-peers/sb3/bin/pip install envpool==1.2.5 'gymnasium[mujoco]'
    python experiments/host_speed.py --sb3 .venv-peers/sb3/bin/python

Rounds go pool, own, sb3, pool, … with a process for each. The same sizes on all sides: 8
environments, 2,048 steps a batch, 10 epochs of 32 minibatches, two layers of 64, observations and
rewards normalised. Stable-Baselines3 has one thread, which it is faster with.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import Any

from baselines.host_sides import NUM_ENVS, NUM_STEPS, PARTS
from scores import kept, machine

FOLDER = pathlib.Path(__file__).parent
RESULTS = FOLDER / "results" / "host_speed"
TASKS = {"envpool:HalfCheetah-v4": 0.7, "gymnasium:HalfCheetah-v5": None}
TIMES = {"envpool:HalfCheetah-v4": 5.0, "gymnasium:HalfCheetah-v5": 2.0}
EACH = *PARTS, "rest"  # of what an iteration's time goes to
BATCH = NUM_ENVS * NUM_STEPS  # steps of an iteration
SIDES = {"pool": 81_920, "own": 81_920, "sb3": 20_480}
SPLIT = {"split": 40_960}


def measure(side: str, task: str, python: str) -> dict[str, float]:
    """One side in a process of its own."""
    program, steps = FOLDER / "baselines" / "host_sides.py", (SIDES | SPLIT)[side]
    command = [python, str(program), side, task, str(steps)]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report(results: dict[str, Any]) -> str:
    """The table: medians of speeds, and medians of each round's ratios."""
    lines = ["# Environments on the host: `python experiments/host_speed.py`", ""]
    lines += [results["measured"], ""]
    loads = sorted(round["load"] for rounds in results["rounds"].values() for round in rounds)
    lines += [
        "8 environments, 2,048 steps a batch, 10 epochs of 32 minibatches. Medians of "
        f"{len(loads) // len(TASKS)} rounds, at load averages of {loads[0]:.1f} to "
        f"{loads[-1]:.1f}: above 2, other work has had its share of the cores, and all sides are "
        "slower.",
        "",
    ]
    lines += [
        "| environment | raw steps/s | own steps/s | of raw | asked "
        "| sb3 steps/s | own / sb3 | asked |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for task, rounds in results["rounds"].items():
        speeds = {
            side: statistics.median(r[side]["steps_per_second"] for r in rounds) for side in SIDES
        }

        def ratio(one: str, other: str, rounds: Any = rounds) -> float:
            speeds = [[r[side]["steps_per_second"] for side in (one, other)] for r in rounds]
            return float(statistics.median(mine / theirs for mine, theirs in speeds))

        asked = f"≥ {TASKS[task]:.0%}" if TASKS[task] else ""
        lines.append(
            f"| {task} | {speeds['pool']:,.0f} | {speeds['own']:,.0f} "
            f"| {ratio('own', 'pool'):.0%} | {asked} "
            f"| {speeds['sb3']:,.0f} | {ratio('own', 'sb3'):.1f} | ≥ {TIMES[task]:g} |"
        )
    return "\n".join([*lines, "", *split(results)]) + "\n"


def split(results: dict[str, Any]) -> list[str]:
    """The table of what an iteration's time goes to, and of raw steps with that update."""
    lines = [
        "Milliseconds of an iteration of ours: the rollout (the environments' steps, and the "
        "policy that acts), the update, and the rest. Then those of as many raw steps, those of "
        "the raw steps and our update one after the other, and the share of the raw speed that "
        "this sum would have. It is no bound: a policy's steps take another time than the random "
        "actions of the raw ones.",
        "",
        "| environment | " + " | ".join(EACH) + " | raw steps | raw + learning | of raw |",
        "|---|" + "---|" * (len(EACH) + 3),
    ]
    for task, rounds in results["rounds"].items():
        parts = [statistics.median(r["split"][part] for r in rounds) for part in EACH]
        raw = 1000 * BATCH / statistics.median(r["pool"]["steps_per_second"] for r in rounds)
        least = raw + parts[EACH.index("update")]
        numbers = [f"{number:.0f}" for number in (*parts, raw, least)]
        lines.append(f"| {task} | {' | '.join(numbers)} | {raw / least:.0%} |")
    return lines


def main() -> None:
    """Measure all rounds of both tasks and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sb3", required=True, help="Python that has stable_baselines3")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    results = kept(RESULTS) | {"measured": machine(), "rounds": {}}
    for task in TASKS:
        rounds = results["rounds"].setdefault(task, [])
        for _ in range(arguments.rounds):
            pythons = dict.fromkeys(SIDES | SPLIT, sys.executable) | {"sb3": arguments.sb3}
            rounds.append({side: measure(side, task, pythons[side]) for side in pythons})
            rounds[-1]["load"] = os.getloadavg()[0]
            print(task, rounds[-1], flush=True)
    RESULTS.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(report(results))


if __name__ == "__main__":
    main()
