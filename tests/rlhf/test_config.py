"""Bad settings are refused by name."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl_po.algorithms import PPOPenaltyConfig, TRPOConfig
from jaxrl_po.rlhf import make_rlhf
from tests.rlhf.conftest import EOS, N, T, tiny_config

SIZE = {"num_envs": N, "num_steps": T, "total_timesteps": N * T}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kl_in_reward": "k3"}, "kl_in_reward='k3'"),
        ({"kl_in_reward": "k2"}, "kl_in_reward='k2'"),
        ({"kl_in_loss": "k1", "kl_in_reward": "none"}, "kl_in_loss='k1'"),
        ({"kl_in_loss": "k3", "kl_in_reward": "none"}, "kl_in_loss='k3'"),
        ({"kl_in_loss": "k2"}, "charge for the KL twice"),
        (
            {"kl_in_loss": "k2", "kl_in_reward": "none", "update": TRPOConfig(**SIZE)},
            "kl_in_loss='k2' goes with update=PPOConfig",
        ),
        ({"kl_in_loss": "k2", "kl_in_reward": "none"}, "update.advantage_normalization='none'"),
        ({"adaptive_kl": True, "kl_coef": 0.0}, "kl_coef=0.0 would stay 0"),
        ({"adaptive_kl": True, "kl_in_reward": "none"}, "nothing to adapt"),
        ({"pad_id": EOS}, "pad_id=0 equals eos_id"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"target_kl_per_sequence": 0.0}, "target_kl_per_sequence=0.0"),
        ({"target_kl": 6.0}, "target_kl_per_sequence"),
        ({"update": "ppo"}, "update must be a Config"),
        ({"update": PPOPenaltyConfig(**SIZE, num_minibatches=16)}, "update.num_minibatches=16"),
        (
            {"update": TRPOConfig(**SIZE, critic_minibatches=32)},
            "update.critic_minibatches=32 does not divide the batch of update.num_envs=8",
        ),
        ({"update": PPOPenaltyConfig(**SIZE, env_id="Acrobot-v1")}, "update.env_id='Acrobot-v1'"),
        ({"update": PPOPenaltyConfig(**SIZE, normalize_rewards=True)}, "update.normalize_rewards"),
    ],
)
def test_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def zero(prompt, response):
    return jnp.zeros(response.ids.shape[0])


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (jnp.ones((2, 4), int), "prompts of length 4 .* context_length=7"),
        (jnp.full((2, 3), -1), "prompts: each needs a token"),
        (jnp.ones((2, 3)), "prompts must be integer"),
        (jnp.ones(3, int), "prompts must be integer"),
        (jnp.array([[2, 99, 1]]), "prompts: token ids must be from 0 to 5"),
        (jnp.array([[2, -2, 1]]), "prompts: token ids must be from 0 to 5"),
        (jnp.array([[2, -1, -1]]), "prompts must be padded on the left"),
        (jnp.array([[2, -1, 1]]), "prompts must be padded on the left"),
    ],
)
def test_prompts_are_refused_by_name(prompts, message):
    with pytest.raises(ValueError, match=message):
        make_rlhf(tiny_config(), zero, prompts)


def test_an_end_that_the_model_does_not_know_is_refused(prompts):
    with pytest.raises(ValueError, match="eos_id=50 is not in the model's vocabulary of 6"):
        make_rlhf(tiny_config(eos_id=50), zero, prompts)


def test_a_score_for_each_sequence_is_asked_for(prompts, params):
    def scalar(prompt, response):
        return jnp.zeros(())

    with pytest.raises(ValueError, match="one score a sequence"):
        jax.eval_shape(make_rlhf(tiny_config(), scalar, prompts), jax.random.key(0), params)


def test_floats_are_data_and_the_rest_is_structure():
    config = tiny_config()
    leaves = {
        jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(config)[0]
    }
    assert {".temperature", ".kl_coef", ".update.clip_eps", ".kl_horizon_sequences"} <= leaves
    assert not {".eos_id", ".model.vocab_size", ".kl_in_reward"} & leaves
    assert jax.tree.structure(config) != jax.tree.structure(config.replace(eos_id=1))
