"""The loop of a run: compiled segments, and the host's visits between them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxrl_po.config import Config
from jaxrl_po.host import events
from jaxrl_po.host.arrays import from_host
from jaxrl_po.host.checkpoint import Checkpoint
from jaxrl_po.host.directory import RunSettings
from jaxrl_po.host.execution import compile_blocks, join_blocks, split_members
from jaxrl_po.host.logging import Logger, Visit
from jaxrl_po.host.plots import plot_run
from jaxrl_po.host.policy import describe_policy
from jaxrl_po.host.records import Records
from jaxrl_po.host.result import RunResult, summary
from jaxrl_po.host.segments import Assessment, make_programs
from jaxrl_po.host.signals import Interrupted, stop_requests
from jaxrl_po.host.terminal import in_parts, progress_bar
from jaxrl_po.types import Network, PyTree


class Session(NamedTuple):
    """What is to be run, and how."""

    config: Config
    settings: RunSettings
    env: Any
    network: Network | None
    until: int | None
    loggers: Sequence[Logger]
    console: Console


class Clock:
    """Seconds spent on each kind of work."""

    def __init__(self) -> None:
        """All at zero."""
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0, "host": 0.0}

    @contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        """Count the time of a block as of this kind."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] += time.perf_counter() - started


class Programs(NamedTuple):
    """What is compiled for a session; blocks as in `compile_blocks`."""

    advance: Callable[..., list[Any]]  # blocks, count -> (blocks, metrics)
    assess: Callable[..., list[Any]]  # (blocks, seeds), iteration -> Assessment


def train(session: Session, directory: Path | None, restored: Checkpoint | None) -> RunResult:
    """Run a session from its start or from a checkpoint, to its end or to `until`."""
    config, settings, console = session.config, session.settings, session.console
    total, length = config.num_iterations, settings.segment_length
    last = total if session.until is None else min(session.until, total)
    begun = done = restored.iteration if restored else 0
    seeds = list(range(settings.seed, settings.seed + settings.num_seeds))
    numbers = split_members(np.array(seeds, np.uint32))
    clock = Clock()

    with clock("compile"), console.status("compiling") as status:
        blocks, programs = prepare(session, numbers, restored, status.update)
    name = config.env_id if session.env is None else type(session.env).__name__
    since = f" from {done} on" if done else ""
    console.print(
        f"{config.algorithm} on {name}: {len(seeds)} seed(s) x "
        f"{total} iterations{since}, compiled in {clock.seconds['compile']:.1f} s",
        soft_wrap=True,
    )

    def evaluate() -> Assessment:
        with clock("evaluate"):
            members = list(zip(blocks, numbers, strict=True))
            results = join_blocks(programs.assess(members, np.int32(done)))
            return jax.tree.map(np.asarray, results)

    assessment, assessed = None, -1
    history: list[dict[str, np.ndarray]] = []
    news: list[dict[str, Any]] = [{"event": "resumed", "iteration": done}] if restored else []
    reached = iterations_of(blocks)
    diverged = {s: int(n) + 1 for s, n in zip(seeds, reached, strict=True) if n < done}
    steps = config.num_envs * config.num_steps
    with ExitStack() as stack:
        bar = progress_bar(console, done, total, steps * len(seeds))
        advance = in_parts(programs.advance, bar.parts)
        outputs = [*session.loggers, bar.logger]
        records = None
        if directory:
            records = open_records(session, directory, restored)
            stack.enter_context(closing(records))
            outputs += records.loggers
        for output in outputs:
            stack.callback(output.close)
        notice = "" if console.quiet else "finishing the segment"
        requests = stack.enter_context(stop_requests(directory is not None, notice))

        while done < last and not requests and len(diverged) < len(seeds):
            count = min(length - done % length, last - done)
            with clock("train"):
                segments = advance(blocks, count)
            blocks = [state for state, _ in segments]
            metrics = {
                name: np.concatenate([block[name] for _, block in segments])[:, :count]
                for name in segments[0][1]
            }
            reached = iterations_of(blocks)
            # A seed that diverges here did one iteration more than its state has; before, none.
            num_done = np.where(reached < done, 0, np.minimum(reached - done + 1, count))
            lost = events.divergence(seeds, reached, done, metrics)
            diverged |= {event["seed"]: event["iteration"] for event in lost}
            news += lost
            iterations = np.arange(done + 1, done + count + 1)
            done += count
            scheduled = done % (length * settings.evaluate_every) == 0 or done == total
            if scheduled:
                assessment, assessed = evaluate(), done
                news += events.evaluation(seeds, done, assessment)
            with clock("host"):
                if records:
                    records.wait()  # for the previous visit's files, and their errors
                if records and assessment and scheduled:
                    records.evaluated(done, assessment, blocks, seeds, config)
                seconds = clock.seconds["train"], clock.seconds["evaluate"] + clock.seconds["host"]
                visit = Visit(seeds, iterations, metrics, num_done, news, *seconds)
                for output in outputs:
                    output.write(visit)
                if records:
                    records.checkpoint(done, blocks)
            history.append(events.masked(metrics, num_done))
            news = []
        if records:
            with clock("host"):
                records.wait()

    if requests and done < last:
        raise Interrupted(
            f"stopped by {requests[0]} after iteration {done} of {total}, saved; "
            f"to go on: python -m jaxrl_po resume {directory}"
        )
    if assessment is None or assessed < done:
        assessment = evaluate()
    result = RunResult(
        state=join_blocks(blocks),
        metrics={
            name: np.concatenate([part[name] for part in history], axis=1)
            for name in (history[0] if history else ())
        },
        evaluation=assessment.sampled,
        greedy_evaluation=assessment.greedy,
        diverged=diverged,
        timesteps=(done - begun) * steps * len(seeds),
        compile_seconds=clock.seconds["compile"],
        train_seconds=clock.seconds["train"],
        evaluation_seconds=clock.seconds["evaluate"],
        host_seconds=clock.seconds["host"],
    )
    if directory:
        plot_run(directory)
    console.print(summary(result), style="bold", soft_wrap=True)
    return result


def prepare(
    session: Session,
    numbers: list[PyTree],
    restored: Checkpoint | None,
    tell: Callable[[str], None],
) -> tuple[list[PyTree], Programs]:
    """The states that a session begins with, and its compiled programs; `tell` what is compiled."""
    tell("compiling: the initial state")
    programs = make_programs(session.config, session.env, session.network, session.settings)
    if restored:
        seeds = np.concatenate(numbers)
        template = jax.eval_shape(jax.vmap(programs.start), seeds)
        blocks = split_members(from_host(template, restored.arrays))
    else:
        blocks = compile_blocks(programs.start, numbers)(numbers)
    tell("compiling: the training loop")
    advance = compile_blocks(programs.advance, blocks, np.int32(0), donate=True)
    tell("compiling: the evaluation")
    members = list(zip(blocks, numbers, strict=True))
    return blocks, Programs(advance, compile_blocks(programs.assess, members, np.int32(0)))


def open_records(session: Session, directory: Path, restored: Checkpoint | None) -> Records:
    """The files of a run directory; what is missing in them is reported."""
    description = describe_policy(session.config, session.env, session.network)
    records = Records(directory, session.settings.keep_checkpoints, description, restored)
    for name in records.short:
        session.console.print(f"{name} lacks lines that it had at the checkpoint", style="red")
    return records


def iterations_of(blocks: list[PyTree]) -> np.ndarray:
    """Iterations that each seed's state has behind it [S]."""
    return np.concatenate([np.asarray(state.iteration) for state in blocks]).astype(np.int64)
