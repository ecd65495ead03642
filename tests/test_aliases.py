"""Others' names for the fields of a config are answered with ours."""

import dataclasses
import inspect

import pytest

from jaxrl_po import NPGConfig, PPOConfig, PPOPenaltyConfig, TRPOConfig, VPGConfig
from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.config.aliases import DIFFERENCES, THEIRS, alias
from jaxrl_po.config.messages import suggestion
from jaxrl_po.host.cli import main as cli

FIELDS = {
    name: {field.name for field in dataclasses.fields(config_class)}
    for name, (config_class, _) in ALGORITHMS.items()
}
# What each library calls its settings, and what becomes of the names.
LIBRARIES = {
    "stable-baselines3 PPO": {
        "n_steps": "num_steps",
        "batch_size": "num_minibatches",
        "n_epochs": "update_epochs",
        "clip_range": "clip_eps",
        "clip_range_vf": "value_clip_eps",
        "normalize_advantage": "advantage_normalization",
        "n_envs": "num_envs",
        "policy_kwargs": "hidden_sizes",
        "net_arch": "hidden_sizes",
        "activation_fn": "activation",
        "n_timesteps": "total_timesteps",
    },
    "CleanRL": {
        "clip_coef": "clip_eps",
        "clip_vloss": "clip_value",
        "norm_adv": "advantage_normalization",
        "minibatch_size": "num_minibatches",
    },
    "PureJaxRL": {
        "LR": "learning_rate",
        "NUM_ENVS": "num_envs",
        "TOTAL_TIMESTEPS": "total_timesteps",
        "UPDATE_EPOCHS": "update_epochs",
        "CLIP_EPS": "clip_eps",
        "ENV_NAME": "env_id",
        "ANNEAL_LR": "anneal_lr",
    },
    "rejax": {"num_epochs": "update_epochs", "env": "env_id", "agent_kwargs": "hidden_sizes"},
    "baselines": {
        "nminibatches": "num_minibatches",
        "noptepochs": "update_epochs",
        "cliprange": "clip_eps",
        "lam": "gae_lambda",
        "total_steps": "total_timesteps",
    },
    "RLlib": {
        "lambda": "gae_lambda",
        "clip_param": "clip_eps",
        "entropy_coeff": "ent_coef",
        "vf_loss_coeff": "vf_coef",
        "num_sgd_iter": "update_epochs",
        "grad_clip": "max_grad_norm",
    },
}
TRUST_REGION = {  # sb3-contrib, spinningup
    "target_kl": "max_kl",
    "delta": "max_kl",
    "cg_max_steps": "cg_iters",
    "damping_coeff": "cg_damping",
    "line_search_shrinking_factor": "backtrack_coeff",
    "line_search_max_iter": "max_backtracks",
    "backtrack_iters": "max_backtracks",
    "n_critic_updates": "critic_epochs",
    "train_v_iters": "critic_epochs",
    "batch_size": "critic_minibatches",
    "sub_sampling_factor": "fisher_fraction",
    "vf_lr": "learning_rate",
}
CASES = [
    *((PPOConfig, *pair) for names in LIBRARIES.values() for pair in names.items()),
    *((TRPOConfig, *pair) for pair in TRUST_REGION.items()),
    (VPGConfig, "vf_lr", "critic_learning_rate"),
    (NPGConfig, "delta", "max_kl"),
    (PPOPenaltyConfig, "kl_coeff", "kl_coef"),
    (PPOPenaltyConfig, "max_kl", "target_kl"),
]


@pytest.mark.parametrize(("config_class", "theirs", "ours"), CASES)
def test_names_of_other_libraries_are_answered_with_ours(config_class, theirs, ours):
    with pytest.raises(ValueError, match=f"has no field '{theirs}': did you mean '{ours}'\\?"):
        config_class(**{theirs: 1})


def test_what_is_another_quantity_is_said():
    with pytest.raises(ValueError, match=r"'num_minibatches'\? \(a number of minibatches"):
        PPOConfig(batch_size=64)


@pytest.mark.parametrize("name", ["clip_range", "clip_param", "cg_max_steps", "kl_coef"])
def test_a_method_is_not_sent_to_a_field_that_it_lacks(name):
    for method, fields in FIELDS.items():
        assert alias(name, fields) in {None, *fields}, method


def test_ours_are_fields_or_flags_and_no_name_of_theirs_is_ours_alone():
    flags = set(inspect.signature(cli.train_command).parameters)
    known = flags.union(*FIELDS.values())
    assert set(THEIRS) <= known
    theirs = {name for names in THEIRS.values() for name in names.split()}
    assert set(DIFFERENCES) <= theirs


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        (
            "cartpole-v1",
            ["CartPole-v1", "Catch"],
            "did you mean 'CartPole-v1'? known: CartPole-v1,",
        ),
        ("GAMMA", ["gamma"], "did you mean 'gamma'? known: gamma"),
        ("zzz", ["gamma", "alpha"], "known: alpha, gamma"),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case(name, known, expected):
    assert suggestion(name, known).startswith(expected)
