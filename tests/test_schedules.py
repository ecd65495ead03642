"""Floats of a config as functions of the fraction of a run that is done."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import (
    PPOConfig,
    PPOPenaltyConfig,
    TRPOConfig,
    config_from_dict,
    make_step,
    make_train,
    resume,
    run,
    sweep,
)
from jaxrl_po.config import data_fields
from jaxrl_po.rlhf import RLHFConfig
from tests.host.small import random_walk

KEY, ENV, ITERATIONS = jax.random.key(0), random_walk(), 4
SMALL = {"num_envs": 2, "num_steps": 8, "total_timesteps": ITERATIONS * 16, "hidden_sizes": (4,)}
ONLY_AT_START = {"log_std_init"}
OWN = {
    "ppo": {"early_stop_kl": True, "clip_value": True},
    "ppo_penalty": {"adaptive_kl": False, "clip_value": True},
}


def halving(done):
    """From 1e-3 to half of it."""
    return 1e-3 * (1.0 - 0.5 * done)


def floats(config):
    names = set(data_fields(type(config))) - {"env_params"} - ONLY_AT_START
    if not getattr(config, "adaptive_kl", True):
        names -= {"target_kl"}
    return sorted(name for name in names if np.isfinite(getattr(config, name)))


def falling(start):
    return lambda done: start * (1.0 - 0.5 * done)


@pytest.mark.parametrize("name", ["trpo", "ppo_penalty"])  # all kinds of loops and of losses
def test_each_iteration_has_the_values_of_its_fraction(name, jit):
    """All floats of a method fall by half; beside it, steps by hand with the numbers written in."""
    config = config_from_dict({"algorithm": name, **SMALL, **OWN.get(name, {})})
    starts = {field: float(getattr(config, field)) or 0.1 for field in floats(config)}
    starts = {f: min(x, 0.9) for f, x in starts.items()}
    moving = config.replace(**{field: falling(x) for field, x in starts.items()})
    state, metrics = jit(make_train(moving, ENV))(KEY)

    init, _ = make_step(config.replace(**starts), ENV)
    step = jit(lambda config, state: make_step(config, ENV)[1](state))
    by_hand, rates = init(KEY), []
    for iteration in range(ITERATIONS):
        factor = 1.0 - 0.5 * iteration / ITERATIONS
        now = config.replace(**{field: jnp.float32(x * factor) for field, x in starts.items()})
        by_hand, found = step(now, by_hand)
        rates.append(found["learning_rate"])
    assert step._cache_size() == 1
    np.testing.assert_allclose(metrics["learning_rate"], rates, rtol=1e-5)
    for one, other in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(by_hand.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-5)
    if "kl_coef" in starts:
        np.testing.assert_allclose(metrics["kl_coef"], [0.9 * (1 - i / 8) for i in range(4)], 1e-5)


def test_what_has_no_schedule_stays_data(jit):
    config = PPOConfig(**SMALL, clip_eps=falling(0.2))
    leaves, _ = jax.tree.flatten(config)
    assert len(leaves) == len(jax.tree.leaves(PPOConfig(**SMALL))) - 1
    train = jit(jax.vmap(lambda gamma: make_train(config.replace(gamma=gamma), ENV)(KEY).metrics))
    kl = train(jnp.array([0.5, 0.99]))["kl"]
    assert kl[0, -1] != kl[1, -1]
    assert config.at(0.5).clip_eps == pytest.approx(0.15)
    assert PPOConfig(**SMALL).at(0.5) == PPOConfig(**SMALL)
    assert jax.tree.map(lambda x: x, config) == config


def test_settings_within_settings_have_schedules():
    config = RLHFConfig(kl_coef=falling(0.4), update=PPOConfig(clip_eps=falling(0.2)))
    now = config.at(1.0)
    assert (now.kl_coef, now.update.clip_eps) == (pytest.approx(0.2), pytest.approx(0.1))
    assert now.temperature == config.temperature


def test_named_schedules_are_kept_resumed_and_swept(tmp_path):
    name = f"{halving.__module__}:halving"
    config = PPOConfig(**SMALL, learning_rate=halving)
    assert config.to_dict()["learning_rate"] == name
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert PPOConfig(**SMALL, learning_rate=name) == config
    options = {"env": ENV, "quiet": True, "segment_length": 2}
    whole = run(config, directory=tmp_path / "whole", **options)
    run(config, directory=tmp_path / "halves", until=2, **options)
    second = resume(tmp_path / "halves", env=ENV, quiet=True)
    expected = [halving(i / ITERATIONS) for i in range(ITERATIONS)]
    np.testing.assert_allclose(whole.metrics["learning_rate"][0], expected, rtol=1e-6)
    np.testing.assert_allclose(second.metrics["learning_rate"][0], expected[2:], rtol=1e-6)
    result = sweep(config, {"gamma": [0.9, 0.99]}, 1, env=ENV, directory=tmp_path / "sweep")
    assert len(result.returns) == 2


def test_what_cannot_be_named_cannot_be_kept(tmp_path):
    config = PPOConfig(**SMALL, clip_eps=lambda done: 0.2)
    for call in (run, lambda c, **more: sweep(c, {"gamma": [0.9]}, 1, **more)):
        with pytest.raises(ValueError, match=r"clip_eps: .*lambda.* imported by its name"):
            call(config, env=ENV, directory=tmp_path / "kept")
    assert not list(tmp_path.rglob("*.json"))


REFUSED = {
    "range": ({"clip_eps": lambda done: 0.2 - done}, r"clip_eps \(a value of its schedule\)=-0.0"),
    "array": ({"gamma": lambda done: jnp.zeros(2)}, "gamma: a schedule gives one number"),
    "nothing": ({"gamma": lambda done: None}, "gamma: a schedule gives one number, not None"),
    "arguments": ({"gamma": lambda: 0.9}, "gamma: a schedule takes the fraction done; .* fails"),
    "start": ({"log_std_init": falling(1.0)}, "log_std_init takes a number: it acts at the start"),
    "no module": ({"gamma": "nowhere:schedule"}, "gamma='nowhere:schedule' cannot be imported"),
    "no function": ({"gamma": "math:pi"}, "gamma='math:pi' must be a function"),
    "twice": (
        {"learning_rate": falling(1e-3), "anneal_lr": True},
        "learning_rate takes a number here: anneal_lr=True anneals it",
    ),
    "integer": ({"num_envs": falling(4.0)}, "num_envs must be an integer"),
    "parameter": ({"env_params": {"l": falling(1.0)}}, r"env_params\['l'\] must be a number"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_schedules_that_are_none_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**changes)


def test_what_moves_by_itself_or_shapes_the_program_is_refused():
    with pytest.raises(ValueError, match="kl_coef takes a number here: adaptive_kl=True moves it"):
        PPOPenaltyConfig(kl_coef=falling(1.0))
    with pytest.raises(ValueError, match="kl_coef takes a number here: adaptive_kl=True moves it"):
        RLHFConfig(kl_coef=falling(1.0), adaptive_kl=True)
    with pytest.raises(ValueError, match="fisher_fraction takes a number"):
        TRPOConfig(fisher_fraction=falling(1.0))
