"""On eight devices the program computes what it computes on one, with its parameters cut up."""

import os
import subprocess
import sys

SCRIPT = """
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.algorithms import PPOConfig
from jaxrl_po.rlhf import RLHFConfig, TransformerConfig, make_rlhf, make_transformer
from jaxrl_po.rlhf.heads import init_actor_critic
from jaxrl_po.rlhf.sharding import make_mesh, parameter_shardings, shard_sequences
from jaxrl_po.rlhf.tasks.enumerable import bigram_reward

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
options = {"xla_backend_optimization_level": 0}


def flat(result):
    return {k: np.asarray(v) for k, v in result.metrics.items()}, [
        np.asarray(x) for x in jax.tree.leaves(result.state.params)
    ]


one = jax.jit(make_rlhf(config, reward, prompts), compiler_options=options)
expected_metrics, expected_params = flat(one(jax.random.key(2), params))
assert len(jax.devices()) == 8
for shape in ((8, 1, 1), (2, 2, 2)):
    mesh = make_mesh(shape)
    placed = jax.device_put(params, parameter_shardings(params, mesh))
    shared = init_actor_critic(model, params, shared_torso=True)
    jax.device_put(shared, parameter_shardings(shared, mesh))
    train = make_rlhf(config, reward, prompts, constrain=shard_sequences(mesh))
    result = jax.jit(train, compiler_options=options)(jax.random.key(2), placed)
    metrics, leaves = flat(result)
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, atol=1e-4, rtol=1e-4, err_msg=name)
    for x, y in zip(leaves, expected_params, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)
    kernel = result.state.params["policy"]["layers"]["feedforward_in"]["kernel"]
    piece = kernel.addressable_shards[0].data.size
    print(shape, "kernel of", kernel.size, "in pieces of", piece)
    assert kernel.size // piece == shape[1] * shape[2], kernel.sharding
"""


def test_meshes_of_eight_devices_agree_with_one():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "NPROC": "16",  # jax 0.10 may wait for ever with no more threads than devices
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
