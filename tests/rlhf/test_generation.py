"""Tokens are drawn from the softmax, whatever the size of the vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.rlhf.generation import draw, generate, next_token
from tests.rlhf.conftest import EOS, PAD, T

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


def test_any_stop_token_ends_a_response_and_belongs_to_it(model, params, prompt, jit):
    def run(key, stop_ids):
        options = {"num_steps": T, "temperature": 3.0, "eos_id": EOS, "pad_id": PAD}
        return generate(model, params, prompt, key, stop_ids=stop_ids, **options).response

    run = jit(run, static_argnums=1)
    kinds = set()
    for seed in range(5):
        free, stopped = run(jax.random.key(seed), ()), run(jax.random.key(seed), (2, 4))
        for i, row in enumerate(np.asarray(free.ids).tolist()):
            ends = [t for t, token in enumerate(row) if token in (EOS, 2, 4)]
            length = ends[0] + 1 if ends else T
            kinds.add(row[length - 1] if ends else None)
            assert stopped.ids[i].tolist() == row[:length] + [PAD] * (T - length)
            assert stopped.mask[i].tolist() == [t < length for t in range(T)]
    assert kinds == {None, EOS, 2, 4}


def test_logits_of_half_precision_are_raised(model, params):
    half = model._replace(logits=lambda *args: model.logits(*args).astype(jnp.bfloat16))
    features = jnp.ones((2, model.num_features))
    assert next_token(half, params, features, 0.5).logits.dtype == jnp.float32
    assert next_token(model, params, features, 0.5).logits.dtype == jnp.float32
