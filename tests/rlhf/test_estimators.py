"""Advantages without a critic: their definitions, and that their gradient is the exact one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tasks import enumerable

from jaxrl_po.algorithms import (
    NPGConfig,
    PPOConfig,
    PPOPenaltyConfig,
    TRPOConfig,
    VPGConfig,
)
from jaxrl_po.rlhf import (
    Generation,
    RLHFConfig,
    Tokens,
    TransformerConfig,
    generate,
    make_rlhf,
    make_rlhf_step,
    make_transformer,
)
from jaxrl_po.rlhf.batch import make_token_batch, states
from jaxrl_po.rlhf.estimators import (
    group_relative,
    groups_that_differ,
    leave_one_out,
    rewards_to_go,
)
from jaxrl_po.rlhf.generation import response_distribution
from jaxrl_po.rlhf.heads import init_actor, token_network
from jaxrl_po.rlhf.train import make_rlhf_iteration
from jaxrl_po.rlhf.update import AVERAGES
from tests.rlhf.conftest import N, P, T, tiny_config

K = 4
SIZE = {"num_envs": N, "num_steps": T, "total_timesteps": 2 * N * T}
OUTCOME = np.array([1.0, 2.0, 4.0, -3.0, 0.3, 0.3, 0.3, 0.3, 5.0, 1.0, 2.0, 7.0], np.float32)
COUNTS = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], bool)
UPDATES = {
    "ppo": PPOConfig(**SIZE, num_minibatches=2),
    "ppo_penalty": PPOPenaltyConfig(**SIZE, num_minibatches=2),
    "vpg": VPGConfig(**SIZE),
    "trpo": TRPOConfig(**SIZE),
    "npg": NPGConfig(**SIZE),
}


def by_group(function):
    """function(outcomes, index) of each response and the others of its group that count."""
    found = np.zeros(len(OUTCOME))
    for i in np.flatnonzero(COUNTS):
        start = i // K * K
        members = [j for j in range(start, start + K) if COUNTS[j]]
        found[i] = function(i, members)
    return found


def test_leave_one_out_is_its_definition():
    def less_the_others(i, members):
        others = [OUTCOME[j] for j in members if j != i]
        return OUTCOME[i] - np.mean(others) if others else 0.0

    found = leave_one_out(OUTCOME, COUNTS, K)
    np.testing.assert_allclose(found, by_group(less_the_others), atol=1e-6)


@pytest.mark.parametrize("divide_by_std", [True, False])
def test_group_relative_is_its_definition(divide_by_std):
    def standardised(i, members):
        group = OUTCOME[members]
        std = group.std() if divide_by_std and (group != group[0]).any() else 1.0
        return (OUTCOME[i] - group.mean()) / std

    found = group_relative(OUTCOME, COUNTS, K, divide_by_std)
    np.testing.assert_allclose(found, by_group(standardised), atol=1e-6)


def test_rewards_to_go_are_the_double_sum():
    reward = np.random.default_rng(0).normal(size=(3, T)).astype(np.float32)
    expected = [
        [sum(0.9 ** (later - t) * row[later] for later in range(t, T)) for t in range(T)]
        for row in reward
    ]
    np.testing.assert_allclose(rewards_to_go(reward, 0.9), expected, rtol=1e-5)


def test_groups_whose_scores_are_equal_are_found():
    found = groups_that_differ(OUTCOME, COUNTS, K)
    np.testing.assert_array_equal(found, np.repeat([True, False, False], K))


# Each of either: an update sees the advantages, and not whose they are.
@pytest.mark.parametrize(
    ("update", "estimator"),
    [
        ("ppo", "rloo"),
        ("ppo_penalty", "grpo"),
        ("vpg", "reinforce++"),
        ("trpo", "rloo"),  # all that NPG does, and the line search
    ],
)
def test_every_update_learns_without_a_critic(estimator, update, reward, prompts, params, jit):
    config = tiny_config(update=UPDATES[update], estimator=estimator, answers_per_prompt=K)
    result = jit(make_rlhf(config, reward, prompts))(jax.random.key(0), params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result.metrics))
    np.testing.assert_array_equal(result.metrics["val/update_held"], 0)
    moved = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), result.state.params.policy, params)
    assert max(jax.tree.leaves(moved)) > 1e-5
    assert jax.tree.leaves(result.state.params.value) == []
    assert not any("value" in name for name in result.metrics)


@pytest.mark.parametrize("update", ["ppo", "vpg", "trpo"])
def test_no_pass_of_a_critic_is_made(update, model, params, prompts, reward):
    """Passes over whole sequences and parameters: half of them were the critic's."""

    def cost(**changes):
        shapes = []

        def apply(params, tokens, cache):
            shapes.append(tokens.ids.shape)
            return model.apply(params, tokens, cache)

        watched = model._replace(apply=apply)
        config = tiny_config(update=UPDATES[update], answers_per_prompt=2, **changes)
        init, step = make_rlhf_step(config, reward, prompts, watched)
        state = jax.eval_shape(init, jax.random.key(0), params)
        shapes.clear()
        jax.eval_shape(step, state, params)
        whole = sum(1 for _, length in shapes if length == P + T - 1)
        return whole, sum(x.size for x in jax.tree.leaves(state.params))

    with_critic, without = cost(), cost(estimator="rloo")
    # Valued before, fitted, and measured after: each a pass that is not made.
    assert without[0] <= with_critic[0] - 3
    assert without[1] == sum(x.size for x in jax.tree.leaves(params)) < 0.5 * with_critic[1]


def test_answers_to_a_prompt_stand_side_by_side(reward, prompts, params, jit):
    """An iteration takes N / k prompts of the order that single answers go through."""
    seen = []
    for changes in ({}, {"answers_per_prompt": K}):
        init, iterate = make_rlhf_iteration(tiny_config(**changes), reward, prompts)
        answer = jit(lambda state, iterate=iterate: iterate(state, params)[2].generation)
        seen.append(answer(init(jax.random.key(0), params)).prompt.ids)
    single, grouped = seen
    np.testing.assert_array_equal(grouped, np.repeat(single[: N // K], K, axis=0))


@pytest.fixture(scope="module")
def equal_group(prompts, params, model):
    """A batch of two prompts, the answers to the second of which score alike."""
    prompt = jnp.repeat(jnp.asarray(prompts[2:]), K, axis=0)
    response = jnp.tile(jnp.array([[1, 2, 3, 4]]), (N, 1))
    whole = jnp.ones_like(response, bool)
    generation = Generation(
        Tokens(prompt, prompt >= 0), Tokens(response, whole), jnp.zeros(response.shape)
    )
    score = jnp.array([0.0, 1, 1, 0, 1, 1, 1, 1])

    def build(**changes):
        config = tiny_config(
            estimator="grpo", answers_per_prompt=K, kl_in_reward="none", update=UPDATES["ppo"]
        ).replace(**changes)

        def reference(observation):
            return response_distribution(model, params, observation, T, 1.0)

        network = token_network(model, T, 1.0)
        return jax.jit(
            lambda score: make_token_batch(
                config, network, init_actor(params), reference, jnp.asarray(0.1), generation, score
            )
        )(score)

    return build


def test_groups_without_a_signal_are_left_out_and_counted(equal_group):
    batch, metrics = equal_group(dynamic_sampling=True)
    np.testing.assert_array_equal(batch.mask.all(axis=1), np.repeat([True, False], K))
    assert metrics["objective/groups_left_out"] == 1
    batch, metrics = equal_group()
    assert batch.mask.all()
    assert "objective/groups_left_out" not in metrics
    expected = np.repeat([-1.0, 1, 1, -1, 0, 0, 0, 0], T).reshape(N, T)
    np.testing.assert_allclose(batch.advantage, expected, atol=1e-6)


def test_a_batch_without_a_signal_changes_nothing(prompts, params, jit):
    def alike(prompt, response):
        return jnp.ones(N)

    config = tiny_config(
        estimator="grpo",
        answers_per_prompt=K,
        kl_in_reward="none",
        dynamic_sampling=True,
        update=UPDATES["ppo"],
    )
    state = jit(make_rlhf(config, alike, prompts))(jax.random.key(0), params).state
    jax.tree.map(np.testing.assert_array_equal, state.params.policy, params)


# --- Unbiasedness, on the task whose every expectation is a sum.

V, LENGTH, BETA, ROWS, BATCHES = 6, 5, 0.3, 512, 160
TASK = TransformerConfig(
    vocab_size=V, context_length=LENGTH + 1, num_layers=1, num_heads=1, num_features=4
)
PROMPT = jnp.ones((1, 1), jnp.int32)


@pytest.fixture(scope="module")
def task():
    """A model, a policy that has left its reference, and the exact gradient of J."""
    model = make_transformer(TASK)
    reference, away = (jax.jit(model.init)(jax.random.key(seed)) for seed in (0, 1))
    policy = jax.tree.map(lambda x, y: x + 2.0 * y, reference, away)
    responses = enumerable.all_responses(V, LENGTH)
    reward_fn = enumerable.bigram_reward(jax.random.key(3), V)
    rows = jnp.tile(PROMPT, (responses.ids.shape[0], 1))
    reward = reward_fn(Tokens(rows, rows == 1), responses)
    before = enumerable.response_log_probs(model, reference, PROMPT[0], responses)

    def objective(params):
        now = enumerable.response_log_probs(model, params, PROMPT[0], responses)
        return enumerable.objective(now, before, reward, BETA).value

    gradient = jax.jit(jax.grad(objective))(policy)
    return model, reference, policy, reward_fn, ravel(gradient)


def ravel(tree):
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])


ESTIMATORS = {
    "rloo": {"estimator": "rloo", "answers_per_prompt": K},
    "reinforce": {"estimator": "reinforce++", "update": {"advantage_normalization": "none"}},
    "dr_grpo": {"estimator": "grpo", "answers_per_prompt": K, "divide_by_std": False},
}


def estimator_config(update=None, **changes):
    size = {"num_envs": ROWS, "num_steps": LENGTH, "total_timesteps": ROWS * LENGTH}
    return RLHFConfig(model=TASK, update=PPOConfig(**size, **update or {}), eos_id=0, **changes)


@pytest.fixture(scope="module")
def gradients(task, jit_as_shipped):
    """Of each estimator: T times minus the gradients [BATCHES, ·] of the first policy loss."""
    model, reference, policy, reward_fn, _ = task
    prompt = jnp.tile(PROMPT, (ROWS, 1))
    network = token_network(model, LENGTH, 1.0)

    def of_reference(observation):
        return response_distribution(model, reference, observation, LENGTH, 1.0)

    def gradient(config, drawn, score):
        params = init_actor(policy)
        batch, _ = make_token_batch(
            config, network, params, of_reference, jnp.asarray(BETA), drawn, score
        )

        def loss(policy):
            distribution, _ = network.policy(init_actor(policy), states(drawn), ())
            ratio = jnp.exp(distribution.log_prob(batch.action) - batch.log_prob)
            return AVERAGES["constant"](-ratio * batch.advantage, batch.mask)

        return -LENGTH * ravel(jax.grad(loss)(policy))

    def of_each(key):
        options = {"num_steps": LENGTH, "temperature": 1.0, "eos_id": 0, "pad_id": -1}
        drawn = generate(model, policy, Tokens(prompt, prompt == 1), key, **options)
        score = reward_fn(drawn.prompt, drawn.response)
        return {
            name: gradient(estimator_config(**changes), drawn, score)
            for name, changes in ESTIMATORS.items()
        }

    keys = jax.random.split(jax.random.key(5), BATCHES)
    found = jit_as_shipped(lambda keys: jax.lax.map(of_each, keys))(keys)
    return {name: np.asarray(sample, np.float64) for name, sample in found.items()}


def agrees(sample, exact):
    """Whether a mean is the exact vector within Monte-Carlo error, and how large that error is.

    Each coordinate's error in standard errors is about normal: of d coordinates the largest is
    below 5 but once in 10^4, and their mean square near 1 (correlated, so within a factor of 2).
    """
    error = sample.std(axis=0, ddof=1) / np.sqrt(len(sample))
    live = error > 1e-9
    z = (sample.mean(axis=0) - np.asarray(exact))[live] / error[live]
    size = np.linalg.norm(error) / np.linalg.norm(exact)
    return bool((np.abs(z) < 5).all() and (z**2).mean() < 2), size


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_expected_gradient_is_the_exact_one(name, task, gradients):
    """Of E[score] - β KL; of GRPO without division (k-1)/k of it."""
    exact = task[-1]
    sample = gradients[name]
    factor = (K - 1) / K if name == "dr_grpo" else 1.0
    close, error = agrees(sample, factor * exact)
    assert close
    assert error < 0.04  # of the exact gradient's norm, and a bias of a tenth is seen
    assert not agrees(sample, 1.1 * factor * exact)[0]
    mean = sample.mean(axis=0)
    along = mean @ np.asarray(exact) / np.linalg.norm(exact) ** 2
    assert abs(along - factor) < 0.05
