"""JSON that other readers take too, with what it has no numbers for."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, config_from_dict
from jaxrl_po.host.machine.strict_json import from_json, to_json


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("value", [float("inf"), -np.float32("inf"), jnp.float32("nan")])
def test_what_is_not_finite_survives_strict_readers(value):
    text = to_json({"a": [value, 1.5]})
    json.loads(text, parse_constant=refuse)
    np.testing.assert_equal(from_json(text), {"a": [float(value), 1.5]})


def test_arrays_and_scalars_of_numpy_and_jax_become_numbers():
    value = {
        1: np.int64(3),
        "b": jnp.arange(2),
        "c": (np.bool_(True), np.array([[0.5]])),
        "d": None,
    }
    assert from_json(to_json(value)) == {"1": 3, "b": [0, 1], "c": [True, [[0.5]]], "d": None}


def test_a_config_with_an_infinity_survives():
    config = PPOConfig(max_grad_norm=float("inf"), env_params={"length": np.float32(0.5)})
    assert config_from_dict(from_json(to_json(config.to_dict()))) == config


def test_what_cannot_be_kept_is_named():
    with pytest.raises(ValueError, match=r"<object object at .*> cannot be kept as JSON"):
        to_json([object()])
    with pytest.raises(ValueError, match="nested too deeply"):
        from_json("[" * 100_000)
