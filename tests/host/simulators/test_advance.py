"""EnvPool's steps inside a compiled program are those from outside of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import run
from jaxrl_po.envs.hosted import HostEnvironment, host_environment
from jaxrl_po.host.simulators.advance import make_advance, policy_programs
from jaxrl_po.host.simulators.collector import Collector
from jaxrl_po.host.simulators.pool import Pool, SimulatorError, environment_seeds
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.loop.train import make_step
from tests.host.small import RUN, config, same

envpool = pytest.importorskip("envpool")
pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered by casting")

SHORT = {"max_episode_steps": 30}
TASKS = {
    "bounded": {"env_id": "envpool:Hopper-v4", "env_params": SHORT},
    "choices": {"env_id": "envpool:FrozenLake-v1"},
    "named": {"env_id": "envpool:CheetahRun-v1", "env_params": {"max_episode_steps": 6}},
    "remembers": {
        "env_id": "envpool:CartPole-v1",
        "network": "gru",
        "memory_size": 3,
        "sequence_length": 10,
    },
}


def two_rollouts(given, seeds=(3, 4)):
    """Transitions [S, T, N, ...] and episodes of two rollouts in a row, and where they lead."""
    environment, network = make_parts(given)
    init, _ = make_step(given)
    state = jax.vmap(lambda seed: init(jax.random.key(seed)))(jnp.array(seeds))
    host = host_environment(given.env_id, None, given.env_params)
    pool = Pool(host, environment_seeds(seeds, given.num_envs, 0))
    collector = Collector(given, policy_programs(given, environment, network), pool, state)
    first, _ = jax.tree.map(np.copy, collector.collect(state))
    second, sums = collector.collect(state)
    standing = collector.standing()
    pool.close()
    return first, second, sums, standing


@pytest.mark.parametrize("task", TASKS)
def test_steps_inside_a_program_are_those_from_outside(task, monkeypatch):
    settings = {"normalize_observations": task != "choices", **TASKS[task]}
    given = config(num_envs=3, num_steps=40, **settings)
    inside = two_rollouts(given)
    monkeypatch.setattr(Pool, "in_program", lambda pool: None)
    outside = two_rollouts(given)
    first, _, sums, _ = inside
    ended = first.terminated | first.truncated
    assert ended.any(axis=(1, 2)).all()  # of each member
    assert not same(first.observation, inside[1].observation)
    assert np.all(sums.num_episodes > 0)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 1e-3, 1e-4), inside, outside)


def test_pictures_go_into_a_program_as_they_come_out_of_a_pool(monkeypatch):
    given = config(
        env_id="envpool:Pong-v5", num_steps=8, normalize_observations=False, network="cnn"
    )
    inside = two_rollouts(given, seeds=(3,))
    monkeypatch.setattr(Pool, "in_program", lambda pool: None)
    outside = two_rollouts(given, seeds=(3,))
    assert inside[0].observation.shape[3:] == (84, 84, 4)
    for name in ("observation", "action", "reward"):
        pairs = [getattr(rollouts[1], name) for rollouts in (inside, outside)]
        np.testing.assert_array_equal(*pairs, name)


def test_a_run_goes_by_a_program_and_repeats_itself():
    given = config(env_id="envpool:CartPole-v1", num_iterations=3)
    first, second = (run(given, num_seeds=2, **RUN) for _ in range(2))
    assert same(first.state, second.state)
    assert same(first.evaluation, second.evaluation)
    assert not same(first.state.params, run(given, 2, 2, **RUN).state.params)


def test_what_is_changed_in_python_is_stepped_there():
    def make(num_envs, seeds):
        env = envpool.make("Hopper-v4", env_type="gymnasium", num_envs=num_envs, seed=seeds)
        receive = env.recv

        def recv(reset=False, **options):
            found = receive(reset, **options)
            return found if reset else (found[0], 0 * found[1] + 7, *found[2:])

        env.recv = recv
        return env

    pool = Pool(HostEnvironment(make), [0, 1])
    assert pool.in_program() is None
    pool.reset()
    np.testing.assert_array_equal(pool.step(np.zeros((2, 3))).reward, 7)
    pool.close()


def test_what_fails_inside_a_program_is_named():
    given = config(env_id="envpool:CartPole-v1")
    environment, network = make_parts(given)
    state = jax.tree.map(lambda x: x[None], make_step(given)[0](jax.random.key(0)))
    pool = Pool(host_environment(given.env_id, None, {}), [0, 1])
    programs = policy_programs(given, environment, network)
    collector = Collector(given, programs, pool, state)

    def failing(handle, action):
        def raising(action):
            raise OSError("the simulator is gone")

        return jax.pure_callback(raising, jax.eval_shape(step, handle, action), action)

    handle, step = pool.in_program()
    pool.in_program = lambda: (handle, failing)
    policy, (noise, t) = (state.params, state.normalizer), programs.draw(state)
    standing = collector._standing._replace(t=t)
    advance = make_advance(programs, pool, policy, noise, standing, collector._rows)
    with pytest.raises(SimulatorError, match=r"(?s)CartPole-v1: .*the simulator is gone"):
        advance(policy, noise, 0, standing, collector._rows)
    pool.close()
