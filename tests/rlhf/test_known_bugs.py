"""One test for each mistake that other RLHF libraries have shipped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.distributions import Categorical
from jaxrl_po.ops import importance_ratio
from jaxrl_po.rlhf import Generation, Tokens, make_rlhf_step
from jaxrl_po.rlhf.batch import make_token_batch, score_responses
from jaxrl_po.rlhf.heads import init_actor_critic, token_network
from tests.rlhf.conftest import EOS, PAD, N, P, T, V, tiny_config

IDS = jnp.tile(jnp.array([[1, EOS, PAD, PAD], [2, 3, 1, EOS]]), (4, 1))


@pytest.fixture(scope="module")
def generation(prompt):
    return Generation(prompt, Tokens(IDS, IDS != PAD), jnp.zeros(IDS.shape))


@pytest.fixture(scope="module")
def make_batch(model, params, generation):
    """The batch of given scores, under the reference's own policy: no KL to pay."""

    def build(score, response=None, value_bias=0.0, **changes):
        config = tiny_config(**changes)
        network = token_network(model, T, config.temperature)
        actor_critic = init_actor_critic(model, params, shared_torso=False)
        actor_critic.value["head"]["bias"] += value_bias
        used = generation if response is None else generation._replace(response=response)

        @jax.jit
        def batch_of(generation, score):
            def reference(observation):
                return network.policy(actor_critic, observation, ())[0]

            return make_token_batch(
                config, network, actor_critic, reference, jnp.asarray(0.1), generation, score
            )

        return batch_of(used, score)

    return build


def test_1_the_score_sits_on_the_last_token_and_not_after_it(make_batch):
    batch, _ = make_batch(jnp.full(8, 2.0))
    # γ = 1, values 0: the last token's advantage is the whole score.
    assert batch.advantage[0, 1] == 2.0
    assert batch.advantage[1, 3] == 2.0


def test_2_empty_slots_are_not_counted(make_batch, generation):
    batch, metrics = make_batch(jnp.zeros(8))
    mask = np.asarray(generation.response.mask)
    entropy = np.asarray(-batch.log_prob)[mask].sum() / 8
    np.testing.assert_allclose(metrics["objective/entropy"], entropy, rtol=1e-5)
    assert metrics["tokens/response_len_mean"] == 3.0


def test_3_eos_is_not_taken_for_padding(generation):
    with pytest.raises(ValueError, match="pad_id=0 equals eos_id"):
        tiny_config(pad_id=EOS)
    assert generation.response.mask[0, 1]


@pytest.fixture(scope="module")
def first_metrics(config, reward, prompts, params, step):
    """Of the first iteration at a temperature."""
    state = make_rlhf_step(config, reward, prompts)[0](jax.random.key(0), params)

    def metrics(temperature):
        return step(config.replace(temperature=temperature), state, params)[1]

    return metrics


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_4_sampling_and_scoring_share_one_temperature(temperature, first_metrics):
    metrics = first_metrics(temperature)
    np.testing.assert_allclose(metrics["val/decode_log_prob_gap"], 0.0, atol=1e-5)
    np.testing.assert_allclose(metrics["objective/kl"], 0.0, atol=1e-5)


def test_5_the_ratio_starts_at_one(first_metrics):
    found = first_metrics(1.0)["val/ratio_first_minibatch"]
    np.testing.assert_allclose(found, 1.0, atol=1e-5)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_6_no_other_estimator_than_k1_goes_into_the_reward(estimator):
    with pytest.raises(ValueError, match="kl_in_reward"):
        tiny_config(kl_in_reward=estimator)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_7_no_other_estimator_than_k2_is_differentiated(estimator):
    with pytest.raises(ValueError, match="kl_in_loss"):
        tiny_config(kl_in_reward="none", kl_in_loss=estimator)


def test_8_fractions_of_a_reward_survive(make_batch, generation, config):
    whole = score_responses(config, lambda p, r: jnp.ones(8, jnp.int32), generation)
    half = score_responses(config, lambda p, r: jnp.full(8, 0.5), generation)
    assert whole.dtype == half.dtype == jnp.float32
    assert make_batch(half)[0].advantage[0, 1] == 0.5


def test_9_every_iteration_draws_other_tokens_and_orders(
    config, reward, prompts, params, model, jit
):
    """What the program generates and trains on is recorded while it runs, twice."""
    update = config.update.replace(shared_torso=True)
    config = config.replace(update=update, temperature=20.0)  # all tokens alike, so few rows are
    seen = []

    def apply(params, tokens, cache):
        jax.debug.callback(lambda ids: seen.append(np.asarray(ids)), tokens.ids)
        return model.apply(params, tokens, cache)

    watched = model._replace(apply=apply)
    init, step = make_rlhf_step(config, reward, prompts, watched)
    step, state = jit(step), init(jax.random.key(3), params)  # and with this key none
    iterations = []
    for _ in range(2):
        seen.clear()
        state, _ = step(state, params)
        jax.effects_barrier()
        batch = next(ids for ids in seen if ids.shape == (N, P + T - 1))
        row_of = {tuple(row): number for number, row in enumerate(batch.tolist())}
        assert len(row_of) == N
        # Which rows shared a minibatch, as sets: two epochs of two minibatches.
        minibatches = [
            frozenset(row_of[tuple(row)] for row in ids.tolist())
            for ids in seen
            if ids.shape == (N // 2, P + T - 1)
        ]
        assert len(minibatches) == 4
        iterations.append((batch, set(minibatches)))
    (tokens, orders), (other_tokens, other_orders) = iterations
    assert (tokens[:, -T + 1 :] != other_tokens[:, -T + 1 :]).any(axis=1).mean() > 0.5
    assert len(orders) == len(other_orders) == 4  # another order in each epoch
    assert not orders & other_orders  # and in each iteration


def test_10_a_masked_infinity_has_no_gradient():
    mask = jnp.array([True, False])
    old = jnp.array([-1.0, -jnp.inf])

    def mean_ratio(log_prob):
        return importance_ratio(log_prob, old, mask).mean(where=mask)

    np.testing.assert_array_equal(jax.grad(mean_ratio)(jnp.array([-1.0, 5.0])), [1.0, 0.0])


def test_11_padding_does_not_leak_into_values_or_returns(make_batch, generation):
    score = jnp.arange(8.0)
    batch, _ = make_batch(score, value_bias=0.7)
    noise = jnp.where(generation.response.mask, IDS, 3)
    noisy, _ = make_batch(score, Tokens(noise, generation.response.mask), value_bias=0.7)
    for field in ("advantage", "target", "value"):
        one, other = getattr(batch, field), getattr(noisy, field)
        np.testing.assert_array_equal(one[batch.mask], other[batch.mask])
    # The value before the last token is used, the value after it is 0.
    np.testing.assert_allclose(batch.target[1, 3], score[1], rtol=1e-6)
    assert isinstance(batch.distribution, Categorical)
    assert batch.distribution.logits.shape == (8, T, V)
