import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxrl_po.loop.rollout
from jaxrl_po.distributions import Categorical
from jaxrl_po.envs import Discrete, Environment, make_environment
from jaxrl_po.loop.rollout import init_rollout, rollout
from jaxrl_po.types import Network
from tests import probes
from tests.reference import advantages as reference

T, N = 64, 3
KEY = jax.random.key(1)


def counting_network():
    """A CartPole policy that pushes with the pole's fall, and remembers how long it has played."""

    def policy(params, observation, memory):
        logits = observation @ params
        return Categorical(jnp.stack([-logits, logits], -1)), memory + 1

    return Network(
        init=lambda key: jnp.array([0.0, 0.0, -2.0, -0.5]),
        policy=policy,
        value=lambda params, observation, memory: observation.sum(-1),
        policy_and_value=None,
        initial_memory=lambda num_envs: jnp.zeros(num_envs, int),
    )


def play(env_id="CartPole-v1", env_params=None, num_steps=T, num_envs=N, key=KEY):
    """One rollout: where it started, where it ended, what happened."""
    environment, network = make_environment(env_id, env_params or {}), counting_network()
    params = network.init(None)
    start = init_rollout(environment, network, num_envs, key)
    memory = network.initial_memory(num_envs)
    return start, *rollout(
        environment,
        lambda observation, memory: network.policy(params, observation, memory),
        memory,
        start,
        jax.random.fold_in(key, 1),
        num_steps,
    )


@pytest.fixture(scope="module")
def played(jit):
    return jit(play)()


def ended(transitions):
    return np.asarray(transitions.terminated | transitions.truncated)


def test_rollout_is_a_plain_loop_over_the_environment(played):
    start, _, transitions, _ = played
    env, params = gymnax.make("CartPole-v1")
    policy = counting_network()
    step, reset = jax.jit(env.step_env), jax.jit(env.reset_env)
    # The same noise: action noise, environment keys, start states.
    action_key, env_key, start_key = jax.random.split(jax.random.fold_in(KEY, 1), 3)
    noise = jax.random.gumbel(action_key, (T, N, 2))
    env_keys = jax.random.split(env_key, (T, N))
    start_keys = jax.random.split(start_key, (T, N))
    for n in range(N):
        observation = start.observation[n]
        state = jax.tree.map(lambda leaf: leaf[n], start.env_state)  # noqa: B023
        for t in range(T):
            np.testing.assert_allclose(transitions.observation[t, n], observation, atol=1e-5)
            distribution, _ = policy.policy(policy.init(None), observation, 0)
            action = int(np.argmax(distribution.logits + noise[t, n]))
            observation, state, reward, terminated, _ = step(env_keys[t, n], state, action, params)
            truncated = env.is_truncated(state, params)
            assert transitions.action[t, n] == action
            assert transitions.reward[t, n] == reward
            assert transitions.terminated[t, n] == terminated
            assert transitions.truncated[t, n] == truncated
            np.testing.assert_allclose(transitions.next_observation[t, n], observation, atol=1e-5)
            if terminated or truncated:
                observation, state = reset(start_keys[t, n], params)
    assert ended(transitions).sum() >= 2


def test_a_transition_holds_the_observation_before_the_reset(jit):
    _, _, transitions, _ = jit(lambda: play(env_params={"max_steps_in_episode": 5}))()
    now, after = np.asarray(transitions.observation), np.asarray(transitions.next_observation)
    done = ended(transitions)
    assert (done[4::5] & transitions.truncated[4::5]).all()
    # The physics holds for every transition: x' = x + τ ẋ.
    np.testing.assert_allclose(after[..., 0], now[..., 0] + 0.02 * now[..., 1], atol=1e-6)
    ongoing = ~done[:-1]
    np.testing.assert_array_equal(after[:-1][ongoing], now[1:][ongoing])
    assert (after[:-1][~ongoing] != now[1:][~ongoing]).any(-1).all()


def test_episodes_are_counted_as_numpy_counts_them(played):
    start, end, transitions, sums = played
    reward, done = np.asarray(transitions.reward), ended(transitions)
    returns, lengths = reference.episodes(reward, done)
    np.testing.assert_allclose(sums.episode_return, sum(returns), rtol=1e-6)
    assert sums.episode_length == sum(lengths)
    assert sums.num_episodes == len(returns) >= 2
    running = [T - 1 - np.flatnonzero(done[:, n])[-1] if done[:, n].any() else T for n in range(N)]
    np.testing.assert_array_equal(end.episode_length, running)
    np.testing.assert_array_equal(end.episode_return, running)
    assert not start.episode_length.any()


def test_memory_begins_anew_with_each_episode(played):
    _, end, transitions, _ = played
    done, expected = ended(transitions), np.zeros(N, int)
    for t in range(T):
        np.testing.assert_array_equal(transitions.memory[t], expected)
        np.testing.assert_array_equal(transitions.next_memory[t], expected + 1)
        expected = np.where(done[t], 0, expected + 1)
    np.testing.assert_array_equal(end.memory, expected)


def test_rollouts_join_without_a_seam(jit):
    """An episode that goes on into the next rollout keeps its state, memory and sums."""
    environment, network = make_environment("CartPole-v1", {}), counting_network()

    def two(key):
        policy = lambda observation, memory: network.policy(network.init(None), observation, memory)  # noqa: E731
        state = init_rollout(environment, network, N, key)
        memory = network.initial_memory(N)
        state, first, _ = rollout(environment, policy, memory, state, key, 4)
        return state, first, rollout(environment, policy, memory, state, key, 4)[1]

    state, first, second = jit(two)(KEY)
    np.testing.assert_array_equal(first.next_observation[-1], second.observation[0])
    np.testing.assert_array_equal(second.memory[:, 0], [4, 5, 6, 7])
    np.testing.assert_array_equal(state.episode_length, 4)


@pytest.mark.parametrize(("starts_each", "limit"), [(None, 2), (5, 3)], ids=["all", "bounded"])
def test_start_states_are_distributed_as_the_environments_own(starts_each, limit, jit, monkeypatch):
    num_envs, num_steps = 64, 30
    if starts_each:  # room for the state of each environment: 4 + 4 floats and the time
        size = num_envs * (4 + 4 + 1) * 4
        monkeypatch.setattr(jaxrl_po.loop.rollout, "START_STATE_BYTES", starts_each * size)
    arguments = {"env_params": {"max_steps_in_episode": limit}, "num_steps": num_steps}
    _, _, transitions, _ = jit(lambda: play(num_envs=num_envs, **arguments))()
    restarted = ended(transitions)[:-1]
    assert (restarted.sum(0) == (num_steps - 1) // limit).all()
    drawn = np.asarray(transitions.observation[1:])[restarted]
    different = np.unique(drawn, axis=0)
    if starts_each:  # all of the pool, but for those that no draw has hit
        pool = num_envs * starts_each
        hit = pool * (1 - (1 - 1 / pool) ** len(drawn))
        assert len(different) == pytest.approx(hit, abs=5 * np.sqrt(pool / 4))
        assert len(different) <= pool
    else:
        assert len(different) == len(drawn)

    env, params = gymnax.make("CartPole-v1")
    own, _ = jax.vmap(env.reset_env, in_axes=(0, None))(jax.random.split(KEY, 2_000), params)
    for coordinate in range(4):
        test = scipy.stats.ks_2samp(different[:, coordinate], np.asarray(own)[:, coordinate])
        assert test.pvalue > 1e-3
    # Successive ones are unrelated.
    assert np.abs(np.corrcoef(different.T) - np.eye(4)).max() < 0.25


def test_discrete_start_states_have_the_environments_frequencies(jit):
    tables = probes.tables([0.2, 0.8], [[0, 0], [0, 0]], [[probes.END] * 2] * 2)
    env = make_environment(probes.Tabular(tables), {})
    policy = lambda observation, memory: (Categorical(jnp.zeros_like(observation)), memory)  # noqa: E731
    network = counting_network()._replace(initial_memory=lambda num_envs: ())

    def starts(key):
        state = init_rollout(env, network, 50, key)
        return rollout(env, policy, (), state, key, 40)[1].observation

    counts = np.asarray(jit(starts)(KEY)).sum((0, 1))
    assert scipy.stats.chisquare(counts, [400, 1600]).pvalue > 1e-3


@pytest.mark.parametrize("starts_each", [1, 6, 7])
def test_episodes_of_one_length_do_not_start_from_the_same_few_states(
    starts_each, jit, monkeypatch
):
    """Whatever their length divides: each environment sees as many as independent draws give."""
    num_envs, num_steps, limit = 128, 43, 6
    size = num_envs * (4 + 4 + 1) * 4
    monkeypatch.setattr(jaxrl_po.loop.rollout, "START_STATE_BYTES", starts_each * size)
    arguments = {"env_params": {"max_steps_in_episode": limit}, "num_steps": num_steps}
    _, _, transitions, _ = jit(lambda: play(num_envs=num_envs, **arguments))()
    starts = np.asarray(transitions.observation[limit::limit])
    seen = np.mean([len(np.unique(starts[:, n], axis=0)) for n in range(num_envs)])
    pool, draws = num_envs * starts_each, len(starts)
    assert seen == pytest.approx(pool * (1 - (1 - 1 / pool) ** draws), abs=0.2)


def test_the_bound_on_start_states_holds_at_least_one(monkeypatch, jit):
    monkeypatch.setattr(jaxrl_po.loop.rollout, "START_STATE_BYTES", 1)
    _, _, transitions, _ = jit(lambda: play(env_params={"max_steps_in_episode": 2}, num_steps=8))()
    starts = np.asarray(transitions.observation[2::2])
    assert len(np.unique(starts.reshape(-1, 4), axis=0)) <= N


@pytest.mark.parametrize(
    ("next_state", "match"),
    [
        (lambda x: {"x": x["x"] + 0.5}, r"env_state\['x'\] from int32\[3\] into float32\[3\]"),
        (lambda x: {"x": x["x"], "y": x["x"]}, "structure of the state"),
    ],
)
def test_a_step_that_changes_a_type_is_refused(next_state, match):
    environment = Environment(
        reset=lambda key, params: (jnp.zeros(4), {"x": jnp.zeros((), jnp.int32)}),
        step=lambda key, state, action, params: (
            jnp.zeros(4),
            next_state(state),
            jnp.zeros(()),
            jnp.asarray(False),
            jnp.asarray(False),
        ),
        params=(),
        observation_shape=(4,),
        action_space=Discrete(2),
        max_steps=None,
    )
    network = counting_network()
    start = init_rollout(environment, network, N, KEY)
    with pytest.raises(ValueError, match=match):
        rollout(
            environment,
            lambda observation, memory: network.policy(network.init(None), observation, memory),
            network.initial_memory(N),
            start,
            KEY,
            T,
        )
