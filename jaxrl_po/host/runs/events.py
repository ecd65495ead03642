"""What a segment tells beside its metrics: seeds that diverged, policies that were evaluated."""

from typing import Any

import numpy as np

from jaxrl_po.host.runs.segments import Assessment
from jaxrl_po.loop.divergence import LARGEST_PARAMETER
from jaxrl_po.types import Array


def divergence(
    seeds: list[int], reached: np.ndarray, first: int, metrics: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Events for the seeds that did not get through the C iterations after `first`.

    Args:
        seeds: [S].
        reached: iterations that each seed's state has behind it [S].
        first: iterations done before the segment.
        metrics: [S, C] each.
    """
    events = []
    count = next(iter(metrics.values())).shape[1]
    for s, (seed, state_iteration) in enumerate(zip(seeds, reached.tolist(), strict=True)):
        if first <= state_iteration < first + count:
            row = {name: values[s, state_iteration - first] for name, values in metrics.items()}
            broken = {n: str(x) for n, x in row.items() if not np.isfinite(x)}
            if not row["num_episodes"]:  # a mean over no episodes is NaN in health too
                broken = {n: x for n, x in broken.items() if not n.startswith("episode_")}
            events.append(
                {
                    "event": "diverged",
                    "seed": seed,
                    "iteration": state_iteration + 1,
                    "not_finite": broken or {"parameter": "nan or inf"},
                }
            )
    return events


def excess(seeds: list[int], iteration: int, excessive: np.ndarray) -> list[dict[str, Any]]:
    """Events for the seeds [S] that have a parameter beyond its bounds after an iteration."""
    return [
        {"event": "excessive", "seed": seed, "iteration": iteration}
        for seed, is_so in zip(seeds, excessive, strict=True)
        if is_so
    ]


def divergence_text(event: dict[str, Any]) -> str:
    """What the terminal says of it, or the error where it ends the run."""
    causes = ", ".join(event["not_finite"])
    return f"seed {event['seed']} diverged in iteration {event['iteration']} ({causes})"


def excess_text(event: dict[str, Any]) -> str:
    """What the terminal says of it."""
    return (
        f"seed {event['seed']} has a parameter beyond ±{LARGEST_PARAMETER:g} after iteration "
        f"{event['iteration']}: it goes on, but a sweep would count it as diverged"
    )


def evaluation(seeds: list[int], iteration: int, assessment: Assessment) -> list[dict[str, Any]]:
    """Events of an evaluation, one for each seed."""
    greedy, sampled = assessment
    return [
        {
            "event": "evaluation",
            "seed": seed,
            "iteration": iteration,
            "greedy_return": _mean(greedy.episode_return[s]),
            "sampled_return": _mean(sampled.episode_return[s]),
            "greedy_length": _mean(greedy.episode_length[s]),
            "sampled_length": _mean(sampled.episode_length[s]),
            "num_episodes": int(greedy.episode_return.shape[1]),
        }
        for s, seed in enumerate(seeds)
    ]


def _mean(values: np.ndarray | Array) -> float | None:
    """The mean, or None where JSON has no number for it."""
    mean = float(np.mean(values))
    return mean if np.isfinite(mean) else None


def masked(metrics: dict[str, np.ndarray], num_done: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics with NaN in place of what a frozen seed repeats; integers stay."""
    done = np.arange(next(iter(metrics.values())).shape[1]) < num_done[:, None]
    return {
        name: np.where(done, values, np.nan) if values.dtype.kind == "f" else values
        for name, values in metrics.items()
    }
