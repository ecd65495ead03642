"""TRPO and NPG as updates: what they promise about KL, surrogate, and bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl_po import NPGConfig, PPOPenaltyConfig, TRPOConfig
from jaxrl_po.algorithms import make_algorithm
from jaxrl_po.algorithms.ppo import KL_COEF_BOUNDS, adapt_kl_coef
from jaxrl_po.envs import Box, Discrete
from jaxrl_po.networks import make_network
from jaxrl_po.ops import mean_kl
from jaxrl_po.types import Batch

T, N, INPUTS = 8, 4, 3
B = T * N
SPACES = {"discrete": Discrete(3), "continuous": Box(-np.ones(2), np.ones(2))}


def make_config(config_class, **changes):
    small = {"num_envs": N, "num_steps": T, "hidden_sizes": (8,), "critic_epochs": 1}
    return config_class(**(small | {"critic_minibatches": 1} | changes))


@functools.cache
def compiled(config_class, space, **changes):
    """Network and jitted update of a small problem; numbers that vary are arguments."""

    def network_of(config):
        return make_network(config, (INPUTS,), SPACES[space])

    @jax.jit
    def update(config, params, batch):
        algorithm = make_algorithm(config, network_of(config))
        return algorithm.update(
            jax.random.key(0), params, algorithm.init(params), batch, jnp.ones(())
        )

    return network_of(make_config(config_class, **changes)), update


def make_batch(network, key, policy_scale=1.0, log_std=None, advantage=None):
    """A batch from a random policy whose last layer is scaled up by `policy_scale`."""
    keys = jax.random.split(key, 4)
    params = network.init(keys[0])
    head = params.policy["head"]["params"]
    head["Dense_0"]["kernel"] = policy_scale * jax.random.normal(
        keys[1], head["Dense_0"]["kernel"].shape
    )
    if log_std is not None:
        head["log_std"] = jnp.full_like(head["log_std"], log_std)
    observation = jax.random.normal(keys[2], (B, INPUTS))
    distribution, _ = network.policy(params, observation, ())
    noise_key, advantage_key = jax.random.split(keys[3])
    action = distribution.sample(distribution.noise(noise_key))
    value = network.value(params, observation, ())
    if advantage is None:
        advantage = jax.random.normal(advantage_key, B)
    log_prob = distribution.log_prob(action)
    return params, Batch(
        observation, (), distribution, action, log_prob, value, advantage, value + 1.0
    )


def surrogate(network, params, batch):
    distribution, _ = network.policy(params, batch.observation, ())
    ratio = jnp.exp(distribution.log_prob(batch.action) - batch.log_prob)
    kl = mean_kl(batch.distribution, distribution)
    return float((ratio * batch.advantage).mean()), float(kl)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def assert_finite(tree):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("space", SPACES)
@given(
    seed=st.integers(0, 2**31 - 1),
    policy_scale=st.sampled_from([0.01, 1.0, 30.0]),
    advantage_scale=st.sampled_from([1e-6, 1.0, 1e6]),
    max_kl=st.sampled_from([1e-4, 1e-2, 0.5]),
    damping=st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=40, deadline=None)
def test_trpo_improves_within_the_trust_region_or_stays(
    space, seed, policy_scale, advantage_scale, max_kl, damping
):
    network, update = compiled(TRPOConfig, space)
    params, batch = make_batch(network, jax.random.key(seed), policy_scale)
    batch = batch._replace(advantage=batch.advantage * advantage_scale)
    config = make_config(TRPOConfig, max_kl=max_kl, cg_damping=damping)
    new, _, metrics = update(config, params, batch)
    assert_finite(new)
    if metrics["step_accepted"]:
        before, _ = surrogate(network, params, batch)
        after, kl = surrogate(network, new, batch)
        assert kl <= max_kl * (1 + 1e-3) + 1e-7
        assert after > before - 1e-6 * advantage_scale  # the same sum in another program
        assert metrics["surrogate_improvement"] > 0
    else:
        assert_same(new.policy, params.policy)
        assert metrics["surrogate_improvement"] == 0


@pytest.mark.parametrize("space", SPACES)
def test_trpo_steps_are_usually_accepted(space):
    network, update = compiled(TRPOConfig, space)
    config = make_config(TRPOConfig)
    accepted = []
    for seed in range(10):
        params, batch = make_batch(network, jax.random.key(seed))
        accepted.append(float(update(config, params, batch)[2]["step_accepted"]))
    assert np.mean(accepted) >= 0.9


@pytest.mark.parametrize("config_class", [TRPOConfig, NPGConfig])
@pytest.mark.parametrize("advantage", [0.0, np.nan, np.inf, -np.inf])
def test_zero_and_bad_advantages_leave_the_policy(config_class, advantage):
    network, update = compiled(config_class, "discrete")
    params, batch = make_batch(network, jax.random.key(0))
    if np.isfinite(advantage):
        batch = batch._replace(advantage=jnp.full(B, advantage))
    else:
        batch = batch._replace(advantage=batch.advantage.at[0].set(advantage))
    new, _, metrics = update(make_config(config_class), params, batch)
    assert_same(new.policy, params.policy)
    assert metrics["step_accepted"] == 0
    assert np.isfinite(metrics["policy_loss"]) == np.isfinite(advantage)
    assert np.isfinite(metrics["grad_norm"]) == np.isfinite(advantage)


@pytest.mark.parametrize("config_class", [TRPOConfig, NPGConfig])
@pytest.mark.parametrize("log_std", [-10.0, -20.0])
def test_near_deterministic_policies_stay_finite(config_class, log_std):
    network, update = compiled(config_class, "continuous")
    params, batch = make_batch(network, jax.random.key(1), log_std=log_std)
    new, _, _ = update(make_config(config_class), params, batch)
    assert_finite(new)


def test_predictions_agree_with_what_happens_for_small_steps():
    network, update = compiled(TRPOConfig, "continuous")
    params, batch = make_batch(network, jax.random.key(2))
    config = make_config(TRPOConfig, max_kl=1e-4, cg_damping=0.0)
    new, _, metrics = update(config, params, batch)
    _, kl = surrogate(network, new, batch)
    shrunk = 0.8 ** (metrics["line_search_steps"] - 1)  # the full step may just exceed the radius
    np.testing.assert_allclose(metrics["predicted_kl"], 1e-4 * shrunk**2, rtol=1e-2)
    np.testing.assert_allclose(kl, metrics["predicted_kl"], rtol=0.05)
    np.testing.assert_allclose(
        metrics["surrogate_improvement"], metrics["predicted_improvement"], rtol=0.05
    )


def test_npg_takes_the_full_trust_region_step_without_a_search():
    network, update = compiled(NPGConfig, "discrete")
    params, batch = make_batch(network, jax.random.key(3))
    new, _, metrics = update(make_config(NPGConfig, cg_damping=0.0, max_kl=1e-4), params, batch)
    assert metrics["line_search_steps"] == 0
    np.testing.assert_allclose(surrogate(network, new, batch)[1], 1e-4, rtol=0.1)


def test_fixed_npg_steps_scale_with_step_size():
    network, update = compiled(NPGConfig, "discrete")
    params, batch = make_batch(network, jax.random.key(3))
    moves = []
    for step_size in (1e-3, 2e-3):
        config = make_config(NPGConfig, step_rule="fixed", step_size=step_size)
        new, _, _ = update(config, params, batch)
        moves.append(jax.tree.map(lambda n, o: n - o, new.policy, params.policy))
    for a, b in zip(*map(jax.tree.leaves, moves), strict=True):
        np.testing.assert_allclose(2 * a, b, rtol=2e-2, atol=1e-6)


def test_fisher_fraction_thins_the_fisher_matrix_only():
    network, update = compiled(TRPOConfig, "discrete")
    params, batch = make_batch(network, jax.random.key(4))
    whole = update(make_config(TRPOConfig), params, batch)
    half = update(make_config(TRPOConfig, fisher_fraction=0.5), params, batch)
    np.testing.assert_allclose(whole[2]["grad_norm"], half[2]["grad_norm"], rtol=1e-5)
    assert not np.allclose(
        whole[0].policy["head"]["params"]["Dense_0"]["kernel"],
        half[0].policy["head"]["params"]["Dense_0"]["kernel"],
    )
    # a Fisher matrix over a batch that repeats its thinned half is the same matrix
    doubled = jax.tree.map(lambda x: x.at[1::2].set(x[::2]), batch)
    whole = update(make_config(TRPOConfig), params, doubled)
    half = update(make_config(TRPOConfig, fisher_fraction=0.5), params, doubled)
    np.testing.assert_allclose(whole[2]["predicted_kl"], half[2]["predicted_kl"], rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"shared_torso": True}, "shared_torso"),
        ({"cg_iters": 0}, "cg_iters"),
        ({"cg_damping": -0.1}, "cg_damping"),
        ({"max_kl": 0.0}, "max_kl"),
        ({"max_kl": -1.0}, "max_kl"),
        ({"fisher_fraction": 0.0}, "fisher_fraction"),
        ({"fisher_fraction": 1.5}, "fisher_fraction"),
        ({"max_backtracks": -1}, "max_backtracks"),
        ({"backtrack_coeff": 0.0}, "backtrack_coeff"),
        ({"backtrack_coeff": 1.0}, "backtrack_coeff=1.0 is out of range: it must be > 0 and < 1"),
        ({"critic_minibatches": 3}, "critic_minibatches"),
        ({"advantage_normalization": "minibatch"}, "advantage_normalization"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, field):
    with pytest.raises(ValueError, match=field):
        make_config(TRPOConfig, **changes)


def test_kl_coefficient_follows_the_rule_of_the_paper():
    kl_coef = jnp.asarray(1.0)
    for kl, factor in [(0.001, 0.5), (0.01 / 1.4, 1.0), (0.0149, 1.0), (0.0151, 2.0)]:
        np.testing.assert_allclose(adapt_kl_coef(kl_coef, jnp.asarray(kl), 0.01), factor)
    low, high = (jnp.asarray(bound) for bound in KL_COEF_BOUNDS)
    assert adapt_kl_coef(low, jnp.asarray(0.0), 0.01) == low
    assert adapt_kl_coef(high, jnp.asarray(1.0), 0.01) == high


@pytest.mark.parametrize("adaptive", [True, False])
def test_penalty_coefficient_adapts_only_when_asked(adaptive):
    config = PPOPenaltyConfig(
        num_envs=N, num_steps=T, hidden_sizes=(8,), adaptive_kl=adaptive, learning_rate=0.0
    )
    network = make_network(config, (INPUTS,), SPACES["discrete"])
    params, batch = make_batch(network, jax.random.key(0))
    algorithm = make_algorithm(config, network)
    _, state, metrics = algorithm.update(
        jax.random.key(0), params, algorithm.init(params), batch, jnp.ones(())
    )
    assert metrics["kl_coef"] == 1.0
    assert state.kl_coef == (0.5 if adaptive else 1.0)  # nothing moved, so KL is 0


def test_a_large_kl_coefficient_holds_the_policy():
    network = make_network(make_config(TRPOConfig), (INPUTS,), SPACES["discrete"])
    params, batch = make_batch(network, jax.random.key(0))
    moved = []
    for kl_coef in (0.0, 1e4):
        config = PPOPenaltyConfig(
            num_envs=N,
            num_steps=T,
            hidden_sizes=(8,),
            kl_coef=kl_coef,
            adaptive_kl=False,
            learning_rate=1e-2,
        )
        algorithm = make_algorithm(config, network)
        new, _, _ = algorithm.update(
            jax.random.key(0), params, algorithm.init(params), batch, jnp.ones(())
        )
        moved.append(surrogate(network, new, batch)[1])
    assert moved[1] < 0.2 * moved[0]
