"""Where a run's numbers go: one small interface, and the files and services behind it."""

import json
import os
import re
import secrets
import textwrap
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.host.machine.files import AppendFile, write_whole
from jaxrl_po.host.machine.imports import import_extra
from jaxrl_po.host.machine.strict_json import to_json

NAME = re.compile(r"[\w./-]+")  # of a metric: a column's in CSV, a key's in JSON
JSON_OF = {"nan": "null", "inf": "1e999", "-inf": "-1e999"}  # from the table's cells


def checked_names(metrics: Iterable[str]) -> list[str]:
    """Names of metrics, those of a method of one's own among them.

    Raises:
        ValueError: naming the one that files of rows have no room for.
    """
    names = list(metrics)
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(
                f"metrics: the name {name!r} must be of letters, digits, '_', '.', '/' and '-'"
            )
    return names


class Start(NamedTuple):
    """What the host knows before the first segment of a session."""

    config: dict[str, Any]  # as `to_dict` gives it
    seeds: list[int]  # [S]
    iteration: int  # done before: 0, or where a resumed run stands
    steps_per_iteration: int  # of one seed


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
    """Something that is told of each segment. To add one, write these functions.

    `seed_logger` makes one that keeps seeds apart, as TensorBoard's and W&B's do.
    """

    write: Callable[[Visit], None]
    close: Callable[[], None]  # at the end, whatever happened
    open: Callable[[Start], None] = lambda start: None  # once all is compiled


class Sink(NamedTuple):
    """Where the numbers of one seed go."""

    write: Callable[[dict[str, float], int], None]  # numbers by name, environment steps
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
        if not rows:  # a visit before the first iteration knows no names of metrics
            return
        if csv.position == 0:
            csv.write(",".join(names) + "\n")
        csv.write("".join([csv_format % row for row in rows]))
        text = "".join([json_format % row for row in rows])
        for cell, value in JSON_OF.items():
            text = text.replace(f": {cell}", f": {value}")
        jsonl.write(text)

    return Logger(write, lambda: None)


def event_logger(stream: AppendFile) -> Logger:
    """One line of JSON for each event, in events.jsonl."""

    def write(visit: Visit) -> None:
        stream.write("".join(to_json(event) + "\n" for event in visit.events))

    return Logger(write, lambda: None)


def seed_logger(open_sink: Callable[[Start, int], Sink]) -> Logger:
    """A sink for each seed, against its environment steps.

    It gets the mean of each metric over a segment, where it is a number; `steps_per_second`, of
    all seeds together, in training; and what an evaluation found, as `evaluation/greedy_return`.

    Args:
        open_sink: start, seed -> sink; called when the run starts, so that what is refused before
            that leaves nothing behind.
    """
    sinks: dict[int, Sink] = {}
    trained, per_iteration = 0.0, 0

    def start_all(start: Start) -> None:
        nonlocal trained, per_iteration
        trained, per_iteration = 0.0, start.steps_per_iteration
        for seed in start.seeds:
            sinks[seed] = open_sink(start, seed)

    def write(visit: Visit) -> None:
        nonlocal trained
        seconds, trained = visit.train_seconds - trained, visit.train_seconds
        speed = float(visit.num_done.sum()) * per_iteration / max(seconds, 1e-9)
        for s, seed in enumerate(visit.seeds):
            values = _evaluations(visit, seed)
            if visit.num_done[s]:
                values |= {**_means(visit, s), "steps_per_second": speed}
            if values:
                sinks[seed].write(values, int(visit.iterations[-1]) * per_iteration)

    def close() -> None:
        for sink in sinks.values():
            sink.close()

    return Logger(write, close, start_all)


def tensorboard_logger(directory: str | os.PathLike[str]) -> Logger:
    """TensorBoard's files under `tensorboard/seed_0`, …: see `seed_logger`; and the config.

    A resumed run takes a file of its own, which cancels what the ones before it hold of steps that
    are done again.
    """
    with warnings.catch_warnings():  # its protobuf warns of its own future
        warnings.simplefilter("ignore", DeprecationWarning)
        module = import_extra("tensorboardX", "tensorboard")

    def open_sink(start: Start, seed: int) -> Sink:
        folder = Path(directory) / "tensorboard" / f"seed_{seed}"
        steps = start.iteration * start.steps_per_iteration
        known = len(list(folder.glob("events.out.tfevents.*")))
        writer = module.SummaryWriter(
            str(folder),
            purge_step=steps + 1 if known else None,
            filename_suffix=f".{known:06}",  # else one of the same second writes over it
        )
        if not known:
            text = to_json({**start.config, "seed": seed}, indent=4)
            writer.add_text("config", textwrap.indent(text, "    "), steps)  # as code

        def write(values: dict[str, float], steps: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, steps)
            writer.flush()

        return Sink(write, writer.close)

    return seed_logger(open_sink)


def wandb_logger(project: str, config: dict[str, Any], directory: str | os.PathLike[str]) -> Logger:
    """A run of Weights & Biases for each seed, grouped: see `seed_logger`.

    Their ids are kept in `wandb.json`, so that a resumed run goes on with them. WANDB_MODE=offline
    keeps all on disk.
    """
    wandb = import_extra("wandb", "wandb")
    path = Path(directory)
    try:
        Path.home()
    except RuntimeError:
        raise ValueError("wandb needs a home directory, and there is none: set HOME") from None

    def open_sink(start: Start, seed: int) -> Sink:
        session_id = _wandb_id(path / "wandb.json", start, seed)
        try:
            session = wandb.init(
                project=project,
                config={**config, "seed": seed},
                dir=str(path),
                group=path.name,
                name=f"{path.name}_seed{seed}",
                id=session_id,
                resume="allow" if start.iteration else None,
                reinit="create_new",
            )
        except wandb.errors.Error as error:
            raise ValueError(f"wandb: {error} (WANDB_MODE=offline needs no account)") from error
        return Sink(lambda values, steps: session.log(values, step=steps), session.finish)

    return seed_logger(open_sink)


def _wandb_id(path: Path, start: Start, seed: int) -> str:
    """The id of a seed's run at W&B: the one in the file where the run is resumed, or a new one."""
    ids: dict[str, str] = {}
    if path.is_file() and (start.iteration or seed != start.seeds[0]):
        try:
            ids = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} does not hold ids of runs: {error}") from None
    if str(seed) not in ids:
        ids[str(seed)] = secrets.token_hex(4)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(ids).encode())
    return ids[str(seed)]


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


def _means(visit: Visit, s: int) -> dict[str, float]:
    """The mean of each metric of a seed over the segment's iterations, where it is a number."""
    means = {}
    for name, values in visit.metrics.items():
        known = values[s, : visit.num_done[s]]
        known = known[np.isfinite(known)]
        if name != "timesteps" and known.size:
            means[name] = float(known.mean())
    return means


def _evaluations(visit: Visit, seed: int) -> dict[str, float]:
    """What was found in evaluations of a seed."""
    return {
        f"evaluation/{name}": value
        for event in visit.events
        if event["event"] == "evaluation" and event["seed"] == seed
        for name, value in event.items()
        if name.endswith(("_return", "_length")) and value is not None
    }
