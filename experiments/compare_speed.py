"""Steps/s of two trees of this project, interleaved: whether a change has made a row slower.

    git worktree add ../before COMMIT
    python experiments/compare_speed.py ../before . [ROWS of benchmark.py] [--pairs 5]

Each measurement is a process of its own, on one core. Prints the median of each side and the
median of the ratios new / old of the pairs; ends with status 1 when one is below 0.98.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
from functools import partial

from benchmark import CPU_ROWS, Setting

ROWS = "cartpole_4x128", "cartpole_64x128", "breakout_64x128", "trpo_8x256", "sweep_16"
SLOWEST = 0.98


def measure(tree: pathlib.Path, setting: Setting, cores: set[int]) -> float:
    """Steps/s of a tree's own worker."""
    done = subprocess.run(
        [sys.executable, "-m", "baselines.own", json.dumps(setting | {"device": "cpu"})],
        cwd=tree / "experiments",
        env=os.environ | {"PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu", "NPROC": "1"},
        preexec_fn=partial(os.sched_setaffinity, 0, cores),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1])["steps_per_second"])


def main() -> None:
    """Measure pairs of the rows asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=pathlib.Path)
    parser.add_argument("after", type=pathlib.Path)
    parser.add_argument("rows", nargs="*", default=ROWS)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    slower = []
    for name in options.rows:
        _, setting, _ = CPU_ROWS[name]
        cores = os.sched_getaffinity(0) if "execution" in setting else {0}
        sides: tuple[list[float], list[float]] = ([], [])
        for number in range(options.pairs):
            order = (0, 1) if number % 2 == 0 else (1, 0)  # a drift hits both sides alike
            for side in order:
                tree = (options.before, options.after)[side].resolve()
                sides[side].append(measure(tree, setting, cores))
        ratio = statistics.median(new / old for old, new in zip(*sides, strict=True))
        old, new = map(statistics.median, sides)
        print(f"{name}: {old:,.0f} -> {new:,.0f} steps/s, {ratio:.3f} of the speed", flush=True)
        if ratio < SLOWEST:
            slower.append(name)
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
