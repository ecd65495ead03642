"""The score of every tuned setting beside its gate: a table, and its numbers.

python experiments/scores.py                                # all
python experiments/scores.py ppo-cartpole trpo-cartpole     # some; the other rows are kept
python experiments/scores.py --first-seed 1000 --output /tmp/other_seeds
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po import evaluate, make_train
from jaxrl_po.config import Config
from jaxrl_po.host.machine.execution import compile_members
from jaxrl_po.host.tuned import MEASURED, SCORES

RESULTS = pathlib.Path(__file__).with_name("results") / "scores"
PAGE = """\
# Scores: `python experiments/scores.py`

{measured}

Final return: mean ± standard deviation over seeds, 128 sampled episodes each, of the last policy.
At first: episodes that ended in the first twentieth of training. Seconds: all seeds, evaluation
included; CPU s: of all threads, without compiling. Published figures: evaluated in other ways.
Settings: [tuned.py](../../jaxrl_po/host/tuned.py).

| environment | algorithm | steps | seeds | at first | final return | worst seed | gate \
| published | wall s | compiling s | CPU s |
|---|---|---|---|---|---|---|---|---|---|---|---|
{rows}
"""


def measure(
    config: Config, seeds: range, env: Any = None, num_episodes: int = 128
) -> dict[str, Any]:
    """Train and evaluate one agent for each seed: final returns [S], a learning curve, seconds."""
    train = make_train(config, env)
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])

    def trial(key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array], jax.Array]:
        state, metrics = train(key)
        evaluation = evaluate(config, state, jax.random.fold_in(key, 1), num_episodes, env=env)
        return evaluation.episode_return.mean(), metrics, state.key

    started = time.perf_counter()
    run = compile_members(trial, keys)
    compiled, cpu_started = time.perf_counter(), time.process_time()
    final, metrics, _ = jax.block_until_ready(run(keys))
    finished, cpu_seconds = time.perf_counter(), time.process_time() - cpu_started
    return {
        "first_seed": seeds.start,
        "timesteps": int(metrics["timesteps"][0, -1]),
        "final": np.asarray(final, float).round(4).tolist(),
        "curve": curve(np.asarray(metrics["episode_return"]), np.asarray(metrics["num_episodes"])),
        "seconds": [round(s, 1) for s in (finished - compiled, compiled - started, cpu_seconds)],
        "measured": f"{time.strftime('%Y-%m-%d')}: {machine()}",
    }


def curve(returns: np.ndarray, counts: np.ndarray) -> list[float | None]:
    """Mean return of all seeds' episodes that ended in each twentieth of training, or None."""
    totals = np.where(counts > 0, returns, 0.0) * counts
    parts = np.array_split(np.stack([totals, counts]).sum(axis=1), 20, axis=1)
    return [round(float(t.sum() / c.sum()), 4) if c.sum() else None for t, c in parts]


def machine() -> str:
    """Cores, processor, device, versions."""
    cpu = pathlib.Path("/proc/cpuinfo")
    described = cpu.read_text() if cpu.exists() else f"model name: {platform.machine()}"
    model = described.partition("model name")[2].partition("\n")[0].strip("\t: ")
    versions = [f"{p} {importlib.metadata.version(p)}" for p in ("jax", "flax", "optax", "gymnax")]
    device = f"{os.cpu_count()} cores of {model}, JAX on {jax.devices()[0].device_kind}"
    return ", ".join([device, f"Python {platform.python_version()}", *versions])


def row(name: str, record: dict[str, Any]) -> str:
    """A line of the table."""
    score, final, first = SCORES[name], np.array(record["final"]), record["first_seed"]
    start = next((x for x in record["curve"] if x is not None), np.nan)
    return (
        f"| {score.config.env_id} | {score.config.algorithm} | {record['timesteps']:,} "
        f"| {first}–{first + len(final) - 1} | {start:.4g} | **{final.mean():.4g}** ± "
        f"{final.std():.2g} | {final.min():.4g} | ≥ {score.gate:g}"
        f"{'' if final.mean() >= score.gate else ' MISSED'} | {score.published} | "
        f"{' | '.join(f'{seconds:.0f}' for seconds in record['seconds'])} |"
    )


def measured(finals: dict[str, list[float]]) -> str:
    """What `--list-tuned` says of settings, by their names and final returns, as JSON."""
    lines = []
    for name, returns in finals.items():
        final = np.array(returns)
        numbers = {
            "mean": final.mean().round(4),
            "std": final.std().round(4),
            "num_seeds": len(final),
        }
        lines.append(f'"{name}": {json.dumps(numbers)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def finals(records: dict[str, Any]) -> dict[str, list[float]]:
    """Final returns, in the order of the settings."""
    return {name: records[name]["final"] for name in SCORES}


def keep(
    output: pathlib.Path,
    records: dict[str, Any],
    names: Iterable[str],
    row: Callable[[str, dict[str, Any]], str],
    page: str,
) -> None:
    """Write a study's records as JSON, and their rows, in the order of names, as a page."""
    lines = [f'"{name}": {json.dumps(record)}' for name, record in records.items()]
    output.with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    rows = [row(name, records[name]) for name in names if name in records]
    machines = sorted({record["measured"] for record in records.values()})
    text = page.format(measured="\n".join(machines), rows="\n".join(rows))
    output.with_suffix(".md").write_text(text)


def kept(output: pathlib.Path) -> dict[str, Any]:
    """The records of a study that are there."""
    output.parent.mkdir(parents=True, exist_ok=True)
    numbers = output.with_suffix(".json")
    return dict(json.loads(numbers.read_text())) if numbers.exists() else {}


def main() -> None:
    """Measure what was asked for, add it to the records, rewrite the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(SCORES))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    records = kept(arguments.output)
    for name in arguments.names or SCORES:
        seeds = range(arguments.first_seed, arguments.first_seed + SCORES[name].num_seeds)
        records[name] = measure(SCORES[name].config, seeds)
        print(row(name, records[name]), flush=True)
        keep(arguments.output, records, SCORES, row, PAGE)
    if arguments.output == RESULTS and SCORES.keys() <= records.keys():
        MEASURED.write_text(measured(finals(records)))


if __name__ == "__main__":
    main()
