"""Tables of scores: methods side by side on the tasks that the field is judged by.

pip install 'jaxrl-po[envpool]'
python experiments/tables.py --suite mujoco --list               # rows, seeds that are there
python experiments/tables.py --suite mujoco --seeds 10           # what is missing of a suite
python experiments/tables.py --suite mujoco --rows 'Hopper*:ppo:*' --seeds 5
python experiments/tables.py --suite ppo_paper --page            # page and figures alone, anew

A row is TASK:METHOD:SETTING. Each seed of it is kept as soon as it is there, with what it was
measured by; seeds that are there by the same settings are not run again.
"""

import argparse
import fnmatch
import json
import pathlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import scores
from scores import curve, keep, kept, machine
from suites import random_return
from tables_figures import draw
from tables_report import line, outcomes, page, parts
from tasks.tables import SUITES, Suite

from jaxrl_po import run
from jaxrl_po.config import Config
from jaxrl_po.host.machine.strict_json import to_json
from jaxrl_po.host.runs.callbacks import Moment
from jaxrl_po.host.tuned import MEASURED_ON_MUJOCO, MUJOCO

RESULTS = pathlib.Path(__file__).with_name("results")
NEVER = 10**6  # segments: evaluate at the end alone


def trial(
    config: Config, seeds: range, num_episodes: int = 16, in_training: bool = False
) -> dict[str, Any]:
    """Train and evaluate one agent for each seed, side by side: what is kept of each, and how.

    Evaluated in training as well, each has twenty "epochs": means of greedy episodes.
    """
    epochs: list[np.ndarray] = []  # [S] each

    def watch(moment: Moment) -> None:
        if moment.evaluation is not None:
            returns = np.asarray(moment.evaluation.greedy.episode_return, float)
            epochs.append(returns.mean(axis=1))

    by = f"{time.strftime('%Y-%m-%d')}: {machine()}, commit {commit()}"
    started = time.process_time()
    result = run(
        config,
        seeds.start,
        len(seeds),
        quiet=True,
        num_episodes=num_episodes,
        evaluate_every=1 if in_training else NEVER,
        callbacks=[watch] if in_training else [],
    )
    cpu_seconds = (time.process_time() - started) / len(seeds)
    sampled = np.asarray(result.evaluation.episode_return, float).mean(axis=1)
    greedy = np.asarray(result.greedy_evaluation.episode_return, float).mean(axis=1)
    returns, counts = result.metrics["episode_return"], result.metrics["num_episodes"]
    return {
        str(seed): {
            "sampled": round(float(sampled[i]), 4),
            "greedy": round(float(greedy[i]), 4),
            "curve": curve(returns[i : i + 1], counts[i : i + 1]),
            **({"epochs": [round(float(e[i]), 4) for e in epochs]} if in_training else {}),
            "diverged": result.diverged.get(seed),
            "cpu_seconds": round(cpu_seconds, 1),
            "measured": by,
        }
        for i, seed in enumerate(seeds)
    }


def commit() -> str:
    """The last that changed the library, "+" where its files have been changed since.

    "unknown" where there is no repository.
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments, "--", "jaxrl_po"]
        where = RESULTS.parents[1]
        told = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
        return told.stdout.strip()

    return (git("log", "-1", "--format=%h") or "unknown") + "+" * bool(git("status", "--porcelain"))


def settings(config: Config) -> dict[str, Any]:
    """A config as its record has it."""
    told: dict[str, Any] = json.loads(to_json(config.to_dict()))
    return told


def record_of(records: dict[str, Any], suite: Suite, name: str) -> dict[str, Any]:
    """The record of a row, to be added to; an empty one where its settings have changed.

    Seeds without the evaluations that the suite has in training are left out.
    """
    config = settings(suite.rows[name])
    record: dict[str, Any] = records.get(name, {})
    if record.get("config") != config:
        return {"config": config, "random": None, "seeds": {}}
    seeds = {
        seed: outcome
        for seed, outcome in record["seeds"].items()
        if "epochs" in outcome or not suite.in_training
    }
    return record | {"seeds": seeds}


def missing(record: dict[str, Any], wanted: range, at_once: int) -> Iterator[range]:
    """Seeds that a record lacks, in ranges of at most so many."""
    lacking = [seed for seed in wanted if str(seed) not in record["seeds"]]
    while lacking:
        first, count = lacking[0], 1
        while count < at_once and first + count in lacking:
            count += 1
        yield range(first, first + count)
        lacking = [seed for seed in lacking if seed >= first + count]


def random_of(records: dict[str, Any], env_id: str) -> float:
    """The return of random actions, measured once for all rows of an environment."""
    for record in records.values():
        if record["config"]["env_id"] == env_id and record["random"] is not None:
            return float(record["random"])
    return round(random_return(env_id), 4)


def fill(
    suite: Suite, output: pathlib.Path, names: list[str], num_seeds: int, at_once: int
) -> dict[str, Any]:
    """Measure what rows lack, and write records and page after each part of a row."""
    records = kept(output)
    wanted = range(suite.first_seed, suite.first_seed + num_seeds)
    for name in names:
        config = suite.rows[name]
        record = record_of(records, suite, name)
        for seeds in missing(record, wanted, at_once):
            record["seeds"] |= trial(config, seeds, suite.num_episodes, suite.in_training)
            record["seeds"] = dict(sorted(record["seeds"].items(), key=lambda item: int(item[0])))
            record["random"] = random_of(records, config.env_id)
            records[name] = record
            write(suite, output, records)
            print(f"{time.strftime('%H:%M')} {line(suite, name, record)}", flush=True)
    return records


def write(suite: Suite, output: pathlib.Path, records: dict[str, Any]) -> None:
    """Records as JSON, and the page of them."""
    told = {name: record | {"measured": measured(record)} for name, record in records.items()}
    keep(
        output,
        told,
        suite.rows,
        lambda name, record: line(suite, name, record),
        page(suite, output.name, told),
    )
    if output == RESULTS / "tables_mujoco":
        MEASURED_ON_MUJOCO.write_text(scores.measured(finals(suite, records)))


def finals(suite: Suite, records: dict[str, Any]) -> dict[str, list[float]]:
    """Final returns of what `--tuned` has, by method and environment."""
    return {
        f"{config.algorithm} {config.env_id}": outcomes(record, "sampled").tolist()
        for name, record in records.items()
        if (config := suite.rows[name]).algorithm in MUJOCO and parts(name).setting == "one"
    }


def measured(record: dict[str, Any]) -> str:
    """By what the seeds of a record were measured."""
    return "\n".join(sorted({outcome["measured"] for outcome in record["seeds"].values()}))


def chosen(suite: Suite, patterns: list[str]) -> list[str]:
    """Names of rows, in the order of the patterns that match them."""
    names = [name for p in patterns for name in suite.rows if fnmatch.fnmatchcase(name, p)]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in suite.rows):
            raise SystemExit(f"--rows {pattern}: no such row; there are {', '.join(suite.rows)}")
    return list(dict.fromkeys(names))


def main() -> None:
    """Measure what is missing of what was asked for; or list, or draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", choices=SUITES, default="mujoco")
    parser.add_argument("--rows", nargs="+", default=["*"], metavar="TASK:METHOD:SETTING")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=5, help="seeds side by side")
    parser.add_argument("--output", type=pathlib.Path, help="where to keep records and page")
    parser.add_argument("--list", action="store_true", help="rows, and the seeds that are there")
    parser.add_argument("--page", action="store_true", help="write page and figures alone")
    arguments = parser.parse_args()
    suite = SUITES[arguments.suite]
    output = arguments.output or RESULTS / f"tables_{arguments.suite}"
    names = chosen(suite, arguments.rows)
    records = kept(output)
    if arguments.list:
        for name in names:
            print(name, *record_of(records, suite, name)["seeds"])
        return
    if not arguments.page:
        records = fill(suite, output, names, arguments.seeds, arguments.at_once)
    draw(suite, output, records)
    write(suite, output, records)


if __name__ == "__main__":
    main()
