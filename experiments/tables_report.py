"""Pages and figures of the tables."""

import pathlib
from typing import Any

import numpy as np
from tasks.tables import Suite

PAGE = """\
# {title}: `python experiments/tables.py --suite {name}`

MEASURED

{text}

Final return: of the last policy, mean ± standard deviation over seeds, 16 episodes each, sampled and
greedy. Best epoch: the best twentieth of each seed's training, by the mean return of the (sampled)
episodes that ended in it. Interval: of the interquartile mean over seeds of the sampled final
return, 95%. Random: uniform actions. CPU: seconds of a seed, simulation included.

| task | method | setting | steps | seeds | sampled | greedy | best epoch | interval | random \
| published | CPU s | command |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
ROWS
"""


def outcomes(record: dict[str, Any], key: str) -> np.ndarray:
    """A number of each seed of a record [S]: "sampled", "greedy", or "best", of its curve."""
    seeds = record["seeds"].values()
    if key == "best":
        return np.array([max(x for x in s["curve"] if x is not None) for s in seeds])
    return np.array([s[key] for s in seeds])


def spread_of(values: np.ndarray) -> str:
    """Mean ± standard deviation."""
    return f"{values.mean():.4g} ± {values.std():.2g}"


def seeds_of(record: dict[str, Any]) -> str:
    """Which seeds a record has: 0–4, or 0–2 4."""
    numbers = [int(seed) for seed in record["seeds"]]
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return " ".join(f"{a}–{b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True))


def line(suite: Suite, name: str, record: dict[str, Any]) -> str:
    """A line of the table."""
    from jaxrl_po.host.sweeps.statistics import spread

    task, method, setting = name.split(":")
    config = suite.rows[name]
    sampled, greedy, best = (outcomes(record, key) for key in ("sampled", "greedy", "best"))
    interval = spread([sampled])
    ends = "" if np.isnan(interval.low) else f"{interval.low:.4g} … {interval.high:.4g}"
    published = suite.published.get(method, {}).get(task)
    seconds = np.mean([outcome["cpu_seconds"] for outcome in record["seeds"].values()])
    per_iteration = config.num_envs * config.num_steps
    return (
        f"| {task} | {method} | {setting} | {config.num_iterations * per_iteration:,} "
        f"| {seeds_of(record)} | **{sampled.mean():.4g}** ± {sampled.std():.2g} "
        f"| {spread_of(greedy)} | {spread_of(best)} | {ends} | {record['random']:.4g} "
        f"| {'' if published is None else f'{published:g}'} | {seconds:.0f} "
        f"| `--rows {name} --seeds {len(sampled)}` |"
    )


def page(suite: Suite, name: str, records: dict[str, Any]) -> str:
    """The page, with places for what `keep` writes into it."""
    text = PAGE.format(title=suite.title, name=name.removeprefix("tables_"), text=suite.text)
    text = text.replace("{", "{{").replace("}", "}}")
    return text.replace("MEASURED", "{measured}").replace("ROWS", "{rows}")


def draw(suite: Suite, output: pathlib.Path, records: dict[str, Any]) -> None:
    """Figures."""
