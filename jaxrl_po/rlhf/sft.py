"""Supervised fine-tuning: next-token prediction, as one compiled program."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl_po.config import COUNT, FRACTION, NON_NEGATIVE, POSITIVE, Settings, pytree, setting
from jaxrl_po.distributions import Categorical
from jaxrl_po.rlhf.types import LanguageModel, Tokens
from jaxrl_po.types import Array, PyTree


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTConfig(Settings):
    """AdamW with a short warm-up and a cosine down to 0."""

    # rows in a step
    batch_size: int = setting(32, COUNT)
    # passes over the rows
    num_epochs: int = setting(4, COUNT)
    # peak step size of AdamW
    learning_rate: float = setting(2e-3, NON_NEGATIVE)
    # of all weights
    weight_decay: float = setting(0.1, NON_NEGATIVE)
    # bound on the global norm of the gradient; inf for none
    max_grad_norm: float = setting(1.0, POSITIVE)
    # part of the steps in which the step size rises
    warmup_fraction: float = setting(0.05, FRACTION)
    # part of the input tokens exchanged for others of the batch: a smoother for small data
    # (Xie et al. 2017, arXiv:1703.02573); what is predicted stays as it is
    token_noise: float = setting(0.0, FRACTION)


def next_token_log_prob(model: LanguageModel, params: PyTree, tokens: Tokens) -> Array:
    """log π(x_{l+1} | x_{≤l}) [N, L - 1] of sequences [N, L], 0 where there is no next token."""
    inputs = jax.tree.map(lambda x: x[:, :-1], tokens)
    return _log_prob_of_next(model, params, inputs, tokens)


def sft_loss(model: LanguageModel, params: PyTree, inputs: Tokens, tokens: Tokens) -> Array:
    """-E[log π(x_{l+1} | x_{≤l})] over the tokens that have one before them, in nats."""
    log_prob = _log_prob_of_next(model, params, inputs, tokens)
    return -log_prob.mean(where=tokens.mask[:, 1:])


def _log_prob_of_next(
    model: LanguageModel, params: PyTree, inputs: Tokens, tokens: Tokens
) -> Array:
    features, _ = model.apply(params, inputs, None)
    mask = tokens.mask[:, 1:] & tokens.mask[:, :-1]
    log_prob = Categorical(model.logits(params, features)).log_prob(
        jnp.where(mask, tokens.ids[:, 1:], 0)
    )
    return jnp.where(mask, log_prob, 0.0)


def perplexity(model: LanguageModel, params: PyTree, tokens: Tokens, chunk: int = 100) -> Array:
    """exp of the mean negative log-probability [] of all tokens but the first of each row.

    `chunk` rows at a time; it must divide their number.
    """
    rows = tokens.ids.shape[0]
    if rows % chunk:
        raise ValueError(f"chunk={chunk} does not divide the number of rows, {rows}")
    chunks = jax.tree.map(lambda x: x.reshape(-1, chunk, x.shape[1]), tokens)
    total = jax.lax.map(lambda some: next_token_log_prob(model, params, some).sum(), chunks).sum()
    return jnp.exp(-total / (tokens.mask[:, 1:] & tokens.mask[:, :-1]).sum())


def make_sft(
    config: SFTConfig, model: LanguageModel, tokens: Tokens
) -> Callable[[Array, PyTree], tuple[PyTree, Array]]:
    """Fine-tuning as one pure function.

    Args:
        config: the run.
        model: a language model.
        tokens: rows [R, L]; padding on either side.

    Returns:
        train(key, params) -> params, loss of each step [epochs · (R // batch_size)], in nats.

    Raises:
        ValueError: when there are fewer rows than `batch_size`.
    """
    steps = tokens.ids.shape[0] // config.batch_size
    if not steps:
        raise ValueError(
            f"batch_size={config.batch_size} is more than there are rows: {tokens.ids.shape[0]}"
        )
    data = jax.tree.map(jnp.asarray, tokens)
    optimizer = adamw(
        config.learning_rate,
        config.weight_decay,
        config.max_grad_norm,
        config.warmup_fraction,
        config.num_epochs * steps,
    )

    def train(key: Array, params: PyTree) -> tuple[PyTree, Array]:
        order_key, noise_key = jax.random.split(key)
        orders = epoch_orders(order_key, data.ids.shape[0], config.num_epochs, config.batch_size)

        def step(carry: Any, inputs: Any) -> tuple[Any, Array]:
            params, opt_state = carry
            index, key = inputs
            rows = jax.tree.map(lambda x: x[index], data)
            noisy = exchange_tokens(key, rows, config.token_noise)
            loss, gradient = jax.value_and_grad(
                lambda params: sft_loss(model, params, noisy, rows)
            )(params)
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), loss

        keys = jax.random.split(noise_key, orders.shape[0])
        start = params, optimizer.init(params)
        (params, _), losses = jax.lax.scan(step, start, (orders, keys))
        return params, losses

    return train


def exchange_tokens(key: Array, tokens: Tokens, probability: float | Array) -> Tokens:
    """Inputs [N, L - 1], where some tokens, never the first, are others drawn from the batch."""
    inputs = jax.tree.map(lambda x: x[:, :-1], tokens)
    which_key, source_key = jax.random.split(key)
    source = jax.random.randint(source_key, inputs.ids.shape, 0, inputs.ids.size)
    others = inputs.ids.ravel()[source]
    chosen = jax.random.uniform(which_key, inputs.ids.shape) < probability
    return inputs._replace(ids=jnp.where(chosen.at[:, 0].set(False), others, inputs.ids))


def epoch_orders(key: Array, num_rows: int, num_epochs: int, batch_size: int) -> Array:
    """Fresh orders of the rows [epochs · (num_rows // batch_size), batch_size]."""
    kept = num_rows // batch_size * batch_size
    order = jnp.argsort(jax.random.bits(key, (num_epochs, num_rows)), axis=-1)
    return order[:, :kept].reshape(-1, batch_size)


def adamw(
    learning_rate: float | Array,
    weight_decay: float | Array,
    max_grad_norm: float | Array,
    warmup_fraction: float | Array,
    num_steps: int,
) -> optax.GradientTransformation:
    """AdamW behind a bound on the gradient; its step size rises linearly, falls as a cosine."""

    def schedule(count: Array) -> Array:
        progress = (count + 1) / num_steps
        rise = progress / jnp.maximum(warmup_fraction, 1 / num_steps)
        fall = 0.5 * (1 + jnp.cos(jnp.pi * progress))
        return learning_rate * jnp.minimum(rise, fall)

    return optax.chain(
        optax.clip_by_global_norm(max_grad_norm),
        optax.adamw(schedule, b2=0.98, weight_decay=weight_decay),
    )
