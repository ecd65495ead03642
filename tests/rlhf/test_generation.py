"""Tokens are drawn from the softmax, whatever the size of the vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.rlhf.generation import draw, next_token

N = 100_000


@pytest.mark.parametrize("size", [1, 2, 4, 7, 50])
def test_tokens_are_drawn_as_often_as_they_are_probable(size):
    logits = 2 * np.random.default_rng(size).normal(size=size)
    if size > 2:
        logits[1] = -np.inf
    rows = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (N, size))
    drawn = np.bincount(jax.jit(draw)(jax.random.key(0), rows), minlength=size)
    probability = np.asarray(jax.nn.softmax(rows[0]), np.float64)
    deviation = np.sqrt(N * probability * (1 - probability))
    assert len(drawn) == size
    assert (np.abs(drawn - N * probability) <= 4.5 * deviation + 0.1).all()
    assert (drawn[probability == 0] == 0).all()


def test_rows_are_drawn_independently():
    rows = jnp.zeros((N, 4))
    drawn = jax.jit(draw)(jax.random.key(1), rows).reshape(-1, 2)
    pairs = np.bincount(4 * drawn[:, 0] + drawn[:, 1], minlength=16)
    assert np.abs(pairs - N / 32).max() < 5 * np.sqrt(N / 32)


def test_logits_of_half_precision_are_raised(model, params):
    half = model._replace(logits=lambda *args: model.logits(*args).astype(jnp.bfloat16))
    features = jnp.ones((2, model.num_features))
    assert next_token(half, params, features, 0.5).logits.dtype == jnp.float32
    assert next_token(model, params, features, 0.5).logits.dtype == jnp.float32
