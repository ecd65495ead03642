"""Suites of environments: names, owners, and adapters against the suite's own steps."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, make_step, make_train
from jaxrl_po.envs import SUITES, check_environment, make_environment
from jaxrl_po.envs.adapter import limited
from jaxrl_po.host.machine.files import new_directory
from jaxrl_po.spaces import Box, Discrete

KEY = jax.random.key(0)


def counter(writes=False):
    """An environment of Python numbers that ends by itself at 6; a step may write to its state."""

    def reset(key):
        return jnp.zeros(2), {"time": 0, "sum": 0.0}

    def step(key, state, action):
        if writes:
            state["time"] = state["time"] + 1
            after = state
        else:
            after = {**state, "time": state["time"] + 1}
        after["sum"] = after["sum"] + action[0]
        return jnp.full(2, after["time"], jnp.float32), after, action[0], after["time"] >= 6

    return reset, step


@pytest.mark.parametrize("writes", [False, True])
def test_a_limit_cuts_off_and_an_end_ends(writes):
    """The last observation is that of the episode itself, and time goes on until a reset."""
    env = limited(*counter(writes), Box(np.array([-2.0]), np.array([4.0])), 4, {})
    check_environment(env)
    step = jax.jit(env.step)
    observation, state = env.reset(KEY, env.params)
    seen = []
    for _ in range(6):
        observation, state, reward, terminated, truncated = step(
            KEY, state, jnp.array([0.5]), env.params
        )
        seen.append((float(observation[0]), float(reward), bool(terminated), bool(truncated)))
    # half-ranges: 0.5 of [-2, 4] is 2.5
    assert seen == [(t, 2.5, t >= 6, t >= 4) for t in range(1, 7)]


def test_the_limit_is_data():
    env = limited(*counter(), Discrete(2), 4, {"max_steps_in_episode": 2})
    assert env.params == {"max_steps_in_episode": 2}
    for wrong, message in (
        ({"gravity": 1.0}, "env_params: no parameter 'gravity': known: max_steps_in_episode"),
        ({"max_steps_in_episode": 0}, "max_steps_in_episode=0 must be >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            limited(*counter(), Discrete(2), 4, wrong)


def test_gymnax_is_known_with_and_without_its_name():
    plain, full = (make_environment(name, {}) for name in ("Catch-bsuite", "gymnax:Catch-bsuite"))
    assert plain.observation == full.observation
    assert plain.action_space == full.action_space


def test_what_no_suite_has_is_named(monkeypatch):
    for env_id, message in (
        ("brx:ant", r"env_id='brx:ant': .*did you mean 'brax'\?"),
        ("brax:", "before the colon"),
        ("gymnax:CartPole-v2", r"did you mean 'CartPole-v1'\?"),
    ):
        with pytest.raises(ValueError, match=message):
            make_train(PPOConfig(env_id=env_id))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package brax: pip install 'jaxrl-po\[brax\]'"):
        make_train(PPOConfig(env_id="brax:ant"))


def test_a_directory_has_no_part_of_a_path_in_its_name():
    assert new_directory("brax:hopper/spring_ppo_seed0").name == "brax_hopper_spring_ppo_seed0"


def flags(env, steps, action):
    """Observations [steps, ...], rewards and flags of an episode of an adapted environment."""
    step = jax.jit(env.step)
    _, state = jax.jit(env.reset)(KEY, env.params)
    rows = []
    for t in range(steps):
        outcome = step(jax.random.fold_in(KEY, t), state, action, env.params)
        state = outcome[1]
        rows.append((outcome[0], *outcome[2:]))
    return [np.stack(column) for column in zip(*rows, strict=True)]


@pytest.mark.filterwarnings("ignore")  # of its own code
def test_brax_is_its_own_steps():
    """A pendulum that falls: the end is Brax's `done`, and the limit is ours."""
    envs = pytest.importorskip("brax.envs")
    with jax.numpy_rank_promotion("allow"):  # its own code broadcasts ranks
        check_brax(envs)


def check_brax(envs):
    name, steps = "inverted_pendulum", 12
    env = make_environment(f"brax:{name}/spring", {"max_steps_in_episode": 10})
    check_environment(env)
    observed, reward, terminated, truncated = flags(env, steps, jnp.ones(1))
    own = envs.get_environment(name, backend="spring")
    state, step = jax.jit(own.reset)(KEY), jax.jit(own.step)
    for t in range(steps):
        state = step(state, jnp.ones(1))
        np.testing.assert_allclose(observed[t], state.obs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(reward[t], state.reward, rtol=1e-5, atol=1e-6)
        assert terminated[t] == bool(state.done)
        assert truncated[t] == (t + 1 >= 10)
    assert terminated.any()
    by_object = make_environment(own, {})
    assert by_object.params == {"max_steps_in_episode": 1000}
    for wrong in ("brax:pendulum", "brax:ant/fast"):
        with pytest.raises(ValueError, match="known: "):
            make_environment(wrong, {})


def test_xminigrid_tells_the_goal_from_the_limit():
    """Straight ahead, right, straight ahead: the goal of an empty room."""
    xminigrid = pytest.importorskip("xminigrid")
    made = xminigrid.make("MiniGrid-Empty-5x5")
    for given in ("xminigrid:MiniGrid-Empty-5x5", made):
        env = make_environment(given, {"max_steps_in_episode": 7})
        check_environment(env)
    step = jax.jit(env.step)
    forward, right = 0, 1
    _, state = jax.jit(env.reset)(KEY, env.params)
    ends = []
    for action in (forward, forward, right, forward, forward, right, right):
        _, state, reward, terminated, truncated = step(KEY, state, jnp.array(action), env.params)
        ends.append((float(reward) > 0, bool(terminated), bool(truncated)))
    reached = [goal for goal, _, _ in ends].index(True)
    assert ends[reached] == (True, True, False)
    assert ends[-1][2]


@pytest.mark.filterwarnings("ignore")  # of its own code
def test_pgx_is_its_own_steps():
    """MinAtar as it is; elsewhere with the legal moves, which the mask reads."""
    pgx = pytest.importorskip("pgx")
    made = pgx.make("2048")
    env = make_environment("pgx:2048", {"max_steps_in_episode": 5})
    check_environment(env)
    observed, state = env.reset(KEY, env.params)
    own = made.init(KEY)
    step, own_step = jax.jit(env.step), jax.jit(made.step)
    for t in range(6):
        np.testing.assert_array_equal(observed["board"], own.observation)
        np.testing.assert_array_equal(env.action_mask(observed), own.legal_action_mask)
        action, key = jnp.argmax(own.legal_action_mask), jax.random.fold_in(KEY, t)
        own = own_step(own, action, key)
        observed, state, reward, terminated, truncated = step(key, state, action, env.params)
        assert (float(reward), bool(terminated)) == (float(own.rewards[0]), bool(own.terminated))
        assert bool(truncated) == (t + 1 >= 5)
    plain = make_environment(pgx.make("minatar-breakout"), {})
    check_environment(plain)
    assert (plain.action_mask, plain.max_steps, plain.observation.dtype) == (None, None, bool)
    for name, message in (("tic_tac_toe", "2 players; one can be trained"), ("go", "known: ")):
        with pytest.raises(ValueError, match=message):
            make_environment(f"pgx:{name}", {})


@pytest.mark.filterwarnings("ignore")  # of its own code
def test_jumanji_is_its_own_steps_and_its_limit_ours():
    jumanji = pytest.importorskip("jumanji")
    env = make_environment("jumanji:Snake-v1", {"max_steps_in_episode": 3})
    check_environment(env)
    made = jumanji.make("Snake-v1")
    assert make_environment(made, {}).max_steps == made.unwrapped.time_limit
    (own, timestep), (observed, state) = made.reset(KEY), env.reset(KEY, env.params)
    for t in range(4):
        mask = env.action_mask(observed)
        np.testing.assert_array_equal(mask, timestep.observation.action_mask)
        action = jnp.argmax(mask)
        own, timestep = made.step(own, action)
        observed, state, reward, terminated, truncated = env.step(KEY, state, action, env.params)
        for a, b in zip(*map(jax.tree.leaves, (observed, timestep.observation)), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (float(reward), bool(terminated)) == (float(timestep.reward), bool(timestep.last()))
        assert bool(truncated) == (t + 1 >= 3)
    short = jumanji.make("Snake-v1", time_limit=2)
    env = make_environment(short, {})
    _, state = env.reset(KEY, env.params)
    for _ in range(2):
        observed, state, _, terminated, truncated = env.step(
            KEY, state, jnp.argmax(env.action_mask(observed)), env.params
        )
    assert (bool(terminated), bool(truncated)) == (False, True)
    for name, message in (
        ("Connector-v3", "several agents|choices at once"),
        ("RubiksCube-v0", "choices at once"),
        ("Snake-v9", r"did you mean 'Snake-v1'\?"),
    ):
        with pytest.raises(ValueError, match=message):
            make_environment(f"jumanji:{name}", {})


@pytest.mark.filterwarnings("ignore")  # of the suites' own code
@pytest.mark.parametrize(
    "env_id",
    [
        "brax:inverted_pendulum/spring",
        "craftax:Craftax-Classic-Symbolic-v1",
        "gymnasium:CartPole-v1",
        "jumanji:Game2048-v1",
        "navix:Navix-Empty-5x5-v0",
        "pgx:2048",
        "playground:CartpoleBalance",
        "xminigrid:MiniGrid-Empty-5x5",
    ],
)
def test_a_name_may_be_looked_up_while_a_program_is_traced(env_id):
    """As `evaluate` does under jit, and a sweep in each of its members."""
    package, _ = SUITES[env_id.split(":")[0]]
    pytest.importorskip(package)
    config = PPOConfig(env_id=env_id, num_envs=2, num_steps=4, total_timesteps=8)

    def start(key):
        return make_step(config)[0](key).rollout

    with jax.numpy_rank_promotion("allow"):  # the suites' own code broadcasts ranks
        outside = make_step(config)[0]
        inside = jax.eval_shape(start, KEY)
        expected = jax.eval_shape(lambda key: outside(key).rollout, KEY)
        assert jax.tree.leaves(inside) == jax.tree.leaves(expected)


def check_limit(env, limit, actions):
    """It is truncated from the limit on, goes on beyond it, and is not ended by it."""
    check_environment(env)
    step, (_, state) = jax.jit(env.step), jax.jit(env.reset)(KEY, env.params)
    seen = []
    for t, action in enumerate(actions):
        observed, state, reward, terminated, truncated = step(
            jax.random.fold_in(KEY, t), state, action, env.params
        )
        assert bool(truncated) == (t + 1 >= limit)
        seen.append((observed, float(reward), bool(terminated)))
    return seen


@pytest.mark.filterwarnings("ignore")  # of its own code
def test_navix_is_its_own_steps_and_tells_the_goal_from_the_limit():
    """Ahead, right, ahead: the goal of an empty room."""
    navix = pytest.importorskip("navix")
    made = navix.make("Navix-Empty-5x5-v0")
    right, forward = jnp.array(1), jnp.array(2)
    actions = [forward, forward, right, forward, forward, right]
    with jax.numpy_rank_promotion("allow"):  # its own code broadcasts ranks
        for given in ("navix:Navix-Empty-5x5-v0", made):
            env = make_environment(given, {"max_steps_in_episode": 6})
            assert make_environment(given, {}).max_steps == int(made.max_steps)
        seen = check_limit(env, 6, actions)
        own = made.reset(KEY)
        for (observed, reward, terminated), action in zip(seen, actions, strict=True):
            own = made._step(own, action)
            np.testing.assert_array_equal(observed, own.observation)
            assert (reward, terminated) == (float(own.reward), bool(own.is_termination()))
        assert [terminated for _, _, terminated in seen].index(True) == 4
        with pytest.raises(ValueError, match=r"did you mean 'Navix-Empty-5x5-v0'\?"):
            make_environment("navix:Navix-Empti-5x5-v0", {})


@pytest.mark.filterwarnings("ignore")  # of its own code
@pytest.mark.slow
def test_craftax_is_its_own_steps_and_its_limit_no_end():
    pytest.importorskip("craftax")
    from craftax.craftax_env import make_craftax_env_from_name

    name, actions = "Craftax-Classic-Symbolic-v1", [jnp.array(t % 5) for t in range(5)]
    made = make_craftax_env_from_name(name, auto_reset=False)
    with jax.numpy_rank_promotion("allow"):
        for given in (f"craftax:{name}", made):
            env = make_environment(given, {"max_steps_in_episode": 3})
            assert make_environment(given, {}).max_steps == made.default_params.max_timesteps
        seen = check_limit(env, 3, actions)
        step = jax.jit(lambda k, s, a: made.step_env(k, s, a, made.default_params))
        _, own = jax.jit(made.reset_env)(KEY, made.default_params)
        for t, ((observed, reward, terminated), action) in enumerate(
            zip(seen, actions, strict=True)
        ):
            shown, own, paid, ended, _ = step(jax.random.fold_in(KEY, t), own, action)
            np.testing.assert_allclose(observed, shown, rtol=1e-6)
            assert (reward, terminated) == (float(paid), bool(ended))
        with pytest.raises(ValueError, match=r"did you mean 'Craftax-Symbolic-v1'\?"):
            make_environment("craftax:Craftax-Symbolic-v2", {})


@pytest.mark.filterwarnings("ignore")  # of its own code
@pytest.mark.slow
def test_playground_is_its_own_steps():
    registry = pytest.importorskip("mujoco_playground").registry
    made = registry.load("CartpoleBalance", config_overrides={"impl": "jax"})
    actions = [jnp.full(1, 0.3)] * 4
    with jax.numpy_rank_promotion("allow"):
        for given in ("playground:CartpoleBalance", made):
            env = make_environment(given, {"max_steps_in_episode": 3})
            assert make_environment(given, {}).max_steps == 1000
        seen = check_limit(env, 3, actions)
        own, step = jax.jit(made.reset)(KEY), jax.jit(made.step)
        for (observed, reward, terminated), action in zip(seen, actions, strict=True):
            own = step(own, action)
            np.testing.assert_allclose(observed, own.obs, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(reward, own.reward, rtol=1e-4, atol=1e-5)
            assert terminated == bool(own.done)
        with pytest.raises(ValueError, match=r"did you mean 'CartpoleBalance'\?"):
            make_environment("playground:CartpoleBalence", {})
