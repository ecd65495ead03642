"""Writes docs/methods/typical.md: what the metrics of each method were in short runs on CartPole.

python docs/figures/typical_metrics.py    # a minute and a half on two busy cores
"""

import pathlib
from typing import Any

import jax
import numpy as np

from jaxrl_po import make_train
from jaxrl_po.algorithms import ALGORITHMS

PAGE = pathlib.Path(__file__).parents[1] / "methods" / "typical.md"
SETTINGS: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "num_envs": 8,
    "num_steps": 128,
    "total_timesteps": 100_000,
}
NUM_SEEDS = 2
HEAD = """# Typical values

Written by [typical_metrics.py](../figures/typical_metrics.py): {settings}; all else
the method's defaults, untuned; {seeds} seeds. Of each metric the first value of the first seed, and
the least, the median and the greatest over all iterations and seeds. `episode_return` and the like
are those of the episodes that finished.
"""


def table(name: str) -> str:
    """The metrics of one method."""
    train = jax.jit(jax.vmap(make_train(ALGORITHMS[name][0](**SETTINGS))))
    metrics = train(jax.random.split(jax.random.key(0), NUM_SEEDS)).metrics
    lines = [
        f"\n## {name}\n",
        "| metric | first | least | median | greatest |",
        "|---|---:|---:|---:|---:|",
    ]
    for metric, value in sorted(metrics.items()):
        x = np.asarray(value, float)
        cells = x[0, 0], np.nanmin(x), np.nanmedian(x), np.nanmax(x)
        lines.append(f"| `{metric}` | " + " | ".join(f"{cell:.3g}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all methods and write the page."""
    settings = ", ".join(f"`{name}={value!r}`" for name, value in SETTINGS.items())
    head = HEAD.format(settings=settings, seeds=NUM_SEEDS)
    PAGE.write_text(head + "\n".join(map(table, ALGORITHMS)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
