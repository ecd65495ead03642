"""Spaces: units and shapes there and back, JSON, and the copy in the file that stands alone."""

import json
from types import SimpleNamespace

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.envs import Box, Discrete, MultiDiscrete
from jaxrl_po.host.policies import numpy_policy
from jaxrl_po.spaces import as_space, check_space, same_actions, space_from_json

SIX = np.array([[-2.0, -np.inf, 0.0], [1.0, -3.0, -np.inf]])
BOXES = {
    "number": Box(np.array(-2.0), np.array(4.0)),
    "vector": Box(np.array([-1.0, -np.inf]), np.array([3.0, 0.5])),
    "matrix": Box(SIX, np.array([[2.0, np.inf, 5.0], [1.0, 3.0, 4.0]])),
}
EACH_BOX = pytest.mark.parametrize("space", BOXES.values(), ids=BOXES)
SPACES = {"discrete": Discrete(3), "multidiscrete": MultiDiscrete((3, 2)), **BOXES}
EACH = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


@EACH
def test_json_is_read_back(space):
    back = space_from_json(json.loads(json.dumps(space.to_json(), allow_nan=False)))
    assert type(back) is type(space)
    for one, other in zip(space, back, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (back.shape, back.num_outputs) == (space.shape, space.num_outputs)
    assert same_actions(space, back)


def test_only_the_same_actions_are_the_same():
    spaces = [*SPACES.values(), Discrete(2), MultiDiscrete((2, 3)), MultiDiscrete((3,)), None]
    for i, one in enumerate(spaces):
        assert [same_actions(one, other) for other in spaces if other is not None].count(True) == (
            one is not None
        ), i


@EACH
def test_a_distribution_samples_what_the_environment_takes(space):
    outputs = np.zeros((4, 5, space.num_outputs), np.float32)
    distribution = space.distribution(outputs, outputs)
    assert distribution.mode().shape == (4, 5, *space.sample_shape)
    assert jnp.issubdtype(distribution.mode().dtype, jnp.floating) == space.continuous
    assert space.to_units(distribution.mode()).shape == (4, 5, *space.shape)


@EACH_BOX
def test_half_ranges_there_and_back(space):
    inside = np.random.default_rng(0).uniform(-1, 1, (7, space.num_outputs)).astype(np.float32)
    width = np.ravel(space.high) - np.ravel(space.low)
    bounded = np.isfinite(np.ravel(width)) & (np.ravel(width) > 0)
    taken = np.asarray(space.to_units(jnp.asarray(inside)))
    assert taken.shape == (7, *space.shape)
    assert (taken >= space.low).all()
    assert (taken <= space.high).all()
    wide = space._replace(low=np.where(space.low == space.high, space.low - 1, space.low))
    back = wide.from_units(np.asarray(wide.to_units(jnp.asarray(inside))))
    np.testing.assert_allclose(back[:, bounded], inside[:, bounded], atol=1e-5)
    ends = np.asarray(space.to_units(jnp.full((1, space.num_outputs), 1.0))).reshape(-1)
    np.testing.assert_array_equal(ends[bounded], np.ravel(space.high)[bounded])


@EACH_BOX
def test_the_copy_in_the_file_that_stands_alone_is_the_same(space):
    mean = np.random.default_rng(0).normal(size=(9, space.num_outputs)).astype(np.float32) * 3
    alone = numpy_policy.sampled({**space.to_json(), "squash": False}, (mean, mean), None)
    np.testing.assert_allclose(alone, space.to_units(jnp.asarray(mean)), rtol=1e-6, atol=1e-6)
    squashed = numpy_policy.sampled({**space.to_json(), "squash": True}, (mean, mean), None)
    np.testing.assert_allclose(squashed, space.to_units(jnp.tanh(mean)), rtol=1e-5, atol=1e-6)


def test_the_copy_chooses_the_same():
    logits = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    for space in (Discrete(5), MultiDiscrete((3, 2)), MultiDiscrete((1, 4))):
        alone = numpy_policy.sampled(space.to_json(), logits, None)
        np.testing.assert_array_equal(alone, space.distribution(logits).mode())
        drawn = numpy_policy.sampled(space.to_json(), logits, np.random.default_rng(0))
        assert drawn.shape == alone.shape


def test_spaces_of_other_libraries():
    spaces = gymnasium.spaces
    assert as_space(spaces.Discrete(3)) == Discrete(3)
    assert as_space(spaces.MultiDiscrete([3, 2])) == MultiDiscrete((3, 2))
    assert as_space(spaces.Box(-1, 2, (2, 3))).shape == (2, 3)
    assert as_space(SimpleNamespace(low=-1.0, high=[1.0, 2.0], shape=(2,))).low.tolist() == [-1, -1]
    for other in (spaces.MultiBinary(4), spaces.Dict(), spaces.MultiDiscrete([[2, 2], [2, 2]])):
        assert as_space(other) is None


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (3, "a `jaxrl_po.envs` Discrete, MultiDiscrete or Box, not 3"),
        (Discrete(0), "one action or more, not n=0"),
        (Discrete(True), "not n=True"),
        (MultiDiscrete(()), "one choice or more"),
        (MultiDiscrete((3, 0)), "of one action or more each"),
        (MultiDiscrete(3), "one choice or more"),
        (Box(np.zeros(0), np.zeros(0)), "two arrays of bounds of one shape"),
        (Box(np.zeros((2, 1)), np.ones(2)), "two arrays of bounds of one shape"),
        (Box(np.ones(2), np.array([2.0, np.nan])), "low <= high"),
        (Box("a", "b"), "two arrays of bounds"),
    ],
)
def test_what_is_no_space_is_refused_by_name(space, message):
    with pytest.raises(ValueError, match=f"env: action_space must .*{message}"):
        check_space(space)
