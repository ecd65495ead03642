"""Supervised fine-tuning: next-token prediction, as one compiled program."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl_po.algorithms.minibatch import random_orders
from jaxrl_po.config import (
    COUNT,
    FRACTION,
    NON_NEGATIVE,
    Range,
    Settings,
    check_count,
    pytree,
    setting,
)
from jaxrl_po.fast.optimizer import clip_by_norm
from jaxrl_po.rlhf.checks import (
    check_completion,
    check_precision,
    check_some_pair,
    check_tokens,
)
from jaxrl_po.rlhf.chunks import in_chunks
from jaxrl_po.rlhf.generation import next_token
from jaxrl_po.rlhf.types import LanguageModel, Tokens, positions, predicted
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
    max_grad_norm: float = setting(1.0, Range(0.0, open_low=True, infinite=True))
    # part of the steps in which the step size rises
    warmup_fraction: float = setting(0.05, FRACTION)
    # part of the input tokens exchanged for others of the batch: a smoother for small data
    # (Xie et al. 2017, arXiv:1703.02573); what is predicted stays as it is
    token_noise: float = setting(0.0, FRACTION)


def next_token_log_prob(
    model: LanguageModel, params: PyTree, tokens: Tokens, seen: Tokens | None = None
) -> Array:
    """log π(x_{l+1} | x_{≤l}) [N, L - 1] of sequences [N, L], 0 where there is no next token.

    `seen` stands in for the tokens that the model looks at, if they are not the ones to predict.
    """
    inputs = jax.tree.map(lambda x: x[:, :-1], tokens if seen is None else seen)
    features, _ = model.apply(params, inputs, None)
    mask = predicted(tokens)
    distribution = next_token(model, params, features, temperature=1.0)
    log_prob = distribution.log_prob(jnp.where(mask, tokens.ids[:, 1:], 0))
    return jnp.where(mask, log_prob, 0.0)


def sft_loss(
    model: LanguageModel,
    params: PyTree,
    tokens: Tokens,
    seen: Tokens | None = None,
    completion: Array | None = None,
) -> Array:
    """-E[log π(x_{l+1} | x_{≤l})] over the tokens that have one before them, in nats.

    Over those of `completion` [N, L] alone, if it is given. 0 where there are none.
    """
    log_prob, counted = (
        next_token_log_prob(model, params, tokens, seen),
        predicted(tokens, completion),
    )
    return -log_prob.sum(where=counted) / jnp.maximum(counted.sum(), 1)


def perplexity(
    model: LanguageModel,
    params: PyTree,
    tokens: Tokens,
    chunk: int = 100,
    completion: Array | None = None,
) -> Array:
    """exp of the mean negative log-probability [] of all tokens but the first of each text.

    Of those of `completion` [R, L] alone, if it is given. `chunk` rows at a time.
    """
    chunk = check_count("chunk", chunk)
    check_texts(model, tokens, completion)
    rows = jax.tree.map(jnp.asarray, tokens)
    log_prob = in_chunks(lambda some: next_token_log_prob(model, params, some), rows, chunk)
    counted = predicted(rows, completion)
    return jnp.exp(-log_prob.sum(where=counted) / counted.sum())


def check_texts(model: LanguageModel, tokens: Tokens, completion: Array | None) -> None:
    """Raise unless a model can read the rows, and they have a token to predict."""
    check_tokens("tokens", tokens, model)
    check_completion(tokens, completion)
    check_some_pair("tokens", tokens, completion)


def make_sft(
    config: SFTConfig, model: LanguageModel, tokens: Tokens, completion: Array | None = None
) -> Callable[..., tuple[PyTree, Array]]:
    """Fine-tuning as one pure function.

    Args:
        config: the run.
        model: a language model.
        tokens: rows [R, L]; padding on either side. With segments a row holds several texts.
        completion: which tokens the loss counts, bool [R, L]; all if None. A text's first token is
            predicted from nothing, and never counts.

    Returns:
        fine_tune(key, params) -> params, loss of each step [epochs · (R // batch_size)], in nats.
        fine_tune(key, params, tokens, completion), jitted, takes the rows as an argument of the
        program; without them they are constants in it, which costs memory and time while it is
        compiled.

    Raises:
        ValueError: when the model cannot read the rows, they are fewer than `batch_size`, or the
            parameters are of half precision.
    """
    constants = tokens, completion

    def check(tokens: Tokens, completion: Array | None) -> None:
        check_texts(model, tokens, completion)
        num_rows = tokens.ids.shape[0]
        if num_rows < config.batch_size:
            raise ValueError(
                f"batch_size={config.batch_size} is more than there are rows: {num_rows}"
            )

    def fine_tune(
        key: Array, params: PyTree, tokens: Tokens | None = None, completion: Array | None = None
    ) -> tuple[PyTree, Array]:
        if tokens is None:
            if completion is not None:
                raise ValueError(
                    "completion comes with its tokens: fine_tune(key, params, tokens, completion)"
                )
            tokens, completion = constants
        check(tokens, completion)
        data = jax.tree.map(jnp.asarray, (tokens, completion))

        def loss(params: PyTree, batch: tuple[Array, Array]) -> Array:
            index, key = batch
            rows, counted = jax.tree.map(lambda x: x[index], data)
            seen = exchange_tokens(key, rows, config.token_noise)
            return sft_loss(model, params, rows, seen, counted)

        order_key, noise_key = jax.random.split(key)
        orders = epoch_orders(order_key, tokens.ids.shape[0], config)
        keys = jax.random.split(noise_key, orders.shape[0])
        return fit(config, loss, params, (orders, keys))

    check(tokens, completion)
    return fine_tune


def exchange_tokens(key: Array, tokens: Tokens, probability: float | Array) -> Tokens:
    """Sequences [N, L], where some tokens, no text's first, are others drawn from the batch."""
    ids, mask = tokens.ids, tokens.mask
    which_key, source_key = jax.random.split(key)
    source = jax.random.randint(source_key, ids.shape, 0, ids.size)
    chosen = jax.random.uniform(which_key, ids.shape) < probability
    chosen &= mask.ravel()[source] & (positions(tokens) > 0)
    return tokens._replace(ids=jnp.where(chosen, ids.ravel()[source], ids))


def epoch_orders(key: Array, num_rows: int, config: SFTConfig) -> Array:
    """Fresh orders of the rows [epochs · (num_rows // batch_size), batch_size]."""
    kept = num_rows // config.batch_size * config.batch_size
    order = random_orders(key, config.num_epochs, num_rows)
    return order[:, :kept].reshape(-1, config.batch_size)


def step_size(config: SFTConfig, count: Array, num_steps: int) -> Array:
    """The step size after `count` of `num_steps` steps: a linear rise, then a cosine to 0.

    0 is what would come after the last step: every step has a size above it.
    """
    warmup = jnp.maximum(config.warmup_fraction * num_steps, 1.0)
    rise = (count + 1) / warmup
    fall = jnp.sin(0.5 * jnp.pi * (num_steps - count) / num_steps)
    return config.learning_rate * jnp.minimum(rise, jnp.square(fall))


def fit(
    config: SFTConfig, loss: Callable[[PyTree, Any], Array], params: PyTree, batches: PyTree
) -> tuple[PyTree, Array]:
    """A step of AdamW on `loss(params, batch)` for each of `batches` [steps, ...].

    Behind a bound on the gradient's norm, with the step sizes of `step_size`.

    Returns:
        The last params, and the loss before each step [steps].
    """
    check_precision(params)
    num_steps = jax.tree.leaves(batches)[0].shape[0]
    optimizer = optax.chain(
        clip_by_norm(config.max_grad_norm),
        optax.adamw(
            lambda count: step_size(config, count, num_steps),
            b2=0.98,
            weight_decay=config.weight_decay,
        ),
    )

    def step(carry: Any, batch: PyTree) -> tuple[Any, Array]:
        params, opt_state = carry
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    return params, losses
