"""Pages of the tables: a line a row, and what holds over all tasks."""

from typing import Any, NamedTuple

import numpy as np
from reliability import Interval, bootstrap, improvement, mean_iqm, normalized
from tasks.tables import Suite

from jaxrl_po.host.sweeps.statistics import spread

Records = dict[str, dict[str, Any]]
PAGE = """\
# {title}: `python experiments/tables.py --suite {name}`

MEASURED

{text}
{sections}
## Settings

What differs from the defaults of a method's config, on all tasks where none is named.

{settings}

## Rows

Final return: of the last policy, mean ± standard deviation over seeds, {episodes} episodes each,
sampled and greedy. Best epoch: of each seed {epoch}.
Interval: 95%, Student's, of the interquartile mean over seeds of the sampled final return: of few
seeds that differ it is wide, and may pass what a return can be. Random: uniform actions. CPU s:
processor seconds of a seed, all threads, compilation and simulation included, no waiting time; all
rows together took {hours:.2f} CPU hours. Each command follows
`python experiments/tables.py --suite {name}`.

| task | method | setting | steps | seeds | sampled | greedy | best epoch | interval | random \
| published | CPU s | command |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
ROWS
"""
OF_TRAINING = """the best twentieth of training, by the mean
return of the sampled episodes that ended in it"""
OF_EVALUATIONS = "the best of twenty evaluations in training, greedy ones"
OVERALL = """
## Over all tasks

Scores: 0 is random, 1 the published PPO ({source}).
Over {tasks}. IQM: interquartile mean of all runs of all tasks, with its
stratified-bootstrap interval of 95% (Agarwal et al. 2021), which of few seeds is too narrow. Better
than PPO: the probability that a run of the method beats one of PPO on the same task, by the sampled
final return. As published: tasks on which the mean best epoch, or
the mean of the last policy's greedy episodes, reaches the figure published for the method.

| method | seeds a task | IQM sampled | IQM best epoch | better than PPO \
| as published: best epoch | as published: greedy, last |
|---|---|---|---|---|---|---|
{lines}

![Learning curves]({file}_curves.png)

![Performance profiles and improvement]({file}_profile.png)
"""
COLUMNS = """
## The paper's table

Mean over tasks and seeds of the return in the last twentieth of training (the paper: the last 100
episodes), scaled within each task so that random is 0 and the best is 1: the best mean over seeds
of the paper's settings, or their best single run; the paper does not say which. Over the tasks that
have all of them: {tasks}.

| setting | best mean = 1 | best run = 1 | paper |
|---|---|---|---|
{lines}
"""


class Row(NamedTuple):
    """A name taken apart."""

    task: str
    method: str
    setting: str


def parts(name: str) -> Row:
    """TASK:METHOD:SETTING."""
    return Row(*name.split(":"))


def label(name: str) -> str:
    """A row's method, with its setting where that is not "one"."""
    _, method, setting = parts(name)
    return method if setting == "one" else f"{method}, {setting}"


def outcomes(record: dict[str, Any], key: str) -> np.ndarray:
    """A number of each seed [S]: "sampled", "greedy", its "best" epoch, or its curve's "last"."""
    seeds = record["seeds"].values()
    if key == "best":
        epochs = [s.get("epochs", s["curve"]) for s in seeds]
        return np.array([max(x for x in each if x is not None) for each in epochs])
    if key == "last":
        return np.array([[x for x in s["curve"] if x is not None][-1] for s in seeds])
    return np.array([s[key] for s in seeds])


def evaluated(suite: Suite, record: dict[str, Any]) -> bool:
    """Whether a record has what its suite calls a best epoch; older ones may lack it."""
    return not suite.in_training or all("epochs" in s for s in record["seeds"].values())


def spread_of(values: np.ndarray) -> str:
    """Mean ± standard deviation, of two digits."""
    return f"{values.mean():.4g} ± {float(f'{values.std():.2g}'):g}"


def seeds_of(record: dict[str, Any]) -> str:
    """Which seeds a record has: 0–4, or 0–2 4."""
    numbers = [int(seed) for seed in record["seeds"]]
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return " ".join(f"{a}–{b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True))


def line(suite: Suite, name: str, record: dict[str, Any]) -> str:
    """A line of the table."""
    task, method, setting = parts(name)
    config = suite.rows[name]
    sampled, greedy, best = (outcomes(record, key) for key in ("sampled", "greedy", "best"))
    interval = spread([sampled])
    ends = "" if np.isnan(interval.low) else f"{interval.low:.4g} … {interval.high:.4g}"
    published = suite.published.get(method, {}).get(task)
    seconds = np.mean([outcome["cpu_seconds"] for outcome in record["seeds"].values()])
    per_iteration = config.num_envs * config.num_steps
    return (
        f"| {task} | {method} | {setting} | {config.num_iterations * per_iteration:,} "
        f"| {seeds_of(record)} | {spread_of(sampled)} "
        f"| {spread_of(greedy)} | {spread_of(best) if evaluated(suite, record) else ''} "
        f"| {ends} | {record['random']:.4g} "
        f"| {'' if published is None else f'{published:g}'} | {seconds:.0f} "
        f"| `--rows {name} --seeds {len(sampled)}` |"
    )


def comparable(suite: Suite, records: Records) -> bool:
    """Whether there is a PPO by the one setting, on a task of which one has been published."""
    tasks = [parts(name).task for name in records if label(name) == "ppo"]
    return any(task in suite.published.get("ppo", {}) for task in tasks)


def compared(suite: Suite, records: Records) -> tuple[list[str], list[str]]:
    """Methods that have two thirds as many tasks as any, and the tasks that they all have.

    Of the tasks of which a PPO has been published.
    """
    tasks: dict[str, list[str]] = {}
    for name in records:
        if parts(name).task in suite.published["ppo"]:
            tasks.setdefault(label(name), []).append(parts(name).task)
    most = max(len(of_method) for of_method in tasks.values())
    methods = [method for method, of_method in tasks.items() if 3 * len(of_method) >= 2 * most]
    return methods, [t for t in tasks[methods[0]] if all(t in tasks[m] for m in methods)]


def scores(
    suite: Suite, records: Records, method: str, tasks: list[str], key: str
) -> list[np.ndarray]:
    """Of each task its runs' scores [S_k]: 0 is random, 1 the published PPO."""
    found = []
    for task in tasks:
        (record,) = (r for n, r in records.items() if (parts(n).task, label(n)) == (task, method))
        if key == "best" and not evaluated(suite, record):
            continue
        one = suite.published["ppo"][task]
        found.append(normalized(outcomes(record, key), record["random"], one))
    return found


def told(interval: Interval) -> str:
    """An estimate and its interval."""
    return f"{interval.value:.2f} ({interval.low:.2f} … {interval.high:.2f})"


def overall(suite: Suite, file: str, records: Records) -> str:
    """What holds over all tasks."""
    methods, tasks = compared(suite, records)
    sampled = {m: scores(suite, records, m, tasks, "sampled") for m in methods}
    lines = []
    for method in methods:
        best = scores(suite, records, method, tasks, "best")
        numbers = sorted({len(runs) for runs in sampled[method]})
        better = ""
        if method != "ppo":
            better = told(bootstrap(improvement, sampled[method], sampled["ppo"]))
        lines.append(
            f"| {method} | {' or '.join(map(str, numbers))} "
            f"| {told(bootstrap(mean_iqm, sampled[method]))} "
            f"| {told(bootstrap(mean_iqm, best)) if best else ''} "
            f"| {better} | {as_published(suite, records, method)} |"
        )
    return OVERALL.format(
        source=suite.source, tasks=", ".join(tasks), file=file, lines="\n".join(lines)
    )


def as_published(suite: Suite, records: Records, method: str) -> str:
    """On how many tasks a method's mean reaches what was published of it, each way."""
    rows = {name: record for name, record in records.items() if label(name) == method}
    published = suite.published.get(parts(next(iter(rows))).method)
    if published is None:
        return " | "
    ways = []
    for key in ("best", "greedy"):
        found = [
            outcomes(record, key).mean() >= published[parts(name).task]
            for name, record in rows.items()
            if parts(name).task in published and (key != "best" or evaluated(suite, record))
        ]
        ways.append(f"{sum(found)} of {len(found)}")
    return " | ".join(ways)


def columns(suite: Suite, records: Records) -> str:
    """A score of each setting over all tasks, as the PPO paper has it.

    The paper's settings make the scale; others that all its tasks have are told beside them.
    """
    of_task: dict[str, dict[str, np.ndarray]] = {}
    for name, record in records.items():
        task, method, setting = parts(name)
        column = method if setting == "one" else setting
        of_task.setdefault(task, {})[column] = outcomes(record, "last")
    random = {parts(name).task: record["random"] for name, record in records.items()}
    complete = [task for task, found in of_task.items() if suite.columns.keys() <= found.keys()]
    if not complete:
        return ""
    lines = []
    for setting in of_task[complete[0]]:
        if any(setting not in of_task[task] for task in complete):
            continue
        ways = []
        for best in (np.mean, np.max):
            tops = {
                task: max(best(of_task[task][published]) for published in suite.columns)
                for task in complete
            }
            means = [
                normalized(of_task[task][setting], random[task], tops[task]).mean()
                for task in complete
            ]
            ways.append(f"{np.mean(means):.2f}")
        published = f"{suite.columns[setting]:.2f}" if setting in suite.columns else ""
        lines.append(f"| {setting} | {' | '.join(ways)} | {published} |")
    return COLUMNS.format(tasks=", ".join(complete), lines="\n".join(lines))


def changed(suite: Suite, records: Records) -> str:
    """Fields of each setting that are not the defaults, and of which tasks, if not of all."""
    found: dict[str, dict[str, list[str]]] = {}  # label -> value -> tasks
    tasks: dict[str, list[str]] = {}
    for name in records:
        config = suite.rows[name]
        told, default = config.to_dict(), type(config)().to_dict()
        tasks.setdefault(label(name), []).append(parts(name).task)
        for field, x in told.items():
            if x != default[field] and field != "env_id":
                having = found.setdefault(label(name), {}).setdefault(f"`{field}={x}`", [])
                having.append(parts(name).task)

    def of(value: str, having: list[str], wanted: list[str]) -> str:
        lacking = [task for task in wanted if task not in having]
        if not lacking:
            return value
        few = len(having) <= len(lacking)
        return f"{value} ({'' if few else 'not '}on {', '.join(having if few else lacking)})"

    return "\n".join(
        f"- {name}: {', '.join(of(value, having, tasks[name]) for value, having in values.items())}"
        for name, values in found.items()
    )


def page(suite: Suite, file: str, records: Records) -> str:
    """The page that is called `file`, with places for what `keep` writes into it."""
    sections = ""
    if comparable(suite, records):
        sections = overall(suite, file, records)
    elif suite.columns:
        sections = columns(suite, records)
    seconds = sum(s["cpu_seconds"] for r in records.values() for s in r["seeds"].values())
    text = PAGE.format(
        title=suite.title,
        name=suite.name,
        text=suite.text,
        sections=sections,
        settings=changed(suite, records),
        episodes=suite.num_episodes,
        epoch=OF_EVALUATIONS if suite.in_training else OF_TRAINING,
        hours=seconds / 3600,
    )
    text = text.replace("{", "{{").replace("}", "}}")
    return text.replace("MEASURED", "{measured}").replace("ROWS", "{rows}")
