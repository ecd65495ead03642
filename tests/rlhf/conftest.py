"""One tiny model, one small task, and the programs that several tests look at."""

import jax
import jax.numpy as jnp
import pytest
from tasks import enumerable

from jaxrl_po.algorithms import PPOConfig
from jaxrl_po.rlhf import (
    RLHFConfig,
    Tokens,
    TransformerConfig,
    make_rlhf,
    make_rlhf_step,
    make_transformer,
)

V, P, T, N = 6, 3, 4, 8
PAD, EOS = -1, 0


def tiny_config(**changes):
    """A run of three updates on eight sequences."""
    update = PPOConfig(
        num_envs=N,
        num_steps=T,
        total_timesteps=3 * N * T,
        gamma=1.0,
        learning_rate=1e-2,
        num_minibatches=2,
        update_epochs=2,
        clip_value=True,
    )
    model = TransformerConfig(
        vocab_size=V, context_length=P + T, num_layers=2, num_heads=2, num_features=8
    )
    fields = {"model": model, "update": update, "kl_coef": 0.1, "eos_id": EOS, "pad_id": PAD}
    return RLHFConfig(**fields | changes)


def sharpen(params):
    """A reference policy that has opinions: initial weights, scaled up."""
    table = params["embedding"]["embedding"]
    return {**params, "embedding": {"embedding": table * 20}}


@pytest.fixture(scope="session")
def config():
    return tiny_config()


@pytest.fixture(scope="session")
def model(config):
    return make_transformer(config.model)


@pytest.fixture(scope="session")
def params(model):
    return sharpen(jax.jit(model.init)(jax.random.key(1)))


@pytest.fixture(scope="session")
def prompts():
    """Ragged, padded on the left."""
    return jnp.array([[PAD, PAD, 3], [PAD, 2, 4], [5, 1, 2], [1, 1, 1]], jnp.int32)


@pytest.fixture(scope="session")
def reward():
    return enumerable.bigram_reward(jax.random.key(2), V)


@pytest.fixture(scope="session")
def train(config, reward, prompts, jit):
    return jit(make_rlhf(config, reward, prompts))


@pytest.fixture(scope="session")
def step(reward, prompts, jit):
    """One iteration under any settings that differ from `config` in floats alone."""

    def run(config, state, params):
        return make_rlhf_step(config, reward, prompts)[1](state, params)

    return jit(run)


@pytest.fixture(scope="session")
def result(train, params):
    return train(jax.random.key(0), params)


@pytest.fixture(scope="session")
def prompt(prompts):
    """All prompts twice: a batch."""
    ids = jnp.tile(prompts, (N // 4, 1))
    return Tokens(ids, ids != PAD)
