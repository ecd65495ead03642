"""A reward model learned from preferences (Bradley & Terry 1952; Stiennon et al. 2020, eq. 1)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config import NON_NEGATIVE
from jaxrl_po.config.fields import checked_float
from jaxrl_po.rlhf.batch import last_slot
from jaxrl_po.rlhf.checks import (
    check_length,
    check_one_text,
    check_some_token,
    check_tokens,
    is_traced,
)
from jaxrl_po.rlhf.chunks import in_chunks
from jaxrl_po.rlhf.estimators import usable_std
from jaxrl_po.rlhf.heads import apply_head, init_head
from jaxrl_po.rlhf.sft import SFTConfig, epoch_orders, exchange_tokens, fit
from jaxrl_po.rlhf.types import LanguageModel, Tokens, concatenate
from jaxrl_po.types import Array, PyTree

ROWS_AT_ONCE = 64  # that are scored, of a whole dataset


class RewardModel(NamedTuple):
    """A language model with a scalar head, and the scale of its scores."""

    params: PyTree  # {"torso", "head"}
    mean: Array  # [] of raw scores on reference samples
    std: Array  # []


def raw_score(model: LanguageModel, params: PyTree, tokens: Tokens) -> Array:
    """The head's scalar [N] at the last token of each sequence [N, L]."""
    check_length("sequences", tokens.ids.shape[1], model)
    features, _ = model.apply(params["torso"], tokens, None)
    # The last token is the first from the end; padding may be on either side.
    at_last = last_slot(jnp.cumsum(tokens.mask[:, ::-1], axis=1)[:, ::-1] > 0)
    last = jnp.where(at_last[..., None], features, 0.0).sum(axis=1)
    return apply_head(params["head"], last)


def reward_loss(
    model: LanguageModel,
    params: PyTree,
    chosen: Tokens,
    rejected: Tokens,
    margin: Array | None = None,
    centering: float | Array = 0.0,
) -> Array:
    """-E[log σ(r(chosen) - r(rejected) - m)] + η E[(r(chosen) + r(rejected))²].

    The margin m [N] asks for more where the preference is stronger (Touvron et al. 2023,
    arXiv:2307.09288, eq. 2). Pairs leave a reward free up to a constant; the second term, of weight
    η = `centering`, draws its mean to 0 (Eisenstein et al. 2023, arXiv:2312.09244).
    """
    better, worse = raw_score(model, params, chosen), raw_score(model, params, rejected)
    difference = better - worse
    if margin is not None:
        difference -= margin
    loss = -jax.nn.log_sigmoid(difference).mean()
    if is_traced(centering) or centering != 0:
        loss += centering * jnp.square(better + worse).mean()
    return loss


def raw_scores(model: LanguageModel, params: PyTree, tokens: Tokens) -> Array:
    """`raw_score` [R] of a whole dataset [R, L], a few rows at a time."""
    rows = jax.tree.map(jnp.asarray, tokens)
    scores: Array = in_chunks(lambda some: raw_score(model, params, some), rows, ROWS_AT_ONCE)
    return scores


def pair_accuracy(model: LanguageModel, params: PyTree, chosen: Tokens, rejected: Tokens) -> Array:
    """How often the chosen sequence scores higher []."""
    check_rows("chosen", chosen, model)
    check_rows("rejected", rejected, model)
    if chosen.ids.shape[0] != rejected.ids.shape[0]:
        raise ValueError(
            f"chosen, rejected: must be as many rows, "
            f"not {chosen.ids.shape[0]} and {rejected.ids.shape[0]}"
        )
    better = raw_scores(model, params, chosen) > raw_scores(model, params, rejected)
    return better.mean(dtype=jnp.zeros(()).dtype)


def make_reward_model(
    config: SFTConfig,
    model: LanguageModel,
    tokens: Tokens,
    chosen: Any,
    rejected: Any,
    reference: Tokens | None = None,
    margin: Any = None,
    centering: float | Array = 0.0,
) -> Callable[..., tuple[RewardModel, Array]]:
    """Learning a reward from pairs as one pure function.

    Args:
        config: the run; `batch_size` counts pairs.
        model: a language model.
        tokens: sequences [R, L] that pairs point into.
        chosen: index of the better one of each pair [number of pairs].
        rejected: index of the worse one.
        reference: samples on which scores are to have mean 0 and standard deviation 1; `tokens`
            if None. Where their scores do not differ, they are shifted alone.
        margin: by how much the better one of each pair is to score higher before the loss is that
            of no difference [number of pairs], >= 0; None for no margin. See `reward_loss`.
        centering: weight of the term that draws raw scores to mean 0.

    Returns:
        learn_reward(key, sft_params) -> `RewardModel`, loss of each step.
        learn_reward(key, sft_params, `Preferences`), jitted, takes the data as an argument of the
        program; without it they are constants in it, which costs memory and time while it is
        compiled.

    Raises:
        ValueError: when the model cannot read the sequences, when pairs are no indices into
            `tokens` or fewer than `batch_size`, when margins are not one a pair, when no two
            reference samples differ, or when the parameters are of half precision.
    """
    chosen, rejected, margin = (
        x if x is None or is_traced(x) else np.asarray(x) for x in (chosen, rejected, margin)
    )
    centering = checked_float("centering", centering, NON_NEGATIVE)
    reference = tokens if reference is None else reference
    data = Preferences(tokens, chosen, rejected, reference, margin)

    def learn_reward(
        key: Array, sft_params: PyTree, data: Preferences = data
    ) -> tuple[RewardModel, Array]:
        check_preferences(config, model, data)
        tokens, chosen, rejected, reference, margin = jax.tree.map(jnp.asarray, data)

        def look_up(rows: Array, key: Array) -> Tokens:
            some = jax.tree.map(lambda x: x[rows], tokens)
            return exchange_tokens(key, some, config.token_noise)

        def loss(params: PyTree, batch: tuple[Array, Array]) -> Array:
            index, key = batch
            keys = jax.random.split(key)
            better, worse = map(look_up, (chosen[index], rejected[index]), keys)
            margins = None if margin is None else margin[index]
            return reward_loss(model, params, better, worse, margins, centering)

        head_key, order_key, noise_key = jax.random.split(key, 3)
        orders = epoch_orders(order_key, chosen.shape[0], config)
        keys = jax.random.split(noise_key, orders.shape[0])
        start = {"torso": sft_params, "head": init_head(head_key, model.num_features)}
        params, losses = fit(config, loss, start, (orders, keys))
        scores = raw_scores(model, params, reference)
        return RewardModel(params, scores.mean(), deviation(scores)), losses

    check_preferences(config, model, data)
    return learn_reward


class Preferences(NamedTuple):
    """What a reward model learns from; the fields are the arguments of `make_reward_model`."""

    tokens: Tokens  # [R, L]
    chosen: Array  # [number of pairs] rows of `tokens`
    rejected: Array  # [number of pairs]
    reference: Tokens  # [any, any]
    margin: Array | None = None  # [number of pairs] in raw score


def check_preferences(config: SFTConfig, model: LanguageModel, data: Preferences) -> None:
    """Raise unless a model can learn from the data; of traced ones only shapes are looked at."""
    check_rows("tokens", data.tokens, model)
    check_rows("reference", data.reference, model)
    num_rows = data.tokens.ids.shape[0]
    chosen, rejected = data.chosen, data.rejected
    are_indices = chosen.ndim == 1 and chosen.shape == rejected.shape and chosen.size > 0
    for index in (chosen, rejected):
        are_indices = are_indices and jnp.issubdtype(index.dtype, jnp.integer)
        if are_indices and not is_traced(index):
            are_indices = bool(index.min() >= 0 and index.max() < num_rows)
    if not are_indices:
        raise ValueError(
            f"chosen, rejected: must be indices into the {num_rows} rows of tokens, "
            "one of each for a pair"
        )
    if data.margin is not None:
        check_margin(data.margin, chosen.shape)
    if chosen.size < config.batch_size:
        raise ValueError(
            f"batch_size={config.batch_size} is more than there are pairs: {chosen.size}"
        )
    if not is_traced(data.reference):
        seen = np.where(data.reference.mask, data.reference.ids, -1)
        if (seen == seen[:1]).all():
            raise ValueError(
                "reference: needs two rows that differ: one score has no standard deviation"
            )


def check_margin(margin: Array, shape: tuple[int, ...]) -> None:
    """Raise unless there is a margin for each pair; of traced ones only shapes are looked at."""
    known = not is_traced(margin)
    if margin.shape != shape or (known and not (np.isfinite(margin) & (margin >= 0)).all()):
        raise ValueError(
            f"margin: must be finite numbers >= 0, one for each of {shape[0]} pairs, "
            f"not {margin.dtype} {list(margin.shape)}"
        )


def check_rows(name: str, tokens: Tokens, model: LanguageModel) -> None:
    """Raise unless a model can score the rows."""
    check_tokens(name, tokens, model)
    check_one_text(name, tokens)
    check_some_token(name, tokens)


def deviation(scores: Array) -> Array:
    """The standard deviation of scores [R], or 1 where they do not differ."""
    return usable_std(scores.std(), jnp.abs(scores).max())


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)  # so that it can be jitted: arrays have no hash
class LearnedReward:
    """A reward function that is a pytree: its weights may be an argument of a program."""

    reward_model: RewardModel
    model: LanguageModel = dataclasses.field(metadata={"static": True})

    def __call__(self, prompt: Tokens, response: Tokens) -> Array:
        """The normalised score [N] of prompt [N, P] and response [N, T] together."""
        params, mean, std = self.reward_model
        return (raw_score(self.model, params, concatenate(prompt, response)) - mean) / std


def learned_reward(model: LanguageModel, reward_model: RewardModel) -> LearnedReward:
    """The normalised score of prompt and response together, as a reward function.

    Raises:
        ValueError: when the scale of the scores is not one.
    """
    check_scale("reward_model", reward_model)
    return LearnedReward(reward_model, model)


def check_scale(name: str, reward_model: RewardModel) -> None:
    """Raise unless the scale of the scores is one."""
    _, mean, std = reward_model
    if not is_traced(mean) and not np.isfinite(mean):
        raise ValueError(f"{name}.mean={mean} must be finite")
    if not is_traced(std) and not (np.isfinite(std) and std > 0):
        raise ValueError(f"{name}.std={std} must be > 0 and finite: scores are divided by it")
