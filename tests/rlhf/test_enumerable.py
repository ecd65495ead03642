"""The task with an exact answer, small: PPO comes close to the optimum, and mistakes do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.algorithms import PPOConfig
from jaxrl_po.rlhf import RLHFConfig, Tokens, TransformerConfig, make_rlhf
from jaxrl_po.rlhf.tasks import enumerable
from jaxrl_po.rlhf.transformer import make_transformer

V, T, N, UPDATES, BETA = 4, 3, 128, 40, 0.5
MODEL = TransformerConfig(vocab_size=V, context_length=T + 1, num_layers=1, num_features=16)
PROMPT = jnp.ones((1, 1), jnp.int32)


def config():
    update = PPOConfig(
        num_envs=N,
        num_steps=T,
        total_timesteps=N * T * UPDATES,
        gamma=1.0,
        learning_rate=3e-3,
        anneal_lr=True,
        max_grad_norm=1.0,
    )
    return RLHFConfig(model=MODEL, update=update, kl_coef=BETA)


@pytest.fixture(scope="module")
def task():
    model = make_transformer(MODEL)
    params = jax.jit(model.init)(jax.random.key(0))
    params["embedding"] = {"embedding": 5 * params["embedding"]["embedding"]}
    responses = enumerable.all_responses(V, T)
    # The weights are scaled up: KL has to be worth something beside the reward.
    small = enumerable.bigram_reward(jax.random.key(3), V)

    def reward(prompt, response):
        return 3.0 * small(prompt, response)

    rows = jnp.tile(PROMPT, (responses.ids.shape[0], 1))
    scores = reward(Tokens(rows, rows == 1), responses)
    log_prob = enumerable.response_log_probs(model, params, PROMPT[0], responses)
    return model, params, responses, reward, scores, log_prob


def fraction(task, result):
    model, _, responses, _, scores, reference = task
    final = enumerable.response_log_probs(
        model, result.state.params["policy"], PROMPT[0], responses
    )
    standing = enumerable.objective(final, reference, scores, BETA)
    start = enumerable.objective(reference, reference, scores, BETA)
    best = enumerable.optimum(reference, scores, BETA)
    assert standing.value <= best + 1e-4
    assert start.kl == 0
    return enumerable.fraction_of_gap(standing.value, start.value, best), standing


def test_there_are_as_many_responses_as_there_should_be(task):
    _, _, responses, _, _, log_prob = task
    assert responses.ids.shape == (3**0 + 3 + 9 + 27, T)
    np.testing.assert_allclose(jnp.exp(log_prob).sum(), 1.0, rtol=1e-5)
    assert enumerable.all_responses(6, 5).ids.shape[0] == 3906


def test_the_optimum_is_that_of_the_gibbs_policy(task):
    *_, scores, reference = task
    gibbs = jax.nn.log_softmax(reference + scores / BETA)
    value = enumerable.objective(gibbs, reference, scores, BETA).value
    np.testing.assert_allclose(value, enumerable.optimum(reference, scores, BETA), rtol=1e-5)


def test_ppo_closes_the_gap(task):
    _, params, _, reward, _, _ = task
    result = jax.jit(make_rlhf(config(), reward, PROMPT))(jax.random.key(0), params)
    closed, standing = fraction(task, result)
    assert closed >= 0.97
    sampled = result.metrics["objective/kl"][-5:].mean()
    assert abs(sampled - standing.kl) < 0.2
