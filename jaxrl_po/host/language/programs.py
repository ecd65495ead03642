"""The compiled programs of an RLHF run: its start, an iteration, answers to the test prompts."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxrl_po.host.language.text import TextReward
from jaxrl_po.host.machine.identity import program_identity
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.evaluate import Answers, make_answer
from jaxrl_po.rlhf.train import Metrics, RLHFState, Scored, make_rlhf_iteration
from jaxrl_po.rlhf.types import LanguageModel, RewardFn, Tokens
from jaxrl_po.types import Array, PyTree

MAX_KEPT = 2  # runs whose programs a process keeps


class Programs(NamedTuple):
    """Compiled functions of a run. The last two are given a learned reward; others are in them."""

    init: Callable[..., RLHFState]  # key, SFT parameters(, reward model for the critic) -> state
    # state, SFT parameters(, reward) -> state, metrics, the batch's answers
    iterate: Callable[..., tuple[RLHFState, Metrics, Scored]]
    # config as of now, what is learned or None, SFT parameters, key(, reward) -> answers
    answer: Callable[..., Answers]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the programs of a run are made from; of equal identity they are the same."""

    identity: Any
    config: RLHFConfig = dataclasses.field(compare=False)
    model: LanguageModel = dataclasses.field(compare=False)
    reward_fn: RewardFn = dataclasses.field(compare=False)
    prompts: Tokens = dataclasses.field(compare=False)
    tests: Tokens | None = dataclasses.field(compare=False)


def is_tree(reward_fn: RewardFn) -> bool:
    """Whether a reward is a tree of arrays: an argument of programs, not constants in them."""
    return not jax.tree_util.all_leaves([reward_fn])


def make_programs(
    config: RLHFConfig,
    model: LanguageModel,
    reward_fn: RewardFn,
    prompts: Tokens,
    tests: Tokens | None,
) -> Programs:
    """The programs of a run: those that this process has, where a run like it was here before.

    Like it is one of the same model and reward, as objects, which are looked at anew, and all that
    they read; a learned reward may have other weights. A reward of texts is called by programs, and
    nothing of it is in them.
    """
    objects = [model] if is_tree(reward_fn) else [model, reward_fn]
    if is_tree(reward_fn):  # of which no array is to be kept, nor to be told apart
        reward_fn = jax.eval_shape(lambda: reward_fn)
    traced = None if isinstance(reward_fn, TextReward) else reward_fn
    identity = program_identity((config, model, prompts, tests, traced), *objects)
    return programs_of(Recipe(identity, config, model, reward_fn, prompts, tests))


@functools.lru_cache(MAX_KEPT)
def programs_of(run: Recipe) -> Programs:
    """The programs of a recipe, kept for as long as it is one of the last."""
    init, iterate = make_rlhf_iteration(run.config, run.reward_fn, run.prompts, run.model)

    def answer(
        now: RLHFConfig, learned: PyTree, sft_params: PyTree, key: Array, *reward: RewardFn
    ) -> Answers:
        own = make_answer(now, run.model, *(reward or (run.reward_fn,)))
        assert run.tests is not None
        return own(learned, sft_params, run.tests, key)

    return Programs(jax.jit(init), jax.jit(iterate, donate_argnums=0), jax.jit(answer))
