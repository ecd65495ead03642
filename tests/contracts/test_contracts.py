"""What every algorithm promises, checked on a task where every option matters."""

import copy
import dataclasses
import functools
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import config_from_dict, make_step, make_train
from jaxrl_po.algorithms import ALGORITHMS

SETTINGS = {
    "env_id": "Pendulum-v1",
    "env_params": {"max_steps_in_episode": 5, "max_speed": 2.0},  # episodes end within a rollout
    "num_envs": 2,
    "num_steps": 8,
    "total_timesteps": 48,
    "learning_rate": 0.03,
    "hidden_sizes": (8,),
    "anneal_lr": True,
    "normalize_observations": True,
    "normalize_rewards": True,
    "update_epochs": 2,
    "num_minibatches": 2,
    "critic_epochs": 2,
    "critic_minibatches": 2,
    "cg_iters": 3,
    "clip_eps": 0.05,
    "clip_value": True,
    "value_clip_eps": 0.05,
    "ent_coef": 0.01,
    "early_stop_kl": True,
    "max_kl": 0.5,  # so far that the line search must shrink the step
    "cg_damping": 0.01,
}
TARGET_KL = {"ppo": 0.003, "ppo_penalty": 0.02}  # among the values that the KL takes
COMMON_METRICS = {
    *("timesteps", "episode_return", "episode_length", "num_episodes", "policy_loss"),
    *("value_loss", "entropy", "kl", "explained_variance", "grad_norm", "learning_rate"),
}
NATURAL_GRADIENT_METRICS = {
    *("step_accepted", "line_search_steps", "surrogate_improvement", "predicted_improvement"),
    *("predicted_kl", "cg_residual"),
}
METRICS = {
    "vpg": set(),
    "npg": NATURAL_GRADIENT_METRICS,
    "trpo": NATURAL_GRADIENT_METRICS,
    "ppo": {"clip_fraction", "ratio_first_minibatch"},
    "ppo_penalty": {"ratio_first_minibatch", "kl_coef"},
}
# Numbers that act only under a certain option.
BEHIND_OPTION = {".step_size": ("npg", {"step_rule": "fixed"})}
# Static fields whose other value is not the obvious one.
OTHER = {
    "env_id": {"env_id": "MountainCarContinuous-v0"},
    "fisher_fraction": {"fisher_fraction": 0.5},
    "hidden_sizes": {"hidden_sizes": (8, 8)},
    # without the option its number must be the default
    "clip_value": {"clip_value": False, "value_clip_eps": 0.2},
    "early_stop_kl": {"early_stop_kl": False, "target_kl": 0.01},
    "adaptive_kl": {"adaptive_kl": False, "target_kl": 0.01},
    "step_rule": {"step_rule": "fixed", "max_kl": 0.01},
    # of networks with memory, see tests/loop/test_memory.py
    "network": {"network": "gru"},
    "memory_size": {"network": "gru", "memory_size": 4},
    "memory_layers": {"network": "gru", "memory_layers": 2},
    "sequence_length": {"network": "gru", "sequence_length": 4},
}
KEYS = jax.random.split(jax.random.key(0), 3)


def sensitive_config(name, **changes):
    known = {field.name for field in dataclasses.fields(ALGORITHMS[name][0])}
    settings = {**SETTINGS, "target_kl": TARGET_KL.get(name), **changes}
    chosen = {key: value for key, value in settings.items() if key in known}
    if chosen.get("step_rule") == "fixed":
        del chosen["max_kl"]
    return config_from_dict({"algorithm": name, **chosen})


def is_data(config_class, field):
    hints = typing.get_type_hints(config_class, include_extras=True)
    return hints[field.name] is float or field.name == "env_params"


def static_fields():
    """Each field of structure, in the first and in the last of the methods that have it."""
    having = {}
    for name, (config_class, _) in ALGORITHMS.items():
        for field in dataclasses.fields(config_class):
            if not is_data(config_class, field):
                having.setdefault(field.name, []).append((name, field))
    return [
        pytest.param(name, field, id=f"{name}-{field.name}")
        for cases in having.values()
        for name, field in dict([cases[0], cases[-1]]).items()
    ]


def leaves(tree):
    """All numbers of a tree; PRNG keys as their data."""
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [
        np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        for leaf in jax.tree.leaves(tree)
    ]


def assert_same(one, other):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def differ(one, other):
    return any((a != b).any() for a, b in zip(leaves(one), leaves(other), strict=True))


def assert_close(one, other, rtol=2e-3, atol=2e-4):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.fixture(scope="module")
def config(algorithm):
    return sensitive_config(algorithm)


@pytest.fixture(scope="module")
def compile_program(algorithm, jit, jit_as_shipped):
    """As users have it where a claim is about bits, for one method."""
    return jit_as_shipped if algorithm == "ppo" else jit


@pytest.fixture(scope="module")
def train(config, compile_program):
    return compile_program(make_train(config))


@pytest.fixture(scope="module")
def result(train):
    return train(KEYS[0])


@pytest.fixture(scope="module")
def variants(config):
    """Configs that differ from the first in one number each, by that number's path."""
    paths, treedef = jax.tree.flatten_with_path(config)
    numbers = [number for _, number in paths]
    changed = {}
    for i, (path, number) in enumerate(paths):
        other = number / 2 if number else 0.5
        changed[jax.tree_util.keystr(path)] = treedef.unflatten(
            [*numbers[:i], type(number)(other), *numbers[i + 1 :]]
        )
    return changed


@pytest.fixture(scope="module")
def sweep(config, variants, jit):
    """One program, two calls: all keys under the config, then all variants under the first key."""
    program = jit(jax.vmap(lambda config, key: make_train(config)(key)))
    size = max(len(KEYS), len(variants))

    def call(configs, keys):
        configs = [*configs, *[config] * (size - len(configs))]
        stacked = jax.tree.map(lambda *numbers: jnp.stack(numbers), *configs)
        return program(stacked, keys)

    padding = jnp.full(size - len(KEYS), KEYS[0])
    over_keys = call([], jnp.concatenate([KEYS, padding]))
    over_variants = call(variants.values(), jnp.full(size, KEYS[0]))
    assert program._cache_size() == 1
    return over_keys, over_variants


def test_metrics_are_those_of_the_design(algorithm, config, result):
    assert set(result.metrics) == COMMON_METRICS | METRICS[algorithm]
    for value in result.metrics.values():
        assert value.shape == (config.num_iterations,)
        assert np.isfinite(value).all()


def test_second_call_does_not_recompile(train, result):
    train(KEYS[1])
    assert train._cache_size() == 1


def test_state_holds_arrays_only(config):
    state = make_step(config)[0](KEYS[0])  # not through jit, which would turn numbers into arrays
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


def test_vmap_over_keys_is_a_loop_over_keys(train, sweep):
    over_keys, _ = sweep
    for i, key in enumerate(KEYS):
        assert_close(jax.tree.map(lambda leaf: leaf[i], over_keys), train(key))  # noqa: B023


def test_steps_are_the_run_to_the_bit(config, result, compile_program):
    init, step = make_step(config)
    state, step = compile_program(init)(KEYS[0]), compile_program(step)
    history = []
    for _ in range(config.num_iterations):
        state, metrics = step(state)
        history.append(metrics)
    assert_same(state, result.state)
    assert_same(jax.tree.map(lambda *values: jnp.stack(values), *history), result.metrics)


@pytest.mark.parametrize("algorithm", ["npg"], indirect=True)  # which has loops of its own
def test_jit_is_no_jit(algorithm, jit):
    few = {"update_epochs": 1, "critic_epochs": 1, "cg_iters": 2}  # each is a loop of small calls
    config = sensitive_config(algorithm, num_steps=2, total_timesteps=4, **few)
    init, step = make_step(config)
    with jax.disable_jit():
        plain = step(init(KEYS[0]))
    assert_close(plain, jit(lambda key: step(init(key)))(KEYS[0]))


def test_every_float_changes_the_result(variants, sweep):
    over_keys, over_variants = sweep
    base = jax.tree.map(lambda leaf: leaf[0], over_keys.state.params)
    for i, name in enumerate(variants):
        params = jax.tree.map(lambda leaf: leaf[i], over_variants.state.params)  # noqa: B023
        assert name in BEHIND_OPTION or differ(params, base), f"{name} changes nothing"


@pytest.mark.parametrize(("field", "case"), BEHIND_OPTION.items())
def test_float_behind_an_option_changes_the_result(field, case, jit):
    name, option = case
    config = sensitive_config(name, **option)
    values = getattr(config, field.strip(".")) * jnp.array([1.0, 0.5])
    train = lambda value: make_train(config.replace(**{field.strip("."): value}))(KEYS[0])  # noqa: E731
    params = jit(jax.vmap(train))(values).state.params
    assert differ(*(jax.tree.map(lambda leaf: leaf[i], params) for i in (0, 1)))  # noqa: B023


@functools.cache
def program(name, changes=()):
    """The traced program of a config as text."""
    train = make_train(sensitive_config(name, **dict(changes)))
    return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(train)(KEYS[0])))


@pytest.mark.parametrize(("name", "field"), static_fields())
def test_every_static_field_changes_the_program(name, field):
    config = sensitive_config(name)
    value = getattr(config, field.name)
    if field.name in OTHER:
        changes = OTHER[field.name]
    elif isinstance(value, bool):
        changes = {field.name: not value}
    elif isinstance(value, int):
        changes = {field.name: 2 * value}
    else:
        allowed = field.metadata["allowed"]
        changes = {field.name: next(other for other in allowed if other != value)}
    try:
        assert jax.tree.structure(config.replace(**changes)) != jax.tree.structure(config)
        assert program(name, tuple(changes.items())) != program(name)
    except ValueError as error:  # an option that does not go with this task or algorithm
        assert f"{field.name}=" in str(error)  # noqa: PT017


def test_equal_configs_are_one_program(algorithm):
    program.cache_clear()
    first = program(algorithm)
    program.cache_clear()
    assert program(algorithm) == first


def test_program_calls_no_host(algorithm):
    assert "callback" not in program(algorithm)


def test_inputs_are_not_mutated(algorithm):
    settings = sensitive_config(algorithm).to_dict()
    before = copy.deepcopy(settings)
    jax.eval_shape(make_train(settings), KEYS[0])
    assert settings == before


def test_policy_starts_each_update_where_the_rollout_was(algorithm, result):
    for name in {"ratio_first_minibatch"} & METRICS[algorithm]:
        np.testing.assert_allclose(result.metrics[name], 1.0, atol=1e-5)


def test_precision_is_that_of_jax(config, result):
    def floats(result):
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(result.state)}
        return {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}

    assert floats(result) == {np.dtype("float32")}
    with jax.enable_x64(True):
        assert floats(jax.eval_shape(make_train(config), KEYS[0])) == {np.dtype("float64")}


def test_legacy_keys_do_the_same(algorithm, config, train, jit):
    legacy, key = jax.random.PRNGKey(0), jax.random.key(0)
    shapes = [jax.tree.leaves(jax.eval_shape(make_train(config), k)) for k in (legacy, key)]
    assert shapes[0] == shapes[1]
    if algorithm == "ppo":  # what is drawn from keys is the same for all
        assert_close(jit(make_train(config))(legacy), train(key))
