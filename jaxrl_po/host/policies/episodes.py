"""Episodes that are to be played, what came of them, and whether a policy fits there."""

from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.host.policies.numpy_policy import Policy, leaves_of
from jaxrl_po.host.policies.trajectories import Tape
from jaxrl_po.spaces import Space, same_actions, space_from_json


class Played(NamedTuple):
    """Episodes that were played."""

    episode_return: np.ndarray  # [E]
    episode_length: np.ndarray  # [E]


class Wishes(NamedTuple):
    """How the episodes are to be played."""

    num_episodes: int
    seed: int
    key: Any  # of jax.random; None for the most likely actions
    gif: str | None
    max_steps: int
    tape: Tape | None = None  # what is to keep each step


def check_spaces(
    policy: Policy,
    name: str,
    observation: tuple[dict[str, Any], Any],
    action: tuple[Space | None, Any],
) -> None:
    """Compare an environment's spaces, each beside what is shown of it, with the policy's."""
    (shapes, observed), (space, acts) = observation, action
    taken = {name: tuple(leaf["shape"]) for name, leaf in leaves_of(policy.description).items()}
    if shapes != taken:
        takes = list(taken[""]) if "" in taken else taken
        raise ValueError(f"{name} observes {observed}; this policy takes {takes}")
    own = policy.description["action"]
    if not same_actions(space, space_from_json(own)):
        raise ValueError(f"{name} acts in {acts}; this policy in {own}")
