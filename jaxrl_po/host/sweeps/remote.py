"""Launching a sweep over an executor: its members as tasks, kept as they come back."""

import contextlib
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.sweeps.groups import Group
from jaxrl_po.host.sweeps.launch import Progress, missing, stop_if_asked
from jaxrl_po.host.sweeps.member_files import MemberFiles
from jaxrl_po.host.sweeps.tasks import Packer, Task, check_conditions, conditions, train
from jaxrl_po.host.sweeps.workers import Workers

Chosen = list[tuple[int, int]]  # setting and seed of members


def conditions_in(workers: Workers) -> dict[str, Any]:
    """What members' numbers depend on where they are trained, from a first call to a worker.

    Raises:
        ValueError: naming what is otherwise here, but for the kind of device.
    """
    ((_, found),) = workers.call(conditions, {"the first call": None})
    check_conditions(conditions(), found, "backend")
    return dict(found)


class RemoteLauncher:
    """Takes the settings of a sweep from rung to rung, as `Launcher` does, by an executor.

    Once there is a stop request, what has come back is kept and the rest cancelled: `Interrupted`.
    """

    def __init__(
        self,
        files: MemberFiles,
        workers: Workers,
        packer: Packer,
        console: Console,
        stop_requests: Sequence[str],
    ) -> None:
        self._files = files
        self._workers = workers
        self._packer = packer
        self._console = console
        self._stop_requests = stop_requests
        self._programs: dict[int, bytes] = {}  # by the id of their group

    @property
    def num_compilations(self) -> int:
        """Programs sent so far: none for a group whose members were all there."""
        return len(self._programs)

    def run(self, settings: Sequence[int], rung: int) -> None:
        """Take these settings to the end of a rung, passing over the members that are there."""
        chosen: dict[str, Chosen] = {}
        tasks: dict[str, Task] = {}
        for group in self._files.groups:
            members = missing(self._files, group, settings, rung, self._console)
            for start in range(0, len(members), self._packer.task_size):
                part = members[start : start + self._packer.task_size]
                chosen[_name(part)] = part
                tasks[_name(part)] = self._task(group, part, rung)
        if not tasks:
            return
        num_members = sum(map(len, chosen.values()))
        self._console.print(
            f"  {counted(num_members, 'member')} in {counted(len(tasks), 'task')}", highlight=False
        )
        progress = Progress(self._console, num_members, self._files)
        with contextlib.closing(self._workers.call(train, tasks, self._stop_if_asked)) as answers:
            for name, ended in answers:
                for (setting, seed), saved in zip(chosen[name], ended, strict=True):
                    self._files.save(setting, seed, rung, saved)
                progress.add(len(ended))

    def _task(self, group: Group, chosen: Chosen, rung: int) -> Task:
        if id(group) not in self._programs:
            self._programs[id(group)] = self._packer.program(group)
        return Task(
            program=self._programs[id(group)],
            configs=[self._files.config(setting, rung).to_dict() for setting, _ in chosen],
            seeds=[seed for _, seed in chosen],
            before=self._files.before(chosen, rung),
            first=group.last[rung - 1] if rung else 0,
            last=group.last[rung],
        )

    def _stop_if_asked(self) -> None:
        stop_if_asked(self._stop_requests, self._files)


def _name(chosen: Chosen) -> str:
    """Of a task, by its first and last members."""
    ends = [f"setting {setting} seed {seed}" for setting, seed in (chosen[0], chosen[-1])]
    return " to ".join(dict.fromkeys(ends))
