"""The settings of a sweep by the program that trains them, as few as there are structures."""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.machine.execution import Plan, plan_members
from jaxrl_po.host.sweeps.members import (
    Member,
    blank_progress,
    curve_points,
    make_member_function,
    stack_leaves,
)
from jaxrl_po.host.sweeps.on_host import plan_on_host
from jaxrl_po.loop.parts import Given
from jaxrl_po.types import PyTree


class Group(NamedTuple):
    """Settings that differ in data alone, and so share a program."""

    configs: dict[int, Config]  # setting -> its config
    function: Callable[..., Any]  # training of a member
    blank: PyTree  # progress of a member that has not begun
    last: list[int]  # iterations done at the end of each rung
    points: np.ndarray  # [C] iterations done at each point of the curve
    plan_on_host: Callable[[int, int | None], Plan] | None  # where environments step there

    @property
    def example(self) -> Config:
        """One of the configs: its static side is that of all."""
        return next(iter(self.configs.values()))

    @property
    def steps_per_iteration(self) -> int:
        """N·T."""
        return self.example.num_envs * self.example.num_steps


def make_groups(
    configs: Sequence[Config],
    fractions: Sequence[float | Fraction],
    given: Given,
    keep_state: bool = False,
) -> list[Group]:
    """As few groups as there are programs; each is traced once, so that what does not fit shows.

    Args:
        configs: of each setting.
        fractions: of the horizon that are done at the end of each rung.
        given: the parts that are no part of a config.
        keep_state: whether members' final states are wanted, not only those between rungs.
    """
    by_structure: dict[Any, dict[int, Config]] = {}
    for setting, config in enumerate(configs):
        by_structure.setdefault(jax.tree.structure(config), {})[setting] = config
    keep_state |= len(fractions) > 1
    groups = []
    for members in by_structure.values():
        example = next(iter(members.values()))
        blank = blank_progress(example, given)
        host = host_environment(example.env_id, given.env, example.env_params)
        last = [int(example.num_iterations * fraction) for fraction in fractions]
        if not last[0]:
            raise ValueError(
                f"total_timesteps={example.total_timesteps} at most for a setting leaves the "
                f"first rung of {len(fractions)} no iteration: prune fewer settings, or raise it"
            )
        groups.append(
            Group(
                configs=members,
                function=make_member_function(example, given, keep_state),
                blank=blank if keep_state else (),
                last=last,
                points=curve_points(example),
                plan_on_host=None
                if host is None
                else functools.partial(plan_on_host, example, given, host, keep_state),
            )
        )
    return groups


def plan_group(group: Group, num_members: int, chunk_size: int | None, devices: str | None) -> Plan:
    """Compile a group's program for so many members; arguments as for `plan_members`."""
    if group.plan_on_host is not None:
        return group.plan_on_host(num_members, chunk_size)
    member = Member(group.example, np.uint32(0))
    example = jax.tree.map(lambda x: stack_leaves(x)[0], member)
    return plan_members(
        group.function,
        (example, group.blank),
        (np.int32(0), np.int32(1)),
        num_members,
        chunk_size=chunk_size,
        devices=devices,
    )
