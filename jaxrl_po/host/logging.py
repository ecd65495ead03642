"""Where a run's numbers go: one small interface, and the files and services behind it."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.host.files import AppendFile
from jaxrl_po.host.imports import import_extra


class Visit(NamedTuple):
    """What the host learns from one segment of C iterations; S seeds."""

    seeds: list[int]  # [S]
    iterations: np.ndarray  # [C] numbers of the iterations, the first of a run being 1
    metrics: dict[str, np.ndarray]  # [S, C] each
    num_done: np.ndarray  # [S] how many of the C a seed did; one that diverged did not do the rest
    events: list[dict[str, Any]]  # evaluations, divergence, resumption
    train_seconds: float  # of the run so far, this process
    other_seconds: float  # on evaluation, logs and checkpoints


class Logger(NamedTuple):
    """Something that is told of each segment. To add one, write these two functions."""

    write: Callable[[Visit], None]
    close: Callable[[], None]


def table_logger(jsonl: AppendFile, csv: AppendFile) -> Logger:
    """One row for each seed and iteration, in metrics.jsonl and metrics.csv alike.

    Nine digits tell all float32 numbers apart, seventeen all float64. In JSON NaN is null.
    """

    def write(visit: Visit) -> None:
        names = ["seed", "iteration", *visit.metrics]
        formats = ["%d", "%d", *map(_format, visit.metrics.values())]
        csv_format = ",".join(formats) + "\n"
        values = ", ".join(f'"{name}": {form}' for name, form in zip(names, formats, strict=True))
        json_format = "{" + values + "}\n"
        rows = _rows(visit)
        if csv.position == 0:
            csv.write(",".join(names) + "\n")
        csv.write("".join([csv_format % row for row in rows]))
        text = "".join([json_format % row for row in rows])
        for value, replacement in (": nan", ": null"), (": inf", ": 1e999"), (": -inf", ": -1e999"):
            text = text.replace(value, replacement)
        jsonl.write(text)

    return Logger(write, lambda: None)


def event_logger(stream: AppendFile) -> Logger:
    """One line of JSON for each event, in events.jsonl."""

    def write(visit: Visit) -> None:
        stream.write("".join(json.dumps(event) + "\n" for event in visit.events))

    return Logger(write, lambda: None)


def tensorboard_logger(directory: str | os.PathLike[str]) -> Logger:
    """Means over each segment, `metric/seed_0` against environment steps, for TensorBoard."""
    with warnings.catch_warnings():  # its protobuf warns of its own future
        warnings.simplefilter("ignore", DeprecationWarning)
        module = import_extra("tensorboardX", "tensorboard")
    writer = module.SummaryWriter(str(Path(directory) / "tensorboard"))

    def write(visit: Visit) -> None:
        for name, value in _segment_means(visit).items():
            writer.add_scalar(name, value, int(_steps(visit)))
        writer.flush()

    return Logger(write, writer.close)


def wandb_logger(project: str, config: dict[str, Any], directory: str | os.PathLike[str]) -> Logger:
    """Means over each segment, for Weights & Biases; WANDB_MODE=offline keeps them on disk."""
    wandb = import_extra("wandb", "wandb")
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    session = wandb.init(project=project, config=config, dir=str(path), name=path.name)

    def write(visit: Visit) -> None:
        session.log(_segment_means(visit), step=int(_steps(visit)))

    return Logger(write, session.finish)


def _format(values: np.ndarray) -> str:
    if not np.issubdtype(values.dtype, np.floating):
        return "%d"
    return "%.9g" if values.dtype.itemsize <= 4 else "%.17g"


def _rows(visit: Visit) -> list[tuple[Any, ...]]:
    """Rows in the order of iterations, then seeds: however the run is cut into segments."""
    done = np.arange(len(visit.iterations))[:, None] < visit.num_done  # [C, S]
    index, member = np.nonzero(done)
    columns = [values[member, index].tolist() for values in visit.metrics.values()]
    seeds = np.array(visit.seeds)[member].tolist()
    return list(zip(seeds, visit.iterations[index].tolist(), *columns, strict=True))


def _steps(visit: Visit) -> int:
    return visit.metrics["timesteps"].max()


def _segment_means(visit: Visit) -> dict[str, float]:
    """The mean of each metric over the segment's iterations, where it is a number."""
    means = {}
    for name, values in visit.metrics.items():
        for s, seed in enumerate(visit.seeds):
            known = values[s, : visit.num_done[s]]
            known = known[np.isfinite(known)]
            if name != "timesteps" and known.size:
                means[f"{name}/seed_{seed}"] = float(known.mean())
    return means
