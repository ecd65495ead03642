"""The members of a sweep on disk: a file for each rung that one has ended."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

from jaxrl_po.config import Config
from jaxrl_po.host.machine.strict_json import digest
from jaxrl_po.host.sweeps.groups import Group
from jaxrl_po.host.sweeps.members import (
    Outcome,
    Saved,
    aggregates,
    copied,
    known_returns,
    load_member,
    save_member,
)
from jaxrl_po.host.sweeps.rungs import Generation
from jaxrl_po.types import PyTree


class MemberFiles(NamedTuple):
    """Where members are kept, and what their files are bound to."""

    groups: list[Group]
    seeds: range
    identity: str  # of the sweep
    folder: pathlib.Path
    generations: list[Generation]  # of each rung so far

    def group_of(self, setting: int) -> Group:
        """The group that a setting is in."""
        return next(group for group in self.groups if setting in group.configs)

    def has(self, setting: int, seed: int, rung: int) -> bool:
        """Whether a member has ended a rung.

        Raises:
            ValueError: when its file is damaged, or of another member.
        """
        if not self._path(setting, seed, rung).exists():
            return False
        self.load(setting, seed, rung)
        return True

    def load(self, setting: int, seed: int, rung: int) -> Saved:
        """A member as it ended a rung.

        Raises:
            ValueError: when its file is damaged, or of another member.
        """
        return load_member(self._path(setting, seed, rung), self._digest(setting, seed, rung))

    def save(self, setting: int, seed: int, rung: int, saved: Saved) -> None:
        """Keep a member as it ended a rung."""
        save_member(self._path(setting, seed, rung), saved, self._digest(setting, seed, rung))

    def config(self, setting: int, rung: int) -> Config:
        """What a setting trains under in a rung."""
        return self.generations[rung].configs[setting]

    def before(self, chosen: Sequence[tuple[int, int]], rung: int) -> list[Saved]:
        """Members as they ended the rung before this one, or as another's did that they go on
        from; none if it is the first.
        """
        return [self._before(setting, seed, rung) for setting, seed in chosen] if rung else []

    def _before(self, setting: int, seed: int, rung: int) -> Saved:
        own = self.load(setting, seed, rung - 1)
        parent = self.generations[rung].parents[setting]
        if parent == setting:
            return own
        structure = jax.tree.structure(self.group_of(setting).blank[1])
        return copied(self.load(parent, seed, rung - 1), structure, setting, own.seconds)

    def outcomes(self, setting: int, rung: int) -> list[Outcome]:
        """What came of a setting's members by the end of a rung."""
        group = self.group_of(setting)
        results = []
        for seed in self.seeds:
            saved = self.load(setting, seed, rung)
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

    def states(self, setting: int, rung: int) -> Iterator[tuple[int, Config, PyTree]]:
        """Seed, config and state of a setting's members at the end of a rung, where groups keep
        states.
        """
        group = self.group_of(setting)
        structure = jax.tree.structure(group.blank[1])
        for seed in self.seeds:
            saved = self.load(setting, seed, rung)
            yield seed, self.config(setting, rung), jax.tree.unflatten(structure, saved.state)

    def _path(self, setting: int, seed: int, rung: int) -> pathlib.Path:
        return self.folder / f"rung{rung}-setting{setting:05d}-seed{seed:05d}.npz"

    def _digest(self, setting: int, seed: int, rung: int) -> str:
        """What a member's file is bound to: the sweep, its setting, seed, rung and parent."""
        config, parent = self.config(setting, rung), self.generations[rung].parents[setting]
        origin = [] if parent == setting else [parent]
        return digest([self.identity, config.to_dict(), seed, rung, *origin])
