"""A reward model learned from preferences (Bradley & Terry 1952; Stiennon et al. 2020, eq. 1)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.rlhf.batch import last_slot
from jaxrl_po.rlhf.heads import apply_head, init_head
from jaxrl_po.rlhf.sft import SFTConfig, epoch_orders, exchange_tokens, fit
from jaxrl_po.rlhf.types import LanguageModel, RewardFn, Tokens, concatenate
from jaxrl_po.types import Array, PyTree


class RewardModel(NamedTuple):
    """A language model with a scalar head, and the scale of its scores."""

    params: PyTree  # {"torso", "head"}
    mean: Array  # [] of raw scores on reference samples
    std: Array  # []


def raw_score(model: LanguageModel, params: PyTree, tokens: Tokens) -> Array:
    """The head's scalar [N] at the last token of each sequence [N, L]."""
    features, _ = model.apply(params["torso"], tokens, None)
    # The last token is the first from the end; padding may be on either side.
    at_last = last_slot(jnp.cumsum(tokens.mask[:, ::-1], axis=1)[:, ::-1] > 0)
    last = jnp.where(at_last[..., None], features, 0.0).sum(axis=1)
    return apply_head(params["head"], last)


def reward_loss(model: LanguageModel, params: PyTree, chosen: Tokens, rejected: Tokens) -> Array:
    """-E[log σ(r(chosen) - r(rejected))]."""
    difference = raw_score(model, params, chosen) - raw_score(model, params, rejected)
    return -jax.nn.log_sigmoid(difference).mean()


def pair_accuracy(model: LanguageModel, params: PyTree, chosen: Tokens, rejected: Tokens) -> Array:
    """How often the chosen sequence scores higher []."""
    better = raw_score(model, params, chosen) > raw_score(model, params, rejected)
    return better.mean(dtype=jnp.zeros(()).dtype)


def make_reward_model(
    config: SFTConfig,
    model: LanguageModel,
    tokens: Tokens,
    chosen: Array,
    rejected: Array,
    reference: Tokens | None = None,
) -> Callable[[Array, PyTree], tuple[RewardModel, Array]]:
    """Learning a reward from pairs as one pure function.

    Args:
        config: the run; `batch_size` counts pairs.
        model: a language model.
        tokens: sequences [R, L] that pairs point into.
        chosen: index of the better one of each pair [number of pairs].
        rejected: index of the worse one.
        reference: samples on which scores are to have mean 0 and standard deviation 1; `tokens`
            if None.

    Returns:
        train(key, sft_params) -> `RewardModel`, loss of each step.

    Raises:
        ValueError: when pairs are no indices into `tokens`, or fewer than `batch_size`.
    """
    index = np.stack([np.asarray(chosen), np.asarray(rejected)])
    num_pairs, num_rows = index.shape[1], tokens.ids.shape[0]
    if not np.issubdtype(index.dtype, np.integer) or index.min() < 0 or index.max() >= num_rows:
        raise ValueError(f"chosen, rejected: must be indices into the {num_rows} rows of tokens")
    if num_pairs < config.batch_size:
        raise ValueError(
            f"batch_size={config.batch_size} is more than there are pairs: {num_pairs}"
        )
    data = jax.tree.map(jnp.asarray, tokens)
    pairs = jnp.asarray(index)
    samples = data if reference is None else reference

    def look_up(rows: Array, key: Array) -> Tokens:
        some = jax.tree.map(lambda x: x[rows], data)
        return exchange_tokens(key, some, config.token_noise)

    def loss(params: PyTree, batch: tuple[Array, Array]) -> Array:
        index, key = batch
        better, worse = map(look_up, pairs[:, index], jax.random.split(key))
        return reward_loss(model, params, better, worse)

    def train(key: Array, sft_params: PyTree) -> tuple[RewardModel, Array]:
        head_key, order_key, noise_key = jax.random.split(key, 3)
        orders = epoch_orders(order_key, num_pairs, config)
        keys = jax.random.split(noise_key, orders.shape[0])
        start = {"torso": sft_params, "head": init_head(head_key, model.num_features)}
        params, losses = fit(config, loss, start, (orders, keys))
        scores = raw_score(model, params, samples)
        return RewardModel(params, scores.mean(), scores.std()), losses

    return train


def learned_reward(model: LanguageModel, reward_model: RewardModel) -> RewardFn:
    """The normalised score of prompt and response together, as a reward function."""

    def reward(prompt: Tokens, response: Tokens) -> Array:
        raw = raw_score(model, reward_model.params, concatenate(prompt, response))
        return (raw - reward_model.mean) / reward_model.std

    return reward
