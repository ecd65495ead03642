"""The transformer: cached decoding is the training pass, and empty slots have no influence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.rlhf import Tokens, TransformerConfig, make_transformer
from jaxrl_po.rlhf.generation import generate, response_distribution
from jaxrl_po.rlhf.types import concatenate
from tests.rlhf.conftest import EOS, PAD, P, T, V


@pytest.fixture(scope="module")
def sample(model, params, prompt, jit):
    def run(key, temperature):
        return generate(
            model,
            params,
            prompt,
            key,
            num_steps=T,
            temperature=temperature,
            eos_id=EOS,
            pad_id=PAD,
        )

    return jit(run)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_decoding_agrees_with_the_training_pass(model, params, sample, temperature):
    generation = sample(jax.random.key(0), temperature)
    states = jax.tree.map(lambda x: x[:, :-1], generation.sequence)
    ids, mask, _ = generation.response

    @jax.jit
    def teacher_forced(states, ids):
        return response_distribution(model, params, states, T, temperature).log_prob(ids)

    log_prob = jnp.where(mask, teacher_forced(states, jnp.where(mask, ids, 0)), 0.0)
    np.testing.assert_allclose(log_prob, generation.log_prob, atol=1e-5)
    assert jnp.abs(log_prob).max() > 0.5


@pytest.fixture(scope="module")
def apply(model):
    """The training pass, or with a cache the decoding one."""
    return jax.jit(model.apply)


def test_padding_on_the_left_changes_nothing(apply, params):
    ids = jnp.array([[3, 1, 2]])
    bare, _ = apply(params, Tokens(ids, ids >= 0), None)
    padded = jnp.array([[PAD, PAD, 3, 1, 2]])
    shifted, _ = apply(params, Tokens(padded, padded != PAD), None)
    np.testing.assert_allclose(shifted[:, 2:], bare, atol=1e-6)


@pytest.mark.parametrize("norm_offset", [False, True])
def test_initial_parameters_are_not_weakly_typed(norm_offset):
    """Or the second step of a run would be compiled anew."""
    norm = {"norm": "rms", "norm_offset": True} if norm_offset else {}
    init = make_transformer(TransformerConfig(vocab_size=V, num_features=8, **norm)).init
    assert not any(x.weak_type for x in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0))))


def test_parameters_may_be_arrays_of_numpy(model, params, prompt):
    """As they come from a file, and within a program as its constants."""
    own = jax.tree.map(np.asarray, params)
    found = jax.jit(lambda tokens: model.apply(own, tokens, None)[0])(prompt)
    np.testing.assert_array_equal(found, jax.jit(model.apply)(params, prompt, None)[0])


def test_what_stands_in_empty_slots_has_no_influence(apply, params, prompt):
    features, _ = apply(params, prompt, None)
    noise = jax.random.randint(jax.random.key(0), prompt.ids.shape, -5, 100)
    noisy = prompt._replace(ids=jnp.where(prompt.mask, prompt.ids, noise))
    np.testing.assert_array_equal(apply(params, noisy, None)[0], features)
    assert jnp.isfinite(features).all()


def test_the_future_is_not_seen(apply, params):
    ids = jnp.array([[3, 1, 2, 5]])
    features, _ = apply(params, Tokens(ids, ids >= 0), None)
    other = ids.at[0, 3].set(4)
    changed, _ = apply(params, Tokens(other, other >= 0), None)
    np.testing.assert_array_equal(changed[:, :3], features[:, :3])
    assert jnp.abs(changed[:, 3] - features[:, 3]).max() > 1e-3


def test_a_cache_may_be_filled_in_pieces(model, apply, params, prompt):
    whole, _ = apply(params, prompt, None)
    cache = model.init_cache(prompt.ids.shape[0], P + T)
    pieces = []
    for part in (slice(0, 2), slice(2, P)):
        features, cache = apply(params, jax.tree.map(lambda x: x[:, part], prompt), cache)  # noqa: B023
        pieces.append(features)
    seen = jnp.concatenate(pieces, axis=1)
    np.testing.assert_allclose(jnp.where(prompt.mask[..., None], seen - whole, 0.0), 0.0, atol=1e-5)


def test_responses_end_at_eos_and_hold_it(sample):
    ids, mask, _ = sample(jax.random.key(3), 1.0).response
    after = np.cumsum(ids == EOS, axis=1) - (ids == EOS) > 0
    np.testing.assert_array_equal(mask, ~after)
    assert (ids[~mask] == PAD).all()
    assert ((ids >= 0) & (ids < V))[mask].all()
    assert (~mask).any()


def test_parameters_are_a_plain_tree_with_stacked_layers(params, config):
    assert isinstance(params, dict)
    stacked = jax.tree.leaves(params["layers"])
    assert {leaf.shape[0] for leaf in stacked} == {config.model.num_layers}


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="num_heads=3 does not divide num_features=8"):
        TransformerConfig(num_heads=3, num_features=8)


def test_sequences_are_joined_where_prompt_and_response_meet(prompt):
    response = Tokens(jnp.ones((8, T), jnp.int32), jnp.ones((8, T), bool))
    joined = concatenate(prompt, response)
    np.testing.assert_array_equal(joined.ids[:, P:], 1)
    np.testing.assert_array_equal(joined.mask[:, :P], prompt.mask)
