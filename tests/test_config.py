import copy
import dataclasses
import json
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import (
    NPGConfig,
    PPOConfig,
    PPOPenaltyConfig,
    TRPOConfig,
    VPGConfig,
    config_from_dict,
)
from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.config import data_fields

CONFIGS = {name: config_class for name, (config_class, _) in ALGORITHMS.items()}
FIELDS = [
    pytest.param(config_class, field, id=f"{name}-{field.name}")
    for name, config_class in CONFIGS.items()
    for field in dataclasses.fields(config_class)
]


def leaf_names(config):
    paths, _ = jax.tree.flatten_with_path(config)
    return {jax.tree_util.keystr(path) for path, _ in paths}


@pytest.mark.parametrize(("config_class", "field"), FIELDS)
def test_floats_are_leaves_and_all_else_is_structure(config_class, field):
    hint = typing.get_type_hints(config_class, include_extras=True)[field.name]
    is_leaf = f".{field.name}" in leaf_names(config_class())
    if field.name == "env_params":
        assert ".env_params['g']" in leaf_names(config_class(env_params={"g": 1.0}))
    else:
        assert is_leaf == (hint is float)


@pytest.mark.parametrize("config_class", CONFIGS.values(), ids=CONFIGS)
def test_a_config_survives_the_pytree(config_class):
    config = config_class(gamma=0.5, env_params={"length": 2.0})
    leaves, treedef = jax.tree.flatten(config)
    assert treedef.unflatten(leaves) == config
    assert jax.tree.map(lambda x: 2 * x, config).gamma == 1.0


def test_floats_can_be_traced_and_vmapped():
    config = PPOConfig()
    double = jax.jit(lambda c: c.replace(gamma=c.gamma / 2).gamma)
    assert double(config) == pytest.approx(config.gamma / 2)
    assert double(config.replace(gamma=0.5)) == 0.25
    assert double._cache_size() == 1
    grid = jax.vmap(lambda g: config.replace(gamma=g))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(grid.gamma, [0.1, 0.2])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_dict_form_goes_there_and_back(name):
    config = CONFIGS[name](hidden_sizes=(3, 5), env_params={"length": 2.0}, learning_rate=0.25)
    plain = config.to_dict()
    assert plain["algorithm"] == name
    assert config_from_dict(plain) == config
    assert config_from_dict(json.loads(json.dumps(plain))) == config


def test_the_dict_form_takes_device_and_numpy_numbers():
    config = PPOConfig(learning_rate=jnp.float32(0.5), gamma=np.float64(0.25), num_envs=np.int64(8))
    assert json.loads(json.dumps(config.to_dict()))["learning_rate"] == 0.5
    assert type(config.gamma) is float
    assert type(config.num_envs) is int


def test_the_callers_dict_is_left_alone():
    settings = {"algorithm": "ppo", "env_params": {"length": 2.0}, "hidden_sizes": [8]}
    before = copy.deepcopy(settings)
    config = config_from_dict(settings)
    assert settings == before
    settings["env_params"]["length"] = 3.0
    assert config.env_params == {"length": 2.0}


def test_replace_makes_a_changed_copy():
    config = PPOConfig()
    other = config.replace(gamma=0.5, num_envs=8)
    assert (other.gamma, other.num_envs) == (0.5, 8)
    assert config == PPOConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.gamma = 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: PPOConfig(learning_rat=0.1),
        lambda: PPOConfig().replace(learning_rat=0.1),
        lambda: config_from_dict({"algorithm": "ppo", "learning_rat": 0.1}),
    ],
    ids=["constructor", "replace", "dict"],
)
def test_an_unknown_field_names_the_nearest(make):
    with pytest.raises(ValueError, match=r"PPOConfig .*'learning_rat'.*'learning_rate'"):
        make()


@pytest.mark.parametrize("settings", [{}, {"algorithm": "pp0"}, {"algorithm": None}])
def test_an_unknown_algorithm_names_those_that_are(settings):
    with pytest.raises(ValueError, match=r"algorithm=.*known: .*ppo.*trpo"):
        config_from_dict(settings)


BAD = [
    ("num_envs", 0, ">= 1"),
    ("num_envs", -4, ">= 1"),
    ("num_envs", True, "integer"),
    ("num_envs", 2.0, "integer"),
    ("num_envs", "4", "integer"),
    ("num_steps", 0, ">= 1"),
    ("total_timesteps", 2**32, "<="),
    ("gamma", 1.5, "<= 1"),
    ("gamma", -0.1, ">= 0"),
    ("gamma", "0.9", "number"),
    ("gamma", True, "number"),
    ("gamma", None, "number"),
    ("gae_lambda", float("nan"), "<= 1"),
    ("learning_rate", -1e-3, ">= 0"),
    ("max_grad_norm", 0.0, "> 0"),
    ("hidden_sizes", 64, "tuple of integers"),
    ("hidden_sizes", "64", "tuple of integers"),
    ("hidden_sizes", (64, 0), ">= 1"),
    ("hidden_sizes", (64, 2.5), "integer"),
    ("activation", "tahn", "tanh"),
    ("activation", None, "string"),
    ("network", "transformer", "cnn, cnn+gru"),
    ("anneal_lr", 1, "True or False"),
    ("env_id", 3, "string"),
    ("env_params", [1], "map"),
    ("env_params", {1: 2.0}, "map"),
    ("advantage_normalization", "bath", "batch"),
    ("update_epochs", 0, ">= 1"),
    ("num_minibatches", 3, "does not divide num_envs * num_steps = 512"),
    ("minibatch_shards", 0, ">= 1"),
    ("minibatch_shards", 3, "does not divide num_envs=4"),
    ("clip_eps", 0.0, "> 0"),
    ("target_kl", -1.0, "> 0"),
]


@pytest.mark.parametrize(("field", "value", "allowed"), BAD)
def test_a_bad_value_names_its_field_and_what_is_allowed(field, value, allowed):
    for make in (
        lambda: PPOConfig(**{field: value}),
        lambda: PPOConfig().replace(**{field: value}),
    ):
        with pytest.raises(ValueError, match=field) as error:
            make()
        assert allowed in str(error.value)


@pytest.mark.parametrize(
    ("config_class", "changes", "message"),
    [
        (VPGConfig, {"critic_minibatches": 3}, "critic_minibatches=3 does not divide"),
        (
            PPOConfig,
            {"minibatch_shards": 4, "num_minibatches": 256},
            "num_minibatches=256 does not divide the 128 samples of each of minibatch_shards=4",
        ),
        (
            TRPOConfig,
            {"minibatch_shards": 4, "network": "gru", "sequence_length": 64},
            "critic_minibatches=4 does not divide the 2 samples of each of minibatch_shards=4",
        ),
        (VPGConfig, {"shared_torso": True}, "shared_torso=True does not go with vpg"),
        (TRPOConfig, {"shared_torso": True}, "shared_torso=True does not go with trpo"),
        (TRPOConfig, {"advantage_normalization": "minibatch"}, "advantage_normalization"),
        (TRPOConfig, {"max_kl": 0.0}, "max_kl"),
        (TRPOConfig, {"backtrack_coeff": 1.5}, "backtrack_coeff"),
        (PPOConfig, {"total_timesteps": 511}, "total_timesteps=511 is less than one iteration"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(config_class, changes, message):
    with pytest.raises(ValueError, match=message):
        config_class(**changes)


@pytest.mark.parametrize(("budget", "iterations"), [(512, 1), (1023, 1), (1024, 2)])
def test_the_budget_is_never_exceeded(budget, iterations):
    assert PPOConfig(total_timesteps=budget).num_iterations == iterations


def test_replace_takes_single_parameters_of_the_environment():
    config = PPOConfig(env_params={"gravity": 9.0, "length": 0.5})
    changed = config.replace(gamma=0.9, **{"env_params.length": 1.0, "env_params.tau": 0.01})
    assert changed.env_params == {"gravity": 9.0, "length": 1.0, "tau": 0.01}
    assert changed.gamma == 0.9
    assert config.replace(**{"env_params": {}, "env_params.tau": 0.01}).env_params == {"tau": 0.01}
    with pytest.raises(ValueError, match=r"has no field 'env_param.tau'"):
        config.replace(**{"env_param.tau": 0.01})


FLOATS = [
    pytest.param(config_class, field, id=f"{name}-{field}")
    for name, config_class in CONFIGS.items()
    for field in data_fields(config_class)
    if field not in ("env_params", "max_grad_norm")
]


@pytest.mark.parametrize(("config_class", "field"), FLOATS)
@pytest.mark.parametrize("value", [np.inf, np.nan, 1e39, np.array([0.5, np.inf])], ids=repr)
def test_floats_are_numbers_that_the_program_can_hold(config_class, field, value):
    with pytest.raises(ValueError, match=rf"{field}=.* is out of range"):
        config_class(**{field: value})


def test_infinity_is_allowed_where_it_is_meant():
    assert PPOConfig(max_grad_norm=np.inf).max_grad_norm == np.inf
    with pytest.raises(ValueError, match="max_grad_norm"):
        PPOConfig(max_grad_norm=np.nan)


@pytest.mark.parametrize("value", [1j, np.array("a"), jax.random.key(0), np.array(True), [0.5]])
def test_a_float_is_a_real_number(value):
    with pytest.raises(ValueError, match=r"gamma must be a number"):
        PPOConfig(gamma=value)


@pytest.mark.parametrize("value", [jnp.float32(0.5), np.float64(0.5), np.array(0.5)])
def test_a_static_float_becomes_a_number(value):
    config = TRPOConfig(fisher_fraction=value)
    assert type(config.fisher_fraction) is float
    assert hash(jax.tree.structure(config)) == hash(jax.tree.structure(config.replace()))


def test_a_static_float_is_not_traced():
    with pytest.raises(ValueError, match="fisher_fraction shapes the program"):
        jax.jit(lambda x: TRPOConfig(fisher_fraction=x).gamma)(0.5)
    with pytest.raises(ValueError, match="fisher_fraction shapes the program"):
        TRPOConfig(fisher_fraction=np.array([0.5, 0.5]))


@pytest.mark.parametrize("value", ["long", None, [1.0], {}, np.nan, np.array([1, np.nan]), 1j])
def test_values_of_env_params_are_numbers(value):
    with pytest.raises(ValueError, match=r"env_params\['length'\]"):
        PPOConfig(env_params={"length": value})


WITHOUT_EFFECT = [
    (PPOConfig, {"value_clip_eps": 0.1}, {"clip_value": True}),
    (PPOPenaltyConfig, {"value_clip_eps": 0.1}, {"clip_value": True}),
    (PPOConfig, {"target_kl": 0.1}, {"early_stop_kl": True}),
    (PPOPenaltyConfig, {"adaptive_kl": False, "target_kl": 0.1}, {"adaptive_kl": True}),
    (NPGConfig, {"step_size": 0.2}, {"step_rule": "fixed"}),
    (NPGConfig, {"step_rule": "fixed", "max_kl": 0.2}, {"step_rule": "trust_region"}),
    (TRPOConfig, {"max_backtracks": 0, "backtrack_coeff": 0.5}, {"max_backtracks": 1}),
    (PPOConfig, {"hidden_sizes": (), "activation": "relu"}, {"hidden_sizes": (4,)}),
]


def test_a_stop_of_each_epoch_by_itself_is_refused():
    with pytest.raises(ValueError, match="early_stop_kl=True beside recompute_advantages=True"):
        PPOConfig(early_stop_kl=True, recompute_advantages=True)


@pytest.mark.parametrize(("config_class", "settings", "option"), WITHOUT_EFFECT)
def test_a_field_that_another_choice_disables_is_refused(config_class, settings, option):
    name = list(settings)[-1]
    with pytest.raises(ValueError, match=rf"{name}=.* has no effect: it needs"):
        config_class(**settings)
    config = config_class(**{**settings, **option})
    # Traced from outside, all floats are there at once: none of them was changed by hand.
    assert jax.jit(lambda c: c.replace(gamma=c.gamma / 2).gamma)(config_class()) < config.gamma


@pytest.mark.parametrize(("config_class", "settings", "option"), WITHOUT_EFFECT)
def test_a_choice_may_disable_what_was_set_before_it(config_class, settings, option):
    name = list(settings)[-1]
    disabled = {key: settings.get(key, getattr(config_class(), key)) for key in option}
    config = config_class(**{**settings, **option})
    off = config.replace(**disabled)
    assert getattr(off, name) == settings[name]
    assert off.replace(gamma=0.5).replace(gamma=config.gamma, **option) == config
    assert config_from_dict(off.to_dict()) == off
    with pytest.raises(ValueError, match=rf"{name}=.* has no effect: it needs"):
        off.replace(**{name: settings[name]})
    with pytest.raises(ValueError, match=rf"{name}=.* has no effect: it needs"):
        config.replace(**disabled, **{name: settings[name]})


@pytest.mark.parametrize(
    ("config_class", "settings"),
    [
        (PPOConfig, {"num_minibatches": 512}),
        (VPGConfig, {"num_minibatches": 512, "advantage_normalization": "minibatch"}),
        (PPOConfig, {"num_envs": 1, "num_steps": 1, "num_minibatches": 1}),
        (VPGConfig, {"num_envs": 1, "num_steps": 1, "critic_minibatches": 1}),
        (TRPOConfig, {"num_envs": 1, "num_steps": 1, "critic_minibatches": 1}),
        (
            PPOConfig,
            {
                "num_envs": 1,
                "num_steps": 1,
                "num_minibatches": 1,
                "advantage_normalization": "batch",
            },
        ),
    ],
)
def test_single_advantages_are_not_standardised(config_class, settings):
    with pytest.raises(ValueError, match=r"advantage_normalization=.* one sample a (mini)?batch"):
        config_class(**settings)
    assert config_class(**{**settings, "advantage_normalization": "none"})
