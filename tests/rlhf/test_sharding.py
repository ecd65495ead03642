"""On eight devices the program computes what it computes on one, with its parameters cut up."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from jaxrl_po.rlhf import TransformerConfig, make_transformer
from jaxrl_po.rlhf.heads import init_actor_critic
from jaxrl_po.rlhf.lora import LoRAConfig, attach, init_adapters
from jaxrl_po.rlhf.sharding import AXES, parameter_shardings, shard_sequences

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = """
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.algorithms import PPOConfig
from jaxrl_po.rlhf import RLHFConfig, TransformerConfig, make_rlhf, make_transformer
from jaxrl_po.rlhf.heads import init_actor_critic
from jaxrl_po.rlhf.sharding import make_mesh, parameter_shardings, shard_sequences
from tasks.enumerable import bigram_reward

N, T, V = 16, 4, 8
config = RLHFConfig(
    model=TransformerConfig(vocab_size=V, context_length=T + 2, num_heads=2, num_features=16),
    update=PPOConfig(
        num_envs=N, num_steps=T, total_timesteps=3 * N * T, num_minibatches=2, update_epochs=2,
        learning_rate=1e-3, gamma=1.0,
    ),
)
prompts = jnp.array([[-1, 1], [2, 3], [4, 5]])
model = make_transformer(config.model)
params = jax.jit(model.init)(jax.random.key(0))
reward = bigram_reward(jax.random.key(1), V)


def flat(result):
    return {k: np.asarray(v) for k, v in result.metrics.items()}, [
        np.asarray(x) for x in jax.tree.leaves(result.state.params)
    ]


one = jax.jit(make_rlhf(config, reward, prompts))
expected_metrics, expected_params = flat(one(jax.random.key(2), params))
assert len(jax.devices()) == 8
for shape in ((8, 1, 1), (2, 2, 2)):
    mesh = make_mesh(shape)
    placed = jax.device_put(params, parameter_shardings(params, mesh))
    shared = init_actor_critic(model, params, shared_torso=True)
    jax.device_put(shared, parameter_shardings(shared, mesh))
    train = make_rlhf(config, reward, prompts, constrain=shard_sequences(mesh))
    result = jax.jit(train)(jax.random.key(2), placed)
    metrics, leaves = flat(result)
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, atol=1e-4, rtol=1e-4, err_msg=name)
    for x, y in zip(leaves, expected_params, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)
    kernel = result.state.params.policy["layers"]["feedforward_in"]["kernel"]
    piece = kernel.addressable_shards[0].data.size
    print(shape, "kernel of", kernel.size, "in pieces of", piece)
    assert kernel.size // piece == shape[1] * shape[2], kernel.sharding
"""


def test_meshes_of_eight_devices_agree_with_one():
    environment = os.environ | {
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "NPROC": "16",  # jax 0.10 may wait for ever with no more threads than devices
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "experiments")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


MESH = AbstractMesh((2, 2, 2), AXES)


def shapes(**size):
    """An actor-critic's parameters, by shape alone."""
    model = make_transformer(TransformerConfig(**size))

    def init(key):
        return init_actor_critic(model, model.init(key), shared_torso=False)

    return jax.eval_shape(init, jax.random.key(0))


def test_every_matrix_has_a_layout():
    params = shapes()
    specs = [x.spec for x in jax.tree.leaves(parameter_shardings(params, MESH))]
    cut = [spec for spec in specs if spec != PartitionSpec()]
    assert len(cut) == 2 * 8  # policy and value
    named = [n for n, x in jax.tree_util.tree_leaves_with_path(params) if x.ndim > 1]
    vectors = [n for n in named if "bias" in str(n) or "norm" in str(n)]
    assert len(cut) == len(named) - len(vectors)


def test_every_option_of_the_decoder_has_a_layout():
    """Gates, an unembedding, norms of queries, biases and adapters among them."""
    size = {"num_heads": 4, "num_kv_heads": 2, "gated": True, "qk_norm": True, "post_norms": True}
    size |= {"tied_embedding": False, "qkv_bias": True, "norm": "rms", "positions": "rotary"}
    params = shapes(**size)
    lora = LoRAConfig(rank=2)

    def with_adapters(key, base):
        return attach(base, init_adapters(key, base, lora), lora)

    adapted = jax.eval_shape(with_adapters, jax.random.key(0), params.policy)
    for tree in (params, adapted):
        found = parameter_shardings(tree, MESH)
        assert jax.tree.structure(found) == jax.tree.structure(tree)
    layers = parameter_shardings(params.policy, MESH)
    assert layers["unembedding"]["kernel"].spec == PartitionSpec("fsdp", "tp")
    assert layers["layers"]["feedforward_gate"]["kernel"].spec == PartitionSpec(None, "fsdp", "tp")
    with pytest.raises(ValueError, match=r"key/kernel' .*: tp = 2 .* does not divide axis 2, of 1"):
        parameter_shardings(shapes(**size | {"num_kv_heads": 1}), MESH)


def test_a_parameter_that_the_table_does_not_know_is_refused():
    other = {"model": {"q_proj": {"kernel": jnp.zeros((8, 8))}, "norm": {"weight": jnp.zeros(8)}}}
    with pytest.raises(ValueError, match=r"'model/q_proj/kernel' of shape \[8, 8\] has no layout"):
        parameter_shardings(other, MESH)
    found = parameter_shardings(other, MESH, {"q_proj/kernel": PartitionSpec("fsdp", "tp")})
    assert found["model"]["q_proj"]["kernel"].spec == PartitionSpec("fsdp", "tp")
    assert found["model"]["norm"]["weight"].spec == PartitionSpec()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"vocab_size": 257}, r"embedding/embedding' of shape \[257, 64\]: tp = 2 .* of 257"),
        (
            {"num_heads": 1},
            r"attention_out/kernel' .*: tp = 2 of the mesh does not divide axis 1, of 1",
        ),
        ({"num_features": 9, "num_heads": 1}, "fsdp = 2 of the mesh does not divide"),
    ],
)
def test_what_the_mesh_does_not_divide_is_refused_by_name(size, message):
    with pytest.raises(ValueError, match=message):
        parameter_shardings(shapes(**size), MESH)


def test_a_layout_of_more_axes_than_a_parameter_has_is_refused():
    flat = {"layers": {"query": {"kernel": jnp.zeros((8, 8))}}}
    with pytest.raises(ValueError, match="has fewer axes than its layout"):
        parameter_shardings(flat, MESH)


def test_sequences_that_the_mesh_does_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"update\.num_envs.*dp and fsdp = 4 .* of 6"):
        jax.eval_shape(shard_sequences(MESH), jnp.zeros((6, 3)))
