"""The loop of a run: compiled segments, and the host's visits between them."""

import functools
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.machine.arrays import to_host
from jaxrl_po.host.machine.execution import join_blocks
from jaxrl_po.host.machine.processes import ALONE, Peers
from jaxrl_po.host.machine.signals import Interrupted, stop_requests
from jaxrl_po.host.machine.wording import counted, resume_command
from jaxrl_po.host.policies.policy import describe_policy
from jaxrl_po.host.runs import checkpoint, events, logs
from jaxrl_po.host.runs.callbacks import Callback, Moment
from jaxrl_po.host.runs.checkpoint import Checkpoint
from jaxrl_po.host.runs.directory import Description
from jaxrl_po.host.runs.logging import Logger, Start, Visit
from jaxrl_po.host.runs.plots import plot_run
from jaxrl_po.host.runs.records import Records
from jaxrl_po.host.runs.result import RunResult, summary
from jaxrl_po.host.runs.resumption import Resumption, found_by_first
from jaxrl_po.host.runs.segments import Assessment
from jaxrl_po.host.runs.terminal import Parts, progress_bar
from jaxrl_po.host.runs.training import Training
from jaxrl_po.host.runs.watch import Seen
from jaxrl_po.host.simulators.pool import SimulatorError
from jaxrl_po.loop.parts import Given
from jaxrl_po.loop.rollout import start_states
from jaxrl_po.types import Params


class Session(NamedTuple):
    """What is to be run, and how."""

    description: Description
    given: Given
    directory: Path | None
    until: int | None
    loggers: Sequence[Logger]
    callbacks: Sequence[Callback]
    console: Console
    peers: Peers = ALONE
    params: Params | None = None  # [S, ...] to start from; None for random ones
    mesh: Mesh | None = None  # that each seed is laid out over

    @property
    def saved(self) -> str:
        """How to go on from what is saved, to end a message with."""
        if self.directory is None:
            return ""
        return f", saved; to go on: {resume_command(self.directory)}"

    def warn(self, text: str) -> None:
        """Print what must not be overlooked."""
        self.console.print(text, style="red", soft_wrap=True, markup=False, highlight=False)


def run_session(session: Session, resumption: Resumption | None) -> RunResult:
    """Run a session from its start or from a checkpoint, to its end or to `until`."""
    directory, peers = session.directory, session.peers
    config, settings, *_ = session.description
    total = config.num_iterations
    last = total if session.until is None else min(session.until, total)
    restored = resumption.checkpoint if resumption else None
    notice = "" if session.console.quiet else "finishing what is under way"
    with ExitStack() as stack:
        requests = stack.enter_context(stop_requests(directory is not None, notice))
        with session.console.status("compiling") as status:
            training = Training(
                config,
                settings,
                session.given,
                restored or session.params,
                status.update,
                session.mesh,
            )
        stack.callback(training.close)
        announce(session, training)
        steps = config.num_envs * config.num_steps
        bar = progress_bar(session.console, training.done, total, steps * settings.num_seeds)
        kept: list[Records] = []  # of a directory; and
        outputs: list[Logger] = []  # both stay empty but in the first process
        opened = session, training, restored, bar.logger, stack, kept, outputs
        peers.told(functools.partial(open_outputs, *opened))
        records = kept[0] if kept else None
        if session.params is not None:  # they are nowhere else
            save(session, training, records)
            peers.told(lambda: finish_writing(kept))
        news = (
            tell_starts(session, training)
            if resumption is None
            else resumed(session, training, records, resumption)
        )
        ended, stopped = False, peers.some(bool(requests))
        while training.done < last and training.goes_on and not (ended or stopped):
            ended = visit(session, training, records, outputs, last, news, bar.parts)
            news, stopped = [], peers.some(bool(requests))
        with training.clock("host"):
            peers.told(lambda: finish_writing(kept))
    if training.failure:
        reached = f"after iteration {training.done} of {total}"
        raise SimulatorError(f"{training.failure}; {reached}{session.saved}")
    if stopped and training.done < last:
        signal = requests[0] if requests else "a signal to another process"
        raise Interrupted(
            f"stopped by {signal} after iteration {training.done} of {total}{session.saved}"
        )
    result = training.result()
    if directory and peers.first:
        draw(session, directory)
    session.console.print(summary(result), style="bold", soft_wrap=True)
    return result


def open_outputs(
    session: Session,
    training: Training,
    restored: Checkpoint | None,
    bar: Logger,
    stack: ExitStack,
    kept: list[Records],
    outputs: list[Logger],
) -> None:
    """Open the loggers, and the files of a directory, until the stack is closed."""
    config, directory = session.description.config, session.directory
    outputs += [*session.loggers, bar]
    for output in outputs:
        stack.callback(output.close)
    if directory:
        records = open_records(session, directory, restored)
        stack.enter_context(closing(records))
        kept.append(records)
        outputs += records.loggers
        if restored:
            logs.check_columns(directory, training.metric_names)
    steps = config.num_envs * config.num_steps
    for output in outputs:
        output.open(Start(config.to_dict(), training.seeds, training.done, steps))


def finish_writing(kept: list[Records]) -> None:
    """Wait for what is being written."""
    for records in kept:
        records.wait()


def announce(session: Session, training: Training) -> None:
    """Print what is trained, once it is compiled."""
    config = session.description.config
    name = config.env_id if session.given.env is None else type(session.given.env).__name__
    since = f" from {training.done} on" if training.done else ""
    session.console.print(
        f"{config.algorithm} on {name}: {counted(len(training.seeds), 'seed')} x "
        f"{config.num_iterations} iterations{since}, "
        f"compiled in {training.clock.seconds['compile']:.1f} s",
        soft_wrap=True,
    )


def tell_starts(session: Session, training: Training) -> list[dict[str, Any]]:
    """Tell of start states too large to draw one for each step: they are drawn into a pool."""
    config = session.description.config
    if host_environment(config.env_id, session.given.env, config.env_params):
        return []
    num_envs = config.num_envs // config.minibatch_shards  # those of a block share a pool
    one = jax.tree.map(lambda x: x[0, :num_envs], training.blocks[0].rollout)
    each, size = start_states(one, config.num_steps)
    if each == config.num_steps:
        return []
    drawn, steps = each * config.num_envs, config.num_steps * config.num_envs
    session.console.print(
        f"start states: {drawn:,} of {size:,} bytes are drawn anew for each rollout of {steps:,} "
        "steps; an episode that begins gets one of them at random",
        soft_wrap=True,
    )
    return [{"event": "start_states", "drawn": drawn, "bytes": size, "steps": steps}]


def visit(
    session: Session,
    training: Training,
    records: Records | None,
    outputs: Sequence[Logger],
    last: int,
    news: list[dict[str, Any]],
    parts: Parts,
) -> bool:
    """A segment, and what the host does after it: evaluate, log, save; whether to end there."""
    config, settings, *_ = session.description
    first, length = training.done, settings.segment_length
    seen = training.advance(min(length - first % length, last - first), parts)
    if seen is None:
        return False
    for event in seen.events:
        if event["event"] == "excessive":
            session.warn(events.excess_text(event))
        elif jax.debug_nans.value:
            raise FloatingPointError(events.divergence_text(event))
    news = [*news, *seen.events]
    done = training.done
    scheduled = done % (length * settings.evaluate_every) == 0 or done == config.num_iterations
    ended = ask(session, training, seen, training.evaluate() if scheduled else None)
    scheduled |= ended
    if scheduled:
        assessment = training.evaluate()
        news += events.evaluation(training.seeds, done, assessment)
    if ended:
        news.append({"event": "ended", "iteration": done, "by": "callback"})
    seconds = training.clock.seconds
    told = Visit(
        training.seeds,
        np.arange(first + 1, done + 1),
        seen.metrics,
        seen.num_done,
        news,
        seconds["train"],
        seconds["evaluate"] + seconds["host"],
    )

    def write() -> None:
        if records:
            records.wait()  # for the previous visit's files, and their errors
        if records and scheduled:
            records.evaluated(done, assessment, training.blocks, training.seeds, config)
        for output in outputs:
            output.write(told)

    with training.clock("host"):
        session.peers.told(write)
        save(session, training, records)
    return ended


def save(session: Session, training: Training, records: Records | None) -> None:
    """A checkpoint, where there is a directory; all processes bring what they have of the state."""
    if session.directory is None:
        return
    state = to_host(training.blocks, keep=session.peers.first)
    if records:
        records.checkpoint(training.done, state)


def ask(session: Session, training: Training, seen: Seen, evaluation: Assessment | None) -> bool:
    """Show all callbacks where the run stands; whether one of them ends it."""
    if not session.callbacks:
        return False
    moment = Moment(
        session.description.config,
        training.seeds,
        training.done,
        join_blocks(training.blocks),
        seen.metrics,
        evaluation,
    )
    answers = [callback(moment) for callback in session.callbacks]
    for answer in answers:
        if not isinstance(answer, bool | np.bool_ | None):
            raise ValueError(
                f"callbacks: one must return True to end the run, False or None; not {answer!r}"
            )
    return session.peers.some(any(answers))


def open_records(session: Session, directory: Path, restored: Checkpoint | None) -> Records:
    """The files of a run directory."""
    description = session.description
    return Records(
        directory,
        description.settings.keep_checkpoints,
        describe_policy(description.config, session.given.env, session.given.network),
        description.run_id,
        restored,
    )


def resumed(
    session: Session, training: Training, records: Records | None, resumption: Resumption
) -> list[dict[str, Any]]:
    """Tell of a resumption, and bring back a policy that is gone."""
    notices = [*resumption.notices, *(records.mended if records else [])]
    lost = session.peers.told(lambda: records and records.lost_policy())
    if lost is not None:
        notices.append(restore_policy(session, training, records, *lost))
    for notice in notices:
        session.warn(notice)
    event = {"event": "resumed", "iteration": training.done}
    return [{**event, "notices": notices} if notices else event]


def restore_policy(
    session: Session, training: Training, records: Records | None, iteration: int, best: float
) -> str:
    """Save again the policy of the best evaluation, or else of the newest states."""

    def find() -> Resumption | None:
        path = records and checkpoint.find(records.checkpoints, iteration)
        return Resumption(checkpoint.load(path), []) if path else None

    reached, blocks = training.done, training.blocks
    with suppress(ValueError):  # there is none that is intact
        if intact := found_by_first(session.peers, find):
            reached, blocks = iteration, training.restore(intact.checkpoint)
    assessment = training.assess(blocks, reached)
    if records:
        records.evaluated(reached, assessment, blocks, training.seeds, session.description.config)
    found = float(np.max(assessment.greedy.episode_return.mean(axis=1)))
    return f"policy/ was gone or damaged: saved again, from iteration {reached}" + (
        "" if found == best else f", with greedy return {found:.4g}; the one lost had {best:.4g}"
    )


def draw(session: Session, directory: Path) -> None:
    """Draw the learning curve; a run that is done does not fail because of it."""
    try:
        plot_run(directory)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        session.warn(f"no learning curve was drawn: {error}")
