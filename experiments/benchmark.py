"""Speed of this library beside its peers, on the same tasks, networks, batches and epochs.

    experiments/baselines/environments.sh .venv-peers          # once: the peers' environments
    python experiments/benchmark.py                            # everything, on the CPU
    python experiments/benchmark.py cartpole_4x128 seeds       # some of it
    python experiments/benchmark.py --device gpu               # one GPU: this library, textbook

Rounds go A B C A B C … with a fresh process for each, so that what else the machine does hits all
sides alike. The first round compiles into an empty persistent cache, later rounds from it.
Measurements are kept in experiments/results/benchmark_DEVICE.json; the table and the figure are
made from all that is there.
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from benchmark_report import RESULTS, write_report

FOLDER = pathlib.Path(__file__).parent
Setting = dict[str, Any]

COMMON: Setting = {
    "seed": 0,
    "num_seeds": 1,
    "repeats": 5,  # timed calls in a process, after one to warm up
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "max_grad_norm": 0.5,
    "hidden_sizes": [64, 64],
}
# Small programs lose up to a quarter of their speed to handing kernels to a second thread: in rows
# of a few environments all sides get one core, and XLA one thread (its variable NPROC).
ONE_THREAD: Setting = {"threads": 1}
PPO: Setting = COMMON | {
    "algorithm": "ppo",
    "env_id": "CartPole-v1",
    "num_envs": 4,
    "num_steps": 128,
    "total_timesteps": 128_000,
    "host_timesteps": 10_240,  # for the peers that step Gymnasium on the host
    "learning_rate": 2.5e-4,
    "update_epochs": 4,
    "num_minibatches": 4,
    "clip_eps": 0.2,
    "vf_coef": 0.5,
    "ent_coef": 0.0,
}
TRPO: Setting = COMMON | {
    "algorithm": "trpo",
    "env_id": "CartPole-v1",
    "num_envs": 8,
    "num_steps": 256,
    "total_timesteps": 40_960,
    "host_timesteps": 8_192,
    "learning_rate": 1e-3,
    "max_kl": 0.01,
    "cg_iters": 10,
    "cg_damping": 0.1,
    "max_backtracks": 10,
    "critic_epochs": 10,
    "critic_minibatches": 16,
}
WIDE_BATCH: Setting = {"num_envs": 2048, "num_steps": 32, "total_timesteps": 1_310_720}
BREAKOUT: Setting = {
    "env_id": "Breakout-MinAtar",
    "num_envs": 64,
    "total_timesteps": 409_600,
    "num_minibatches": 8,
}
ALL, IN_JAX = ["own", "textbook", "rejax", "sb3", "sbx"], ["own", "textbook", "rejax"]

# name -> (title, setting, sides)
CPU_ROWS: dict[str, tuple[str, Setting, list[str]]] = {
    "cartpole_4x128": ("PPO CartPole-v1, 4 x 128", PPO | ONE_THREAD, ALL),
    "cartpole_64x128": (
        "PPO CartPole-v1, 64 x 128",
        PPO | {"num_envs": 64, "total_timesteps": 1_024_000, "host_timesteps": 16_384},
        ALL,
    ),
    "cartpole_2048x32": ("PPO CartPole-v1, 2048 x 32", PPO | WIDE_BATCH, IN_JAX),
    "breakout_64x128": ("PPO Breakout-MinAtar, 64 x 128", PPO | BREAKOUT, IN_JAX),
    "pendulum_4x128": (
        "PPO Pendulum-v1, 4 x 128",
        PPO | ONE_THREAD | {"env_id": "Pendulum-v1"},
        ALL,
    ),
    "trpo_8x256": ("TRPO CartPole-v1, 8 x 256", TRPO | ONE_THREAD, ["own", "sb3_trpo"]),
    # here seeds run a thread per core, as in `sweep`; rejax vmaps them
    "sweep_16": (
        "PPO CartPole-v1, 4 x 128, 16 seeds: a thread per core, and vmap",
        PPO | {"num_seeds": 16, "execution": "threads", "total_timesteps": 51_200, "repeats": 3},
        ["own", "rejax"],
    ),
}
GPU_ROWS: dict[str, tuple[str, Setting, list[str]]] = {
    f"cartpole_{seeds}": (
        f"PPO CartPole-v1, 4 x 128, {seeds} agents of 5e5 steps",
        PPO | {"num_seeds": seeds, "total_timesteps": 500_000, "repeats": 1},
        ["own", "textbook"],
    )
    for seeds in (1, 64, 2048)
} | {
    "breakout_10m": (
        "PPO Breakout-MinAtar, 64 x 128, 1e7 steps",
        PPO | BREAKOUT | {"total_timesteps": 10_000_000, "repeats": 1},
        ["own", "textbook"],
    ),
    "trpo_8x256": ("TRPO CartPole-v1, 8 x 256", TRPO, ["own"]),
}
THRESHOLD: Setting = {"threshold": 475.0, "total_timesteps": 500_000, "num_seeds": 3}
THRESHOLD_ROWS = "cartpole_4x128", "trpo_8x256"
WIDTHS = 16, 64, 256, 1024
ENVIRONMENTS = {"rejax": "rejax", "sb3": "sb3", "sb3_trpo": "sb3", "sbx": "sbx"}
MACHINE = "import json; from scores import machine; print(json.dumps(machine()))"
IMPORTS = """
import time
import jax, flax.linen, optax, chex, distrax, rich.console
started = time.perf_counter()
import jaxrl_po
import json
print(json.dumps({"seconds": time.perf_counter() - started}))
"""


def measure(side: str, setting: Setting, options: argparse.Namespace, cache: str) -> Any:
    """What a fresh worker process of a side measures; None, and its error shown, if it fails."""
    arguments = ["-m", f"baselines.{side}"]
    threads = {"NPROC": str(setting["threads"])} if "threads" in setting else {}
    return launch(side, [*arguments, json.dumps(setting)], options, cache, threads)


def launch(
    side: str,
    arguments: list[str],
    options: argparse.Namespace,
    cache: str,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """The JSON on the last line that a Python process prints; None if it fails."""
    python = sys.executable
    if side in ENVIRONMENTS:
        python = str(options.peers / ENVIRONMENTS[side] / "bin" / "python")
    platform = {"cpu": "cpu", "gpu": "cuda"}[options.device]
    environment = os.environ | {
        "JAX_PLATFORMS": platform,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **variables,
    }
    done = subprocess.run(
        [python, *arguments],
        cwd=FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=partial(os.sched_setaffinity, 0, {0}) if "NPROC" in variables else None,
    )
    if done.returncode:
        print(f"{side} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def measure_row(
    name: str, row: tuple[str, Setting, list[str]], options: argparse.Namespace
) -> dict[str, Any]:
    """All rounds of a row, and the steps to its threshold where it has one."""
    title, setting, sides = row
    setting = setting | {"device": options.device}
    rounds: dict[str, list[Any]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as cache:
        for number in range(options.rounds):
            for side in sides:
                rounds[side].append(measure(side, setting, options, cache))
                print(name, number, side, rounds[side][-1], flush=True)
        result = {"title": title, "rounds": rounds}
        if options.device == "cpu" and name in THRESHOLD_ROWS:
            to_threshold = {s: measure(s, setting | THRESHOLD, options, cache) for s in sides}
            print(name, to_threshold, flush=True)
            result["to_threshold"] = to_threshold
    return result


def measure_seeds(options: argparse.Namespace) -> dict[str, Any]:
    """Steps/s of all seeds together: vmap, and as `run` executes them."""
    counts = [1, 2, 4, 8, 16, 32, 64] if options.device == "cpu" else [4**i for i in range(7)]
    # vmapped on a CPU, the textbook's orthogonal weights can hang: batched QR
    peer = "rejax" if options.device == "cpu" else "textbook"
    return _curves(
        {
            f"jaxrl_po, {label}": ("own", "num_seeds", counts, extra | {"device": options.device})
            for label, extra in {"vmap": {}, "a thread per core": {"execution": "threads"}}.items()
        }
        | {f"{peer}, vmap": (peer, "num_seeds", counts, {"device": options.device})},
        PPO | {"repeats": 2, "total_timesteps": 51_200},
        options,
    )


def measure_widths(options: argparse.Namespace) -> dict[str, Any]:
    """Steps/s against the width of the two hidden layers, with the machine's own limit."""
    sizes = [[width, width] for width in WIDTHS]
    extra = {"device": options.device, "measure_limit": True}
    return _curves(
        {
            "jaxrl_po": ("own", "hidden_sizes", sizes, extra),
            "textbook": ("textbook", "hidden_sizes", sizes, extra),
        },
        PPO | {"repeats": 2, "total_timesteps": 10_240},
        options,
    )


def _curves(
    curves: dict[str, tuple[str, str, list[Any], Setting]],
    setting: Setting,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """For each curve (side, field, its values, more settings) the measurements at its values."""
    results: dict[str, list[Any]] = {label: [] for label in curves}
    with tempfile.TemporaryDirectory() as cache:
        for index in range(max(len(values) for _, _, values, _ in curves.values())):
            for label, (side, field, values, extra) in curves.items():
                measured = measure(side, setting | extra | {field: values[index]}, options, cache)
                results[label].append([values[index], measured])
                print(label, values[index], measured, flush=True)
    return results


def measure_memory(options: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of short and of long training."""
    with tempfile.TemporaryDirectory() as cache:
        return {
            f"{steps:.0e}": measure(
                "own",
                PPO | {"device": options.device, "total_timesteps": steps, "repeats": 1},
                options,
                cache,
            )
            for steps in (100_000, 10_000_000)
        }


def measure_import(options: argparse.Namespace) -> list[float]:
    """Seconds that `import jaxrl_po` adds to importing what it depends on."""
    return [launch("own", ["-c", IMPORTS], options, "")["seconds"] for _ in range(5)]


def main() -> None:
    """Measure what was asked for, and write the report."""
    rows = {"cpu": CPU_ROWS, "gpu": GPU_ROWS}
    sections = {
        "seeds": measure_seeds,
        "widths": measure_widths,
        "memory": measure_memory,
        "import": measure_import,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="rows and sections; all of them by default")
    parser.add_argument("--device", choices=rows, default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=pathlib.Path, default=FOLDER.parent / ".venv-peers")
    options = parser.parse_args()
    options.peers = options.peers.absolute()
    known = [*rows[options.device], *sections]
    for name in options.names:
        if name not in known:
            parser.error(f"unknown name {name!r}; known: {', '.join(known)}")

    path = RESULTS / f"benchmark_{options.device}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    machine = launch("own", ["-c", MACHINE], options, "")
    for name in options.names or known:
        measured: Any
        if name in sections:
            measured = sections[name](options)
        else:
            measured = measure_row(name, rows[options.device][name], options)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        results[name] = {"measured_on": f"{today}: {machine}", "measured": measured}
        path.write_text(json.dumps(results, indent=1) + "\n")
    write_report()


if __name__ == "__main__":
    main()
