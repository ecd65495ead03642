"""What a run holds at once: a chunk of distributions, no weights among its constants."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core as jax_core

from jaxrl_po.algorithms import NPGConfig, PPOPenaltyConfig, TRPOConfig, VPGConfig
from jaxrl_po.rlhf import (
    Generation,
    LoRAConfig,
    RewardModel,
    SFTConfig,
    Tokens,
    TransformerConfig,
    chunks,
    generate,
    learned_reward,
    make_reward_model,
    make_rlhf,
    make_rlhf_step,
    make_sft,
    make_transformer,
    pair_accuracy,
)
from jaxrl_po.rlhf.batch import Unkept, log_prob_is_enough, make_token_batch
from jaxrl_po.rlhf.change import after_update
from jaxrl_po.rlhf.chunks import in_chunks, rows_at_once
from jaxrl_po.rlhf.generation import response_distribution
from jaxrl_po.rlhf.heads import init_actor_critic, init_head, token_network
from jaxrl_po.rlhf.reward_model import ROWS_AT_ONCE, Preferences
from jaxrl_po.rlhf.update import make_update
from tests.rlhf.conftest import EOS, PAD, N, P, T, V, tiny_config


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 100])
def test_chunks_put_together_are_the_whole(size):
    rows = {"a": jnp.arange(12.0).reshape(6, 2), "b": jnp.arange(6)}
    seen = []

    def function(rows):
        seen.append(rows["b"].shape[0])
        return rows["a"].sum(axis=1) + rows["b"], rows

    expected = function(rows)
    jax.tree.map(np.testing.assert_array_equal, in_chunks(function, rows, size), expected)
    assert seen[1:] == [min(size, 6)]


def test_as_many_rows_at_once_as_fit_and_divide_the_batch(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 100)
    assert [rows_at_once(12, size) for size in (1, 10, 15, 25, 50, 99, 101)] == [
        12,
        6,
        6,
        4,
        2,
        1,
        1,
    ]


def widest(jaxpr, vocab_size):
    """Rows of the largest float array over the vocabulary in a program, loops and all."""
    found = [0]
    for equation in jaxpr.eqns:
        for output in equation.outvars:
            shape = output.aval.shape
            if shape[-1:] == (vocab_size,) and jnp.issubdtype(output.aval.dtype, jnp.floating):
                found.append(output.aval.size // vocab_size)
        inner = jax_core.jaxprs_in_params(equation.params)
        found.extend(widest(program, vocab_size) for program in inner)
    return max(found)


@pytest.mark.parametrize("in_loss", [False, True])
@pytest.mark.parametrize("num_envs", [8, 32])
def test_distributions_are_held_a_chunk_at_a_time(num_envs, in_loss, monkeypatch):
    """Whatever the batch or the minibatch: no more of them than a chunk has."""
    vocab_size, rows = 101, 2
    monkeypatch.setattr(chunks, "CHUNK", rows * T * vocab_size)
    loss = {"kl_in_reward": "none", "kl_in_loss": "k2"} if in_loss else {}
    update = tiny_config().update.replace(
        num_envs=num_envs,
        total_timesteps=num_envs * T,
        num_minibatches=num_envs // (2 * rows),
        advantage_normalization="none",
    )
    model = TransformerConfig(vocab_size=vocab_size, context_length=P + T, num_features=8)
    config = tiny_config(model=model, update=update, **loss)
    init, step = make_rlhf_step(config, lambda p, r: r.ids.sum(axis=1) * 0.1, jnp.ones((1, P), int))
    params = jax.eval_shape(make_transformer(model).init, jax.random.key(0))
    state = jax.eval_shape(init, jax.random.key(0), params)
    program = jax.make_jaxpr(step)(state, params)
    assert widest(program.jaxpr, vocab_size) <= max(rows * T, num_envs)


UPDATES = {
    "ppo": tiny_config().update,
    "early_stop": tiny_config().update.replace(early_stop_kl=True),
    "ppo_penalty": PPOPenaltyConfig(num_envs=N, num_steps=T, total_timesteps=N * T),
    "trpo": TRPOConfig(num_envs=N, num_steps=T, total_timesteps=N * T),
    "npg": NPGConfig(num_envs=N, num_steps=T, total_timesteps=N * T),
    "vpg": VPGConfig(num_envs=N, num_steps=T, total_timesteps=N * T),
}


@pytest.fixture(scope="module")
def measure(model, params, prompt):
    """The batch of a config and the metrics beside it, with chunks of a given size."""
    network = token_network(model, T, 1.0)
    old = init_actor_critic(model, params, shared_torso=False)
    new = jax.tree.map(lambda x: 1.1 * x, old)
    ids = jnp.tile(jnp.array([[1, EOS, PAD, PAD], [2, 3, 1, EOS]]), (4, 1))
    generation = Generation(prompt, Tokens(ids, ids != PAD), jnp.zeros(ids.shape))
    away = jax.tree.map(lambda x: 0.9 * x, params)

    def run(config):
        def reference(observation):
            return response_distribution(model, away, observation, T, 1.0)

        score, price = jnp.arange(8.0), jnp.asarray(0.1)
        batch, metrics = make_token_batch(config, network, old, reference, price, generation, score)
        return batch, metrics | after_update(config, network, old, new, batch)

    return run


@pytest.fixture(scope="module")
def learn(model, params, measure, config, jit):
    """An update under a config, by the network that a run has and no distributions it can spare."""
    batch, _ = jit(measure)(config)

    def run(config, model=model):
        chunked, size = log_prob_is_enough(config.update), config.micro_batch_size
        network = token_network(model, T, 1.0, micro_batch_size=size, chunked=chunked)
        algorithm = make_update(config, network, jnp.asarray(0.1))
        old = init_actor_critic(model, params, shared_torso=config.update.shared_torso)
        state = algorithm.init(old)
        rows = batch._replace(distribution=Unkept()) if chunked else batch
        given = jax.random.key(0), old, state, rows, jnp.ones(())
        new, _, metrics = jit(algorithm.update)(*given)
        return new, metrics

    return run


@pytest.mark.parametrize("shared_torso", [False, True])
def test_a_minibatch_in_chunks_learns_the_same(shared_torso, learn, monkeypatch):
    """Gradients that add up over chunks of tokens are those of the whole minibatch."""
    update = tiny_config().update.replace(shared_torso=shared_torso, ent_coef=0.01)
    config = tiny_config(update=update)
    whole, expected = learn(config)
    monkeypatch.setattr(chunks, "CHUNK", 5 * V)  # of the 16 tokens of a minibatch
    found, metrics = learn(config)
    # A step of Adam is as long for a small gradient, with the rounding of its sum, as for a large
    # one: to a thousandth of a step they are the same.
    step = 1e-3 * float(update.learning_rate)
    for one, other in zip(*map(jax.tree.leaves, (found, whole)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=step)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_chunks_change_no_metric(measure, config, monkeypatch, jit):
    whole, expected = jit(measure)(config)
    monkeypatch.setattr(chunks, "CHUNK", 2 * T * V)
    batch, metrics = jit(lambda config: measure(config))(config)
    assert isinstance(batch.distribution, Unkept)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    for field in ("log_prob", "value", "advantage", "target"):
        one, other = getattr(batch, field), getattr(whole, field)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=field)


@pytest.mark.parametrize("large", [1.0, 0.6, 0.4])  # chunks that the batch fills
def test_a_whole_batch_of_any_size_is_one_minibatch(large, reward, prompts, params, monkeypatch):
    """Kept distributions and those that come in chunks meet where one chunk or two are filled."""
    monkeypatch.setattr(chunks, "CHUNK", int(large * N * T * V))
    config = tiny_config(update=tiny_config().update.replace(num_minibatches=1))
    init, step = make_rlhf_step(config, reward, prompts)
    state = jax.eval_shape(init, jax.random.key(0), params)
    after, _ = jax.eval_shape(step, state, params)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


@pytest.mark.parametrize("name", UPDATES)
def test_distributions_are_kept_for_the_updates_that_look_at_them(name, measure, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 2 * T * V)
    batch, _ = jax.eval_shape(lambda config: measure(config), tiny_config(update=UPDATES[name]))
    assert isinstance(batch.distribution, Unkept) == (name in ("ppo", "vpg"))


def seen_rows(model):
    """The model, and the shapes of what it is applied to."""
    shapes = []

    def apply(params, tokens, cache):
        shapes.append(tokens.ids.shape)
        return model.apply(params, tokens, cache)

    return model._replace(apply=apply), shapes


@pytest.mark.parametrize("name", ["ppo", "ppo_penalty"])
def test_micro_batches_learn_the_same(name, model, learn):
    """A step on gradients that add up over three sequences at a time is that on the minibatch."""
    config = tiny_config(update=UPDATES[name])
    whole, expected = learn(config)
    watched, shapes = seen_rows(model)
    found, metrics = learn(config.replace(micro_batch_size=3), watched)
    assert (3, P + T - 1) in shapes
    for one, other in zip(*map(jax.tree.leaves, (found, whole)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(metrics["policy_loss"], expected["policy_loss"], atol=1e-6)


def test_a_run_learns_in_micro_batches(model, reward, prompts, params):
    watched, shapes = seen_rows(model)
    init, step = make_rlhf_step(tiny_config(micro_batch_size=3), reward, prompts, watched)
    jax.eval_shape(step, jax.eval_shape(init, jax.random.key(0), params), params)
    assert (3, P + T - 1) in shapes
    with pytest.raises(ValueError, match=r"micro_batch_size=9 is more than update.num_envs=8"):
        tiny_config(micro_batch_size=9)


def test_a_dataset_is_scored_a_few_rows_at_a_time(model, params):
    watched, shapes = seen_rows(model)
    ids = np.arange(1000 * T).reshape(1000, T) % V
    rows = Tokens(ids, np.ones_like(ids, bool))
    scorer = {"torso": params, "head": init_head(jax.random.key(0), 8)}
    jax.eval_shape(lambda scorer: pair_accuracy(watched, scorer, rows, rows), scorer)
    train = make_reward_model(SFTConfig(batch_size=16), watched, rows, range(16), range(16, 32))
    jax.eval_shape(train, jax.random.key(0), params)
    assert max(shapes)[0] == ROWS_AT_ONCE


def largest_constant(function, *arguments):
    """Bytes of the largest array among a program's constants."""
    text = jax.jit(function).lower(*arguments).as_text()
    return max((len(found) // 2 for found in re.findall(r'dense<"0x([0-9A-F]*)"', text)), default=0)


def test_weights_and_data_may_be_arguments(model, params, config, prompts):
    key, size = jax.random.key(0), 200
    ids = np.random.default_rng(0).integers(0, V, (size, T))
    rows = Tokens(ids.astype(np.int32), np.ones_like(ids, bool))
    sft = make_sft(SFTConfig(), model, rows)
    assert largest_constant(sft, key, params) >= ids.size * 4
    assert largest_constant(sft, key, params, rows) < ids.size
    pairs = np.arange(100), np.arange(100, 200)
    learn = make_reward_model(SFTConfig(), model, rows, *pairs)
    assert largest_constant(learn, key, params) >= ids.size * 4
    assert largest_constant(learn, key, params, Preferences(rows, *pairs, rows)) < ids.size
    head = init_head(key, 8)
    scorer = RewardModel({"torso": params, "head": head}, jnp.zeros(()), jnp.ones(()))
    weights = max(x.nbytes for x in jax.tree.leaves(params))
    reward = learned_reward(model, scorer)
    train = make_rlhf(config, reward, prompts)
    assert largest_constant(train, key, params) >= weights
    assert largest_constant(train, key, params, reward) < weights / 4


def test_the_reference_is_passed_once_for_a_batch(model, params, prompts, reward):
    """A price in the loss takes no pass of a model more than one in the reward."""
    counts = []
    for changes in ({}, {"kl_in_reward": "none", "kl_in_loss": "k2"}):
        watched, shapes = seen_rows(model)
        update = tiny_config().update.replace(advantage_normalization="none")
        init, step = make_rlhf_step(tiny_config(update=update, **changes), reward, prompts, watched)
        state = jax.eval_shape(init, jax.random.key(0), params)
        jax.eval_shape(step, state, params)
        counts.append(sorted(shapes))
    assert counts[0] == counts[1]


def test_generation_stops_when_all_have_ended(model, params, prompt, jit):
    """And until then the tokens are those of the slots it would have gone on to."""
    steps = []

    def apply(params, tokens, cache):
        jax.debug.callback(lambda ids: steps.append(ids.shape), tokens.ids)
        return model.apply(params, tokens, cache)

    def ends(params, features):
        return model.logits(params, features).at[..., EOS].add(1e9)

    def run(params, logits):
        watched = model._replace(apply=apply, logits=logits)
        options = {"num_steps": T, "temperature": 1.0, "eos_id": EOS, "pad_id": PAD}
        return generate(watched, params, prompt, jax.random.key(0), **options)

    ids, mask, _ = jit(lambda params: run(params, ends))(params).response
    jax.effects_barrier()
    assert len(steps) == 2  # the prompts, and one token each
    np.testing.assert_array_equal(mask, [[True] + [False] * (T - 1)] * N)
    np.testing.assert_array_equal(ids, [[EOS] + [PAD] * (T - 1)] * N)


@pytest.mark.parametrize("name", UPDATES)
def test_parameters_of_half_precision_serve_adapters_and_do_not_learn(name, model, prompts, reward):
    """A step of 1e-5 is lost in the rounding of every bfloat16 weight beyond 0.004."""
    config = tiny_config(update=UPDATES[name], adaptive_kl=True)
    half = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16),
        jax.eval_shape(model.init, jax.random.key(0)),
    )

    def run(config, key, params):
        return make_rlhf(config, reward, prompts)(key, params)

    key = jax.random.key(0)
    result = jax.eval_shape(run, config.replace(lora=LoRAConfig(rank=2)), key, half)
    assert {x.dtype for x in jax.tree.leaves(result.state.params)} == {jnp.dtype(jnp.float32)}
    assert result.metrics["objective/kl"].dtype == jnp.float32
    with pytest.raises(ValueError, match="params: weights of bfloat16 cannot learn"):
        jax.eval_shape(run, config, key, half)


def test_a_fine_tuning_refuses_half_precision(model, params):
    rows = Tokens(jnp.ones((4, P + T), int), jnp.ones((4, P + T), bool))
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    with pytest.raises(ValueError, match="params: weights of bfloat16 cannot learn"):
        make_sft(SFTConfig(batch_size=2), model, rows)(jax.random.key(0), half)


def test_a_run_in_half_precision_is_close_to_one_in_single(reward, prompts, params, step):
    config = tiny_config(lora=LoRAConfig(rank=2))
    init, _ = make_rlhf_step(config, reward, prompts)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    (_, single), (state, found) = (
        step(config, init(jax.random.key(0), p), p) for p in (params, half)
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    for name in ("objective/entropy", "policy/entropy_avg"):
        np.testing.assert_allclose(found[name], single[name], rtol=0.1)
    assert found["val/decode_log_prob_gap"] < 0.1
