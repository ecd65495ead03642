"""Bad settings are refused by name."""

import copy

import jax
import jax.numpy as jnp
import pytest

from jaxrl_po.algorithms import PPOConfig, PPOPenaltyConfig, TRPOConfig, VPGConfig, config_from_dict
from jaxrl_po.rlhf import RLHFConfig, SFTConfig, make_rlhf
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
        ({"stop_ids": (1, 2), "pad_id": 2}, r"pad_id=2 is one of stop_ids=\(1, 2\)"),
        ({"stop_ids": (1, -1)}, "stop_ids=-1 is out of range"),
        ({"stop_ids": 1}, "stop_ids must be a tuple of integers, not 1"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"target_kl_per_sequence": 0.0}, "target_kl_per_sequence=0.0"),
        ({"target_kl": 6.0}, "target_kl_per_sequence"),
        ({"update": "ppo"}, "update must be a Config"),
        ({"update": PPOPenaltyConfig(**SIZE, num_minibatches=16)}, "update.num_minibatches=16"),
        (
            {"update": PPOConfig(**SIZE, num_minibatches=4, minibatch_shards=4)},
            "update.num_minibatches=4 does not divide the 2 sequences of each of "
            "update.minibatch_shards=4 blocks of update.num_envs=8",
        ),
        (
            {"update": TRPOConfig(**SIZE, critic_minibatches=32)},
            "update.critic_minibatches=32 does not divide the 8 sequences of update.num_envs=8",
        ),
        ({"update": PPOPenaltyConfig(**SIZE, env_id="Acrobot-v1")}, "update.env_id='Acrobot-v1'"),
        ({"update": PPOPenaltyConfig(**SIZE, normalize_rewards=True)}, "update.normalize_rewards"),
        ({"missing_eos_penalty": float("nan")}, "missing_eos_penalty=nan"),
        ({"kl_horizon_sequences": float("nan")}, "kl_horizon_sequences=nan"),
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
    with pytest.raises(ValueError, match="stop_ids: 50 is not in the model's vocabulary of 6"):
        make_rlhf(tiny_config(stop_ids=(1, 50)), zero, prompts)


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


ONE = {"num_steps": 1, "total_timesteps": 8, "gamma": 1.0}


@pytest.mark.parametrize(
    "update",
    [
        lambda norm: PPOConfig(num_envs=8, num_minibatches=8, advantage_normalization=norm, **ONE),
        lambda norm: PPOPenaltyConfig(
            num_envs=2, num_minibatches=2, advantage_normalization=norm, **ONE
        ),
        lambda norm: VPGConfig(
            num_envs=2,
            num_minibatches=2,
            critic_minibatches=1,
            advantage_normalization=norm,
            **ONE,
        ),
    ],
    ids=["ppo", "ppo_penalty", "vpg"],
)
def test_a_lone_token_cannot_be_standardised(update):
    for norm in ("none", "batch"):
        RLHFConfig(update=update(norm))
    with pytest.raises(ValueError, match=r"advantage_normalization='minibatch'.*one sample"):
        RLHFConfig(update=update("minibatch"))


@pytest.mark.parametrize("kind", [PPOConfig, TRPOConfig])
def test_a_batch_of_one_token_cannot_be_standardised(kind):
    counts = {"num_minibatches": 1} if kind is PPOConfig else {"critic_minibatches": 1}
    with pytest.raises(ValueError, match=r"advantage_normalization='batch'.*one sample"):
        RLHFConfig(update=kind(num_envs=1, advantage_normalization="batch", **counts, **ONE))


def test_settings_that_were_not_given_are_those_of_rlhf():
    default = RLHFConfig().update
    for kind in (PPOConfig, PPOPenaltyConfig):
        update = RLHFConfig(update=kind(**SIZE)).update
        assert type(update) is kind
        for name in ("gamma", "learning_rate", "max_grad_norm", "vf_coef"):
            assert getattr(update, name) == getattr(default, name), name
        assert (update.num_envs, update.num_steps) == (N, T)
    critic = RLHFConfig(update=TRPOConfig(**SIZE)).update
    assert (critic.gamma, critic.learning_rate, critic.max_grad_norm) == (1.0, 1e-3, 0.5)


def test_settings_that_were_given_stay():
    given = {"gamma": 0.99, "vf_coef": 0.5, "max_grad_norm": 0.5, "learning_rate": 3e-4}
    update = PPOConfig(**SIZE, **given)
    for config in (
        RLHFConfig(update=update),
        RLHFConfig(update=PPOConfig(**SIZE).replace(**given)),
        RLHFConfig(update=update).replace(kl_coef=0.3),
        RLHFConfig().replace(update=update.replace(clip_eps=0.1)),
        RLHFConfig(update=copy.deepcopy(update)),
        RLHFConfig(update=jax.tree.map(lambda x: x, update)),
        RLHFConfig(update=config_from_dict(update.to_dict())),
    ):
        for name, value in given.items():
            assert getattr(config.update, name) == value


def test_an_endless_horizon_and_an_unbounded_gradient_are_meant():
    assert tiny_config(kl_horizon_sequences=float("inf")).kl_horizon_sequences == float("inf")
    assert SFTConfig(max_grad_norm=float("inf")).max_grad_norm == float("inf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recompute_advantages": True}, "recompute_advantages=True: responses are valued once"),
        ({"sequence_length": 2}, "sequence_length=2 has no meaning on token sequences"),
        ({"network": "gru"}, "network='gru' has no meaning on token sequences"),
    ],
)
def test_what_responses_have_no_room_for_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        RLHFConfig(update=PPOConfig(**{**SIZE, "num_steps": 4, "num_minibatches": 1, **change}))
