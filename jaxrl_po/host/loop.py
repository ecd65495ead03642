"""The loop of a run: compiled segments, and the host's visits between them."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxrl_po.config import Config
from jaxrl_po.evaluate import Evaluation
from jaxrl_po.host.arrays import from_host
from jaxrl_po.host.checkpoint import Checkpoint
from jaxrl_po.host.directory import RunSettings
from jaxrl_po.host.execution import compile_blocks, join_blocks, split_members
from jaxrl_po.host.logging import Logger, Visit, progress_logger
from jaxrl_po.host.plots import plot_run
from jaxrl_po.host.policy import describe_policy
from jaxrl_po.host.records import Records
from jaxrl_po.host.segments import Assessment, make_programs
from jaxrl_po.host.signals import Interrupted, stop_requests
from jaxrl_po.types import Network, PyTree, TrainState


class RunResult(NamedTuple):
    """What `run` and `resume` return; S seeds, I iterations of this call, E episodes."""

    state: TrainState  # [S, ...]
    metrics: dict[str, np.ndarray]  # [S, I] each; NaN after a seed diverged
    evaluation: Evaluation  # [S, E], of the final policies, sampled
    greedy_evaluation: Evaluation  # [S, E], of their most likely actions
    diverged: dict[int, int]  # seed -> iteration that was not finite, of those that froze
    timesteps: int  # environment steps of this call, over all seeds
    compile_seconds: float
    train_seconds: float
    evaluation_seconds: float
    host_seconds: float  # logs and checkpoints


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


def train(session: Session, directory: Path | None, restored: Checkpoint | None) -> RunResult:
    """Run a session from its start or from a checkpoint, to its end or to `until`."""
    config, settings, env, network, until, loggers, console = session
    total, length = config.num_iterations, settings.segment_length
    last = total if until is None else min(until, total)
    begun = done = restored.iteration if restored else 0
    seeds = list(range(settings.seed, settings.seed + settings.num_seeds))
    clock = Clock()

    with clock("compile"):
        programs = make_programs(config, env, network, settings)
        numbers = split_members(np.array(seeds, np.uint32))
        if restored:
            template = jax.eval_shape(jax.vmap(programs.start), np.array(seeds, np.uint32))
            blocks = split_members(from_host(template, restored.arrays))
        else:
            blocks = compile_blocks(programs.start, numbers)(numbers)
        advance = compile_blocks(programs.advance, blocks, np.int32(1), donate=True)
        assess = compile_blocks(
            programs.assess, list(zip(blocks, numbers, strict=True)), np.int32(0)
        )
    since = f" from {done} on" if done else ""
    console.print(
        f"{config.algorithm} on {config.env_id if env is None else env}: {len(seeds)} seed(s) x "
        f"{total} iterations{since}, compiled in {clock.seconds['compile']:.1f} s"
    )

    def evaluate() -> Assessment:
        with clock("evaluate"):
            results = join_blocks(assess(list(zip(blocks, numbers, strict=True)), np.int32(done)))
            return jax.tree.map(np.asarray, results)

    history: list[dict[str, np.ndarray]] = []
    assessment, assessed = None, -1
    reached = _iterations(blocks)
    diverged = {s: int(n) + 1 for s, n in zip(seeds, reached, strict=True) if n < done}
    events: list[dict[str, Any]] = [{"event": "resumed", "iteration": done}] if restored else []
    with ExitStack() as stack:
        steps = config.num_envs * config.num_steps
        outputs = [*loggers, progress_logger(console, done, total, steps)]
        records = None
        if directory:
            records = Records(
                directory,
                settings.keep_checkpoints,
                describe_policy(config, env, network),
                restored,
            )
            stack.enter_context(closing(records))
            outputs += records.loggers
            for name in records.short:
                console.print(f"{name} lacks lines that it had at the checkpoint", style="red")
        for output in outputs:
            stack.callback(output.close)
        requests = stack.enter_context(stop_requests(directory is not None))

        while done < last and not requests and len(diverged) < len(seeds):
            count = min(length - done % length, last - done)
            with clock("train"):
                segments = advance(blocks, np.int32(count))
            if records:
                with clock("host"):
                    records.wait()  # for the previous visit's files, and their errors
            blocks = [state for state, _ in segments]
            metrics = {
                name: np.concatenate([block[name] for _, block in segments])[:, :count]
                for name in segments[0][1]
            }
            reached = _iterations(blocks)
            # A seed that diverges here did one iteration more than its state has; before, none.
            num_done = np.where(reached < done, 0, np.minimum(reached - np.int64(done) + 1, count))
            events += _divergence(seeds, reached, done, count, metrics)
            diverged |= {e["seed"]: e["iteration"] for e in events if e["event"] == "diverged"}
            iterations = np.arange(done + 1, done + count + 1)
            done += count
            if done % (length * settings.evaluate_every) == 0 or done == total:
                assessment, assessed = evaluate(), done
                events += _evaluation(seeds, done, assessment)
                if records:
                    returns = np.asarray(assessment.greedy.episode_return).mean(axis=1)
                    with clock("host"):
                        records.evaluated(done, returns, blocks, seeds, config)
            with clock("host"):
                seconds = clock.seconds["train"], clock.seconds["evaluate"] + clock.seconds["host"]
                visit = Visit(seeds, iterations, metrics, num_done, events, *seconds)
                for output in outputs:
                    output.write(visit)
                if records:
                    records.checkpoint(done, blocks)
            history.append(_masked(metrics, num_done))
            events = []
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


def summary(result: RunResult) -> str:
    """The final policies' return over seeds, and what training took."""
    sampled, greedy = (
        e.episode_return.mean(axis=1) for e in (result.evaluation, result.greedy_evaluation)
    )
    num_seeds, num_episodes = result.evaluation.episode_return.shape
    train_seconds = max(result.train_seconds, 1e-9)
    running = train_seconds + result.evaluation_seconds + result.host_seconds
    return (
        f"final return {sampled.mean():.1f} ± {sampled.std():.1f} sampled, "
        f"{greedy.mean():.1f} ± {greedy.std():.1f} greedy "
        f"({num_seeds} seed(s) x {num_episodes} episodes)\n"
        f"{result.timesteps:,} steps in {train_seconds:.1f} s: "
        f"{result.timesteps / train_seconds:,.0f} steps/s; "
        f"compiling took {result.compile_seconds:.1f} s\n"
        f"evaluation took {result.evaluation_seconds / running:.1%} of the time, "
        f"logs and checkpoints {result.host_seconds / running:.1%}"
    )


def _iterations(blocks: list[PyTree]) -> np.ndarray:
    """Iterations that each seed's state has behind it [S]."""
    return np.concatenate([np.asarray(state.iteration) for state in blocks]).astype(np.int64)


def _divergence(
    seeds: list[int], reached: np.ndarray, first: int, count: int, metrics: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Events for the seeds that stopped between iterations `first` and `first + count`."""
    events = []
    for s, (seed, state_iteration) in enumerate(zip(seeds, reached.tolist(), strict=True)):
        if first <= state_iteration < first + count:
            row = {name: values[s, state_iteration - first] for name, values in metrics.items()}
            broken = {n: str(x) for n, x in row.items() if not np.isfinite(x)}
            # A mean over no episodes is NaN in health too.
            broken = {n: x for n, x in broken.items() if not n.startswith("episode_")}
            events.append(
                {
                    "event": "diverged",
                    "seed": seed,
                    "iteration": state_iteration + 1,
                    "not_finite": broken or {"state": "nan"},
                }
            )
    return events


def _evaluation(seeds: list[int], iteration: int, assessment: Assessment) -> list[dict[str, Any]]:
    """Events of an evaluation, one for each seed."""
    greedy, sampled = assessment
    return [
        {
            "event": "evaluation",
            "seed": seed,
            "iteration": iteration,
            "greedy_return": float(greedy.episode_return[s].mean()),
            "sampled_return": float(sampled.episode_return[s].mean()),
            "greedy_length": float(greedy.episode_length[s].mean()),
            "sampled_length": float(sampled.episode_length[s].mean()),
            "num_episodes": int(greedy.episode_return.shape[1]),
        }
        for s, seed in enumerate(seeds)
    ]


def _masked(metrics: dict[str, np.ndarray], num_done: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics with NaN in place of what a frozen seed repeats; integers stay."""
    done = np.arange(next(iter(metrics.values())).shape[1]) < num_done[:, None]
    return {
        name: np.where(done, values, np.nan) if values.dtype.kind == "f" else values
        for name, values in metrics.items()
    }
