"""The task with an exact answer, small: PPO comes close to the optimum, and mistakes do not."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tasks import enumerable

from jaxrl_po.algorithms import PPOConfig
from jaxrl_po.rlhf import (
    RLHFConfig,
    Tokens,
    TransformerConfig,
    generate,
    make_rlhf,
    make_transformer,
    policy_params,
)

V, T, N, UPDATES, BETA, SEEDS = 4, 3, 128, 40, 0.5, 3
MODEL = TransformerConfig(vocab_size=V, context_length=T + 1, num_layers=1, num_features=16)
PROMPT = jnp.ones((1, 1), jnp.int32)
CONFIG = RLHFConfig(
    model=MODEL,
    update=PPOConfig(
        num_envs=N,
        num_steps=T,
        total_timesteps=N * T * UPDATES,
        gamma=1.0,
        learning_rate=3e-3,
        anneal_lr=True,
        max_grad_norm=1.0,
    ),
    kl_coef=BETA,
)


class Task(NamedTuple):
    model: Any
    params: Any  # of the reference: untrained, close to uniform
    responses: Any
    reward_fn: Any
    reward: Any  # of each response
    reference: Any  # log-probability of each response


@pytest.fixture(scope="module")
def task():
    model = make_transformer(MODEL)
    params = jax.jit(model.init)(jax.random.key(0))
    responses = enumerable.all_responses(V, T)
    reward_fn = enumerable.bigram_reward(jax.random.key(3), V)
    rows = jnp.tile(PROMPT, (responses.ids.shape[0], 1))
    reward = reward_fn(Tokens(rows, rows == 1), responses)
    reference = enumerable.response_log_probs(model, params, PROMPT[0], responses)
    return Task(model, params, responses, reward_fn, reward, reference)


def make_run(task, config):
    run = jax.jit(make_rlhf(config, task.reward_fn, PROMPT))
    return lambda seed: run(jax.random.key(seed), task.params)


@pytest.fixture(scope="module")
def trained(task):
    run = make_run(task, CONFIG)
    return [run(seed) for seed in range(SEEDS)]


def standing(task, result):
    """The policy's exact objective, and the fraction of the gap that it closes."""
    log_prob = enumerable.response_log_probs(
        task.model, policy_params(result.state.params), PROMPT[0], task.responses
    )
    end = enumerable.objective(log_prob, task.reference, task.reward, BETA)
    start = enumerable.objective(task.reference, task.reference, task.reward, BETA)
    best = enumerable.optimum(task.reference, task.reward, BETA)
    assert start.kl == 0
    assert end.value <= best + 1e-4
    return end, enumerable.fraction_of_gap(end.value, start.value, best)


def test_there_are_as_many_responses_as_there_should_be(task):
    assert task.responses.ids.shape == (3**0 + 3 + 9 + 27, T)
    np.testing.assert_allclose(jnp.exp(task.reference).sum(), 1.0, rtol=1e-5)
    assert enumerable.all_responses(6, 5).ids.shape[0] == 3906


def test_the_optimum_is_that_of_the_gibbs_policy(task):
    gibbs = jax.nn.log_softmax(task.reference + task.reward / BETA)
    value = enumerable.objective(gibbs, task.reference, task.reward, BETA).value
    best = enumerable.optimum(task.reference, task.reward, BETA)
    np.testing.assert_allclose(value, best, rtol=1e-5)


def test_ppo_closes_the_gap(task, trained):
    for result in trained:
        end, fraction = standing(task, result)
        assert fraction >= 0.97
        assert abs(result.metrics["objective/kl"][-5:].mean() - end.kl) < 0.2


def test_k3_as_reward_makes_the_policy_collapse(task):
    config = CONFIG.replace()
    object.__setattr__(config, "kl_in_reward", "k3")  # past the check that refuses it
    end, fraction = standing(task, make_run(task, config)(0))
    assert fraction < 0.5
    # One response is left: KL = -log π_ref of it.
    assert end.kl > 0.8 * -task.reference.max()


@pytest.mark.parametrize(("temperature", "agrees"), [(1.0, True), (0.5, False)])
def test_the_sampled_kl_is_right_at_the_sampling_temperature_alone(
    task, trained, temperature, agrees
):
    prompt = jnp.tile(PROMPT, (4096, 1))

    @jax.jit
    def log_ratios(policy, key):
        options = {"num_steps": T, "eos_id": enumerable.EOS, "pad_id": -1}
        start = Tokens(prompt, prompt == 1)
        drawn = generate(task.model, policy, start, key, temperature=temperature, **options)
        of = [
            enumerable.response_log_probs(task.model, params, PROMPT[0], drawn.response)
            for params in (policy, task.params)
        ]
        return of[0] - of[1]

    for seed, result in enumerate(trained):
        sampled = log_ratios(policy_params(result.state.params), jax.random.key(seed)).mean()
        error = abs(sampled - standing(task, result)[0].kl)
        assert (error < 0.1) if agrees else (error > 0.2)
