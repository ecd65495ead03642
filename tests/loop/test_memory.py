"""Policies that remember, in the loop: every method, every memory; stretches of a rollout."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl_po import PPOConfig, TRPOConfig, config_from_dict, make_step, make_train, resume, run
from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.config import MEMORY_KINDS
from jaxrl_po.loop.learn import make_batch
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.loop.stretches import in_samples, over_stretches
from jaxrl_po.networks import unroll_by_steps
from jaxrl_po.types import Batch, MaskedObservation, Stretch
from tests.host.small import RUN, random_walk, same

SETTINGS = {
    "num_envs": 4,
    "num_steps": 8,
    "sequence_length": 4,
    "total_timesteps": 2 * 32,
    "hidden_sizes": (4,),
    "memory_size": 3,
    "normalize_observations": True,
    "normalize_rewards": True,
    "num_minibatches": 4,
    "critic_minibatches": 4,
    "critic_epochs": 1,
    "update_epochs": 1,
    "cg_iters": 2,
}
ENV = random_walk()
KEY = jax.random.key(0)


def config_of(name="ppo", memory="gru", **changes):
    known = {field.name for field in dataclasses.fields(ALGORITHMS[name][0])}
    fields = {key: value for key, value in {**SETTINGS, **changes}.items() if key in known}
    return config_from_dict({"algorithm": name, "network": memory, **fields})


# Each memory under gradients and under the products of TRPO, each method with a memory.
METHODS_AND_MEMORIES = [
    *(("ppo", memory) for memory in MEMORY_KINDS),
    *(("trpo", memory) for memory in MEMORY_KINDS),
    *zip(sorted(set(ALGORITHMS) - {"ppo", "trpo"}), MEMORY_KINDS, strict=True),
]


@pytest.mark.parametrize(("algorithm", "memory"), METHODS_AND_MEMORIES)
def test_every_method_and_every_memory_train(algorithm, memory, jit):
    """Through time: weights that act on what is remembered move, in policy and critic."""
    config = config_of(algorithm, memory)
    init, step = make_step(config, ENV)
    start, step = init(KEY), jit(step)
    state, metrics = step(start)
    again, _ = step(state)
    assert jax.tree.map(jnp.shape, again) == jax.tree.map(jnp.shape, start)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(again.params))
    if "ratio_first_minibatch" in metrics:
        np.testing.assert_allclose(metrics["ratio_first_minibatch"], 1.0, atol=1e-5)
    for part in ("policy", "value"):
        before, after = (getattr(s.params, part)["memory"] for s in (start, state))
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            assert (a != b).any()
    assert (jnp.abs(optax.tree.norm(state.rollout.memory)) > 0).all()


@pytest.fixture(scope="module")
def collected(jit):
    """Network, state and the transitions of a rollout in which episodes end."""
    from jaxrl_po.loop.collect import make_collector

    config = config_of(num_minibatches=1)
    environment, network = make_parts(config, ENV)
    state = make_step(config, ENV)[0](KEY)
    collect = jit(make_collector(config, environment, network).collect)
    rollout, transitions, _ = collect(state, KEY)
    _, transitions, _ = collect(state._replace(rollout=rollout), jax.random.key(1))
    return config, network, state, transitions


@pytest.mark.parametrize("length", [1, 2, 4, 8])
def test_stretches_give_what_the_rollout_saw(collected, length, jit):
    """Distributions and values of each step, from the memory stored where a stretch begins."""
    config, network, state, transitions = collected
    done = transitions.terminated | transitions.truncated
    assert done[:-1].any()
    config = config.replace(sequence_length=length)

    def both(transitions):
        batch, _ = make_batch(config, network, state, transitions)
        seen = batch.observation, batch.memory
        return batch, over_stretches(network).policy_and_value(state.params, *seen)

    batch, (distribution, value) = jit(both)(transitions)
    assert value.shape == (32 // length, length)
    np.testing.assert_allclose(value, batch.value, rtol=1e-4, atol=1e-5)
    for a, b in zip(
        jax.tree.leaves(distribution), jax.tree.leaves(batch.distribution), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_stretches_are_cut_as_said():
    """Step t of environment e of stretch k is step k L + t: by hand."""
    T, N, length = 6, 2, 3
    steps = jnp.arange(T * N).reshape(T, N)
    done = jnp.zeros((T, N), bool).at[2, 0].set(True).at[3, 1].set(True)
    whole = Batch(steps, (10 * steps, ()), steps, *[steps] * 5)
    batch = in_samples(whole, done, length)
    cut = [[[0, 2, 4], [1, 3, 5]], [[6, 8, 10], [7, 9, 11]]]
    np.testing.assert_array_equal(batch.action, np.reshape(cut, (4, 3)))
    np.testing.assert_array_equal(batch.memory[0], [0, 10, 60, 70])
    starts = np.zeros((4, 3), bool)
    starts[3, 1] = True  # after step 3 of the second; step 2's end is where a stretch begins
    np.testing.assert_array_equal(batch.observation.starts, starts)
    single = in_samples(whole, done, None)
    np.testing.assert_array_equal(single.action, np.arange(12))


def test_steps_unroll_to_what_the_network_unrolls(collected):
    _, network, state, transitions = collected
    seen = transitions.observation[:4], jax.tree.map(lambda m: m[0], transitions.memory)
    starts = jnp.zeros((4, 4), bool).at[2, 1].set(True)
    own = unroll_by_steps(network._replace(unroll=None)).unroll
    for name in ("policy", "value", "policy_and_value"):
        outcomes = [getattr(u, name)(state.params, *seen, starts) for u in (network.unroll, own)]
        for a, b in zip(*map(jax.tree.leaves, outcomes), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_memory_cut_off_is_a_feed_forward_network(collected):
    """Where every step begins an episode, what a network says depends on that step alone."""
    _, network, state, transitions = collected
    observation = transitions.observation
    starts = jnp.ones(observation.shape[:2], bool)
    memory = jax.tree.map(lambda m: m[3], transitions.memory)
    cut, value = network.unroll.policy_and_value(state.params, observation, memory, starts)
    fresh = network.initial_memory(observation[..., 0].size)
    rows = observation.reshape(-1, observation.shape[-1])
    alone, alone_value = network.policy_and_value(state.params, rows, fresh)
    np.testing.assert_allclose(value.ravel(), alone_value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cut.mean.ravel(), alone.mean.ravel(), rtol=1e-4, atol=1e-5)


def test_masks_are_heeded_in_stretches(jit):
    """By the update as by the rollout: an action that is not allowed keeps probability 0."""
    from jaxrl_po.loop.masks import heed_mask
    from jaxrl_po.networks import make_network
    from jaxrl_po.spaces import Discrete

    config = config_of()
    network = heed_mask(make_network(config, (2,), Discrete(3)))
    mask = jnp.array([True, False, True])
    seen = MaskedObservation(jnp.ones((5, 4, 2)), jnp.broadcast_to(mask, (5, 4, 3)))
    stretch = Stretch(seen, jnp.zeros((5, 4), bool))

    def both(key):
        params = network.init(key)
        of_samples = over_stretches(network)
        memory = network.initial_memory(5)
        alone = of_samples.policy(params, stretch, memory)[0]
        return alone, of_samples.policy_and_value(params, stretch, memory)

    alone, (distribution, value) = jit(both)(KEY)
    assert value.shape == (5, 4)
    for each in (alone, distribution):
        probabilities = jax.nn.softmax(each.logits)
        np.testing.assert_array_equal(probabilities[..., 1], 0.0)


@pytest.mark.parametrize(
    "change", [{"memory_size": 2}, {"memory_layers": 2}, {"sequence_length": 2}], ids=str
)
def test_every_option_of_a_memory_changes_the_outcome(change, jit):
    config = PPOConfig(
        network="mingru", **{k: v for k, v in SETTINGS.items() if k in vars(PPOConfig())}
    )
    plain, changed = (
        jit(make_train(c, ENV))(KEY).metrics for c in (config, config.replace(**change))
    )
    assert (plain["value_loss"] != changed["value_loss"]).any()


def test_one_memory_may_serve_both(jit):
    config = config_of(shared_torso=True)
    result = jit(make_train(config, ENV))(KEY)
    assert result.state.rollout.memory[0].shape == (4, 3)
    np.testing.assert_allclose(result.metrics["ratio_first_minibatch"], 1.0, atol=1e-5)
    assert np.isfinite(result.metrics["value_loss"]).all()


def test_a_run_is_resumed_to_the_bit_with_its_memory(tmp_path):
    config = config_of(total_timesteps=4 * 32)
    whole = run(config, env=ENV, segment_length=1, **RUN)
    run(config, env=ENV, segment_length=1, directory=tmp_path, until=2, **RUN)
    resumed = resume(tmp_path, env=ENV, quiet=True)
    assert same(resumed.state, whole.state)
    assert jax.tree.leaves(resumed.state.rollout.memory)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sequence_length": 3}, "sequence_length=3 does not divide num_steps=8"),
        ({"num_minibatches": 16}, r"num_minibatches=16 .* num_steps / sequence_length = 8"),
        ({"network": "mlp", "memory_size": 3}, "memory_size=3 has no effect.*with memory"),
        ({"network": "mlp", "memory_layers": 2}, "memory_layers=2 has no effect"),
        ({"network": "rnn"}, "network='rnn': .*gru"),
        ({"network": "cnn+gru"}, "network='cnn\\+gru' needs observations of"),
    ],
)
def test_what_does_not_go_with_a_memory_is_named(fields, message):
    settings = {**{k: SETTINGS[k] for k in ("num_envs", "num_steps", "sequence_length")}, **fields}
    if fields.get("network") == "mlp":
        del settings["sequence_length"]
    with pytest.raises(ValueError, match=message):
        make_train(PPOConfig(**{"network": "gru", "total_timesteps": 64, **settings}), ENV)


def test_a_feed_forward_network_has_no_stretches():
    with pytest.raises(ValueError, match=r"sequence_length=4 has no effect: .*with memory"):
        make_train(TRPOConfig(sequence_length=4), ENV)
