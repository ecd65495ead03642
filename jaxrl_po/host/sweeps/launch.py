"""Launching a sweep: compile its groups, estimate, run what is not done."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from jaxrl_po.host.machine.execution import Plan
from jaxrl_po.host.machine.signals import Interrupted
from jaxrl_po.host.sweeps.batches import stack_members, take_apart
from jaxrl_po.host.sweeps.groups import Group, plan_group
from jaxrl_po.host.sweeps.member_files import MemberFiles
from jaxrl_po.host.sweeps.members import Member
from jaxrl_po.types import PyTree

NUM_REPORTS = 10  # lines of progress in a sweep, or one a rung
TIMED_SECONDS = 0.2  # that a job is run to estimate its time


class Job(NamedTuple):
    """The members of a group that a rung has yet to run, and their program."""

    group: Group
    plan: Plan
    members: list[tuple[int, int]]  # setting, seed
    load: Callable[[range], PyTree]
    first: int  # iterations that they have done
    last: int  # iterations that they will have done


class Launcher:
    """Takes the settings of a sweep from rung to rung; a group's program is compiled once.

    Once there is a stop request, no further member is begun: `Interrupted`.
    """

    def __init__(
        self,
        files: MemberFiles,
        chunk_size: int | None,
        devices: str | None,
        console: Console,
        stop_requests: Sequence[str],
    ) -> None:
        self._files = files
        self._chunk_size = chunk_size
        self._devices = devices
        self._console = console
        self._stop_requests = stop_requests
        self._plans: dict[int, Plan] = {}  # by the id of their group

    @property
    def num_compilations(self) -> int:
        """Programs compiled so far: none for a group whose members were all there."""
        return len(self._plans)

    def run(self, settings: Sequence[int], rung: int) -> None:
        """Take these settings to the end of a rung, passing over the members that are there."""
        known = self.num_compilations
        jobs = [job for group in self._files.groups if (job := self._job(group, settings, rung))]
        if not jobs:
            return
        if self.num_compilations > known and not self._console.quiet:  # rungs cost alike: told once
            seconds = sum(map(estimated_seconds, jobs))
            each = " a rung" if len(jobs[0].group.last) > 1 else ""
            self._console.print(f"  about {seconds:,.0f} s{each} to run", highlight=False)
        progress = Progress(self._console, sum(len(job.members) for job in jobs), self._files)

        def keep(job: Job, members: range, output: Any, seconds: float) -> None:
            self._save(job, rung, members, output, seconds)
            progress.add(len(members))

        for job in jobs:
            job.plan.run(
                len(job.members),
                job.load,
                lambda members, output, seconds, job=job: keep(job, members, output, seconds),
                np.int32(job.first),
                np.int32(job.last),
            )

    def _job(self, group: Group, settings: Sequence[int], rung: int) -> Job | None:
        """What is left to do for a group, compiled."""
        members = missing(self._files, group, settings, rung, self._console)
        if not members:
            return None

        def load(indices: range) -> PyTree:
            return self._load(group, [members[i] for i in indices], rung)

        first = group.last[rung - 1] if rung else 0
        if id(group) not in self._plans:
            self._plans[id(group)] = self._compile(group, len(members))
        return Job(group, self._plans[id(group)], members, load, first, group.last[rung])

    def _load(self, group: Group, chosen: list[tuple[int, int]], rung: int) -> PyTree:
        """Members with their progress, stacked: blank, or as they ended the rung before."""
        stop_if_asked(self._stop_requests, self._files)
        members = [
            Member(self._files.config(setting, rung), np.uint32(seed)) for setting, seed in chosen
        ]
        return stack_members(group, members, self._files.before(chosen, rung))

    def _save(self, job: Job, rung: int, members: range, output: Any, seconds: float) -> None:
        """Write what came of a chunk, a file for each member."""
        chosen = [job.members[i] for i in members]
        ended = take_apart(output, self._files.before(chosen, rung), seconds)
        for (setting, seed), saved in zip(chosen, ended, strict=True):
            self._files.save(setting, seed, rung, saved)

    def _compile(self, group: Group, num_members: int) -> Plan:
        started = time.perf_counter()
        name = f"{group.example.algorithm} on {group.example.env_id}: {num_members} members"
        with self._console.status(f"compiling: {group.example.algorithm}, {num_members} members"):
            plan = plan_group(group, num_members, self._chunk_size, self._devices)
        if group.plan_on_host is not None:
            self._console.print(f"  {name}, {plan.chunk_size} in a pool", highlight=False)
            return plan
        self._console.print(
            f"  {name}, {plan.chunk_size} at a time in {plan.chunk_bytes / 2**20:.1f} MiB, "
            f"compiled in {time.perf_counter() - started:.1f} s",
            highlight=False,
        )
        return plan


def missing(
    files: MemberFiles, group: Group, settings: Sequence[int], rung: int, console: Console
) -> list[tuple[int, int]]:
    """Setting and seed of a group's members that have yet to end a rung.

    A file that is not what it should be is reported.
    """

    def has_ended(setting: int, seed: int) -> bool:
        try:
            return files.has(setting, seed, rung)
        except ValueError as error:
            console.print(f"not used: {error}", style="red", soft_wrap=True, markup=False)
            return False

    chosen = [setting for setting in settings if setting in group.configs]
    pairs = itertools.product(chosen, files.seeds)
    return [(setting, seed) for setting, seed in pairs if not has_ended(setting, seed)]


def stop_if_asked(stop_requests: Sequence[str], files: MemberFiles) -> None:
    """Raise `Interrupted` once there is a stop request."""
    if stop_requests:
        raise Interrupted(
            f"stopped by {stop_requests[0]}, what ended is saved; to go on: "
            f"the same sweep once more, directory {files.folder.parent}"
        )


class Progress:
    """A line each time another part of a rung's members has ended."""

    def __init__(self, console: Console, total: int, files: MemberFiles) -> None:
        self._console = console
        self._total = total
        self._reports = max(1, NUM_REPORTS // len(files.groups[0].last))
        self._finished = 0
        self._started = time.perf_counter()

    def add(self, count: int) -> None:
        """So many more have ended."""
        before, self._finished = self._finished, self._finished + count
        if self._finished * self._reports // self._total > before * self._reports // self._total:
            elapsed = time.perf_counter() - self._started
            self._console.print(
                f"  {self._finished}/{self._total} members  {elapsed:.0f} s", highlight=False
            )


def estimated_seconds(job: Job) -> float:
    """Estimate of a job's time, from ever more iterations of its first chunk."""
    count = min(job.plan.chunk_size, len(job.members))
    iterations = job.last - job.first
    for doubling in range(max(2, iterations.bit_length())):  # the first call warms up
        timed = 1 << doubling
        started = time.perf_counter()
        job.plan.run(
            count, job.load, lambda *_: None, np.int32(job.first), np.int32(job.first + timed)
        )
        seconds = time.perf_counter() - started
        if doubling and seconds > TIMED_SECONDS:
            break
    return -(-len(job.members) // count) * seconds / timed * iterations
