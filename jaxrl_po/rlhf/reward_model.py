"""A reward model learned from preferences (Bradley & Terry 1952; Stiennon et al. 2020, eq. 1)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.rlhf.batch import last_slot
from jaxrl_po.rlhf.checks import check_length, check_some_token, check_tokens, is_traced
from jaxrl_po.rlhf.chunks import in_chunks
from jaxrl_po.rlhf.heads import apply_head, init_head
from jaxrl_po.rlhf.sft import SFTConfig, epoch_orders, exchange_tokens, fit
from jaxrl_po.rlhf.types import LanguageModel, Tokens, concatenate
from jaxrl_po.types import Array, PyTree

ROWS_AT_ONCE = 64  # that are scored, of a whole dataset
SMALLEST_STD = 1e-6  # of scores, in parts of the largest: below it they differ by rounding


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


def reward_loss(model: LanguageModel, params: PyTree, chosen: Tokens, rejected: Tokens) -> Array:
    """-E[log σ(r(chosen) - r(rejected))]."""
    difference = raw_score(model, params, chosen) - raw_score(model, params, rejected)
    return -jax.nn.log_sigmoid(difference).mean()


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

    Returns:
        learn_reward(key, sft_params) -> `RewardModel`, loss of each step.
        learn_reward(key, sft_params, `Preferences`), jitted, takes the data as an argument of the
        program; without it they are constants in it, which costs memory and time while it is
        compiled.

    Raises:
        ValueError: when the model cannot read the sequences, when pairs are no indices into
            `tokens` or fewer than `batch_size`, or when no two reference samples differ.
    """
    chosen, rejected = (x if is_traced(x) else np.asarray(x) for x in (chosen, rejected))
    data = Preferences(tokens, chosen, rejected, tokens if reference is None else reference)

    def learn_reward(
        key: Array, sft_params: PyTree, data: Preferences = data
    ) -> tuple[RewardModel, Array]:
        check_preferences(config, model, data)
        tokens, chosen, rejected, reference = jax.tree.map(jnp.asarray, data)

        def look_up(rows: Array, key: Array) -> Tokens:
            some = jax.tree.map(lambda x: x[rows], tokens)
            return exchange_tokens(key, some, config.token_noise)

        def loss(params: PyTree, batch: tuple[Array, Array]) -> Array:
            index, key = batch
            keys = jax.random.split(key)
            better, worse = map(look_up, (chosen[index], rejected[index]), keys)
            return reward_loss(model, params, better, worse)

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


def check_rows(name: str, tokens: Tokens, model: LanguageModel) -> None:
    """Raise unless a model can score the rows."""
    check_tokens(name, tokens, model)
    check_some_token(name, tokens)


def deviation(scores: Array) -> Array:
    """The standard deviation of scores [R], or 1 where they do not differ."""
    std = scores.std()
    return jnp.where(std > SMALLEST_STD * jnp.abs(scores).max(), std, 1.0)


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
    _, mean, std = reward_model
    if not is_traced(mean) and not np.isfinite(mean):
        raise ValueError(f"reward_model.mean={mean} must be finite")
    if not is_traced(std) and not (np.isfinite(std) and std > 0):
        raise ValueError(f"reward_model.std={std} must be > 0 and finite: scores are divided by it")
    return LearnedReward(reward_model, model)
