"""Fine-tuning: the loss is that of the next token, noise stays within bounds, learning works."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxrl_po.rlhf import SFTConfig, Tokens, make_sft, perplexity
from jaxrl_po.rlhf.sft import (
    epoch_orders,
    exchange_tokens,
    next_token_log_prob,
    sft_loss,
    step_size,
)
from tests.rlhf.conftest import PAD, P, T, V

L = P + T


@pytest.fixture(scope="module")
def rows():
    """A language in which each word is followed by the next, in rows of unequal length."""
    first = jax.random.randint(jax.random.key(0), (64, 1), 0, V)
    length = jax.random.randint(jax.random.key(1), (64, 1), 3, L + 1)
    slot = jnp.arange(L)[None]
    mask = slot < length
    return Tokens(jnp.where(mask, (first + slot) % V, PAD), mask)


@pytest.fixture(scope="module")
def loss(model, jit):
    return jit(functools.partial(sft_loss, model))


def test_the_loss_is_the_mean_over_tokens_that_are_there(model, params, rows, loss, jit):
    log_prob = np.asarray(jit(functools.partial(next_token_log_prob, model))(params, rows))
    logits = jit(lambda params: model.logits(params, model.apply(params, rows, None)[0]))(params)
    logits = np.asarray(logits)
    ids, mask = map(np.asarray, rows[:2])
    expected = [
        logits[n, slot, ids[n, slot + 1]] - scipy.special.logsumexp(logits[n, slot])
        for n in range(64)
        for slot in range(L - 1)
        if mask[n, slot + 1]
    ]
    np.testing.assert_allclose(log_prob[mask[:, 1:]], expected, rtol=1e-4)
    np.testing.assert_allclose(loss(params, rows), -np.mean(expected), rtol=1e-5)
    found = perplexity(model, params, rows, chunk=60)
    np.testing.assert_allclose(found, np.exp(-np.mean(expected)), rtol=1e-5)


def test_the_loss_of_completions_counts_them_alone(model, params, rows, jit):
    completion = jax.random.bernoulli(jax.random.key(2), 0.4, rows.ids.shape)
    log_prob = np.asarray(jit(functools.partial(next_token_log_prob, model))(params, rows))
    counted = np.asarray(completion & rows.mask)[:, 1:]
    loss = jit(lambda params, completion: sft_loss(model, params, rows, completion=completion))
    np.testing.assert_allclose(loss(params, completion), -log_prob[counted].mean(), rtol=1e-5)
    found = perplexity(model, params, rows, 16, completion)
    np.testing.assert_allclose(found, np.exp(-log_prob[counted].mean()), rtol=1e-5)
    assert loss(params, jnp.zeros_like(completion)) == 0


def test_only_completions_are_learned(model, params, jit):
    """After an even token comes 1 or 3, after an odd one anything: only the former counts."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, V, (64, L))
    ids[:, 1::2] = 2 * rng.integers(0, 2, (64, L // 2)) + 1
    ids[:, 0::2] = 2 * (ids[:, 0::2] // 2)
    completion = np.arange(L)[None] % 2 + np.zeros((64, 1)) == 1
    rows = Tokens(ids, np.ones_like(ids, bool))
    config = SFTConfig(num_epochs=8, batch_size=16, learning_rate=1e-2, weight_decay=0.0)
    learn = make_sft(config, model, rows, completion)
    learned, losses = jit(learn)(jax.random.key(0), params)
    assert perplexity(model, learned, rows, 16, completion) < 2.5
    assert perplexity(model, learned, rows, 16, ~completion) > 5.0
    _, same = jit(learn)(jax.random.key(0), params, rows, completion)
    np.testing.assert_allclose(same, losses, rtol=1e-5)
    _, others = jit(learn)(jax.random.key(0), params, rows)  # without completion: all of the rows
    assert others[0] != losses[0]


def test_what_stands_in_empty_slots_has_no_influence_on_the_gradient(model, params, rows, jit):
    gradient = jit(jax.grad(functools.partial(sft_loss, model)))
    noisy = rows._replace(ids=jnp.where(rows.mask, rows.ids, 3))
    jax.tree.map(np.testing.assert_array_equal, gradient(params, rows), gradient(params, noisy))


def test_rows_padded_on_the_left_have_the_same_loss(loss, params):
    ids = jnp.array([[3, 1, 2]])
    padded = jnp.array([[PAD, PAD, 3, 1, 2]])
    bare = loss(params, Tokens(ids, ids != PAD))
    np.testing.assert_allclose(loss(params, Tokens(padded, padded != PAD)), bare, rtol=1e-6)


def test_a_language_is_learned(model, params, rows):
    config = SFTConfig(num_epochs=30, batch_size=16, learning_rate=1e-2, token_noise=0.05)
    learned, losses = jax.jit(make_sft(config, model, rows))(jax.random.key(0), params)
    assert losses.shape == (30 * 4,)
    assert perplexity(model, params, rows, chunk=16) > 5.0
    assert perplexity(model, learned, rows, chunk=16) < 1.2


def test_exchanged_tokens_come_from_the_batch_and_fill_no_empty_slot(rows):
    noisy = exchange_tokens(jax.random.key(0), rows, 0.5)
    np.testing.assert_array_equal(noisy.mask, rows.mask)
    np.testing.assert_array_equal(noisy.ids[:, 0], rows.ids[:, 0])
    assert (noisy.ids[rows.mask] != PAD).all()
    changed = (noisy.ids != rows.ids)[:, 1:][rows.mask[:, 1:]].mean()
    assert 0.1 < changed < 0.5
    unchanged = exchange_tokens(jax.random.key(0), rows, 0.0)
    np.testing.assert_array_equal(unchanged.ids, rows.ids)


def test_every_epoch_has_an_order_of_its_own():
    config = SFTConfig(num_epochs=3, batch_size=5)
    orders = np.asarray(epoch_orders(jax.random.key(0), 20, config)).reshape(3, 20)
    np.testing.assert_array_equal(np.sort(orders, axis=1), [np.arange(20)] * 3)
    assert len({tuple(order) for order in orders.tolist()}) == 3


def test_too_few_rows_are_refused(model, rows):
    with pytest.raises(ValueError, match="batch_size=65 is more than there are rows: 64"):
        make_sft(SFTConfig(batch_size=65), model, rows)
    with pytest.raises(ValueError, match="chunk=0 is out of range"):
        perplexity(model, {}, rows, chunk=0)


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 100, 100_000])
def test_every_step_has_a_positive_step_size(num_steps, warmup):
    config = SFTConfig(warmup_fraction=warmup, learning_rate=0.5)
    count = jnp.unique(jnp.linspace(0, num_steps - 1, 1000).round().astype(jnp.int32))
    sizes = np.asarray(jax.jit(step_size, static_argnums=2)(config, count, num_steps))
    assert (sizes > 0).all()
    assert (sizes <= 0.5).all()
    peak = sizes.argmax()
    assert (np.diff(sizes[: peak + 1]) >= 0).all()
    assert (np.diff(sizes[peak:]) <= 0).all()
    if warmup <= 0.05:
        assert sizes[peak] > 0.49
    if num_steps >= 100:
        assert sizes[-1] < 0.01


@pytest.mark.parametrize("num_rows", [16, 32])
def test_the_last_step_moves_the_parameters_and_so_does_a_lone_one(
    num_rows, model, params, rows, jit
):
    some = jax.tree.map(lambda x: x[:num_rows], rows)
    run = {"batch_size": 16, "num_epochs": 1, "weight_decay": 0.0}
    learned, losses = jit(make_sft(SFTConfig(**run), model, some))(jax.random.key(0), params)
    assert losses.shape == (num_rows // 16,)
    moved = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), learned, params)
    assert max(jax.tree.leaves(moved)) > 1e-4
