"""Saved policies that remember: JAX, NumPy, exported and in Gymnasium, they act as in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxrl_po import PPOConfig, load_policy, make_step, save_policy
from jaxrl_po.host.policies.export import export_policy
from jaxrl_po.host.policies.play import play
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.networks import unroll_by_steps
from tests.host.small import random_walk

ENV = random_walk()
SIZE = {"num_envs": 2, "num_steps": 4, "total_timesteps": 8, "hidden_sizes": (4,)}
SIZE["num_minibatches"] = 1
KINDS = {
    "gru": {"network": "gru", "memory_size": 3},
    "two lstm layers": {"network": "lstm", "memory_size": 3, "memory_layers": 2},
    "shared mingru": {"network": "mingru", "memory_size": 5, "shared_torso": True},
    "no torso": {"network": "gru", "memory_size": 3, "hidden_sizes": ()},
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def trained(request, tmp_path_factory):
    """A config, a state whose weights are all at work, and the folder of its policy."""
    config = PPOConfig(**SIZE | {"normalize_observations": True} | request.param)
    state = make_step(config, ENV)[0](jax.random.key(0))
    state = state._replace(params=jax.tree.map(lambda x: x + 0.2, state.params))
    folder = tmp_path_factory.mktemp("policy")
    save_policy(folder, config, state, env=ENV)
    return config, state, folder


def observations(count=6):
    return np.random.default_rng(0).normal(size=(count, 3, 2)).astype(np.float32)


def in_training(config, state):
    """Greedy actions [t, 3, 1] of the network itself over the observations."""
    _, network = make_parts(config, ENV)
    memory, actions = network.initial_memory(3), []
    for seen in observations():
        distribution, memory = network.policy(
            state.params, observe(state.normalizer, jnp.asarray(seen)), memory
        )
        actions.append(2 * np.clip(distribution.mode(), -1, 1))  # half-range 2
    return np.stack(actions)


@pytest.mark.parametrize("backend", ["jax", "numpy"])
def test_it_acts_as_in_training(trained, backend):
    """With its memory handed on, and as a player that keeps it; episodes begin where told."""
    config, state, folder = trained
    policy, expected = load_policy(folder, backend=backend), in_training(config, state)
    player, memory = policy.player(), None
    assert policy.remembers
    for t, seen in enumerate(observations()):
        action, memory = policy(seen, None, memory)
        np.testing.assert_allclose(action, expected[t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(player(seen), expected[t], rtol=1e-4, atol=1e-5)
    fresh, _ = policy(seen)
    assert (np.abs(fresh - expected[-1]) > 1e-3).any()  # what came before matters
    again = player(seen, starts=np.array([True, False, True]))
    np.testing.assert_allclose(again[[0, 2]], fresh[[0, 2]], rtol=1e-5, atol=1e-6)
    assert abs(again[1] - fresh[1]) > 1e-5
    player.reset()
    np.testing.assert_allclose(player(seen), fresh, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["jax", "numpy"])
def test_batches_of_any_shape(trained, backend):
    policy = load_policy(trained[2], backend=backend)
    grid = observations(4).reshape(2, 6, 2)
    action, memory = policy(grid)
    second, _ = policy(grid, None, memory)
    assert action.shape == (2, 6, 1)
    single, own = policy(grid[1, 2])
    np.testing.assert_allclose(single, action[1, 2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(policy(grid[1, 2], None, own)[0], second[1, 2], rtol=1e-5, atol=1e-6)
    nothing, none = policy(np.zeros((0, 2)))
    assert nothing.shape == (0, 1)
    assert policy(np.zeros((0, 2)), None, none)[0].shape == (0, 1)


@pytest.mark.parametrize("backend", ["jax", "numpy"])
def test_what_is_not_its_memory_is_refused(trained, backend):
    policy = load_policy(trained[2], backend=backend)
    _, memory = policy(np.zeros((3, 2)))
    for wrong in ({}, jax.tree.map(lambda x: x[:2], memory), {**memory, "more": np.zeros(3)}):
        with pytest.raises(ValueError, match=r"memory holds .* it must be"):
            policy(np.zeros((3, 2)), None, wrong)


def test_a_policy_without_memory_has_none(tmp_path):
    config = PPOConfig(**SIZE)
    save_policy(tmp_path, config, make_step(config, ENV)[0](jax.random.key(0)), env=ENV)
    for backend in ("jax", "numpy"):
        policy = load_policy(tmp_path, backend=backend)
        assert not policy.remembers
        np.testing.assert_array_equal(policy.player()(np.ones(2)), policy(np.ones(2)))
        with pytest.raises(ValueError, match="this policy remembers nothing"):
            policy(np.ones(2), None, {})


def test_exported_programs_take_their_memory(trained, tmp_path):
    config, state, folder = trained
    export_policy(folder, tmp_path)
    greedy = export.deserialize(bytearray((tmp_path / "policy_greedy.jax").read_bytes()))
    policy = load_policy(folder)
    memory = {name: np.repeat(x, 3, axis=0) for name, x in policy.start.items()}
    for seen, expected in zip(observations(3), in_training(config, state), strict=False):
        action, memory = greedy.call(seen, memory)
        np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-5)
    sampled = export.deserialize(bytearray((tmp_path / "policy_sampled.jax").read_bytes()))
    key = jax.random.key(7)
    np.testing.assert_allclose(
        sampled.call(seen, jnp.uint32(7), memory)[0], policy(seen, key, memory)[0], rtol=1e-5
    )


def test_a_memory_of_ones_own_is_saved(tmp_path):
    config = PPOConfig(**SIZE, network="gru", memory_size=3)
    _, network = make_parts(config, ENV)
    own = unroll_by_steps(network._replace(unroll=None))
    state = make_step(config, ENV, own)[0](jax.random.key(0))
    save_policy(tmp_path, config, state, env=ENV, network=own)
    action, memory = load_policy(tmp_path, network=own)(np.ones(2))
    assert (action.shape, [x.shape for x in memory.values()]) == ((1,), [(3,), (3,)])
    with pytest.raises(ValueError, match="NumPy alone runs policies whose network is one of"):
        load_policy(tmp_path, backend="numpy")


def test_it_plays_in_gymnasium(tmp_path):
    """Both backends, over whole episodes: the same lengths, so the same actions throughout."""
    config = PPOConfig(**SIZE, network="gru", memory_size=8)
    state = make_step(config)[0](jax.random.key(0))
    state = state._replace(params=jax.tree.map(lambda x: 3 * x, state.params))
    save_policy(tmp_path, config, state)
    lengths = [
        play(load_policy(tmp_path, backend=backend), "gymnasium:CartPole-v1", 3).episode_length
        for backend in ("jax", "numpy")
    ]
    np.testing.assert_array_equal(*lengths)


@pytest.mark.parametrize("name", ["memory_size", "memory_layers"])
def test_a_description_without_its_memory_is_refused(trained, name, tmp_path):
    from jaxrl_po.host.policies import numpy_policy

    description, _ = numpy_policy.read_folder(trained[2])
    del description["config"][name]
    with pytest.raises(ValueError, match=f"it lacks config.{name}"):
        numpy_policy._check_fields(description)
