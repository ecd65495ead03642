"""Advantages of responses without a critic: from other answers to the prompt, or from the batch.

Groups are k answers to one prompt, side by side: rows [0, k) answer the first, [k, 2k) the second.
"""

import jax.numpy as jnp

from jaxrl_po.ops import gae
from jaxrl_po.types import Array

SMALLEST_STD = 1e-6  # of scores, in parts of the largest: below it they differ by rounding


def leave_one_out(outcome: Array, counts: Array, answers_per_prompt: int) -> Array:
    """RLOO (Ahmadian et al. 2024, arXiv:2402.14740): less the mean of the other answers.

        Â_i = R_i - 1/(k-1) Σ_{j≠i} R_j = k/(k-1) (R_i - mean R)

    The others do not depend on answer i, so the gradient stays unbiased.

    Args:
        outcome: R [N] of whole responses.
        counts: which of them count [N]; the others are in no mean, and have Â = 0.
        answers_per_prompt: k.

    Returns:
        Â [N]; 0 where no other answer counts.
    """
    centred, counted = _less_group_mean(outcome, counts, answers_per_prompt)
    num = counted.sum(axis=1, keepdims=True)
    return (centred * num / jnp.maximum(num - 1, 1)).ravel()


def group_relative(
    outcome: Array, counts: Array, answers_per_prompt: int, divide_by_std: bool
) -> Array:
    """GRPO (Shao et al. 2024, arXiv:2402.03300, sec. 4.1.2): standardised within the group.

        Â_i = (R_i - mean R) / std R

    The mean includes R_i, and so shrinks the expected gradient to (k-1)/k of it. The division
    weighs prompts by how little their answers differ; Dr. GRPO (Liu et al. 2025, arXiv:2503.20783)
    leaves it out.

    Args:
        outcome: R [N] of whole responses.
        counts: which of them count [N]; the others are in no mean, and have Â = 0.
        answers_per_prompt: k.
        divide_by_std: whether to divide.

    Returns:
        Â [N]; 0 where all answers of a group are alike.
    """
    centred, counted = _less_group_mean(outcome, counts, answers_per_prompt)
    if divide_by_std:
        largest = jnp.where(counted, jnp.abs(_groups(outcome, answers_per_prompt)), 0.0)
        num = jnp.maximum(counted.sum(axis=1, keepdims=True), 1)
        std = jnp.sqrt(jnp.square(centred).sum(axis=1, keepdims=True) / num)
        centred = centred / usable_std(std, largest.max(axis=1, keepdims=True))
    return centred.ravel()


def rewards_to_go(reward: Array, gamma: float | Array) -> Array:
    """REINFORCE++ (Hu 2025, arXiv:2501.03262): Σ_{l≥t} γ^{l-t} r_l [N, T] of rewards [N, T].

    The paper standardises them over the batch (`update.advantage_normalization="batch"`); without
    that they are those of REINFORCE (Williams 1992) without a baseline.
    """
    r = reward.T
    never, nothing = jnp.zeros_like(r, bool), jnp.zeros_like(r)
    return gae(r, nothing, nothing, never, never, gamma=gamma, gae_lambda=1.0).T


def groups_that_differ(score: Array, counts: Array, answers_per_prompt: int) -> Array:
    """Which responses [N] are of a group whose scores [N] are not all equal.

    Those of the others have no advantage over each other: DAPO's dynamic sampling (Yu et al. 2025,
    arXiv:2503.14476, sec. 3.2) draws until there are none. Here shapes are fixed, and they are left
    out of the batch.
    """
    scores, counted = _groups(score, answers_per_prompt), _groups(counts, answers_per_prompt)
    highest = jnp.where(counted, scores, -jnp.inf).max(axis=1)
    lowest = jnp.where(counted, scores, jnp.inf).min(axis=1)
    return jnp.repeat(highest > lowest, answers_per_prompt)


def usable_std(std: Array, largest: Array) -> Array:
    """The standard deviation of scores, or 1 where they do not differ: what one may divide by.

    `largest` is the largest of their sizes.
    """
    return jnp.where(std > SMALLEST_STD * largest, std, 1.0)


def _groups(x: Array, answers_per_prompt: int) -> Array:
    """[N] as [N / k, k]."""
    return x.reshape(-1, answers_per_prompt)


def _less_group_mean(outcome: Array, counts: Array, answers_per_prompt: int) -> tuple[Array, Array]:
    """R - mean R within groups, 0 where nothing counts, and what counts [N / k, k]."""
    counted = _groups(counts, answers_per_prompt)
    outcomes = jnp.where(counted, _groups(outcome, answers_per_prompt), 0.0)
    mean = outcomes.sum(axis=1, keepdims=True) / jnp.maximum(counted.sum(axis=1, keepdims=True), 1)
    return jnp.where(counted, outcomes - mean, 0.0), counted
