"""Tokens that a model cannot read are refused by name, before anything compiles."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.rlhf import (
    RewardModel,
    SFTConfig,
    Tokens,
    TransformerConfig,
    as_prompts,
    generate,
    learned_reward,
    make_reward_model,
    make_rlhf,
    make_sft,
    make_transformer,
    pair_accuracy,
    perplexity,
)
from jaxrl_po.rlhf.heads import init_head
from jaxrl_po.rlhf.reward_model import raw_score
from tests.rlhf.conftest import EOS, PAD, P, T, V, tiny_config

L = P + T
CONFIG = SFTConfig(batch_size=2, num_epochs=1)


class Doors(NamedTuple):
    """Each takes rows of tokens [4, L], and nothing but them may be wrong."""

    model: object
    params: object

    def sft(self, rows):
        return make_sft(CONFIG, self.model, rows)

    def perplexity(self, rows):
        return perplexity(self.model, self.params, rows, chunk=2)

    def reward_model(self, rows):
        return make_reward_model(CONFIG, self.model, rows, [0, 1], [2, 3])

    def reference(self, rows):
        return make_reward_model(CONFIG, self.model, good(), [0, 1], [2, 3], rows)

    def accuracy(self, rows):
        return pair_accuracy(self.model, self.scorer(), good(), rows)

    def generation(self, rows):
        options = {"num_steps": 1, "temperature": 1.0, "eos_id": EOS, "pad_id": PAD}
        rows = jax.tree.map(lambda x: x[:, 1:], rows)
        return generate(self.model, self.params, rows, jax.random.key(0), **options)

    def scorer(self):
        return {"torso": self.params, "head": init_head(jax.random.key(0), 8)}


NAMES = {
    "sft": "tokens",
    "perplexity": "tokens",
    "reward_model": "tokens",
    "reference": "reference",
    "accuracy": "rejected",
    "generation": "prompt",
}


def good(length=L):
    ids = np.arange(4 * length).reshape(4, length) % V
    return Tokens(ids, np.ones_like(ids, bool))


def changed(value):
    ids, mask, _ = good()
    ids[2, -1] = value
    return Tokens(ids, mask)


def segmented(segment):
    return good()._replace(segment=segment)


BAD = {
    "beyond": (lambda: changed(V), f"token ids must be from 0 to {V - 1}.* found 0 to {V}"),
    "negative": (lambda: changed(-1), f"token ids must be from 0 to {V - 1}.* found -1"),
    "wrapping": (lambda: changed(2**32 + 1), f"token ids must be from 0 to {V - 1}"),
    "long": (lambda: good(L + 1), f"context_length={L}"),
    "floats": (lambda: good()._replace(ids=np.ones((4, L))), "integer ids"),
    "mask": (lambda: good()._replace(mask=np.ones((4, L), int)), "bool mask"),
    "shapes": (lambda: good()._replace(mask=np.ones((4, 1), bool)), "of one shape"),
    "axes": (lambda: jax.tree.map(lambda x: x[0], good()), r"\[rows, L\]"),
    "segment": (lambda: segmented(np.zeros((4, L - 1), int)), r"segment must be integers .* shape"),
    "fractions": (lambda: segmented(np.zeros((4, L))), "segment must be integers"),
    "falling": (lambda: segmented(np.arange(4 * L)[::-1].reshape(4, L)), "segment decreases"),
    "nothing": (lambda: Tokens(np.zeros((0, L), int), np.zeros((0, L), bool)), "no rows"),
}


@pytest.fixture
def doors(model, params):
    return Doors(model, params)


@pytest.mark.parametrize("door", NAMES)
@pytest.mark.parametrize("case", BAD)
def test_tokens_that_a_model_cannot_read_are_refused(door, case, doors):
    make, message = BAD[case]
    rows = make()
    if (door, case) == ("generation", "axes"):
        rows = jax.tree.map(lambda x: x[None, None], rows)
    with pytest.raises(ValueError, match=f"^{NAMES[door]}.*{message}"):
        getattr(doors, door)(rows)


@pytest.mark.parametrize(
    ("completion", "message"),
    [
        (np.ones((4, L), int), r"completion must be a bool mask of the tokens' shape \[4, 7\]"),
        (np.ones((4, L - 1), bool), r"completion must be .* not bool \[4, 6\]"),
        (
            np.arange(L)[None] + np.zeros((4, 1)) == 0,
            "no row does a token of the completion follow",
        ),
    ],
)
def test_a_completion_that_is_none_of_the_rows_is_refused(completion, message, model, params):
    with pytest.raises(ValueError, match=message):
        make_sft(CONFIG, model, good(), completion)
    with pytest.raises(ValueError, match=message):
        perplexity(model, params, good(), completion=completion)
    fine_tune = make_sft(CONFIG, model, good())
    with pytest.raises(ValueError, match=message):
        fine_tune(jax.random.key(0), params, good(), completion)
    with pytest.raises(ValueError, match="completion comes with its tokens"):
        fine_tune(jax.random.key(0), params, completion=completion)


@pytest.mark.parametrize("door", NAMES)
def test_of_traced_tokens_the_shapes_are_looked_at(door, doors):
    def trace(rows):
        getattr(doors, door)(rows)
        return rows.ids

    jax.eval_shape(trace, good())
    with pytest.raises(ValueError, match=f"^{NAMES[door]}.*context_length={L}"):
        jax.eval_shape(trace, good(L + 1))


@pytest.mark.parametrize("door", NAMES)
def test_empty_slots_may_hold_anything(door, doors):
    def through(*empty):
        ids, mask, _ = good()
        mask[1, :2] = False
        ids[1, :2] = empty
        outcome = getattr(doors, door)(Tokens(ids, mask))
        # a generation hands the prompt back as it came
        return outcome._replace(prompt=None) if door == "generation" else outcome

    out_of_range, zeros = through(-7, 99), through(0, 0)
    if callable(zeros):  # a training function, which is not called here
        assert callable(out_of_range)
    else:
        jax.tree.map(np.testing.assert_array_equal, out_of_range, zeros)


def test_a_row_without_a_token_has_no_score_and_no_answer(doors):
    empty = good()._replace(mask=np.arange(4)[:, None] + np.zeros(L) != 2)
    for door in ("reward_model", "reference", "accuracy", "generation"):
        with pytest.raises(ValueError, match=f"^{NAMES[door]}: each needs a token"):
            getattr(doors, door)(empty)


def test_several_texts_in_a_row_are_for_fine_tuning(doors):
    rows = segmented(np.tile(np.arange(L) // 2, (4, 1)))
    for door in ("sft", "perplexity"):
        getattr(doors, door)(rows)
    for door in ("reward_model", "reference", "accuracy", "generation"):
        with pytest.raises(ValueError, match=rf"^{NAMES[door]}.segment must be None: here a row"):
            getattr(doors, door)(rows)
    with pytest.raises(ValueError, match=r"^prompts.segment must be None"):
        as_prompts(rows, PAD)


def test_rows_in_which_no_token_follows_another_teach_nothing(doors):
    single = good()._replace(mask=np.arange(L)[None] + np.zeros((4, 1)) == 1)
    for door in ("sft", "perplexity"):
        with pytest.raises(ValueError, match=r"^tokens: in no row does a token follow another"):
            getattr(doors, door)(single)


def test_a_batch_without_such_a_token_moves_nothing(model, params, jit):
    ids, mask, _ = good()
    rows = Tokens(ids, mask & (np.arange(4)[:, None] < 2) | (np.arange(L)[None] == 0))
    config = CONFIG.replace(batch_size=1, weight_decay=0.0)
    learned, losses = jit(make_sft(config, model, rows))(jax.random.key(0), params)
    assert sorted(np.asarray(losses) == 0) == [False, False, True, True]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(learned))


def test_prompts_padded_on_the_right_are_refused_by_generation(doors):
    ids, mask, _ = good()
    with pytest.raises(ValueError, match=r"^prompt must be padded on the left"):
        doors.generation(Tokens(ids, mask & (np.arange(L)[None] < L - 1)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eos_id": V}, f"eos_id={V} is not in the model's vocabulary of {V}"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"pad_id": EOS}, "pad_id=0 equals eos_id"),
        ({"stop_ids": (1, V)}, f"stop_ids: {V} is not in the model's vocabulary of {V}"),
        ({"stop_ids": (PAD,)}, f"stop_ids: {PAD} is not in the model's vocabulary of {V}"),
        ({"stop_ids": (2, 3), "pad_id": 3}, r"pad_id=3 is one of stop_ids=\(2, 3\)"),
    ],
)
def test_settings_of_a_generation_are_refused_by_name(changes, message, model, params):
    options = {"num_steps": 1, "temperature": 1.0, "eos_id": EOS, "pad_id": PAD} | changes
    with pytest.raises(ValueError, match=message):
        generate(model, params, good(P), jax.random.key(0), **options)


@pytest.mark.parametrize("prompts", [[[2, -2, 1]], [[2, 2**31, 1]], np.zeros((0, 3), int)])
def test_prompts_that_no_model_could_read_are_refused(prompts):
    with pytest.raises(ValueError, match=r"^prompts"):
        as_prompts(prompts, PAD)


@pytest.mark.parametrize("prompts", [np.zeros((0, 3), int), np.zeros((3, 0), int)])
def test_an_empty_pool_of_prompts_is_refused(prompts):
    with pytest.raises(ValueError, match=r"^prompts"):
        make_rlhf(tiny_config(), lambda prompt, response: jnp.zeros(8), prompts)


def test_a_reward_model_with_too_short_a_context_is_refused(config, prompts, params):
    short = make_transformer(TransformerConfig(vocab_size=V, context_length=L - 1, num_features=8))
    torso = jax.eval_shape(short.init, jax.random.key(0))
    torso = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), torso)
    scorer = {"torso": torso, "head": init_head(jax.random.key(0), 8)}
    reward = learned_reward(short, RewardModel(scorer, jnp.zeros(()), jnp.ones(())))
    with pytest.raises(ValueError, match=f"length {L} .*context_length={L - 1}"):
        jax.eval_shape(make_rlhf(config, reward, prompts), jax.random.key(0), params)


@pytest.mark.parametrize(
    ("chosen", "rejected", "message"),
    [
        ([0, 1, 2], [1, 2], "chosen, rejected"),
        ([[0, 1]], [[1, 2]], "chosen, rejected"),
        ([], [], "chosen, rejected"),
        ([0.0, 1.0], [1.0, 2.0], "chosen, rejected"),
        ([0, -1], [1, 2], "chosen, rejected"),
    ],
)
def test_pairs_are_refused_by_name(chosen, rejected, message, model):
    with pytest.raises(ValueError, match=message):
        make_reward_model(CONFIG, model, good(), chosen, rejected)


def test_a_model_is_not_applied_beyond_its_context(model, params):
    with pytest.raises(ValueError, match=f"context_length={L}"):
        jax.eval_shape(functools.partial(model.apply, params), good(L + 1), None)
    with pytest.raises(ValueError, match=f"context_length={L}"):
        jax.eval_shape(lambda: model.init_cache(2, L + 1))
    with pytest.raises(ValueError, match=f"context_length={L}"):
        jax.eval_shape(functools.partial(raw_score, model), Doors(model, params).scorer(), good(9))
