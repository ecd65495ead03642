import functools
import warnings

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, TRPOConfig, VPGConfig, evaluate, make_step, make_train
from jaxrl_po.envs import Box, Discrete, Environment, make_environment
from jaxrl_po.envs.gymnax import REFUSED_IN_FLOAT64
from tests import probes

KEY = jax.random.key(0)
TINY = {"num_envs": 2, "num_steps": 4, "total_timesteps": 8, "hidden_sizes": (4,)}
REFUSED = {"MNISTBandit-bsuite"}


@pytest.fixture(autouse=True)
def _lenient_environments():
    with jax.numpy_rank_promotion("allow"):  # some of gymnax's own code promotes ranks
        yield


DTYPES = {"FourRooms-misc": jnp.int32}  # of observations that are no floats


@pytest.mark.parametrize("env_id", sorted(set(gymnax.registered_envs) - REFUSED))
def test_every_environment_trains(env_id):
    init, step = make_step(PPOConfig(env_id=env_id, **TINY))
    state = jax.eval_shape(init, KEY)
    next_state, metrics = jax.eval_shape(step, state)
    assert next_state == state  # in structure, shapes and types
    assert metrics["policy_loss"].shape == ()
    assert state.rollout.observation.dtype == DTYPES.get(env_id, jnp.float32)


@pytest.mark.parametrize("env_id", sorted(REFUSED))
def test_what_cannot_train_is_refused_with_a_reason(env_id):
    with pytest.raises(ValueError, match=f"env_id='{env_id}' is not supported: .*MNIST"):
        make_train(PPOConfig(env_id=env_id))


@pytest.mark.parametrize(
    "env_id",
    ["Catch-bsuite", "DeepSea-bsuite", "FrozenLake-misc", "Pendulum-v1", "UmbrellaChain-bsuite"],
)
def test_a_run_of_each_kind_is_finite(env_id, jit):
    result = jit(make_train(VPGConfig(env_id=env_id, **TINY)))(KEY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.state.params))
    assert np.isfinite(result.metrics["value_loss"]).all()


@pytest.mark.parametrize(
    ("env_id", "shape", "space"),
    [
        ("CartPole-v1", (4,), Discrete(2)),
        ("Catch-bsuite", (10, 5), Discrete(3)),
        ("Breakout-MinAtar", (10, 10, 4), Discrete(3)),
        ("FrozenLake-misc", (16,), Discrete(4)),  # 16 squares, one-hot
    ],
)
def test_spaces(env_id, shape, space):
    environment = make_environment(env_id, {})
    observation, _ = jax.eval_shape(environment.reset, KEY, environment.params)
    assert environment.observation_shape == observation.shape == shape
    assert environment.action_space == space


def test_discrete_observations_are_one_hot():
    environment = make_environment(probes.Tabular(probes.PROBES["two states"]), {})
    observation, state = environment.reset(KEY, environment.params)
    np.testing.assert_array_equal(observation, np.eye(2)[int(state.index)])


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCar-v0", "Pendulum-v1"])
def test_a_step_has_the_loops_types(env_id, x64):
    with jax.enable_x64(x64):
        environment = make_environment(env_id, {})
        key = jax.random.key(0)
        observation, state = environment.reset(key, environment.params)
        discrete = isinstance(environment.action_space, Discrete)
        action = jnp.zeros((), int) if discrete else jnp.zeros(1)
        outcome = environment.step(key, state, action, environment.params)
        types = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (observation, state))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), outcome[:2]) == types
        real = jnp.float64 if x64 else jnp.float32
        assert [leaf.dtype for leaf in (observation, *outcome[2:])] == [real, real, bool, bool]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ([0.0, 0.0, 0.0], [1, 5, 0]),  # the centre of each interval
        ([1.0, -1.0, 7.0], [3, 0, 7]),  # a bound, a bound, and no bound
        ([0.5, 0.5, -7.0], [2, 7.5, -7]),
        ([9.0, -9.0, 1e6], [3, 0, 1e6]),  # clipped at the door
    ],
)
def test_actions_are_half_ranges_within_the_bounds(action, expected):
    environment = make_environment(probes.Echo(), {})
    assert isinstance(environment.action_space, Box)
    _, state = environment.reset(KEY, environment.params)
    seen, *_ = environment.step(KEY, state, jnp.array(action), environment.params)
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_a_step_is_gymnaxs_own_and_never_resets():
    env, params = gymnax.make("Pendulum-v1")
    environment = make_environment("Pendulum-v1", {"max_steps_in_episode": 1})
    observation, state = environment.reset(KEY, environment.params)
    expected, start = env.reset_env(KEY, params)
    np.testing.assert_array_equal(observation, expected)
    expected, _, reward, *_ = env.step_env(KEY, start, jnp.array([1.0]), params)
    outcome = environment.step(KEY, state, jnp.array([0.5]), environment.params)
    np.testing.assert_allclose(outcome[0], expected, rtol=1e-6)
    np.testing.assert_allclose(outcome[2], reward, rtol=1e-6)
    assert (bool(outcome[3]), bool(outcome[4])) == (False, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env_id": "CartPol-v1"}, r"env_id='CartPol-v1': did you mean 'CartPole-v1'\?"),
        ({"env_params": {"lenght": 1.0}}, r"'lenght': did you mean 'length'\?"),
    ],
)
def test_unknown_names_suggest_the_nearest(settings, message):
    with pytest.raises(ValueError, match=message):
        make_train(PPOConfig(**settings))


def test_what_is_no_environment_is_refused():
    with pytest.raises(ValueError, match="env: a gymnax environment has reset_env"):
        make_train(PPOConfig(), env=object())


def test_spaces_that_are_not_supported_are_refused(monkeypatch):
    tuple_space = gymnax.environments.spaces.Tuple([])
    monkeypatch.setattr(probes.Tabular, "action_space", lambda self, params: tuple_space)
    with pytest.raises(ValueError, match=r"env: .* must be a"):
        make_train(PPOConfig(), env=probes.Tabular(probes.PROBES["one state"]))


def test_continuous_options_are_refused_on_discrete_tasks():
    with pytest.raises(ValueError, match="squash_actions=True needs continuous actions"):
        make_train(PPOConfig(squash_actions=True))


def test_an_object_does_what_its_name_does(jit):
    config = VPGConfig(**TINY)
    named = jit(make_train(config))(KEY)
    given = jit(make_train(config.replace(env_id="none"), env=gymnax.make("CartPole-v1")[0]))(KEY)
    for a, b in zip(*(jax.tree.leaves(r.state.params) for r in (named, given)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_parameters_of_the_environment_are_data(jit):
    config = VPGConfig(**{**TINY, "num_steps": 16, "total_timesteps": 32})
    run = lambda limit: make_train(config.replace(env_params={"max_steps_in_episode": limit}))(KEY)  # noqa: E731
    metrics = jit(jax.vmap(run))(jnp.array([2, 4])).metrics
    np.testing.assert_array_equal(metrics["episode_length"][:, 0], [2, 4])
    np.testing.assert_array_equal(metrics["num_episodes"][:, 0], [16, 8])


@pytest.mark.parametrize("env_id", ["Reacher-misc", "FourRooms-misc", "Pendulum-v1"])
def test_an_environment_can_be_made_inside_a_trace(env_id):
    config = PPOConfig(env_id=env_id, num_steps=8, total_timesteps=32)

    def train(gamma):
        return make_train(config.replace(gamma=gamma))(jax.random.key(0)).metrics["kl"]

    assert jax.eval_shape(jax.vmap(train), jnp.array([0.9, 0.99])).shape == (2, 1)


def test_parameters_that_gymnax_derives_follow_those_that_are_changed():
    changes = {"masspole": 0.2, "length": 2.0, "masscart": 3.0}
    params = make_environment("CartPole-v1", changes).params
    assert (params.total_mass, params.polemass_length) == (3.2, 0.4)
    assert make_environment(gymnax.make("CartPole-v1")[0], changes).params == params
    given = make_environment("CartPole-v1", {"length": 2.0, "polemass_length": 0.7}).params
    assert (given.total_mass, given.polemass_length) == (1.1, 0.7)
    for env_id in set(gymnax.registered_envs) - REFUSED:
        default = gymnax.make(env_id)[1]
        steps = {"max_steps_in_episode": default.max_steps_in_episode}
        for one, other in zip(
            jax.tree.leaves(make_environment(env_id, steps).params),
            jax.tree.leaves(default),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("length", [0.25, 2.0])
def test_a_longer_pole_moves_as_gymnasium_says(length):
    real = gymnasium.make("CartPole-v1").unwrapped
    real.reset(seed=0)
    real.length, real.polemass_length = length, real.masspole * length
    environment = make_environment("CartPole-v1", {"length": length})
    _, state = environment.reset(KEY, environment.params)
    moving = {"x": 0.1, "x_dot": 0.2, "theta": 0.1, "theta_dot": 1.5}
    state = state.replace(**jax.tree.map(jnp.float32, moving))
    real.state = np.array(list(moving.values()))
    for action in (1, 0, 1):
        observation, state, *_ = environment.step(KEY, state, jnp.array(action), environment.params)
        expected, *_ = real.step(action)
        np.testing.assert_allclose(observation, expected, rtol=1e-5)


BOUNDED = {
    "Pendulum-v1": {"max_torque": 4.0},
    "MountainCarContinuous-v0": {"min_action": -0.25, "max_action": 0.5},
    "PointRobot-misc": {"max_force": 0.5},
}


@pytest.mark.parametrize("env_id", BOUNDED)
@pytest.mark.parametrize("traced", [False, True])
def test_actions_cover_the_bounds_that_parameters_set(env_id, traced):
    env, changes = gymnax.make(env_id)[0], BOUNDED[env_id]

    def step(changes, action):
        environment = make_environment(env_id, changes)
        _, state = environment.reset(KEY, environment.params)
        return environment.step(KEY, state, action, environment.params)[0]

    params = env.default_params.replace(**changes)
    space = env.action_space(params)
    _, state = env.reset_env(KEY, params)
    run = jax.jit(step) if traced else functools.partial(step, changes)
    for end, bound in ((-1.0, space.low), (1.0, space.high), (3.0, space.high)):
        action = jnp.full(space.shape, end)
        observation = run(changes, action) if traced else run(action)
        expected = env.step_env(KEY, state, jnp.broadcast_to(bound, space.shape), params)[0]
        np.testing.assert_allclose(observation, expected, rtol=1e-6)
    described = make_environment(env_id, changes).action_space
    np.testing.assert_allclose(described.high, np.broadcast_to(space.high, space.shape))


@pytest.mark.parametrize("env_id", sorted(set(gymnax.registered_envs) - REFUSED))
def test_every_environment_trains_in_double_precision(env_id):
    with jax.enable_x64(True):
        if env_id in REFUSED_IN_FLOAT64:
            with pytest.raises(ValueError, match=f"{env_id}' is not supported with jax_enable_x64"):
                make_step(PPOConfig(env_id=env_id, **TINY))
            return
        init, step = make_step(PPOConfig(env_id=env_id, **TINY))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # some mix precisions in a scatter
            state = jax.eval_shape(init, KEY)
            next_state, _ = jax.eval_shape(step, state)
        assert next_state == state
        assert state.rollout.observation.dtype == DTYPES.get(env_id, jnp.float64)


class Older(probes.Echo):
    """Its `done` includes the time limit, which `is_truncated` tells too."""

    limit_in_done, cuts = True, True

    @property
    def default_params(self):
        return super().default_params.replace(max_steps_in_episode=10)

    def timed_out(self, state, params):
        return state.time >= params.max_steps_in_episode

    def step_env(self, key, state, action, params):
        observation, state, reward, done, info = super().step_env(key, state, action, params)
        done |= self.limit_in_done & self.timed_out(state, params)
        return observation, state, reward, done, info

    def is_truncated(self, state, params):
        return self.cuts & self.timed_out(state, params)


def test_a_time_limit_within_terminated_is_refused():
    with pytest.raises(ValueError, match="`terminated` includes the time limit that is_truncated"):
        make_train(PPOConfig(), env=Older())


@pytest.mark.parametrize("attribute", ["limit_in_done", "cuts"])
def test_a_time_limit_told_once_is_taken_as_told(attribute, monkeypatch):
    monkeypatch.setattr(Older, attribute, False)
    environment = make_environment(Older(), {"max_steps_in_episode": 1})
    _, state = environment.reset(KEY, environment.params)
    *_, terminated, truncated = environment.step(KEY, state, jnp.zeros(3), environment.params)
    assert (bool(terminated), bool(truncated)) == (attribute == "cuts", attribute != "cuts")


OUTCOMES = {
    "both flags": lambda o, s, r, d, i: (o, s, r, d, d, i),
    "flags for info": lambda o, s, r, d, i: (o, s, r, d, d),
    "no info": lambda o, s, r, d, i: (o, s, r, d),
    "a record": lambda o, s, r, d, i: {"obs": o, "reward": r},
}


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
def test_a_step_of_another_interface_is_refused(outcome, monkeypatch):
    own = probes.Echo.step_env
    monkeypatch.setattr(probes.Echo, "step_env", lambda *arguments: outcome(*own(*arguments)))
    with pytest.raises(ValueError, match=r"env: step_env must return .*terminated, info.*returns"):
        make_train(PPOConfig(), env=probes.Echo())


SHAPES = {
    "observation": (
        lambda o, s, r, d, i: (o[:2], s, r, d, i),
        r"step's observation must be .*\[3\]",
    ),
    "reward": (lambda o, s, r, d, i: (o, s, o, d, i), r"step's reward must be an array \[\]"),
    "flag": (
        lambda o, s, r, d, i: (o, s, r, d[None], i),
        r"step's terminated must be an array \[\]",
    ),
}


@pytest.mark.parametrize(("outcome", "message"), SHAPES.values(), ids=SHAPES)
def test_shapes_that_the_spaces_do_not_promise_are_refused(outcome, message, monkeypatch):
    own = probes.Echo.step_env
    monkeypatch.setattr(probes.Echo, "step_env", lambda *arguments: outcome(*own(*arguments)))
    with pytest.raises(ValueError, match=message):
        make_train(PPOConfig(), env=probes.Echo())


def test_a_pair_of_environment_and_parameters_is_taken(jit):
    config = VPGConfig(**TINY)
    env, params = gymnax.make("CartPole-v1")
    pair = env, params.replace(max_steps_in_episode=2)
    metrics = jit(make_train(config, env=pair))(KEY).metrics
    np.testing.assert_array_equal(metrics["episode_length"], [2])
    np.testing.assert_array_equal(make_environment(pair, {"gravity": 1.0}).params.gravity, 1.0)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (type(gymnax.make("CartPole-v1")[0]), r"give an object, CartPole\(\)"),
        (gymnasium.make("CartPole-v1"), r"steps on the host.*env=HostEnvironment\(lambda"),
        ((object(), None), r"env: a gymnax environment has reset_env"),
        (3, r"env: a gymnax environment has reset_env"),
    ],
)
def test_objects_of_other_suites_are_told_what_to_do(env, message):
    with pytest.raises(ValueError, match=message):
        make_train(PPOConfig(), env=env)


@pytest.mark.parametrize(
    ("env_id", "name", "value", "message"),
    [
        ("CartPole-v1", "max_steps_in_episode", 2.5, r"must be an integer \(int32\), not 2.5"),
        ("CartPole-v1", "max_steps_in_episode", np.inf, "must be an integer"),
        ("CartPole-v1", "max_steps_in_episode", 10**12, "must be an integer"),
        ("CartPole-v1", "max_steps_in_episode", True, "must be a number"),
        ("CartPole-v1", "length", False, "must be a number"),
        ("CartPole-v1", "length", np.array([1.0]), r"must have shape \[\]"),
        ("CartPole-v1", "length", "long", "must be a number"),
        ("CartPole-v1", "length", None, "must be a number"),
        ("CartPole-v1", "length", [1.0], "must be a number"),
        ("DeepSea-bsuite", "deterministic", 2, "must be True or False"),
        ("Acrobot-v1", "available_torque", 1.0, r"must have shape \[3\]"),
    ],
)
def test_values_of_parameters_have_their_type(env_id, name, value, message):
    with pytest.raises(ValueError, match=rf"env_params.*'{name}'.*{message}"):
        make_environment(env_id, PPOConfig(env_params={name: value}).env_params)


def test_whole_numbers_are_integers_and_infinity_a_float():
    limit = make_environment("CartPole-v1", {"max_steps_in_episode": 7.0}).max_steps
    assert (limit, type(limit)) == (7, int)
    assert make_environment("DeepSea-bsuite", {"deterministic": 0.0}).params.deterministic is False
    assert make_environment("Pendulum-v1", {"max_speed": np.inf}).params.max_speed == np.inf


def environment_of(**changes):
    """A two-armed bandit as an `Environment`, or one with some fields changed."""
    fields = {
        "reset": lambda key, params: (jnp.zeros(3, jnp.uint8), jnp.zeros(())),
        "step": lambda key, state, action, params: (
            jnp.full(3, 255, jnp.uint8),
            state,
            action.astype(float).sum(),
            jnp.array(True),
            jnp.array(False),
        ),
        "params": (),
        "observation_shape": (3,),
        "action_space": Discrete(2),
        "max_steps": None,
    }
    return Environment(**{**fields, **changes})


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.bool, jnp.float16])
@pytest.mark.parametrize("normalize", [False, True])
def test_observations_may_have_any_dtype(dtype, normalize, jit):
    given = environment_of()
    env = given._replace(
        reset=lambda *x: (given.reset(*x)[0].astype(dtype), given.reset(*x)[1]),
        step=lambda *x: (given.step(*x)[0].astype(dtype), *given.step(*x)[1:]),
    )
    config = PPOConfig(**TINY, normalize_observations=normalize)
    if normalize and dtype != jnp.float16:
        with pytest.raises(ValueError, match="normalize_observations=True has nothing to act on"):
            make_train(config, env=env)
        return
    result = jit(make_train(config, env=env))(KEY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.state.params))
    assert result.state.rollout.observation.dtype == dtype
    assert np.isfinite(evaluate(config, result.state, KEY, 4, env=env).episode_return).all()


MALFORMED = {
    "MultiDiscrete": ({"action_space": gymnasium.spaces.MultiDiscrete([2, 3])}, "MultiDiscrete"),
    "gymnax space": ({"action_space": gymnax.environments.spaces.Discrete(2)}, "Discrete or Box"),
    "no actions": ({"action_space": Discrete(0)}, "one action or more, not n=0"),
    "bounds": ({"action_space": Box(np.zeros(2), np.ones(3))}, "two arrays of bounds"),
    "swapped bounds": ({"action_space": Box(np.ones(2), np.zeros(2))}, "low <= high"),
    "no numbers": ({"action_space": Box(np.zeros(0), np.zeros(0))}, "one number or more"),
    "whole number as a shape": ({"observation_shape": 3}, "observation_shape must be a tuple"),
    "shape": ({"observation_shape": (4,)}, r"reset's observation must be an array \[4\]"),
    "reset": ({"reset": lambda key, params: jnp.zeros(3)}, "reset must return the 2 values"),
    "step": (
        {"step": lambda *x: environment_of().step(*x)[:4]},
        r"step must return the 5 values .*terminated, truncated\), not 4",
    ),
    "flags of whole numbers": (
        {"step": lambda *x: (*environment_of().step(*x)[:4], jnp.array(0))},
        "step's truncated must be an array .* of bool, not int32",
    ),
}


@pytest.mark.parametrize(("changes", "message"), MALFORMED.values(), ids=MALFORMED)
def test_an_environment_that_is_not_what_it_says_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"env: .*{message}"):
        make_train(PPOConfig(**TINY), env=environment_of(**changes))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("config_class", [PPOConfig, TRPOConfig])
def test_what_is_not_finite_shows_in_the_metrics_or_the_normalizer(config_class, normalize, jit):
    given = make_environment("Pendulum-v1", {})
    options = {"normalize_observations": normalize, "normalize_rewards": normalize}

    @jit
    def shown(in_observation, in_reward):
        def step(*given_to_it):
            observation, env_state, reward, *flags = given.step(*given_to_it)
            return observation + in_observation, env_state, reward + in_reward, *flags

        env = given._replace(step=step)
        state, metrics = make_train(config_class(**TINY, **options), env=env)(KEY)
        return metrics["value_loss"], state.normalizer  # ±inf is clipped once, before it is known

    for numbers in ((np.nan, 0.0), (0.0, np.nan), (np.inf, 0.0), (0.0, np.inf)):
        assert not all(np.isfinite(x).all() for x in jax.tree.leaves(shown(*numbers)))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(shown(0.0, 0.0)))
