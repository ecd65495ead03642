"""A run over several devices is that on one: its numbers, and what its devices tell each other."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, make_step
from jaxrl_po.loop.collect import make_collector
from jaxrl_po.loop.layout import check_kind
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.loop.stretches import in_samples, over_stretches
from jaxrl_po.types import Batch, Stretch
from tests.eight_devices import run_on_eight_devices

SCRIPT = r"""
import re, sys

import jax
import numpy as np

from jaxrl_po import make_train
from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.fast import slices

method, network = sys.argv[1:]
# Conjugate gradients magnify rounding: by 1e10 in 20 iterations, were they let go on to the end.
jax.config.update("jax_enable_x64", method == "trpo")
N, T = 32, 16
if network == "mlp":
    slices.SLICE = N * T  # observations of three numbers: passes over a rollout are in slices
env_id, fields = {
    "vpg": ("Pendulum-v1", {"num_minibatches": 2}),
    "trpo": ("CartPole-v1", {"fisher_fraction": 0.5, "cg_iters": 4}),
    "ppo": ("CartPole-v1", {}),
}[method]
if network == "gru":
    fields |= {"memory_size": 4, "sequence_length": T // 2}
config = ALGORITHMS[method][0](
    env_id=env_id, network=network, num_envs=N, num_steps=T, total_timesteps=20 * N * T,
    hidden_sizes=(8,), minibatch_shards=8, normalize_observations=True, normalize_rewards=True,
    **fields,
)
key = jax.random.key(0)
one = jax.jit(make_train(config)).lower(key).compile()
expected = one(key)
weights = sum(x.size for x in jax.tree.leaves(expected.state.params))
# What may travel is a gradient: less than one number a sample of a minibatch, or of the batch.
assert (N * T / 4 if network == "mlp" else N * T) > weights
kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
collective = re.compile(rf"= (.+?) (ragged-all-to-all|{kinds})(?:-start)?\(")
assert len(jax.devices()) == 8
# Of 2 and 4 devices: test_devices.py.
mesh = jax.make_mesh((8,), ("envs",), devices=jax.devices())
compiled = jax.jit(make_train(config, mesh=mesh)).lower(key).compile()
result = compiled(key)
for name, value in expected.metrics.items():
    np.testing.assert_allclose(
        result.metrics[name], value, rtol=1e-5, atol=1e-5, err_msg=name
    )
for x, y in zip(*map(jax.tree.leaves, (result.state.params, expected.state.params))):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
for x in jax.tree.leaves(result.state.rollout):
    assert x.addressable_shards[0].data.shape[0] == N // 8, x.sharding
assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(result.state.params))
found = collective.findall(compiled.as_text())
assert {kind for _, kind in found} == {"all-reduce"}, found
for shapes, kind in found:
    for axes in re.findall(r"\[([\d,]*)\]", shapes):
        assert np.prod([int(n) for n in axes.split(",") if n]) <= weights, shapes
# The work is divided, not repeated: all but what is done once for each parameter.
ratio = 8 * compiled.cost_analysis()["flops"] / one.cost_analysis()["flops"]
assert ratio < 1.35, ratio
"""


@pytest.mark.parametrize(
    ("method", "network"),
    # With a GRU PPO and TRPO do all that they do with an MLP, and TRPO all that NPG does.
    # PPO-penalty's loss is a mean over a minibatch as PPO's is.
    [("vpg", "mlp"), ("ppo", "gru"), ("trpo", "gru")],
)
def test_meshes_agree_with_one_device_and_only_sums_travel(method, network):
    run_on_eight_devices(SCRIPT, method, network)


REFUSALS = """
import jax
import numpy as np
import pytest

from jaxrl_po import PPOConfig, make_train, make_step
from jaxrl_po.host.machine.devices import device_mesh

def refused(message, mesh, **fields):
    for make in (make_train, make_step):
        with pytest.raises(ValueError, match=message):
            make(PPOConfig(**fields), mesh=mesh)

four = jax.make_mesh((4,), ("envs",), devices=jax.devices()[:4])
square = jax.make_mesh((2, 2), ("a", "b"), devices=jax.devices()[:4])
refused("num_envs=6 is not a multiple of the mesh's 4 devices", four, num_envs=6)
refused("minibatch_shards=2 is not a multiple", four, num_envs=8, minibatch_shards=2)
refused("mesh must have one axis.*'a', 'b'", square)
refused("mesh must be a jax.sharding.Mesh.*not a int", 4)
assert device_mesh(None) is None
assert device_mesh("all").size == 8
assert list(device_mesh(3).devices) == jax.devices()[:3]
assert list(device_mesh(jax.devices()[5:7]).devices) == jax.devices()[5:7]
for devices, message in (
    (9, "devices=9 is more than there are: 8"),
    (0, "devices=0 is out of range"),
    (True, "devices must be an integer"),
    ("each", "devices='each': it must be"),
    ([], "must be .all., a number of them or a list"),
    (["cpu:0"], "must be .all., a number of them or a list"),
    (2.0, "must be .all., a number of them or a list"),
    ([jax.devices()[0]] * 2, "one of them twice"),
):
    with pytest.raises(ValueError, match=message):
        device_mesh(devices)
"""


def test_what_does_not_fit_is_refused_by_name():
    run_on_eight_devices(REFUSALS)


def test_devices_of_different_kinds_are_refused():
    devices = [SimpleNamespace(device_kind=kind) for kind in ("H200", "H100", "H200")]
    check_kind(devices[::2])
    with pytest.raises(ValueError, match="devices are of different kinds: H100, H200"):
        check_kind(devices)


SMALL = PPOConfig(num_envs=6, num_steps=4, total_timesteps=24, num_minibatches=2, hidden_sizes=(4,))


def test_a_rollout_of_blocks_is_each_blocks_rollout_side_by_side(jit):
    """Of three blocks of two environments, each with a key of its own."""
    environment, network = make_parts(SMALL)
    state = make_step(SMALL)[0](jax.random.key(0))
    key = jax.random.key(1)
    whole = jit(make_collector(SMALL.replace(minibatch_shards=3), environment, network).collect)(
        state, key
    )
    one = jit(make_collector(SMALL.replace(num_envs=2), environment, network).collect)
    parts = [
        one(state._replace(rollout=jax.tree.map(lambda x: x[2 * i : 2 * i + 2], state.rollout)), k)  # noqa: B023
        for i, k in enumerate(jax.random.split(key, 3))
    ]
    for index, axis in ((0, 0), (1, 1)):
        joined = jax.tree.map(lambda *x: jnp.concatenate(x, axis), *[p[index] for p in parts])  # noqa: B023
        for x, y in zip(*map(jax.tree.leaves, (whole[index], joined)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    assert whole[2].num_episodes == sum(p[2].num_episodes for p in parts)


@pytest.mark.parametrize(("length", "rows"), [(None, 12), (3, 4)])
def test_samples_stand_block_after_block(length, rows):
    """Four environments in two blocks: the samples of the first two come first."""
    steps = jnp.arange(24).reshape(6, 4)
    whole = Batch(steps, (), steps, *[steps] * 5)
    batch = in_samples(whole, jnp.zeros((6, 4), bool), length, num_blocks=2)
    parts = [
        in_samples(jax.tree.map(lambda x: x[:, i : i + 2], whole), jnp.zeros((6, 2), bool), length)  # noqa: B023
        for i in (0, 2)
    ]
    np.testing.assert_array_equal(batch.action, np.concatenate([p.action for p in parts]))
    assert set(np.ravel(batch.action[:rows]) % 4) == {0, 1}


def test_blocks_of_stretches_unroll_to_the_same(jit):
    config = SMALL.replace(network="gru", memory_size=4, sequence_length=2)
    _, network = make_parts(config)
    params = network.init(jax.random.key(0))
    stretch = Stretch(
        jax.random.normal(jax.random.key(1), (6, 2, 4)), jnp.zeros((6, 2), bool).at[1, 1].set(True)
    )
    memory = jax.tree.map(lambda x: x + 0.5, network.initial_memory(6))
    for name in ("policy", "value", "policy_and_value"):
        one, three = (
            jit(getattr(over_stretches(network, m), name))(params, stretch, memory) for m in (1, 3)
        )
        for x, y in zip(*map(jax.tree.leaves, (one, three)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
