"""The RLHF program as a whole: one executable, pure, vmappable, and starting from ratio 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.rlhf import make_rlhf, make_rlhf_step
from jaxrl_po.rlhf.batch import make_token_batch, respond
from jaxrl_po.rlhf.generation import response_distribution
from jaxrl_po.rlhf.heads import init_actor_critic, token_network
from tests.rlhf.conftest import N, T, tiny_config

NAMES = [
    "objective/kl",
    "objective/entropy",
    "objective/non_score_reward",
    "objective/rlhf_reward",
    "objective/scores",
    "objective/kl_coef",
    "objective/kl_exact",
    "objective/kl_k3",
    "policy/approxkl_avg",
    "policy/clipfrac_avg",
    "policy/entropy_avg",
    "loss/policy_avg",
    "loss/value_avg",
    "val/clipfrac_avg",
    "val/ratio",
    "val/ratio_var",
    "val/num_eos_tokens",
    "val/ratio_first_minibatch",
    "tokens/response_len_mean",
    "tokens/truncated_frac",
]


ONE_TORSO = tiny_config().update.replace(shared_torso=True, anneal_lr=True)


def close(one, other, atol=1e-5):
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(x, y, atol=atol, rtol=1e-5)


def test_metrics_bear_the_names_of_the_field(result):
    assert set(NAMES) <= set(result.metrics)
    for name, value in result.metrics.items():
        assert value.shape == (3,), name
        assert np.isfinite(value).all(), name


def test_the_first_minibatch_has_ratio_one(result):
    np.testing.assert_allclose(result.metrics["val/ratio_first_minibatch"], 1.0, atol=1e-5)
    np.testing.assert_allclose(result.metrics["val/decode_log_prob_gap"], 0.0, atol=1e-5)


def test_the_run_starts_at_the_reference(result):
    for name in ("objective/kl", "objective/kl_exact", "objective/kl_k3"):
        assert abs(result.metrics[name][0]) < 1e-5
        assert abs(result.metrics[name][2]) > 1e-4


def test_no_host_callbacks(train, params):
    text = train.lower(jax.random.key(0), params).as_text()
    assert "callback" not in text
    assert "infeed" not in text


def test_a_second_call_compiles_nothing(train, params, result):
    train(jax.random.key(5), jax.tree.map(lambda x: x * 1.1, params))
    assert train._cache_size() == 1


@pytest.fixture(scope="module")
def mapped(config, reward, prompts, params, jit):
    """Runs at once: of keys, prices, temperatures and bounds of the clip [4] each."""

    def run(key, beta, temperature, clip_eps):
        update = config.update.replace(clip_eps=clip_eps)
        changed = config.replace(kl_coef=beta, temperature=temperature, update=update)
        return make_rlhf(changed, reward, prompts)(key, params)

    return jit(jax.vmap(run))


def test_four_seeds_at_once_are_four_runs(mapped, train, params):
    keys = jax.random.split(jax.random.key(0), 4)
    apart = [train(key, params) for key in keys]
    together = mapped(keys, *jnp.array([[0.1, 1.0, 0.2]] * 4).T)
    close(together, jax.tree.map(lambda *x: jnp.stack(x), *apart))


def test_floats_may_be_mapped_over_and_each_matters(mapped):
    grid = jnp.array([[0.1, 1.0, 0.2], [0.9, 1.0, 0.2], [0.1, 0.5, 0.2], [0.1, 1.0, 0.01]])
    result = mapped(jnp.stack([jax.random.key(0)] * 4), *grid.T)
    assert len(set(np.asarray(result.metrics["objective/rlhf_reward"][:, -1]).tolist())) == 4


def test_schedules_move_the_price_and_the_update(config, reward, prompts, params, step, jit):
    update = config.update.replace(learning_rate=lambda done: 1e-2 * (1.0 - done))
    moving = config.replace(
        kl_coef=lambda done: 0.1 + done, temperature=lambda done: 1.0 + done, update=update
    )
    init, move = make_rlhf_step(moving, reward, prompts)
    move, state = jit(move), init(jax.random.key(0), params)
    for iteration in range(3):
        done = iteration / 3
        now = config.replace(
            kl_coef=0.1 + done,
            temperature=1.0 + done,
            update=config.update.replace(learning_rate=1e-2 * (1.0 - done)),
        )
        expected, _ = step(now, state._replace(kl_coef=jnp.float32(0.1 + done)), params)
        state, metrics = move(state, params)
        close(state, expected)
        np.testing.assert_allclose(metrics["objective/kl_coef"], 0.1 + done, rtol=1e-6)


def test_stop_tokens_end_the_responses_of_a_run(config, model, params, prompt, result, jit):
    stopping = config.replace(stop_ids=(1, 2, 3, 4, 5))
    network = token_network(model, T, 1.0)

    @jit
    def metrics_of(key):
        def reference(observation):
            return response_distribution(model, params, observation, T, 1.0)

        learned = init_actor_critic(model, params, shared_torso=False)
        given = respond(stopping, model, params, prompt, key), jnp.zeros(N)
        return make_token_batch(stopping, network, learned, reference, jnp.zeros(()), *given)[1]

    metrics = metrics_of(jax.random.key(0))
    assert metrics["tokens/response_len_mean"] == 1.0
    assert metrics["val/num_eos_tokens"] == N
    assert (result.metrics["tokens/response_len_mean"] > 1.0).all()


def test_holding_the_loop_changes_nothing(config, reward, prompts, params, result, step):
    init, _ = make_rlhf_step(config, reward, prompts)
    state = init(jax.random.key(0), params)
    for _ in range(3):
        state, metrics = step(config, state, params)
    close(state, result.state)
    close(metrics, {name: value[-1] for name, value in result.metrics.items()})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "kl_in_reward": "none",
            "kl_in_loss": "k2",
            "adaptive_kl": True,
            "update": tiny_config().update.replace(advantage_normalization="none"),
        },
    ],
    ids=["k1_reward", "k2_loss"],
)
def test_the_price_that_counts_is_the_states(changes, reward, prompts, params, step):
    config = tiny_config(**changes)
    init, _ = make_rlhf_step(config, reward, prompts)
    last = []
    for price in (0.0, 10.0):
        state = init(jax.random.key(0), params)
        state = state._replace(kl_coef=jnp.full_like(state.kl_coef, price))
        for _ in range(6):
            state, metrics = step(config, state, params)
        last.append(metrics)
    free, priced = last
    assert all(np.isfinite(x) for metrics in last for x in metrics.values())
    assert priced["objective/kl_exact"] < 0.8 * free["objective/kl_exact"]
    assert free["objective/kl_coef"] == 0.0
    assert (priced["objective/kl_coef"] < 10.0) == config.adaptive_kl


def test_held_past_its_end_an_annealed_run_stands_still(reward, prompts, params, step):
    """The factor on the learning rate ends at 0, not below; of policy and critic on one torso."""
    config = tiny_config(update=ONE_TORSO)
    state = make_rlhf_step(config, reward, prompts)[0](jax.random.key(0), params)
    moved = []
    for iteration in (2, 3, 4, 1000):
        state = state._replace(iteration=jnp.uint32(iteration))
        after, metrics = step(config, state, params)
        assert all(np.isfinite(x) for x in metrics.values())
        change = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), after.params, state.params)
        moved.append([max(jax.tree.leaves(part)) for part in (change.torso, change.value)])
    assert min(moved[0]) > 1e-4
    assert moved[1:] == [[0, 0]] * 3


def test_a_legacy_key_starts_the_same_run(config, reward, prompts, train, params, result):
    init, _ = make_rlhf_step(config, reward, prompts)
    jax.tree.map(
        np.testing.assert_array_equal,
        *(arrays(init(key, params)) for key in (jax.random.PRNGKey(0), jax.random.key(0))),
    )
    found = jax.eval_shape(train, jax.random.PRNGKey(0), params)
    assert jax.tree.map(lambda x: x.shape, found.metrics) == dict.fromkeys(result.metrics, (3,))


def test_a_legacy_key_may_hold_the_loop(config, reward, prompts, params, step, result):
    state = make_rlhf_step(config, reward, prompts)[0](jax.random.PRNGKey(0), params)
    state, metrics = step(config, state, params)
    close(metrics, {name: value[0] for name, value in result.metrics.items()})


@pytest.mark.parametrize("update", [tiny_config().update, ONE_TORSO], ids=["two", "one_torso"])
def test_a_state_may_be_donated(update, reward, prompts, params, step, jit):
    """No two of its arrays share a buffer, with each other or with what the caller holds."""
    config, price = tiny_config(update=update), jnp.float32(0.1)
    init, _ = make_rlhf_step(config.replace(kl_coef=price), reward, prompts)
    key = jax.random.key(0)
    state = init(key, params)
    after, _ = step(config, state, params)
    donate = jit(lambda state: jax.tree.map(jnp.copy, state), donate_argnums=0)
    for given in (after, state):
        held = [x.unsafe_buffer_pointer() for x in arrays((given, params, key, price))]
        assert len(set(held)) == len(held)
        donate(given)
    assert not any(x.is_deleted() for x in arrays((params, key, price)))


def arrays(tree):
    keys = jax.dtypes.prng_key
    leaves = jax.tree.leaves(tree)
    return [jax.random.key_data(x) if jnp.issubdtype(x.dtype, keys) else x for x in leaves]
