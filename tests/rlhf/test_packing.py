"""Packed texts: each is read as if it stood alone, and learned from as much."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl_po.rlhf import SFTConfig, Tokens, make_sft, pack, perplexity
from jaxrl_po.rlhf.packing import rows_of
from jaxrl_po.rlhf.sft import exchange_tokens, next_token_log_prob, sft_loss
from jaxrl_po.rlhf.types import concatenate, positions, predicted
from tests.rlhf.conftest import PAD, P, T, V

L = P + T


@pytest.fixture(scope="module")
def texts():
    """Twelve texts of 2 to 4 tokens, padded on either side, and which of them count."""
    rng = np.random.default_rng(0)
    length = rng.integers(2, 5, 12)
    slot = np.arange(5)[None]
    right, left = slot < length[:, None], slot >= 5 - length[:, None]
    mask = np.where(np.arange(12)[:, None] % 2, left, right)
    ids = np.where(mask, rng.integers(0, V, (12, 5)), PAD)
    return Tokens(ids, mask), rng.integers(0, 2, (12, 5)).astype(bool)


@pytest.fixture(scope="module")
def packed(texts):
    return pack(texts[0], L, texts[1])


@pytest.fixture(scope="module")
def log_prob(model, jit):
    return jit(functools.partial(next_token_log_prob, model))


def pieces(tokens, values):
    """A value of each token but the first of its text, by the text's tokens."""
    ids, mask, values = np.asarray(tokens.ids), np.asarray(tokens.mask), np.asarray(values)
    one_each = np.zeros_like(ids) if tokens.segment is None else np.asarray(tokens.segment)
    found = []
    for i, m, v, s in zip(ids, mask, values, one_each, strict=True):
        for number in np.unique(s[m]):
            slots = np.flatnonzero(m & (s == number))
            found.append((i[slots].tolist(), v[slots[1:] - 1].tolist()))
    return sorted(found)


def test_packed_rows_have_the_log_probabilities_of_the_rows_alone(texts, packed, log_prob, params):
    alone = pieces(texts[0], log_prob(params, texts[0]))
    together = pieces(packed[0], log_prob(params, packed[0]))
    assert [ids for ids, _ in together] == [ids for ids, _ in alone]
    for (_, ours), (_, theirs) in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert len(packed[0].ids) < 9
    assert max(np.abs(values).max() for _, values in alone) > 1.0


def test_what_counts_moves_with_its_tokens(texts, packed):
    (rows, counted), (tokens, completion) = texts, packed
    alone = pieces(rows, predicted(rows, counted))
    assert pieces(tokens, predicted(tokens, completion)) == alone
    assert not np.asarray(completion)[~np.asarray(tokens.mask)].any()


def test_no_token_sees_another_text(packed, model, params, jit):
    """To the bit: features of one text stay as they are when all of another's tokens change."""
    tokens, _ = packed

    @jit
    def features(ids):
        return model.apply(params, tokens._replace(ids=ids), None)[0]

    for number in (0, 1):  # what comes after it, and what comes before
        changed = (tokens.segment == number) & tokens.mask
        other = features(jnp.where(changed, (tokens.ids + 1) % V, tokens.ids))
        same = np.asarray(other == features(tokens.ids)).all(axis=-1)
        np.testing.assert_array_equal(same[tokens.mask], ~changed[tokens.mask])
        assert changed.any()


def test_positions_begin_again_in_each_text():
    mask = jnp.array([[0, 1, 1, 1, 0, 1, 1, 0, 1]], bool)
    segment = jnp.array([[9, 0, 0, 2, 7, 2, 2, 0, 3]])
    found = positions(Tokens(mask * 1, mask, segment))
    np.testing.assert_array_equal(found[mask], [0, 1, 0, 1, 2, 0])
    np.testing.assert_array_equal(positions(Tokens(mask * 1, mask))[mask], range(6))


def test_the_first_token_of_a_text_is_not_predicted_and_not_exchanged(packed):
    tokens, _ = packed
    first = np.asarray((positions(tokens) == 0) & tokens.mask)
    assert first.sum() == 12
    assert predicted(tokens).sum() == tokens.mask.sum() - 12
    noisy = exchange_tokens(jax.random.key(0), tokens, 1.0)
    np.testing.assert_array_equal(noisy.ids[first], tokens.ids[first])
    assert (noisy.ids != tokens.ids)[tokens.mask].any()
    np.testing.assert_array_equal(noisy.segment, tokens.segment)


def test_the_loss_of_packed_texts_is_that_of_the_texts(texts, packed, model, params, jit):
    loss = jit(lambda rows, counted: sft_loss(model, params, rows, completion=counted))
    np.testing.assert_allclose(loss(*packed), loss(*texts), rtol=1e-6)
    np.testing.assert_allclose(loss(packed[0], None), loss(texts[0], None), rtol=1e-6)
    np.testing.assert_allclose(
        perplexity(model, params, packed[0], 3, packed[1]), np.exp(loss(*texts)), rtol=1e-5
    )


def test_packed_texts_are_learned_from(packed, model, params, jit):
    config = SFTConfig(batch_size=2, num_epochs=1, learning_rate=1e-2)
    learned, losses = jit(make_sft(config, model, *packed))(jax.random.key(0), params)
    assert np.isfinite(losses).all()
    before, after = (perplexity(model, p, packed[0], 3, packed[1]) for p in (params, learned))
    assert after < 0.9 * before


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_every_text_has_a_row_and_no_row_is_too_long(lengths):
    lengths = np.array(lengths)
    rows = rows_of(lengths, 9)
    assert sorted(text for row in rows for text in row) == list(range(len(lengths)))
    sizes = [lengths[row].sum() for row in rows]
    assert max(sizes) <= 9
    assert sum(size <= 4 for size in sizes) <= 1  # two such would be in one


def test_two_rows_in_one_are_a_row_of_both_segments(texts):
    rows, _ = texts
    zero, one = (rows._replace(segment=np.full(rows.ids.shape, n)) for n in (0, 1))
    np.testing.assert_array_equal(concatenate(zero, one).segment, [[0] * 5 + [1] * 5] * 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 3}, "tokens: row .* has 4 tokens, more than a packed row's length=3"),
        ({"length": 0}, "length=0 is out of range"),
        ({"completion": np.ones((12, 4), bool)}, r"completion must be a bool mask .* \[12, 5\]"),
        ({"completion": np.ones((12, 5), int)}, "completion must be a bool mask"),
    ],
)
def test_what_cannot_be_packed_is_refused(change, message, texts):
    with pytest.raises(ValueError, match=message):
        pack(**{"tokens": texts[0], "length": L} | change)


def test_rows_of_several_texts_or_none_are_not_packed(texts, packed):
    with pytest.raises(ValueError, match=r"tokens.segment must be None: here a row is one text"):
        pack(packed[0], L)
    with pytest.raises(ValueError, match="tokens: each needs a token"):
        pack(texts[0]._replace(mask=np.zeros((12, 5), bool)), L)


def test_a_cache_holds_one_text_a_row(packed, model, params):
    tokens, _ = packed
    cache = model.init_cache(tokens.ids.shape[0], L)
    with pytest.raises(ValueError, match=r"tokens.segment must be None with a cache"):
        jax.eval_shape(model.apply, params, tokens, cache)
