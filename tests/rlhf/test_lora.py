"""Adapters: they begin as nothing, merge into plain weights, and are all that is learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.rlhf import (
    LoRAConfig,
    SFTConfig,
    Tokens,
    adapted,
    init_adapters,
    make_rlhf,
    make_sft,
    merge,
    policy_params,
)
from jaxrl_po.rlhf.lora import GROUPS, attach
from tests.rlhf.conftest import V, tiny_config

LORA = LoRAConfig(rank=2, alpha=8.0)


@pytest.fixture(scope="module")
def adapters(params):
    """Adapters that change something."""
    fresh = init_adapters(jax.random.key(0), params, LORA)
    return jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), fresh)


def logits(model, params, tokens):
    def run(params):
        return model.logits(params, model.apply(params, tokens, None)[0])

    return jax.jit(run)(params)


def test_fresh_adapters_change_nothing(model, params, prompt):
    own = adapted(model, params, LORA)
    fresh = own.init(jax.random.key(0))
    # But for the last bit: with the products of zeros beside them, sums are compiled otherwise.
    found, expected = logits(own, fresh, prompt), logits(model, params, prompt)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_merged_weights_are_the_definition(model, params, adapters, prompt):
    merged = merge(params, adapters, LORA)
    for name in GROUPS["all"]:
        if name not in params["layers"]:
            continue
        own, kernel = adapters["layers"][name], params["layers"][name]["kernel"]
        product = np.einsum("lir,lro->lio", own["lora_a"], own["lora_b"]) * 8.0 / 2
        expected = kernel + product.reshape(kernel.shape)
        found = merged["layers"][name]["kernel"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    plain = logits(model, merged, prompt)
    gap = plain - logits(model, params, prompt)
    assert jnp.abs(gap).max() > 0.1
    own = logits(adapted(model, params, LORA), adapters, prompt)
    np.testing.assert_allclose(own, plain, atol=2e-4)


@pytest.mark.parametrize("targets", ["query,value", "attention", "feedforward_in", "all"])
def test_targets_are_what_is_adapted(targets, params):
    config = LoRAConfig(rank=1, targets=targets)
    names = set(init_adapters(jax.random.key(0), params, config)["layers"])
    assert names == set(config.names) & set(params["layers"])
    assert names


def test_a_larger_alpha_goes_further(model, params, adapters, prompt):
    far, near = (
        logits(adapted(model, params, LORA.replace(alpha=alpha)), adapters, prompt)
        for alpha in (8.0, 1.0)
    )
    base = logits(model, params, prompt)
    assert jnp.abs(far - base).mean() > 2 * jnp.abs(near - base).mean()


@pytest.fixture(scope="module")
def trained(reward, prompts, params, jit):
    """Two seeds over one base."""
    config = tiny_config(lora=LORA)
    train = jax.vmap(make_rlhf(config, reward, prompts), (0, None))
    keys = jax.random.split(jax.random.key(0), 2)
    return config, train, keys, jit(train)(keys, params)


def test_adapters_are_all_that_is_learned(trained, params):
    _, _, _, result = trained
    fresh = init_adapters(jax.random.key(0), params, LORA)
    learned = policy_params(result.state.params)
    assert jax.tree.structure(learned) == jax.tree.structure(fresh)
    for new, old in zip(*map(jax.tree.leaves, (learned, fresh)), strict=True):
        assert new.shape == (2, *old.shape)
        assert jnp.isfinite(new).all()
    torso = result.state.params.value["torso"]
    assert jax.tree.structure(torso) == jax.tree.structure(fresh)
    for name, own in learned["layers"].items():
        assert jnp.abs(own["lora_b"]).min(axis=(1, 2, 3)).max() > 0, name
    np.testing.assert_allclose(result.metrics["val/ratio_first_minibatch"], 1.0, atol=1e-5)
    np.testing.assert_allclose(result.metrics["objective/kl"][:, 0], 0.0, atol=1e-5)
    assert (result.metrics["objective/kl_exact"][:, -1] > 1e-5).all()


def test_seeds_share_the_base(trained, params):
    """No array of the vmapped program holds a copy of the embedding for each seed."""
    _, train, keys, _ = trained
    text = jax.jit(train).lower(keys, params).as_text()
    features = params["embedding"]["embedding"].shape[1]
    assert f"tensor<2x{V}x{features}xf32>" not in text
    assert f"tensor<{V}x{features}xf32>" in text


def test_fine_tuning_of_adapters_leaves_the_base_alone(model, params, jit):
    ids = np.random.default_rng(0).integers(1, V, (32, 5))
    rows = Tokens(jnp.asarray(ids, jnp.int32), jnp.ones(ids.shape, bool))
    config = SFTConfig(batch_size=8, num_epochs=4, learning_rate=1e-2)

    @jit
    def run(base, key, adapters):
        return make_sft(config, adapted(model, base, LORA), rows)(key, adapters)

    fresh = init_adapters(jax.random.key(0), params, LORA)
    learned, losses = run(params, jax.random.key(0), fresh)
    assert losses[-4:].mean() < losses[:4].mean()
    assert jax.tree.structure(learned) == jax.tree.structure(fresh)


def test_what_does_not_fit_is_named(params):
    with pytest.raises(ValueError, match=r"targets='q_proj': 'q_proj' is none of all, attention"):
        LoRAConfig(rank=1, targets="q_proj")
    with pytest.raises(ValueError, match=r"LoRAConfig.alpha=3.0 has no effect: it needs rank > 0"):
        LoRAConfig(alpha=3.0)
    with pytest.raises(ValueError, match=r"the model has no feedforward_gate in params"):
        init_adapters(jax.random.key(0), params, LoRAConfig(rank=1, targets="feedforward_gate"))
    with pytest.raises(ValueError, match="the model has none of them"):
        init_adapters(jax.random.key(0), [jnp.ones(3)], LORA)


def test_attached_adapters_leave_the_base_as_it_was(params, adapters):
    before = jax.tree.structure(params)
    attach(params, adapters, LORA)
    assert jax.tree.structure(params) == before
