"""Rollouts of environments on the host: what the compiled ones are, to the bit; runs of them."""

import json
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from jaxrl_po import PPOConfig, evaluate, load_policy, make_train, resume, run
from jaxrl_po.envs import HostEnvironment
from jaxrl_po.host.runs import engines
from jaxrl_po.host.runs.directory import RunSettings
from jaxrl_po.host.runs.engines import HostEngine
from jaxrl_po.host.runs.evaluation import evaluate_run
from jaxrl_po.host.simulators.evaluation import Player
from jaxrl_po.host.simulators.pool import Pool, SimulatorError
from jaxrl_po.loop.parts import Given, make_parts
from jaxrl_po.loop.train import make_step
from tests.host.simulators.lines import Line, hosted, line
from tests.host.small import RUN, config, same

ITERATIONS = 3


def settings(num_seeds=1):
    return RunSettings(
        seed=0,
        num_seeds=num_seeds,
        segment_length=2,
        evaluate_every=1,
        num_episodes=4,
        max_episode_steps=20,
        keep_checkpoints=3,
        given=["env"],
    )


def start(given_config, env, num_seeds=1):
    init, _ = make_step(given_config, env)
    states = [init(jax.random.key(seed)) for seed in range(num_seeds)]
    return [jax.tree.map(lambda x: x[None], state) for state in states]


MEMORY = {"network": "gru", "memory_size": 3, "sequence_length": 8}


@pytest.mark.parametrize(
    ("mode", "memory"),
    [*((mode, {}) for mode in AutoresetMode), (AutoresetMode.DISABLED, MEMORY)],
)
def test_the_host_feeds_the_update_what_the_compiled_rollout_does(mode, memory, jit, monkeypatch):
    """States after three iterations, in which episodes end in both ways."""
    monkeypatch.setattr(engines, "compile_blocks", compile_quickly)
    given = config(num_steps=16, num_envs=3, num_minibatches=2, **memory)
    host = hosted(mode)
    engine = HostEngine(
        given, Given(host), settings(), host, start(given, line()), 0, lambda text: None
    )
    [(state, metrics)] = engine.advance(engine.blocks, ITERATIONS)
    engine.close()

    expected, history = start(given, line())[0], []
    step = jit(jax.vmap(make_step(given, line())[1]))
    for _ in range(ITERATIONS):
        expected, numbers = step(expected)
        history.append(numbers)
    assert min(np.sum([numbers["num_episodes"] for numbers in history], axis=0)) > ITERATIONS
    for name, values in metrics.items():
        np.testing.assert_array_equal(values[0], [numbers[name][0] for numbers in history], name)
    stands, stood = state.rollout, expected.rollout
    assert same(state._replace(rollout=()), expected._replace(rollout=()))
    assert same(stands._replace(env_state=()), stood._replace(env_state=()))


def test_members_share_a_pool_and_nothing_else():
    """Each is what it is alone; their environments are seeded by their own seeds."""
    host = HostEnvironment(
        lambda num_envs, seeds: gymnasium.make_vec(
            "CartPole-v1", num_envs, vectorization_mode="sync"
        )
    )
    given = config(num_iterations=3)
    both = run(given, num_seeds=2, env=host, **RUN)
    second = run(given, seed=1, env=host, **RUN)
    alone = jax.tree.map(lambda x: np.asarray(x)[1:], both.state.params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, 1e-4, 1e-5), alone, second.state.params
    )
    np.testing.assert_array_equal(
        both.metrics["num_episodes"][1], second.metrics["num_episodes"][0]
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run in a directory, paused and resumed."""
    folder = tmp_path_factory.mktemp("host") / "run"
    given = config(num_iterations=6)
    settings = {"env": hosted(), "segment_length": 2, "directory": folder}
    run(given, until=4, **settings, **RUN)
    return folder, resume(folder, env=hosted(), quiet=True)


def test_a_resumed_run_begins_new_episodes_and_says_so(trained):
    folder, result = trained
    assert result.state.iteration.tolist() == [6]
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6]
    lines = (folder / "events.jsonl").read_text().splitlines()
    [event] = [event for event in map(json.loads, lines) if event["event"] == "resumed"]
    assert "each begins a new episode" in " ".join(event["notices"])


def test_a_run_is_evaluated_again_on_episodes_of_their_own(trained):
    first, second, other = (evaluate_run(trained[0], 5, seed, env=hosted()) for seed in (0, 0, 1))
    assert same(first.sampled, second.sampled)
    assert first.sampled.episode_return.shape == (1, 5)
    assert not same(first.sampled, other.sampled)


def test_a_policy_that_was_trained_there_acts(trained):
    policy = load_policy(trained[0] / "policy")
    assert int(policy(np.zeros(2, np.float32))) in (0, 1)


def test_evaluations_play_whole_episodes_of_every_environment():
    """Walking up ends after four steps, with .125 + .375 + .625 + .875."""
    host = hosted()
    given = PPOConfig(num_envs=2, hidden_sizes=(4,))
    environment, network = make_parts(given, host)
    up = network._replace(
        policy=lambda params, o, memory: (
            environment.action_space.distribution(
                jnp.broadcast_to(jnp.array([-50.0, 50.0]), (*o.shape[:-1], 2))
            ),
            memory,
        )
    )
    states = jax.tree.map(lambda x: jnp.stack([x, x]), start(given, line())[0])
    states = jax.tree.map(lambda x: x[:, 0], states)
    keys = jax.random.split(jax.random.key(0))
    for deterministic in (True, False):
        player = Player(environment, up, deterministic)
        found = player.play(states, keys, Pool(host, [0] * 6), 3, 5, 100)
        np.testing.assert_array_equal(found.episode_return, np.full((2, 5), 2.0))
        np.testing.assert_array_equal(found.episode_length, np.full((2, 5), 4))
        cut = player.play(states, keys, Pool(host, [0] * 6), 3, 5, 3)
        np.testing.assert_array_equal(cut.episode_length, np.full((2, 5), 3))
        np.testing.assert_array_equal(cut.episode_return, np.full((2, 5), 1.125))


class Ailing(Line):
    """It fails, in a way of its own, in the 40th step after it was made."""

    how: Any = None

    def __init__(self):
        self.count = 0

    def step(self, action):
        self.count += 1
        observation, reward, *rest = super().step(action)
        if self.count == 40:
            observation, reward = self.how(observation, reward)
        return observation, reward, *rest


def raising(observation, reward):
    raise OSError("the simulator is gone")


WAYS = {
    "OSError: the simulator is gone": raising,
    "its observation became NaN or infinite": lambda o, r: (o * np.nan, r),
    "its reward became NaN or infinite": lambda o, r: (o, np.inf),
}


@pytest.mark.parametrize("message", WAYS)
def test_what_was_learned_before_an_environment_failed_is_saved(message, tmp_path):
    """40 steps are five iterations of eight: the fifth fails, in the middle of a segment of 3."""
    ailing = type("Ailing", (Ailing,), {"how": staticmethod(WAYS[message])})
    settings = {"directory": tmp_path, "segment_length": 3, **RUN}
    with pytest.raises(SimulatorError, match=rf"{message}.*after iteration 4 of 8, saved"):
        run(config(num_iterations=8), env=hosted(env=ailing), **settings)
    done = resume(tmp_path, env=hosted(), quiet=True)
    assert done.state.iteration.tolist() == [8]
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == list(range(1, 9))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Gymnasium, closing what is gone
def test_a_worker_that_dies_is_named_and_what_was_learned_is_saved(tmp_path):
    """The second vector environment is the one that is trained in; the first told the spaces."""
    made = []

    def make(num_envs, seeds):
        made.append(AsyncVectorEnv([Line] * num_envs, context="forkserver"))
        return made[-1]

    def kill(moment):
        if moment.iteration == 4:
            made[1].processes[0].kill()

    settings = {"directory": tmp_path, "segment_length": 2, "callbacks": [kill], **RUN}
    with pytest.raises(SimulatorError, match=r"env: \w+Error.*after iteration [45] of 12"):
        run(config(num_iterations=12), env=HostEnvironment(make), **settings)
    assert resume(tmp_path, env=hosted(), quiet=True).state.iteration.tolist() == [12]


def test_what_fails_before_it_has_begun_leaves_no_environments(monkeypatch):
    made, closed = [], []

    class Lost(Line):
        def reset(self, *, seed=None, options=None):
            raise KeyError("gone")

        def close(self):
            closed.append(self)

    def make(num_envs, seeds):
        made.append(num_envs)
        return SyncVectorEnv([Lost] * num_envs, autoreset_mode=AutoresetMode.DISABLED)

    config = PPOConfig(num_envs=2, num_steps=4, total_timesteps=8)
    with pytest.raises(SimulatorError, match="gone"):
        run(config, env=HostEnvironment(make), quiet=True)
    assert len(closed) == sum(made)


def test_compiled_programs_refuse_what_steps_on_the_host():
    given = config()
    with pytest.raises(ValueError, match=r"env steps on the host.*jaxrl_po\.run"):
        jax.eval_shape(make_train(given, hosted()), jax.random.key(0))
    state = jax.tree.map(lambda x: x[0], start(given, line())[0])
    with pytest.raises(ValueError, match=r"env steps on the host.*jaxrl_po\.run"):
        evaluate(given, state, jax.random.key(0), env=hosted())


def compile_quickly(function, blocks, *shared):
    whole = jax.jit(jax.vmap(function))
    return lambda blocks, *shared: [whole(block, *shared) for block in blocks]
