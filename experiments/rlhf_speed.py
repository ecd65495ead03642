"""PPO on tokens beside TRL's: seconds of an iteration from the same weights, one thread or one GPU.

    experiments/baselines/environments.sh .venv-peers python3.11 trl         # once
    python experiments/rlhf_speed.py --trl .venv-peers/trl/bin/python
    python experiments/rlhf_speed.py --trl .venv-peers/trl/bin/python --gpu

Rounds go own, TRL, own, TRL, … with a process for each, bound to one core, or beside a GPU to none.
On a CPU seconds are those of the process, on a GPU those of the wall. On both sides: a GPT-2
of four layers with a vocabulary of 4,096, a critic and a reward model of its size, 4 epochs of 4
minibatches. Ratios are of the same round, so that what else the machine does hits both.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from scores import kept, machine

FOLDER = pathlib.Path(__file__).parent
RESULTS = FOLDER / "results"
SETTINGS = {
    "D = 128, N = 32, P = T = 32": {"width": 128, "batch": 32, "prompt": 32, "response": 32},
    "D = 256, N = 16, P = 32, T = 96": {"width": 256, "batch": 16, "prompt": 32, "response": 96},
}
METHODS = "ppo", "grpo"
PAGE = """\
# PPO on tokens beside TRL's: `python experiments/{command}`

{measured}

{unit}, an iteration: GPT-2 of four layers, V = 4,096, 4 epochs of 4
minibatches, from the same weights; PPO with a critic and a reward model of its size, GRPO with four
answers a prompt, the length of an answer as reward and the price of the KL to the reference. D:
width, N: answers, P and T: tokens of a prompt and of an answer. Medians over rounds; the ratio is
the median of those within a round. TRL 1.12 is the last that has PPO.

| method | setting | rounds | own | TRL | TRL / own | smallest and largest ratio |
|---|---|---|---|---|---|---|
{rows}
"""


def measure(side: str, python: str, folder: str, setting: dict[str, Any]) -> float:
    """Seconds of an iteration of one side, in a process of its own."""
    cores = os.sched_getaffinity(0) if setting["gpu"] else {max(os.sched_getaffinity(0))}
    own = {} if setting["gpu"] else {"NPROC": "1", "OMP_NUM_THREADS": "1"}
    own["PYTHONPATH"] = f"{FOLDER.parent}:{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [python, str(FOLDER / "baselines" / "rlhf_sides.py"), side, folder, json.dumps(setting)],
        env=os.environ | own,
        preexec_fn=functools.partial(os.sched_setaffinity, 0, cores),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]).get("seconds", 0.0))


def row(method: str, name: str, own: list[float], other: list[float]) -> str:
    """A line of the table."""
    ratios = [theirs / mine for mine, theirs in zip(own, other, strict=True)]
    seconds = f"{statistics.median(own):.2f} | {statistics.median(other):.2f}"
    return (
        f"| {method.upper()} | {name} | {len(own)} | {seconds} "
        f"| **{statistics.median(ratios):.2f}** | {min(ratios):.2f} … {max(ratios):.2f} |"
    )


def main() -> None:
    """Measure all rounds of both settings and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl", required=True, help="Python that has trl 1.12")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--gpu", action="store_true", help="both sides on this machine's GPU")
    arguments = parser.parse_args()
    output = RESULTS / ("rlhf_speed" + "_gpu" * arguments.gpu)
    found = kept(output)
    for name, sizes in SETTINGS.items():
        setting = sizes | {"iterations": arguments.iterations, "gpu": arguments.gpu}
        with tempfile.TemporaryDirectory() as folder:
            measure("weights", arguments.trl, folder, setting)
            for method in arguments.methods:
                sides: dict[str, list[float]] = {f"own_{method}": [], f"trl_{method}": []}
                for _ in range(arguments.rounds):
                    for side, python in zip(sides, (sys.executable, arguments.trl), strict=True):
                        sides[side].append(measure(side, python, folder, setting))
                        print(name, side, round(sides[side][-1], 2), flush=True)
                found[name] = found.get(name, {}) | sides
    found["measured"] = f"{time.strftime('%Y-%m-%d')}: {machine()}"
    output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    unit = "Seconds" if arguments.gpu else "CPU seconds, one thread"
    text = PAGE.format(
        command="rlhf_speed.py" + " --gpu" * arguments.gpu,
        unit=unit,
        measured=found["measured"],
        rows="\n".join(
            row(method, name, found[name][f"own_{method}"], found[name][f"trl_{method}"])
            for method in METHODS
            for name in SETTINGS
            if f"own_{method}" in found.get(name, {})
        ),
    )
    output.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
