"""Saved policies: alike in JAX, NumPy and as exported programs, strict on what they are given."""

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from jax import export

from jaxrl_po import load_policy, make_step, save_policy
from jaxrl_po.envs import Discrete, MultiDiscrete
from jaxrl_po.host.policies import numpy_policy
from jaxrl_po.host.policies.export import export_policy
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.networks import make_network
from jaxrl_po.types import MaskedObservation
from tests.host.small import config, random_walk

KEY = jax.random.key(0)
WALK = random_walk()
ENVS = {
    "box": WALK,
    "discrete": WALK._replace(
        action_space=Discrete(3),
        step=lambda key, state, action, params: WALK.step(key, state, action[None] - 1, params),
    ),
}


ENVS["multidiscrete"] = WALK._replace(
    action_space=MultiDiscrete((3, 2)),
    step=lambda key, state, action, params: WALK.step(key, state, action[:1] - 1.0, params),
)


class Sensors(NamedTuple):
    """A record whose fields are not in the order of their names."""

    time: jax.Array
    near: jax.Array
    body: dict


def sensed(observation):
    """What the walk shows as a truth value, an integer and floats."""
    near = jnp.abs(observation[0]) < 0.5
    return Sensors(observation[1].astype(jnp.int8), near, {"place": observation})


def sense(env):
    def reset(key, params):
        observation, state = env.reset(key, params)
        return sensed(observation), state

    def step(*given):
        observation, *rest = env.step(*given)
        return sensed(observation), *rest

    return env._replace(reset=reset, step=step, observation_shape=None)


SENSING = sense(WALK)


def not_where_it_is(observation):
    """Of three actions, two: which one is out is told by the first number observed."""
    return jnp.arange(3) != jnp.clip(jnp.round(observation[0]) + 1, 0, 2)


MASKED = ENVS["discrete"]._replace(action_mask=not_where_it_is)


BACKENDS = pytest.mark.parametrize("backend", ["jax", "numpy"])


def trained(env, jit, **changes):
    """A state whose policy and normaliser are away from their start."""
    settings = config(**changes)
    init, _ = make_step(settings, env)
    state = jit(init)(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 99))
    params = jax.tree.map(lambda x: x + jax.random.normal(next(keys), x.shape), state.params)
    if settings.normalize_observations:
        mean, variance = np.array([0.5, 2.0], np.float32), np.array([0.2, 3.0], np.float32)
        statistics = state.normalizer.observation
        if isinstance(statistics, Sensors):
            place = statistics.body["place"]._replace(mean=mean, variance=variance)
            statistics = statistics._replace(body={"place": place})
        else:
            statistics = statistics._replace(mean=mean, variance=variance)
        state = state._replace(normalizer=state.normalizer._replace(observation=statistics))
    return settings, state._replace(params=params)


def observations(count=64):
    return np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32) * 3


def expected(settings, state, env, observation):
    """Greedy actions by the training code, in the environment's units."""
    environment, network = make_parts(settings, env)
    distribution, _ = network.policy(state.params, observe(state.normalizer, observation), ())
    action = np.asarray(distribution.to_env(distribution.mode()))
    if not environment.action_space.continuous:
        return action
    return np.clip(action * 2.0, -2.0, 2.0)


@pytest.mark.parametrize(
    ("space", "changes"),
    [
        ("box", {}),
        ("box", {"squash_actions": True, "activation": "gelu", "hidden_sizes": (4, 3)}),
        ("box", {"shared_torso": True, "activation": "swish", "normalize_observations": False}),
        ("box", {"state_dependent_std": True, "log_std_init": -1.0}),
        ("discrete", {"activation": "elu"}),
        ("discrete", {"activation": "relu", "shared_torso": True}),
        ("multidiscrete", {}),
    ],
)
def test_loaded_policy_acts_as_trained(space, changes, tmp_path, jit):
    env = ENVS[space]
    settings, state = trained(env, jit, **changes)
    save_policy(tmp_path, settings, state, env=env)
    policy, alone = load_policy(tmp_path), load_policy(tmp_path, backend="numpy")
    batch = observations()
    actions = expected(settings, state, env, batch)
    np.testing.assert_allclose(policy(batch), actions, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alone(batch), actions, rtol=1e-4, atol=1e-5)
    for loaded in (policy, alone):
        np.testing.assert_allclose(loaded(batch[3]), actions[3], rtol=1e-4, atol=1e-5)
        grid = loaded(batch.reshape(4, 16, 2))
        np.testing.assert_allclose(grid, actions.reshape(4, 16, *actions.shape[1:]), atol=1e-5)
        assert loaded(batch.astype(np.float64)).dtype == loaded(batch).dtype


@pytest.mark.parametrize("normalize", [True, False])
def test_policies_on_several_arrays_act_as_trained(normalize, tmp_path, jit):
    pytest.importorskip("flatbuffers")
    settings, state = trained(SENSING, jit, normalize_observations=normalize)
    save_policy(tmp_path, settings, state, env=SENSING)
    record = jax.tree.map(np.asarray, jax.vmap(sensed)(observations()))
    actions = expected(settings, state, SENSING, record)
    batch = record._asdict()
    grid = jax.tree.map(lambda x: x.reshape(4, 16, *x.shape[1:]), batch)
    none = jax.tree.map(lambda x: x[:0], batch)
    policy, alone = load_policy(tmp_path), load_policy(tmp_path, backend="numpy")
    for loaded in (policy, alone, load_policy(tmp_path, env=SENSING)):
        for given in (batch, record, tuple_free(batch)):
            np.testing.assert_allclose(loaded(given), actions, rtol=1e-4, atol=1e-5)
        one = jax.tree.map(lambda x: x[3], batch)
        np.testing.assert_allclose(loaded(one), actions[3], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(loaded(grid), actions.reshape(4, 16, 1), rtol=1e-4, atol=1e-5)
        assert loaded(none).shape == (0, 1)
        assert loaded.observation_shape == {"body/place": (2,), "near": (), "time": ()}
        for wrong, message in WRONG_SENSORS:
            with pytest.raises(ValueError, match=message):
                loaded({**batch, **wrong})
        with pytest.raises(ValueError, match="observation body/place is missing"):
            loaded(observations())
    export_policy(tmp_path, tmp_path / "export")
    program = (tmp_path / "export" / "policy_greedy.jax").read_bytes()
    exported = export.deserialize(bytearray(program)).call(batch)
    np.testing.assert_allclose(exported, actions, rtol=1e-4, atol=1e-5)


def tuple_free(batch):
    """The same as lists of numbers."""
    return jax.tree.map(lambda x: x.tolist(), batch)


WRONG_SENSORS = [
    ({"more": np.zeros(64)}, "observation has 'more'; this policy takes body/place, near, time"),
    ({"near": np.full(64, 0.5)}, "observation near holds numbers that bool"),
    ({"time": np.full(64, 1000)}, "observation time holds numbers that int8"),
    ({"time": np.zeros(63)}, "observation has arrays of unlike batch axes"),
    ({"body": np.zeros((64, 2))}, "observation body/place is missing"),
    (
        {"body": {"place": np.zeros((64, 3))}},
        r"observation body/place has shape \[64, 3\]; .*\[2\]",
    ),
]


def test_own_networks_see_records_as_records(tmp_path, jit):
    inner = make_network(config(), SENSING.observation, SENSING.action_space)

    def policy(params, observation, memory):
        assert observation.body["place"].shape[-1] == 2  # a record has attributes
        return inner.policy(params, observation, memory)

    network = inner._replace(policy=policy)
    init, _ = make_step(config(), SENSING, network)
    save_policy(tmp_path, config(), jit(init)(KEY), env=SENSING, network=network)
    with pytest.raises(ValueError, match=r"network: it cannot read .* pass the environment as"):
        load_policy(tmp_path, network=network)
    loaded = load_policy(tmp_path, network=network, env=SENSING)
    batch = jax.tree.map(np.asarray, jax.vmap(sensed)(observations()))
    assert loaded(batch).shape == (64, 1)


def test_masked_policies_need_their_environment(tmp_path, jit):
    pytest.importorskip("flatbuffers")
    settings, state = trained(MASKED, jit)
    save_policy(tmp_path, settings, state, env=MASKED)
    policy, batch = load_policy(tmp_path, env=MASKED), observations()
    alone = load_policy(tmp_path, backend="numpy", action_mask=not_where_it_is)
    allowed = np.asarray(jax.vmap(not_where_it_is)(batch))
    _, network = make_parts(settings, MASKED)
    seen = observe(state.normalizer, MaskedObservation(batch, allowed))
    distribution, _ = network.policy(state.params, seen, ())
    for loaded in (policy, alone):
        np.testing.assert_array_equal(loaded(batch), distribution.mode())
        np.testing.assert_array_equal(loaded(batch[3]), distribution.mode()[3])
    without = load_policy_unmasked(tmp_path / "unmasked", settings, state)
    assert not allowed[np.arange(64), without(batch)].all()  # the mask is in the way of some
    for key in range(5):
        for drawn in (policy(batch, jax.random.key(key)), alone(batch, np.random.default_rng(key))):
            assert allowed[np.arange(64), drawn].all()
    never = MASKED._replace(action_mask=lambda o: jnp.broadcast_to(jnp.abs(o[0]) < 2, 3))
    for loaded in (
        load_policy(tmp_path, env=never),
        load_policy(tmp_path, backend="numpy", action_mask=never.action_mask),
    ):
        with pytest.raises(ValueError, match="observation: the action_mask allows no action there"):
            loaded(np.array([2.5, 0.0]))
    for wrong, message in ((np.ones(3), r"float64\[3\]"), (np.ones(4, bool), r"bool\[4\]")):
        loaded = load_policy(tmp_path, backend="numpy", action_mask=lambda _, wrong=wrong: wrong)
        with pytest.raises(
            ValueError, match=rf"action_mask must be an array \[3\] of bool, not {message}"
        ):
            loaded(batch)
    export_policy(tmp_path, tmp_path / "export", env=MASKED)
    program = (tmp_path / "export" / "policy_greedy.jax").read_bytes()
    exported = export.deserialize(bytearray(program)).call(batch)
    np.testing.assert_array_equal(exported, policy(batch))
    for arguments, message in (
        ({}, "environment has an action_mask, a function.* pass the environment as env="),
        ({"env": ENVS["discrete"]}, "env: this policy was trained with an action_mask; env has no"),
        (
            {"backend": "numpy"},
            "environment has an action_mask, a function.* give it as action_mask=",
        ),
        ({"backend": "numpy", "env": MASKED}, "env= goes with backend='jax' only"),
        ({"action_mask": not_where_it_is}, "action_mask= goes with backend='numpy' only.* env="),
        (
            {
                "env": MASKED._replace(
                    action_space=Discrete(4), action_mask=lambda o: o[0] < jnp.arange(4) + 9
                )
            },
            "env: it observes .* this policy observes",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            load_policy(tmp_path, **arguments)


def test_masks_of_several_arrays_see_them_in_nested_dicts(tmp_path, jit):
    choosing = sense(ENVS["multidiscrete"])

    def action_mask(observation):
        """The first of three and, where it is near, the first of two are out."""
        near = observation["near"] if isinstance(observation, dict) else observation.near
        body = observation["body"] if isinstance(observation, dict) else observation.body
        return ~((np.arange(5) == 0) & (body["place"][0] < 1) | (np.arange(5) == 3) & near)

    env = choosing._replace(action_mask=action_mask)
    settings, state = trained(env, jit)
    save_policy(tmp_path, settings, state, env=env)
    record = jax.tree.map(np.asarray, jax.vmap(sensed)(observations()))
    actions = load_policy(tmp_path, env=env)(record)
    alone = load_policy(tmp_path, backend="numpy", action_mask=action_mask)
    for given in (record, record._asdict()):
        np.testing.assert_array_equal(alone(given), actions)
    assert (actions[record.near, 1] == 1).all()
    assert (actions[record.body["place"][:, 0] < 1, 0] > 0).all()


def load_policy_unmasked(folder, settings, state):
    """The same weights, without a mask: for which an environment with one is refused."""
    save_policy(folder, settings, state, env=ENVS["discrete"])
    with pytest.raises(ValueError, match="trained with no action_mask; env has one"):
        load_policy(folder, env=MASKED)
    with pytest.raises(ValueError, match="action_mask: this policy was trained with none"):
        load_policy(folder, backend="numpy", action_mask=not_where_it_is)
    return load_policy(folder, env=ENVS["discrete"])


@BACKENDS
def test_policies_of_the_format_before_masks_load(backend, copy):
    actions = load_policy(copy, backend=backend)(observations())
    description = json.loads((copy / "policy.json").read_text())
    del description["action_mask"]
    (copy / "policy.json").write_text(json.dumps(description))
    change(copy, format=2)
    np.testing.assert_array_equal(load_policy(copy, backend=backend)(observations()), actions)


@pytest.mark.parametrize(
    "option",
    [{"squash_actions": True}, {"state_dependent_std": True, "log_std_init": -1.0}],
    ids=str,
)
def test_samples_follow_the_policy(option, tmp_path, jit):
    settings, state = trained(ENVS["box"], jit, **option)
    save_policy(tmp_path, settings, state, env=ENVS["box"])
    batch = np.repeat(observations(1), 20_000, axis=0)
    left = load_policy(tmp_path)(batch, jax.random.key(0))
    right = load_policy(tmp_path, backend="numpy")(batch, np.random.default_rng(0))
    assert np.abs(left).max() <= 2
    np.testing.assert_allclose(left.mean(), right.mean(), atol=0.05)
    np.testing.assert_allclose(left.std(), right.std(), atol=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, jit):
    path = tmp_path_factory.mktemp("policy")
    save_policy(path, *trained(ENVS["box"], jit), env=ENVS["box"], notes={"seed": 3})
    return path


@pytest.fixture
def copy(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@BACKENDS
@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros(3, np.float32), r"observation has shape \[3\]; this policy takes \[2\]"),
        (np.zeros((2, 5), np.float32), r"observation has shape \[2, 5\]"),
        (np.float32(0), r"observation has shape \[\]"),
        (np.zeros(2, np.complex64), "observation has dtype complex64; this policy takes float32"),
        (np.array([0, np.nan], np.float32), "observation holds numbers that are not finite"),
        (["a", "b"], "observation has dtype <U1"),
        ([[1.0], [1.0, 2.0]], "observation is no array: .*inhomogeneous"),
    ],
)
def test_observations_that_do_not_fit_are_named(backend, observation, message, folder):
    with pytest.raises(ValueError, match=message):
        load_policy(folder, backend=backend)(observation)


@BACKENDS
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float16])
def test_observations_of_any_real_type_are_converted(backend, dtype, folder):
    policy = load_policy(folder, backend=backend)
    whole = np.array([[0, 1], [1, 1]])
    np.testing.assert_array_equal(policy(whole.astype(dtype)), policy(whole.astype(np.float32)))


@BACKENDS
def test_no_observations_no_actions(backend, folder):
    policy = load_policy(folder, backend=backend)
    assert policy(np.zeros((0, 2), np.float32)).shape == (0, 1)
    assert policy(np.zeros((3, 0, 2), np.float32)).shape == (3, 0, 1)


class Space:
    def __init__(self, shape, low, high):
        self.shape, self.low, self.high = shape, low, high


@dataclasses.dataclass
class NoParams:
    pass


class ShapedActions:
    """A gymnax-like environment whose actions have a shape."""

    default_params = NoParams()

    def __init__(self, shape):
        self.shape = shape

    def reset_env(self, key, params):
        return jnp.zeros(2), jnp.zeros((), jnp.int32)

    def step_env(self, key, state, action, params):
        assert action.shape == self.shape
        return jnp.full(2, action.sum()), state + 1, action.sum(), jnp.zeros((), bool), {}

    def is_truncated(self, state, params):
        return state >= 3

    def observation_space(self, params):
        return Space((2,), -1.0, 1.0)

    def action_space(self, params):
        return Space(self.shape, -1.0, 3.0)


@pytest.mark.parametrize("shape", [(2, 3), (), (1,)])
def test_actions_come_back_in_their_shape(shape, tmp_path, jit):
    pytest.importorskip("flatbuffers")
    env = ShapedActions(shape)
    save_policy(tmp_path, *trained(env, jit), env=env)
    batch = observations(5)
    export_policy(tmp_path)
    program = (tmp_path / "export" / "policy_greedy.jax").read_bytes()
    exported = np.asarray(export.deserialize(bytearray(program)).call(batch))
    for backend in ("jax", "numpy"):
        policy = load_policy(tmp_path, backend=backend)
        assert np.shape(policy(batch[0])) == shape
        assert policy(batch.reshape(1, 5, 2)).shape == (1, 5, *shape)
        np.testing.assert_allclose(policy(batch), exported, rtol=1e-4, atol=1e-5)
    key = np.random.default_rng(0)
    assert load_policy(tmp_path, backend="numpy")(batch, key).shape == (5, *shape)


@BACKENDS
@pytest.mark.parametrize("wide", [True, False])
def test_policies_outlive_a_change_of_precision(wide, backend, tmp_path, jit):
    """Saved in one precision and loaded in the other."""
    with jax.enable_x64(wide):
        settings, state = trained(ENVS["box"], jit)
        save_policy(tmp_path, settings, state, env=ENVS["box"])
        actions = expected(settings, state, ENVS["box"], observations())
    with jax.enable_x64(not wide):
        policy = load_policy(tmp_path, backend=backend)
        np.testing.assert_allclose(policy(observations()), actions, rtol=1e-4, atol=1e-5)
        if backend == "jax":
            assert np.isfinite(policy(observations(), jax.random.key(0))).all()


def counting():
    """An environment that observes whole numbers, and a network that needs them as such."""
    walk = ENVS["discrete"]

    def reset(key, params):
        _, state = walk.reset(key, params)
        return jnp.zeros(2, jnp.int16), state

    def policy(params, observation, memory):
        assert observation.dtype == jnp.int16
        return network.policy(params, observation.astype(float), memory)

    def step(*given):
        observation, *rest = walk.step(*given)
        return observation.astype(jnp.int16), *rest

    env = walk._replace(reset=reset, step=step)
    network = make_network(config(normalize_observations=False), (2,), env.action_space)
    return env, network._replace(policy=policy)


def test_whole_numbers_reach_the_network_as_such(tmp_path, jit):
    env, network = counting()
    settings = config(normalize_observations=False)
    state = jit(make_step(settings, env, network)[0])(jax.random.key(0))
    arguments = {"env": env, "network": network}
    save_policy(tmp_path, settings, state, **arguments)
    policy = load_policy(tmp_path, network=network)
    assert policy(np.array([[1, 2], [3, -4]])).shape == (2,)
    assert policy(np.array([1.0, 2.0])) in range(3)
    for observation in ([0.5, 1.0], [2**15, 0]):
        with pytest.raises(ValueError, match="holds numbers that int16, as this policy takes, la"):
            policy(observation)
    with pytest.raises(ValueError, match="pass it as network="):
        export_policy(tmp_path)
    assert len(export_policy(tmp_path, network=network)) == 3


def test_parameters_of_narrow_types_are_kept(tmp_path, jit):
    settings = config(normalize_observations=False)
    wide = make_network(settings, (2,), ENVS["box"].action_space)

    def init(key):
        return jax.tree.map(lambda x: x.astype(jnp.bfloat16), wide.init(key))

    network = wide._replace(init=init)
    state = jit(make_step(settings, ENVS["box"], network)[0])(jax.random.key(0))
    save_policy(tmp_path, settings, state, env=ENVS["box"], network=network)
    batch = observations(4)
    distribution, _ = network.policy(state.params, batch, ())
    actions = np.clip(np.asarray(distribution.mode()) * 2.0, -2.0, 2.0)
    loaded = load_policy(tmp_path, network=network)(batch)
    np.testing.assert_allclose(loaded, actions, rtol=1e-5, atol=1e-6)


def test_one_member_of_several_is_chosen(tmp_path, jit):
    settings, state = trained(ENVS["box"], jit)
    several = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    params = jax.tree.map(lambda x: x.at[1].add(1), several.params)
    several = several._replace(params=params)
    save_policy(tmp_path / "0", settings, state, env=ENVS["box"])
    save_policy(tmp_path / "1", settings.to_dict(), several, member=0, env=ENVS["box"])
    save_policy(tmp_path / "2", settings, several, member=1, env=ENVS["box"])
    only = jax.tree.map(lambda x: x[:1], several)
    save_policy(tmp_path / "3", settings, only, env=ENVS["box"])
    actions = [load_policy(tmp_path / str(i))(observations()) for i in range(4)]
    np.testing.assert_array_equal(actions[0], actions[1])
    np.testing.assert_array_equal(actions[0], actions[3])
    assert not np.array_equal(actions[0], actions[2])
    for arguments, message in (
        ({}, "the state is of 2 members: choose one, member=0 to member=1"),
        ({"member": 2}, "member=2 is out of range: it must be < 2"),
        ({"member": 0.5}, "member must be an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            save_policy(tmp_path / "no", settings, several, env=ENVS["box"], **arguments)
    with pytest.raises(ValueError, match="member=0: the state has 0 axes of members"):
        save_policy(tmp_path / "no", settings, state, env=ENVS["box"], member=0)
    assert not (tmp_path / "no").exists()


def test_states_of_no_policy_are_not_written(tmp_path, jit):
    settings, state = trained(ENVS["box"], jit)
    broken = jax.tree.map(lambda x: x * np.nan, state.params)
    for changed, given, message in (
        (settings, state._replace(params=broken), r"params/.* not finite"),
        (settings.replace(hidden_sizes=(5,)), state, r"Dense_0/\w+ is float32\[.*is needed"),
        (settings.replace(normalize_observations=False), state, "not trained under normalize_obs"),
        (settings, (state, {}), "state must be a TrainState.*not a tuple"),
    ):
        with pytest.raises(ValueError, match=message):
            save_policy(tmp_path / "no", changed, given, env=ENVS["box"])
    with pytest.raises(ValueError, match=r"notes: \[1\] is no dict"):
        save_policy(tmp_path / "no", settings, state, env=ENVS["box"], notes=[1])
    with pytest.raises(ValueError, match=r"notes: a: \{1\} cannot be kept as JSON"):
        save_policy(tmp_path / "no", settings, state, env=ENVS["box"], notes={"a": {1}})
    assert not (tmp_path / "no").exists()


def test_notes_are_strict_json(tmp_path, jit):
    settings, state = trained(ENVS["box"], jit, max_grad_norm=np.inf)
    notes = {
        "numpy": np.int64(3),
        "jax": jnp.float32(0.5),
        "array": np.array([1.0, np.inf]),
        "nan": float("nan"),
        "inf": -np.inf,
        "text": 'NaN, "Infinity"',
    }
    save_policy(tmp_path, settings, state, env=ENVS["box"], notes=notes)

    def refuse(token):
        raise AssertionError(token)

    json.loads((tmp_path / "policy.json").read_text(), parse_constant=refuse)
    description = load_policy(tmp_path).description
    assert description["config"]["max_grad_norm"] == "Infinity"
    assert description["notes"] == {
        "numpy": 3,
        "jax": 0.5,
        "array": [1.0, "Infinity"],
        "nan": "NaN",
        "inf": "-Infinity",
        "text": 'NaN, "Infinity"',
    }


def change(path, **changes):
    """Change policy.json, its checksum too."""
    description = json.loads((path / "policy.json").read_text()) | changes
    description["sha256"] = numpy_policy.checksum(description)
    (path / "policy.json").write_text(json.dumps(description))


def earlier(path, **changes):
    """The same as the version before wrote it, without checksum and shape."""
    description = json.loads((path / "policy.json").read_text())
    del description["sha256"], description["env"], description["action"]["shape"]
    (path / "policy.json").write_text(json.dumps(description | {"format": 1} | changes))


@BACKENDS
def test_policies_of_the_version_before_load_with_a_notice(backend, copy):
    actions = load_policy(copy, backend=backend)(observations())
    earlier(copy)
    with pytest.warns(UserWarning, match="from an earlier version, which kept no checksum"):
        policy = load_policy(copy, backend=backend)
    np.testing.assert_array_equal(policy(observations()), actions)


def places(value, path=()):
    """Paths to all values of a JSON document."""
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from places(item, (*path, name))


def put(document, path, value):
    for name in path[:-1]:
        document = document[name]
    document[path[-1]] = value


JUNK = (None, True, -1, 1e400, float("nan"), 10**30, "x", "inf", [], [[]], {}, [1, "a", None])


@BACKENDS
def test_no_edit_of_the_description_passes_unseen(backend, copy):
    document = json.loads((copy / "policy.json").read_text())
    for path in places(document):
        if path in ((), ("format",)):
            continue
        edited = json.loads(json.dumps(document))
        put(edited, path, "edited")
        (copy / "policy.json").write_text(json.dumps(edited))
        with pytest.raises(ValueError, match=r"policy\.json (is not what was saved|lacks)"):
            load_policy(copy, backend=backend)


@pytest.mark.filterwarnings("ignore:.*from an earlier version")
@BACKENDS
def test_descriptions_of_any_content_load_or_are_refused_by_name(backend, copy):
    """Without a checksum: every value replaced by what does not belong there."""
    earlier(copy)
    text = (copy / "policy.json").read_text()
    refused = 0
    for i, path in enumerate(places(json.loads(text))):
        for junk in JUNK if backend == "numpy" else JUNK[i % 3 :: 3]:
            edited = [json.loads(text)]
            put(edited, (0, *path), junk)
            (copy / "policy.json").write_text(json.dumps(edited[0]))
            try:
                load_policy(copy, backend=backend)(observations(2))
            except ValueError as error:
                assert str(copy) in str(error), (path, junk)  # noqa: PT017
                refused += 1
    assert refused > 100


@BACKENDS
@pytest.mark.parametrize("name", ["/etc/passwd", "../weights.safetensors", "a/b.safetensors", ""])
def test_weights_are_a_plain_name_in_the_folder(backend, name, copy):
    (weights,) = copy.glob("*.safetensors")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.rename(copy.parent / "weights.safetensors")
    change(copy, weights={"file": name, "sha256": digest})
    with pytest.raises(ValueError, match=r"weights\.file=.* must be the plain name"):
        load_policy(copy, backend=backend)
    change(copy, weights={"file": str(copy.parent / "weights.safetensors"), "sha256": digest})
    with pytest.raises(ValueError, match=r"weights\.file=.* must be the plain name"):
        load_policy(copy, backend=backend)


def header(**entry):
    """A safetensors file of one array, as its header describes it."""
    first = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry
    text = json.dumps({"params/policy/head/params/log_std": first}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


@BACKENDS
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends before its header"),
        ((4 * 10**11).to_bytes(8, "little") + b"{}", "ends before its header"),
        ((2).to_bytes(8, "little") + b"[]", "header is not an object"),
        ((4).to_bytes(8, "little") + b"{{{{", "header is not readable as JSON"),
        ((10**5).to_bytes(8, "little") + b"[" * 10**5, "header is not readable as JSON"),
        (header(dtype="BF16"), "log_std has type BF16; a policy's have F64, F32"),
        (header(dtype="BOOL"), "log_std has type BOOL"),
        (header(dtype=None), "dtype must be text, not None"),
        (header(shape=[-1]), r"log_std is F32\[-1\] by its header, but not by its bytes"),
        (header(shape=[3]), "but not by its bytes"),
        (header(shape="x"), "shape must be a list"),
        (header(data_offsets=[-8, 0]), "but not by its bytes"),
        (header(data_offsets=[0]), "but not by its bytes"),
        (header(data_offsets=[8, 16]), "but not by its bytes"),
        (header(dtype="F16", shape=[4]), "is missing"),
        (header(), "is missing"),
    ],
)
def test_weights_of_any_content_are_refused_by_name(backend, data, message, copy):
    (weights,) = copy.glob("*.safetensors")
    weights.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    change(copy, weights={"file": weights.name, "sha256": digest})
    with pytest.raises(ValueError, match=rf"{weights.name} cannot be used: .*{message}"):
        load_policy(copy, backend=backend)


@BACKENDS
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value, backend, copy):
    (weights,) = copy.glob("*.safetensors")
    arrays = safetensors.numpy.load_file(weights)
    arrays["params/policy/head/params/Dense_0/bias"][0] = value
    data = safetensors.numpy.save(arrays)
    weights.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    change(copy, weights={"file": weights.name, "sha256": digest})
    with pytest.raises(ValueError, match=r"params/policy/head/params/Dense_0/bias .* not finite"):
        load_policy(copy, backend=backend)


@BACKENDS
def test_folder_from_the_future_is_refused(backend, copy):
    change(copy, format=5)
    with pytest.raises(ValueError, match="has format 5, from a newer version"):
        load_policy(copy, backend=backend)


@BACKENDS
@pytest.mark.parametrize("field", numpy_policy.FIELDS)
def test_description_without_a_field_is_named(backend, field, copy):
    description = json.loads((copy / "policy.json").read_text())
    description.pop(field)
    (copy / "policy.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=f"policy.json lacks {field}"):
        load_policy(copy, backend=backend)


def test_keys_of_the_other_backend_are_refused(folder):
    observation = observations(1)
    with pytest.raises(ValueError, match=r"key must be a key of jax\.random"):
        load_policy(folder)(observation, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"key must be a numpy\.random\.Generator"):
        load_policy(folder, backend="numpy")(observation, jax.random.key(0))


def test_policy_shows_what_it_is(folder):
    shown = repr(load_policy(folder))
    assert shown.startswith("Policy(ppo on CartPole-v1: observation [2], action {'kind': 'box'")
    assert len(shown) < 200


def test_saving_again_leaves_the_files_of_others(copy, jit):
    (before,) = copy.glob("weights-*.safetensors")
    others = [copy / f"weights-{name}.safetensors" for name in ("ema", "0123456789ab-of-mine")]
    for path in others:
        path.write_bytes(b"theirs")
    settings, state = trained(WALK, jit)
    state = state._replace(params=jax.tree.map(jnp.ones_like, state.params))
    save_policy(copy, settings, state, env=WALK)
    assert [path.read_bytes() for path in others] == 2 * [b"theirs"]
    assert not before.exists()


@BACKENDS
def test_tampered_weights_are_refused(backend, copy):
    (weights,) = copy.glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="is not the file that was saved"):
        load_policy(copy, backend=backend)


@BACKENDS
def test_incomplete_folders_are_named(backend, copy):
    (weights,) = copy.glob("*.safetensors")
    weights.unlink()
    with pytest.raises(ValueError, match=r"weights-.*is missing"):
        load_policy(copy, backend=backend)
    (copy / "policy.json").write_text("{")
    with pytest.raises(ValueError, match="not readable"):
        load_policy(copy, backend=backend)
    (copy / "policy.json").unlink()
    with pytest.raises(ValueError, match="holds no policy"):
        load_policy(copy, backend=backend)


def test_weights_that_do_not_fit_the_config_are_named(copy):
    description = json.loads((copy / "policy.json").read_text())
    change(copy, config=description["config"] | {"hidden_sizes": [5]})
    with pytest.raises(ValueError, match=r"Dense_0/\w+ is float32\[.*is needed"):
        load_policy(copy)


def test_network_given_as_an_object_is_asked_for(copy):
    change(copy, network="given")
    with pytest.raises(ValueError, match="pass it as network="):
        load_policy(copy)
    with pytest.raises(ValueError, match="backend='torch'"):
        load_policy(copy, backend="torch")


def test_saving_again_replaces_the_policy(copy, jit):
    before = load_policy(copy)(observations())
    settings, state = trained(ENVS["box"], jit, squash_actions=True)
    save_policy(copy, settings, state, env=ENVS["box"])
    assert len(list(copy.iterdir())) == 2
    assert not np.array_equal(load_policy(copy)(observations()), before)


def test_nothing_that_is_read_from_a_file_is_unpickled():
    """A worker of a sweep unpickles what its own sweep sent it, as every executor does, alone."""
    import jaxrl_po

    for path in Path(jaxrl_po.__file__).parent.rglob("*.py"):
        source = path.read_text()
        if path.parts[-2:] == ("sweeps", "tasks.py"):
            source = source.replace("pickle.loads(program)", "", 1)
        assert not re.search(r"pickle\.loads?|Unpickler|allow_pickle=True", source), path
        for call in re.findall(r"np\.load\(.*\)", path.read_text()):
            assert "allow_pickle=False" in call, path


WITHOUT_THE_LIBRARY = """
import sys
import numpy as np
from jax import export
folder, observations = sys.argv[1], np.load(sys.argv[2])
def read(name):
    return export.deserialize(bytearray(open(f"{folder}/{name}.jax", "rb").read()))
greedy, sampled = read("policy_greedy"), read("policy_sampled")
assert greedy.platforms == ("cpu", "cuda")
assert "jaxrl_po" not in sys.modules
np.save(f"{folder}/greedy.npy", greedy.call(observations))
assert np.abs(np.asarray(sampled.call(observations[:5], np.uint32(1)))).max() <= 2
"""

WITH_NUMPY_ALONE = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import numpy_policy
actions = numpy_policy.load(sys.argv[3])(np.load(sys.argv[2]))
assert not {"jax", "jaxrl_po", "safetensors"} & set(sys.modules)
np.save(f"{sys.argv[1]}/alone.npy", actions)
"""


def test_exported_policy_runs_without_the_library(folder, tmp_path):
    export_policy(folder, tmp_path)
    np.save(tmp_path / "observations.npy", observations())
    arguments = [str(tmp_path), str(tmp_path / "observations.npy"), str(folder)]
    for program in (WITHOUT_THE_LIBRARY, WITH_NUMPY_ALONE):
        subprocess.run([sys.executable, "-c", program, *arguments], check=True, cwd=tmp_path)
    actions = load_policy(folder)(observations())
    np.testing.assert_allclose(np.load(tmp_path / "greedy.npy"), actions, rtol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "alone.npy"), actions, rtol=1e-4, atol=1e-5)
