"""Launching a sweep: compile its groups, estimate, run what is not done."""

import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxrl_po.config import Config
from jaxrl_po.host.machine.execution import Plan, plan_members
from jaxrl_po.host.machine.signals import Interrupted
from jaxrl_po.host.machine.strict_json import digest
from jaxrl_po.host.sweeps.groups import Group
from jaxrl_po.host.sweeps.members import (
    Member,
    Outcome,
    Saved,
    aggregates,
    known_returns,
    load_member,
    save_member,
    stack_leaves,
)
from jaxrl_po.types import PyTree

NUM_REPORTS = 10  # lines of progress in a rung
TIMED_SECONDS = 0.2  # that a job is run to estimate its time


class Job(NamedTuple):
    """The members of a group that a rung has yet to run, and their program."""

    group: Group
    plan: Plan
    members: list[tuple[int, int]]  # setting, seed
    load: Callable[[range], PyTree]
    first: int  # iterations that they have done
    last: int  # iterations that they will have done


class Launch:
    """A sweep under way. Every member is a file of its own, written when it ends a rung.

    Once there is a stop request, no further member is begun: `Interrupted`.
    """

    def __init__(
        self,
        groups: list[Group],
        seeds: range,
        identity: str,
        folder: pathlib.Path,
        chunk_size: int | None,
        devices: str | None,
        console: Console,
        stop_requests: Sequence[str],
    ) -> None:
        self.groups = groups
        self.seeds = seeds
        self._stop_requests = stop_requests
        self.num_compilations = 0
        self._plans: dict[int, Plan] = {}
        self._ended: dict[int, int] = {}  # setting -> the last rung that it took part in
        self._identity = identity
        self._folder = folder
        self._chunk_size = chunk_size
        self._devices = devices
        self._console = console

    def run(self, settings: Sequence[int], rung: int) -> None:
        """Take these settings to the end of a rung, passing over the members that are there."""
        jobs = [job for group in self.groups if (job := self._job(group, settings, rung))]
        self._ended |= dict.fromkeys(settings, rung)
        if not jobs:
            return
        if not self._console.quiet:
            seconds = sum(map(self._seconds, jobs))
            self._console.print(f"  about {seconds:,.0f} s to run", highlight=False)
        total = sum(len(job.members) for job in jobs)
        started, finished = time.perf_counter(), 0

        def save(job: Job, members: range, output: Any, seconds: float) -> None:
            nonlocal finished
            record, state = output
            for i, index in enumerate(members):
                setting, seed = job.members[index]
                before = self._load(setting, seed, rung - 1).seconds if rung else 0.0
                saved = Saved(
                    jax.tree.map(lambda x, i=i: x[i], record),
                    before + seconds,
                    [leaf[i] for leaf in jax.tree.leaves(state)],
                )
                path = self._path(setting, seed, rung)
                save_member(path, saved, self._member_identity(setting, seed, rung))
            before_now, finished = finished, finished + len(members)
            if finished * NUM_REPORTS // total > before_now * NUM_REPORTS // total:
                elapsed = time.perf_counter() - started
                self._console.print(
                    f"  {finished}/{total} members  {elapsed:.0f} s", highlight=False
                )

        for job in jobs:
            job.plan.run(
                len(job.members),
                job.load,
                lambda members, output, seconds, job=job: save(job, members, output, seconds),
                np.int32(job.first),
                np.int32(job.last),
            )

    def outcomes(self, setting: int, rung: int | None = None) -> list[Outcome]:
        """What came of a setting's members by the end of a rung, or of the last they ended."""
        group = self._group(setting)
        rung = self._ended[setting] if rung is None else rung
        results = []
        for seed in self.seeds:
            saved = self._load(setting, seed, rung)
            curve = known_returns(saved.record, group.points, group.last[rung])
            row = {
                "seed": seed,
                "timesteps": group.last[rung] * group.steps_per_iteration,
                **aggregates(curve),
                "seconds": saved.seconds,
                "diverged": bool(saved.record.diverged),
                "pruned": rung < len(group.last) - 1,
            }
            results.append(Outcome(group.points * group.steps_per_iteration, curve, row))
        return results

    def states(self, setting: int) -> Iterator[tuple[int, Config, PyTree]]:
        """Seed, config and final state of a setting's members, of groups that keep states."""
        group = self._group(setting)
        structure = jax.tree.structure(group.blank[1])
        for seed in self.seeds:
            saved = self._load(setting, seed, self._ended[setting])
            yield seed, group.configs[setting], jax.tree.unflatten(structure, saved.state)

    def _group(self, setting: int) -> Group:
        return next(group for group in self.groups if setting in group.configs)

    def _path(self, setting: int, seed: int, rung: int) -> pathlib.Path:
        return self._folder / f"rung{rung}-setting{setting:05d}-seed{seed:05d}.npz"

    def _member_identity(self, setting: int, seed: int, rung: int) -> str:
        """What a member's file is bound to: the sweep, its setting, seed and rung."""
        config = self._group(setting).configs[setting].to_dict()
        return digest([self._identity, config, seed, rung])

    def _load(self, setting: int, seed: int, rung: int) -> Saved:
        identity = self._member_identity(setting, seed, rung)
        return load_member(self._path(setting, seed, rung), identity)

    def _has_ended(self, setting: int, seed: int, rung: int) -> bool:
        """Whether a member's file is there, intact and its own; any other is reported."""
        if not self._path(setting, seed, rung).exists():
            return False
        try:
            self._load(setting, seed, rung)
        except ValueError as error:
            self._console.print(f"not used: {error}", style="red", soft_wrap=True, markup=False)
            return False
        return True

    def _job(self, group: Group, settings: Sequence[int], rung: int) -> Job | None:
        """What is left to do for a group, compiled."""
        members = [
            (setting, seed)
            for setting in settings
            if setting in group.configs
            for seed in self.seeds
            if not self._has_ended(setting, seed, rung)
        ]
        if not members:
            return None

        def load(indices: range) -> PyTree:
            if self._stop_requests:
                raise Interrupted(
                    f"stopped by {self._stop_requests[0]}, what ended is saved; to go on: "
                    f"the same sweep once more, directory {self._folder.parent}"
                )
            chosen = [members[i] for i in indices]
            seeds = [Member(group.configs[setting], np.uint32(seed)) for setting, seed in chosen]
            batch = jax.tree.map(stack_leaves, *seeds)
            if not rung:
                return batch, jax.tree.map(lambda x: np.stack([x] * len(chosen)), group.blank)
            saved = [self._load(setting, seed, rung - 1) for setting, seed in chosen]
            records = jax.tree.map(stack_leaves, *(s.record for s in saved))
            leaves = [records, *map(stack_leaves, *(s.state for s in saved))]
            return batch, jax.tree.unflatten(
                jax.tree.structure(group.blank), jax.tree.leaves(leaves)
            )

        first = group.last[rung - 1] if rung else 0
        if id(group) not in self._plans:
            self._plans[id(group)] = self._compile(group, load, len(members))
        return Job(group, self._plans[id(group)], members, load, first, group.last[rung])

    def _compile(self, group: Group, load: Callable[[range], PyTree], num_members: int) -> Plan:
        example = jax.tree.map(lambda x: x[0], load(range(1)))
        started = time.perf_counter()
        with self._console.status(f"compiling: {group.example.algorithm}, {num_members} members"):
            plan = plan_members(
                group.function,
                example,
                (np.int32(0), np.int32(1)),
                num_members,
                chunk_size=self._chunk_size,
                devices=self._devices,
            )
        self.num_compilations += 1
        self._console.print(
            f"  {group.example.algorithm} on {group.example.env_id}: {num_members} members, "
            f"{plan.chunk_size} at a time in {plan.chunk_bytes / 2**20:.1f} MiB, "
            f"compiled in {time.perf_counter() - started:.1f} s",
            highlight=False,
        )
        return plan

    def _seconds(self, job: Job) -> float:
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
