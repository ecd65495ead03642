"""Deep Q-learning, the baseline: it learns, and a time limit does not end the value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.baselines.dqn import DQNConfig, evaluate, make_parts, make_train, td_loss
from jaxrl_po.types import Transition
from tests import probes

PROBE = DQNConfig(
    total_timesteps=12_800,
    num_envs=4,
    num_steps=8,
    gamma=probes.GAMMA,
    hidden_sizes=(16,),
    buffer_size=4_096,
    learning_starts=64,
    gradient_steps=8,
    learning_rate=3e-3,
    epsilon_end=0.02,
    exploration_fraction=0.2,
    target_interval=1,
)
CASES = ["delay", "state and action", "time limit"]


def learn(tables):
    """Q [S, A], evaluated returns and metrics of one probe."""
    env = probes.Tabular(tables)
    _, network = make_parts(PROBE, env)
    state, metrics = make_train(PROBE, env)(jax.random.key(0))
    returns = evaluate(PROBE, state, jax.random.key(1), 64, env).episode_return
    return network.apply(state.params, jnp.eye(2)), returns, metrics


@pytest.fixture(scope="module")
def learned(jit):
    tables = jax.tree.map(lambda *x: jnp.stack(x), *(probes.PROBES[name] for name in CASES))
    return jit(jax.vmap(learn))(tables)


@pytest.mark.parametrize("name", CASES)
def test_it_finds_values_and_actions(learned, name):
    values = learned[0][CASES.index(name)]
    np.testing.assert_allclose(values.max(axis=1), probes.VALUES[name], rtol=0.1)
    for state, action in probes.ACTIONS.get(name, {}).items():
        assert values[state].argmax() == action


def test_evaluation_follows_the_values(learned):
    returns = learned[1][CASES.index("state and action")]
    assert returns.shape == (64,)
    assert returns.mean() > 0.9


def test_budget_and_schedule(learned):
    metrics = learned[2]
    np.testing.assert_array_equal(metrics["timesteps"][0], 32 * np.arange(1, 401))
    assert metrics["epsilon"][0, 0] == 1.0
    np.testing.assert_allclose(metrics["epsilon"][0, 80:], PROBE.epsilon_end)
    assert np.isnan(metrics["td_loss"][0, 0])  # too little gathered to learn from
    assert np.isfinite(metrics["td_loss"][0, 1:]).all()


@pytest.mark.parametrize("terminated", [False, True])
def test_the_loss_bootstraps_through_a_time_limit_only(terminated):
    def q_values(params, observation):
        return observation @ params

    class Network:
        apply = staticmethod(q_values)
        observation_shape = (2,)

    # the online network prefers action 0 in the next state, the target network action 1
    params, target_params = jnp.array([[0.1, 0.2], [0.4, 0.3]]), jnp.array([[1.0, 2.0], [3.0, 4.0]])
    batch = Transition(
        observation=jnp.eye(2)[:1],
        memory=(),
        distribution=(),
        action=jnp.ones(1, int),
        reward=jnp.full(1, -3.0),
        next_observation=jnp.eye(2)[1:],
        next_memory=(),
        terminated=jnp.array([terminated]),
        truncated=jnp.array([not terminated]),
    )
    target = -3.0 if terminated else -3.0 + 0.9 * 3.0
    expected = (0.2 - target) ** 2
    loss = td_loss(params, Network(), target_params, batch, 0.9)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_learning_rate_is_data(jit):
    env = probes.Tabular(jax.tree.map(jnp.asarray, probes.PROBES["delay"]))

    def train(learning_rate):
        config = PROBE.replace(total_timesteps=1_000, learning_rate=learning_rate)
        return make_train(config, env)(jax.random.key(0)).metrics["td_loss"][-1]

    losses = jit(jax.vmap(train))(jnp.array([1e-3, 1e-2]))
    assert losses[0] != losses[1]


def test_continuous_actions_are_refused():
    with pytest.raises(ValueError, match="discrete"):
        make_train(DQNConfig(env_id="Pendulum-v1"))
