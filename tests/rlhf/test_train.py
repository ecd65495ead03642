"""The RLHF program as a whole: one executable, pure, vmappable, and starting from ratio 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.algorithms import PPOPenaltyConfig, TRPOConfig
from jaxrl_po.rlhf import make_rlhf, make_rlhf_step
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


def test_four_seeds_at_once_are_four_runs(config, reward, prompts, params, train, jit):
    keys = jax.random.split(jax.random.key(0), 4)
    mapped = jit(jax.vmap(make_rlhf(config, reward, prompts), (0, None)))(keys, params)
    apart = [train(key, params) for key in keys]
    close(mapped, jax.tree.map(lambda *x: jnp.stack(x), *apart))


def test_floats_may_be_mapped_over_and_each_matters(config, reward, prompts, params, jit):
    def scores(beta, temperature, clip_eps):
        update = config.update.replace(clip_eps=clip_eps)
        changed = config.replace(kl_coef=beta, temperature=temperature, update=update)
        result = make_rlhf(changed, reward, prompts)(jax.random.key(0), params)
        return result.metrics["objective/rlhf_reward"][-1]

    grid = jnp.array([[0.1, 1.0, 0.2], [0.9, 1.0, 0.2], [0.1, 0.5, 0.2], [0.1, 1.0, 0.01]])
    assert len(set(np.asarray(jit(jax.vmap(scores))(*grid.T)).tolist())) == 4


def test_schedules_move_the_price_and_the_update(config, reward, prompts, params, jit):
    update = config.update.replace(learning_rate=lambda done: 1e-2 * (1.0 - done))
    moving = config.replace(
        kl_coef=lambda done: 0.1 + done, temperature=lambda done: 1.0 + done, update=update
    )
    init, step = make_rlhf_step(moving, reward, prompts)
    step, state = jit(step), init(jax.random.key(0), params)
    fixed = jit(lambda config, state: make_rlhf_step(config, reward, prompts)[1](state, params))
    for iteration in range(3):
        done = jnp.float32(iteration / 3)
        now = config.replace(
            kl_coef=0.1 + done,
            temperature=1.0 + done,
            update=config.update.replace(learning_rate=1e-2 * (1.0 - done)),
        )
        expected, _ = fixed(now, state._replace(kl_coef=0.1 + done))
        state, metrics = step(state, params)
        close(state, expected)
        np.testing.assert_allclose(metrics["objective/kl_coef"], 0.1 + done, rtol=1e-6)


def test_stop_tokens_end_the_responses_of_a_run(config, reward, prompts, params, result, jit):
    stopping = config.replace(stop_ids=(1, 2, 3, 4, 5))
    metrics = jit(make_rlhf(stopping, reward, prompts))(jax.random.key(0), params).metrics
    np.testing.assert_array_equal(metrics["tokens/response_len_mean"], 1.0)
    np.testing.assert_array_equal(metrics["val/num_eos_tokens"], N)
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
        {"update": PPOPenaltyConfig(num_envs=N, num_steps=T, total_timesteps=N * T)},
        {"update": TRPOConfig(num_envs=N, num_steps=T, total_timesteps=2 * N * T)},
        {"update": tiny_config().update.replace(shared_torso=True)},
    ],
    ids=["ppo_penalty", "trpo", "shared_torso"],
)
def test_other_updates_run_on_the_same_loop(changes, reward, prompts, params, jit):
    config = tiny_config(**changes)
    result = jit(make_rlhf(config, reward, prompts))(jax.random.key(0), params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result.metrics))
    if isinstance(config.update, TRPOConfig):
        assert (result.metrics["policy/kl"] <= config.update.max_kl).all()
    moved = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), policy(result), params)
    assert max(jax.tree.leaves(moved)) > 1e-4


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


def policy(result):
    params = result.state.params
    return params.torso or params.policy


def test_held_past_its_end_an_annealed_run_stands_still(config, reward, prompts, params, step):
    """The factor on the learning rate ends at 0, not below."""
    config = config.replace(update=config.update.replace(anneal_lr=True))
    state = make_rlhf_step(config, reward, prompts)[0](jax.random.key(0), params)
    moved = []
    for iteration in (2, 3, 4, 1000):
        state = state._replace(iteration=jnp.uint32(iteration))
        after, _ = step(config, state, params)
        change = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), after.params, state.params)
        moved.append(max(jax.tree.leaves(change)))
    assert moved[0] > 0
    assert moved[1:] == [0, 0, 0]


def test_keys_of_either_kind_give_the_same_run(train, params, result):
    close(train(jax.random.PRNGKey(0), params).metrics, result.metrics)


def test_a_legacy_key_may_hold_the_loop(config, reward, prompts, params, step, result):
    state = make_rlhf_step(config, reward, prompts)[0](jax.random.PRNGKey(0), params)
    state, metrics = step(config, state, params)
    close(metrics, {name: value[0] for name, value in result.metrics.items()})


@pytest.mark.parametrize("shared_torso", [False, True])
def test_a_state_may_be_donated(shared_torso, reward, prompts, params, jit):
    """No two of its arrays share a buffer, with each other or with what the caller holds."""
    update = tiny_config().update.replace(shared_torso=shared_torso)
    config = tiny_config(update=update, kl_coef=jnp.float32(0.1))
    init, step = make_rlhf_step(config, reward, prompts)
    key = jax.random.key(0)
    state = init(key, params)
    held = [x.unsafe_buffer_pointer() for x in arrays((state, params, key, config.kl_coef))]
    assert len(set(held)) == len(held)
    step = jit(step, donate_argnums=0)
    for _ in range(2):
        state, _ = step(state, params)
    assert not any(x.is_deleted() for x in arrays((params, key, config.kl_coef)))


def arrays(tree):
    keys = jax.dtypes.prng_key
    leaves = jax.tree.leaves(tree)
    return [jax.random.key_data(x) if jnp.issubdtype(x.dtype, keys) else x for x in leaves]
