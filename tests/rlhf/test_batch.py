"""The index contract: where scores sit, where values end, and that empty slots stay inert."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.algorithms import (
    PPOConfig,
    PPOPenaltyConfig,
    TRPOConfig,
    VPGConfig,
    make_algorithm,
)
from jaxrl_po.distributions import Categorical
from jaxrl_po.rlhf import Generation, Tokens
from jaxrl_po.rlhf.batch import last_slot, make_token_batch, score_responses
from jaxrl_po.rlhf.change import after_update
from jaxrl_po.rlhf.heads import init_actor_critic, token_network
from jaxrl_po.types import Network
from tests.rlhf.conftest import EOS, PAD, T, V, tiny_config

VALUE = np.array([0.5, -1.0, 2.0, 0.25])
SCORE, GAMMA, LAM, BETA = 3.0, 0.9, 0.8, 0.2


def uniform(observation):
    return Categorical(jnp.zeros((observation.ids.shape[0], T, V)))


def fixed_network(log_prob_shift):
    """Uniform over V tokens but for a shift, and the values above."""

    def policy_and_value(params, observation, memory):
        rows = observation.ids.shape[0]
        logits = jnp.zeros((rows, T, V)).at[..., EOS].set(log_prob_shift)
        return Categorical(logits), jnp.tile(jnp.asarray(VALUE, jnp.float32), (rows, 1))

    return Network(None, None, None, policy_and_value, None)


# Three responses: EOS early, EOS in the last slot, none at all; and their lengths.
RESPONSES = {
    "early": ([1, EOS, PAD, PAD], 2),
    "last": ([1, 2, 3, EOS], 4),
    "none": ([1, 2, 3, 4], 4),
}


def by_hand(ids, length):
    """Rewards and advantages of one response, by the definition, in plain Python."""
    normaliser = np.log(V - 1 + np.exp(1.0))
    log_ratio = [(1.0 if ids[t] == EOS else 0.0) - normaliser + np.log(V) for t in range(length)]
    reward = [-BETA * d for d in log_ratio]
    reward[-1] += SCORE
    values = [*VALUE[:length], 0.0]
    delta = [reward[t] + GAMMA * values[t + 1] - values[t] for t in range(length)]
    return [
        sum((GAMMA * LAM) ** k * delta[t + k] for k in range(length - t)) for t in range(length)
    ], log_ratio


@pytest.mark.parametrize("case", RESPONSES)
def test_advantages_are_those_computed_by_hand(case):
    ids, length = RESPONSES[case]
    config = tiny_config()
    config = config.replace(update=config.update.replace(gamma=GAMMA, gae_lambda=LAM))
    generation = Generation(
        prompt=Tokens(jnp.array([[PAD, 2, 1]]), jnp.array([[False, True, True]])),
        response=Tokens(jnp.array([ids]), jnp.arange(T)[None] < length),
        log_prob=jnp.zeros((1, T)),
    )

    @jax.jit
    def build(generation):
        score, network = jnp.array([SCORE]), fixed_network(1.0)
        return make_token_batch(config, network, (), uniform, jnp.asarray(BETA), generation, score)

    batch, metrics = build(generation)
    advantage, log_ratio = by_hand(ids, length)
    np.testing.assert_allclose(batch.advantage[0, :length], advantage, rtol=1e-5)
    np.testing.assert_allclose(batch.target[0, :length], advantage + VALUE[:length], rtol=1e-5)
    np.testing.assert_allclose(metrics["objective/kl"], sum(log_ratio), atol=1e-6)
    np.testing.assert_allclose(
        metrics["objective/non_score_reward"], -BETA * sum(log_ratio), atol=1e-6
    )
    assert metrics["tokens/truncated_frac"] == (case == "none")
    assert metrics["val/num_eos_tokens"] == (case != "none")


def test_the_last_slot_is_the_last_of_the_mask():
    mask = jnp.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], bool)
    np.testing.assert_array_equal(last_slot(mask), [[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]])


@pytest.fixture(scope="module")
def batch(config, model, params, prompt):
    network = token_network(model, T, config.temperature)
    actor_critic = init_actor_critic(model, params, shared_torso=False)
    ids = jnp.tile(jnp.array([row for row, _ in RESPONSES.values()] + [[3, 2, EOS, PAD]]), (2, 1))
    generation = Generation(prompt, Tokens(ids, ids != PAD), jnp.zeros(ids.shape))

    @jax.jit
    def build(generation):
        score = jnp.arange(8.0)
        return make_token_batch(
            config, network, actor_critic, uniform, jnp.asarray(0.1), generation, score
        )

    batch, _ = build(generation)
    return network, actor_critic, batch


COMMON = {"num_envs": 8, "num_steps": T, "total_timesteps": 8 * T}
UPDATES = {
    "ppo": PPOConfig(**COMMON, ent_coef=0.01, clip_value=True),
    "ppo_penalty": PPOPenaltyConfig(**COMMON),
    "trpo": TRPOConfig(**COMMON, critic_epochs=2),
    "vpg": VPGConfig(**COMMON, critic_epochs=2),
}


@pytest.fixture(scope="module")
def change(batch, config, jit):
    """What an update did, as a program: new parameters, batch -> metrics."""
    network, params, _ = batch
    return jit(lambda new, batch: after_update(config, network, params, new, batch))


@pytest.fixture(scope="module")
def run_update(batch, change, jit):
    """An algorithm's first update: batch -> parameters, metrics, metrics after it."""
    network, params, _ = batch

    @functools.cache
    def program(name):
        algorithm = make_algorithm(UPDATES[name], network)

        @jit
        def update(batch):
            state = algorithm.init(params)
            return algorithm.update(jax.random.key(0), params, state, batch, jnp.ones(()))

        def run(batch):
            new, _, metrics = update(batch)
            return new, metrics, change(new, batch)

        return run

    return program


@pytest.mark.parametrize("name", UPDATES)
def test_empty_slots_have_no_influence(name, batch, run_update):
    """NaN and noise in masked slots change no update, gradient or metric, to the bit."""
    _, _, clean = batch
    run = run_update(name)
    empty = ~clean.mask

    def spoil(x, value):
        fill = jnp.full_like(x, value) if jnp.issubdtype(x.dtype, jnp.floating) else x + 1
        return jnp.where(empty.reshape(*empty.shape, *[1] * (x.ndim - 2)), fill, x)

    def spoiled(value):
        fields = ("distribution", "action", "log_prob", "value", "advantage", "target")
        return clean._replace(
            **{f: jax.tree.map(lambda x: spoil(x, value), getattr(clean, f)) for f in fields}
        )

    expected = run(clean)
    for value in (jnp.nan, 1e30):
        for one, other in zip(
            jax.tree.leaves(run(spoiled(value))), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(expected))


@pytest.mark.parametrize("name", ["trpo"])
def test_masked_means_count_only_what_the_mask_leaves(name, batch, run_update):
    _, _, clean = batch
    _, metrics, _ = run_update(name)(clean)
    np.testing.assert_allclose(
        metrics["policy_loss"],
        -np.asarray(clean.advantage)[np.asarray(clean.mask)].mean(),
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        metrics["entropy"],
        np.asarray(clean.distribution.entropy())[np.asarray(clean.mask)].mean(),
        rtol=1e-5,
    )


def test_missing_eos_costs_its_penalty(prompt):
    ids = jnp.tile(jnp.array([[1, EOS, PAD, PAD], [1, 2, 3, 4]]), (4, 1))
    generation = Generation(prompt, Tokens(ids, ids != PAD), jnp.zeros(ids.shape))
    config = tiny_config(missing_eos_penalty=2.0)
    score = score_responses(config, lambda prompt, response: jnp.ones(8), generation)
    np.testing.assert_array_equal(score, [1, -1] * 4)


def test_a_stop_token_that_is_there_costs_no_penalty(prompt):
    ids = jnp.tile(
        jnp.array([[1, 3, PAD, PAD], [1, 2, 4, 4], [1, 2, 1, EOS], [3, 1, 1, 1]]), (2, 1)
    )
    mask = (ids != PAD).at[3::4, 0].set(False)  # a 3 in an empty slot ends nothing
    generation = Generation(prompt, Tokens(ids, mask), jnp.zeros(ids.shape))
    config = tiny_config(missing_eos_penalty=2.0, stop_ids=(5, 3))
    score = score_responses(config, lambda prompt, response: jnp.ones(8), generation)
    np.testing.assert_array_equal(score, [1, -1, 1, -1] * 2)
