"""Members side by side: stacked for their group's program, and taken apart after it."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxrl_po.host.sweeps.groups import Group
from jaxrl_po.host.sweeps.members import Member, Saved, stack_leaves
from jaxrl_po.types import PyTree


def stack_members(group: Group, members: Sequence[Member], before: Sequence[Saved]) -> PyTree:
    """Members [n, ...] and their progress, as the group's function takes them.

    Args:
        group: theirs.
        members: n of them.
        before: as each ended the rung before; none in the first rung.
    """
    batch = jax.tree.map(stack_leaves, *members)
    if not before:
        return batch, jax.tree.map(lambda x: np.stack([x] * len(members)), group.blank)
    records = jax.tree.map(stack_leaves, *(saved.record for saved in before))
    leaves = [records, *map(stack_leaves, *(saved.state for saved in before))]
    return batch, jax.tree.unflatten(jax.tree.structure(group.blank), jax.tree.leaves(leaves))


def take_apart(output: Any, before: Sequence[Saved], seconds: float) -> list[Saved]:
    """What came of n members, each for itself.

    Args:
        output: record and state [n, ...].
        before: as for `stack_members`; empty or of n members.
        seconds: that each took.
    """
    record, state = output
    leaves = jax.tree.leaves(state)
    earlier = [saved.seconds for saved in before] or [0.0] * len(record.diverged)
    return [
        Saved(jax.tree.map(lambda x, i=i: x[i], record), start + seconds, [x[i] for x in leaves])
        for i, start in enumerate(earlier)
    ]
