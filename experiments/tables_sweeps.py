"""Settings of MinAtar for the tables, from one sweep a task on seeds that the tables do not have.

python experiments/tables_sweeps.py                     # all tasks; those that are there are kept
python experiments/tables_sweeps.py Breakout-MinAtar    # some
"""

import argparse
import time
from typing import Any

from scores import keep, kept, machine
from tasks.minatar import FIRST_SEED, SPACE, SWEEP_SEEDS, SWEEP_STEPS, SWEEPS, SWEPT, TASKS

from jaxrl_po import sweep

PAGE = """\
# MinAtar: what was swept: `python experiments/tables_sweeps.py`

{measured}

PPO with a small convolutional network, half of the budget of [the table](tables_minatar.md), seeds
that it does not have. Return: mean over seeds in the last tenth of training. Best: the highest mean
less one standard error. All settings of a task are one compiled program.

| task | setting | return |
|---|---|---|
{rows}
"""


def trial(task: str) -> dict[str, Any]:
    """Every setting of a task, best first."""
    config = SWEPT.replace(env_id=task, total_timesteps=SWEEP_STEPS)
    result = sweep(config, SPACE, SWEEP_SEEDS, seed=FIRST_SEED, quiet=True)
    assert result.best is not None
    settings = [
        {name: row[name] for name in (*result.fields, "final_return")}
        for row in result.summary.rows()
    ]
    measured = f"{time.strftime('%Y-%m-%d')}: {machine()}"
    return {"best": result.best, "settings": settings, "measured": measured}


def lines(task: str, record: dict[str, Any]) -> str:
    """The lines of a task."""
    told = []
    for setting in record["settings"]:
        named = ", ".join(f"{name} {setting[name]:g}" for name in SPACE)
        told.append(f"| {task} | {named} | {setting['final_return']:.4g} |")
    return "\n".join(told)


def main() -> None:
    """Sweep what is missing of what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", nargs="*", metavar="task", help=", ".join(TASKS))
    records = kept(SWEEPS)
    for task in parser.parse_args().tasks or TASKS:
        if task not in records:
            records[task] = trial(task)
            keep(SWEEPS, records, TASKS, lines, PAGE)
            print(lines(task, records[task]), flush=True)


if __name__ == "__main__":
    main()
