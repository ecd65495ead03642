"""Environments on the host: where a step leads and an episode begins, by every convention."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from jaxrl_po.envs import Discrete, HostEnvironment, make_environment
from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.simulators.pool import Pool, SimulatorError
from tests.host.simulators.lines import LIMIT, Line, hosted


@pytest.mark.parametrize("mode", AutoresetMode)
def test_each_convention_shows_where_an_episode_ended_and_how_the_next_began(mode):
    """One walks up and ends after four steps; one goes to and fro, and is cut off after seven."""
    pool = Pool(hosted(mode), [0, 1])
    observation, lengths = pool.reset(), [[], []]
    for t in range(40):
        np.testing.assert_array_equal(observation[:, 1] * 4, [t % 4, t % LIMIT])
        step = pool.step(np.array([1, t % LIMIT % 2]))
        assert step.terminated.tolist() == [t % 4 == 3, False]
        assert step.truncated.tolist() == [False, t % LIMIT == LIMIT - 1]
        np.testing.assert_array_equal(step.observation[:, 1] * 4, [t % 4 + 1, t % LIMIT + 1])
        np.testing.assert_array_equal(step.reward, step.observation[:, 0] - 0.125)
        ended = step.terminated | step.truncated
        for env in np.flatnonzero(ended):
            lengths[env].append(t + 1)
        last = step.observation.copy()
        observation = pool.restart(ended) if ended.any() else step.observation
        np.testing.assert_array_equal(step.observation, last)  # it is not written into
    assert np.diff(lengths[0]).tolist() == [4] * 9
    assert np.diff(lengths[1]).tolist() == [LIMIT] * 4
    pool.close()


def test_one_that_is_reset_as_a_whole_is_refused():
    made = HostEnvironment(lambda num_envs, seeds: gymnasium.make_vec("CartPole-v1", num_envs))
    pool = Pool(made, [0, 1])
    pool.reset()
    pool.step(np.array([1, 0]))
    with pytest.raises(SimulatorError, match=r"takes no `reset_mask`.*SAME_STEP"):
        pool.restart(np.array([True, False]))


def test_seeds_are_those_of_each_environment():
    host = host_environment("gymnasium:CartPole-v1", None, {})
    starts = [Pool(host, seeds).reset() for seeds in ([3, 4], [4, 5])]
    np.testing.assert_array_equal(starts[0][1], starts[1][0])
    assert (starts[0][0] != starts[0][1]).all()


class Raising(Line):
    def step(self, action):
        raise KeyError("gone")


class Growing(Line):
    def step(self, action):
        return np.zeros(3), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("env", "message"),
    [(Raising, "env: KeyError: 'gone'"), (Growing, "env: .*")],
)
def test_what_goes_wrong_inside_is_named(env, message):
    pool = Pool(hosted(env=env), [0, 0])
    pool.reset()
    with pytest.raises(SimulatorError, match=message):
        pool.step(np.array([0, 0]))


def test_another_number_of_environments_is_refused():
    made = HostEnvironment(lambda num_envs, seeds: hosted().make(3, seeds))
    with pytest.raises(ValueError, match="made 3 environments, not 2"):
        Pool(made, [0, 0])


@pytest.mark.parametrize(
    ("env_id", "env_params", "message"),
    [
        ("gymnasium:CartPol-v1", {}, "did you mean one of CartPole-v1"),
        ("gymnasium:CartPole-v1", {"gravty": 3.0}, "does not take {'gravty': 3.0}"),
        ("gymnasium:CartPole-v1", {"sutton_barto_reward": np.ones(2)}, "must be one number"),
        ("gymnasium:", {}, "a suite's name is before the colon"),
    ],
)
def test_names_and_options_that_are_not_there_are_refused(env_id, env_params, message):
    with pytest.raises(ValueError, match=message):
        make_environment(env_id, env_params)


def test_what_is_seen_has_the_precision_that_jax_computes_in():
    environment = make_environment(hosted(), {})
    assert (environment.observation.shape, environment.observation.dtype) == ((2,), np.float32)
    assert environment.action_space == Discrete(2)


def test_a_name_with_options_makes_another_environment():
    short = make_environment("gymnasium:CartPole-v1", {"max_episode_steps": 3})
    assert short.observation.shape == (4,)
    from jaxrl_po.envs.hosted import host_environment

    pool = Pool(host_environment("gymnasium:CartPole-v1", None, {"max_episode_steps": 3}), [0])
    pool.reset()
    assert [bool(pool.step(np.array([t % 2])).truncated[0]) for t in range(3)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("mode", AutoresetMode)
def test_one_of_n_is_observed_one_hot(mode):
    """Straight down a frozen lake of 4 x 4 that does not slip: 0, 4, 8, 12, and on from there."""
    made = HostEnvironment(
        lambda num_envs, seeds: gymnasium.make_vec(
            "FrozenLake-v1",
            num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": mode},
            is_slippery=False,
            max_episode_steps=3,
        )
    )
    assert make_environment(made, {}).observation.shape == (16,)
    pool = Pool(made, [0, 1])
    np.testing.assert_array_equal(pool.reset(), np.eye(16)[[0, 0]])
    for place in (4, 8, 12):
        step = pool.step(np.array([1, 1]))
        np.testing.assert_array_equal(step.observation, np.eye(16)[[place, place]])
    assert step.truncated.all()
    np.testing.assert_array_equal(pool.restart(step.truncated), np.eye(16)[[0, 0]])


class Whole(Line):
    """Shows whole numbers, where its space is of real ones: the batch is cast, the last is not."""

    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (2,), np.float32)

    def observation(self):
        return np.array([4 * self.place, self.time]).astype(np.int64)


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("shape", [(2,), (1,)])
def test_whole_numbers_are_no_choices(mode, shape):
    class Seen(Whole):
        observation_space = gymnasium.spaces.Box(-10.0, 10.0, shape, np.float32)

        def observation(self):
            return super().observation()[: shape[0]]

    pool = Pool(hosted(mode, Seen), [0])
    pool.reset()
    for t in range(LIMIT):
        step = pool.step(np.array([t % 2]))
    assert step.truncated.all()
    np.testing.assert_array_equal(step.observation, [[-1.0, LIMIT][: shape[0]]])


def test_envpool_shows_ends_and_begins_at_once():
    """Its own clocks run from the starts that are shown, one after each end, and skip no step."""
    pytest.importorskip("envpool")
    pool = Pool(host_environment("envpool:Hopper-v4", None, {"max_episode_steps": 30}), [5, 6, 5])
    observation, length = pool.reset(), np.zeros(3, int)
    np.testing.assert_array_equal(observation[0], observation[2])
    kinds, rng = set(), np.random.default_rng(0)
    for _ in range(80):
        step = pool.step(rng.uniform(-1, 1, (3, 3)).astype(np.float32))
        length += 1
        np.testing.assert_array_equal(pool.info["elapsed_step"], length)
        np.testing.assert_array_equal(step.truncated, length == 30)
        ended = step.terminated | step.truncated
        kinds |= {*zip(step.terminated.tolist(), step.truncated.tolist(), strict=True)}
        observation = pool.restart(ended)
        fresh = np.abs(observation[:, 0] - 1.25) < 0.01  # it begins standing still, at 1.25
        assert fresh[ended].all()
        np.testing.assert_array_equal(observation[~ended], step.observation[~ended])
        length[ended] = 0
    assert {(True, False), (False, True), (False, False)} <= kinds
    pool.close()


def test_pictures_have_their_channels_last():
    pytest.importorskip("envpool")
    host = host_environment("envpool:Pong-v5", None, {})
    pool = Pool(host, [0, 1])
    assert make_environment("envpool:Pong-v5", {}).observation.shape == (84, 84, 4)
    before = pool.reset()
    for _ in range(4):
        after = pool.step(np.array([2, 3])).observation
        assert (after.shape, after.dtype) == ((2, 84, 84, 4), np.uint8)
        np.testing.assert_array_equal(after[..., :3], before[..., 1:])  # the newest comes last
        before = after
    pool.close()


def test_a_task_that_envpool_does_not_have_is_refused():
    pytest.importorskip("envpool")
    with pytest.raises(ValueError, match=r"did you mean one of HalfCheetah-v[345]"):
        make_environment("envpool:HalfCheeta-v4", {})
    with pytest.raises(ValueError, match=r"env_params: envpool:Hopper-v4 does not take {'gravty'"):
        make_environment("envpool:Hopper-v4", {"gravty": 3.0})
