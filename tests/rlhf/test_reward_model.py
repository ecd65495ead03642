"""The reward model: it learns who is preferred, and its scores have the scale they should."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.rlhf import (
    SFTConfig,
    Tokens,
    learned_reward,
    make_reward_model,
    pair_accuracy,
)
from jaxrl_po.rlhf.heads import init_head
from jaxrl_po.rlhf.reward_model import raw_score, reward_loss
from tests.rlhf.conftest import PAD, T, V

ROWS = 128


@pytest.fixture(scope="module")
def scorer(params):
    return {"torso": params, "head": init_head(jax.random.key(3), 8)}


@pytest.fixture(scope="module")
def texts():
    """Rows of tokens, and how many threes are in each: what is preferred."""
    ids = jax.random.randint(jax.random.key(0), (ROWS, T), 1, V)
    return Tokens(ids, ids > 0), (ids == 3).sum(axis=1)


def pairs(count, key):
    one, other = jax.random.randint(key, (2, 4000), 0, ROWS)
    differ = np.flatnonzero(np.asarray(count[one] != count[other]))[:1000]
    one, other = one[differ], other[differ]
    better = count[one] > count[other]
    return jnp.where(better, one, other), jnp.where(better, other, one)


@pytest.fixture(scope="module")
def learned(model, params, texts, jit):
    rows, count = texts
    chosen, rejected = pairs(count, jax.random.key(1))
    config = SFTConfig(num_epochs=4, batch_size=50, learning_rate=1e-2, token_noise=0.02)
    train = jit(make_reward_model(config, model, rows, chosen, rejected))
    return train(jax.random.key(2), params)[0]


@pytest.fixture(scope="module")
def score(model, jit):
    return jit(functools.partial(raw_score, model))


def test_the_score_is_read_at_the_last_token_wherever_padding_is(score, scorer):
    bare = jnp.array([[3, 1, 2]])
    right, left = jnp.array([[3, 1, 2, PAD, PAD]]), jnp.array([[PAD, PAD, 3, 1, 2]])
    scores = [score(scorer, Tokens(ids, ids != PAD)) for ids in (bare, right, left)]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-6)
    np.testing.assert_allclose(scores[2], scores[0], atol=1e-6)
    changed = bare.at[0, 2].set(4)
    assert abs(score(scorer, Tokens(changed, changed != PAD)) - scores[0]) > 1e-3


def test_the_loss_is_that_of_bradley_and_terry(model, score, scorer, texts, jit):
    rows, _ = texts
    chosen, rejected = (
        jax.tree.map(lambda x, p=part: x[p], rows) for part in (slice(0, 2), slice(2, 4))
    )
    difference = np.asarray(score(scorer, chosen) - score(scorer, rejected), np.float64)
    expected = -np.log(1 / (1 + np.exp(-difference))).mean()
    loss = jit(functools.partial(reward_loss, model))(scorer, chosen, rejected)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_pairs_that_point_nowhere_are_refused(model, texts):
    rows, _ = texts
    beyond = jnp.full(50, rows.ids.shape[0])
    with pytest.raises(ValueError, match="chosen, rejected: must be indices into"):
        make_reward_model(SFTConfig(batch_size=50), model, rows, [0] * 50, beyond)


def test_heads_begin_at_the_published_scale():
    kernel = init_head(jax.random.key(0), 9999)["kernel"]
    np.testing.assert_allclose(kernel.std(), 1 / 10_000**0.5, rtol=0.05)


def test_preferences_are_learned(model, texts, learned, jit):
    rows, count = texts
    better, worse = (
        jax.tree.map(lambda x, i=i: x[i], rows) for i in pairs(count, jax.random.key(9))
    )
    accuracy = jit(functools.partial(pair_accuracy, model))
    assert accuracy(learned.params, better, worse) > 0.95


def test_scores_of_the_reference_samples_have_mean_0_and_deviation_1(model, texts, learned, jit):
    rows, _ = texts
    reward = jit(learned_reward(model, learned))
    scores = reward(
        *(jax.tree.map(lambda x, p=part: x[:, p], rows) for part in (slice(0, 2), slice(2, T)))
    )
    np.testing.assert_allclose(scores.mean(), 0.0, atol=1e-5)
    np.testing.assert_allclose(scores.std(), 1.0, rtol=1e-5)


def test_too_few_pairs_are_refused(model, texts):
    rows, _ = texts
    one = jnp.arange(3)
    with pytest.raises(ValueError, match="batch_size=32 is more than there are pairs: 3"):
        make_reward_model(SFTConfig(), model, rows, one, one)


def test_margins_and_centering_reach_the_learning(model, params, texts, score, jit):
    """One batch of all pairs: the first step's loss is the definition's."""
    rows, _ = texts
    chosen, rejected, margin = np.arange(8), np.arange(8, 16), np.linspace(0, 3, 8)
    config = SFTConfig(num_epochs=1, batch_size=8)
    key = jax.random.key(5)
    learn = make_reward_model(
        config, model, rows, chosen, rejected, margin=margin.astype(np.float32), centering=0.2
    )
    _, losses = jit(learn)(key, params)
    scorer = {"torso": params, "head": init_head(jax.random.split(key, 3)[0], 8)}
    r = np.asarray(score(scorer, jax.tree.map(lambda x: x[:16], rows)), np.float64)
    expected = np.log1p(np.exp(-(r[:8] - r[8:] - margin))).mean()
    expected += 0.2 * np.square(r[:8] + r[8:]).mean()
    np.testing.assert_allclose(losses[0], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"margin": [1.0] * 31}, "margin: must be finite numbers >= 0, one for each of 32 pairs"),
        ({"margin": [-1.0] * 32}, "margin: must be finite numbers >= 0"),
        ({"margin": [np.nan] * 32}, "margin: must be finite numbers >= 0"),
        ({"centering": -0.1}, "centering=-0.1 is out of range"),
        ({"centering": "much"}, "centering must be a number"),
    ],
)
def test_margins_and_weights_are_refused_by_name(extra, message, model, texts):
    rows, _ = texts
    with pytest.raises(ValueError, match=message):
        make_reward_model(SFTConfig(), model, rows, np.arange(32), np.arange(32, 64), **extra)
