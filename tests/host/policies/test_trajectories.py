"""Steps of a policy as arrays: the episodes that `play` plays, each whole and in order."""

import jax
import numpy as np
import pytest

from jaxrl_po import PPOConfig, load_policy, make_train, rollout_policy
from jaxrl_po.host.policies.play import play
from jaxrl_po.host.policies.policy import save_policy


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Of a moment's training, in one choice and in real numbers."""
    found = {}
    for env_id in ("CartPole-v1", "Pendulum-v1"):
        config = PPOConfig(env_id=env_id, num_steps=8, total_timesteps=64, hidden_sizes=(4,))
        state = jax.jit(make_train(config))(jax.random.key(0)).state
        folder = tmp_path_factory.mktemp("policies") / env_id
        save_policy(folder, config, state)
        found[env_id] = load_policy(folder)
    return found


@pytest.mark.filterwarnings("ignore:.*precision lowered")  # in EnvPool's own spaces
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    ("env", "action"),
    [
        ("gymnasium:CartPole-v1", np.integer),
        ("gymnax:CartPole-v1", np.integer),
        ("gymnasium:Pendulum-v1", np.floating),
        ("gymnax:Pendulum-v1", np.floating),
        ("envpool:CartPole-v1", np.integer),
    ],
)
def test_the_steps_are_those_of_the_episodes_that_are_played(env, action, sampled, policies):
    suite, _, name = env.partition(":")
    pytest.importorskip(suite)
    policy, settings = policies[name], {"sampled": sampled, "seed": 3, "max_steps": 30}
    played = play(policy, env, 4, **settings)
    steps = rollout_policy(policy, env, 4, **settings)
    assert steps.episode.tolist() == sorted(steps.episode.tolist())
    np.testing.assert_array_equal(np.bincount(steps.episode, minlength=4), played.episode_length)
    totals = np.bincount(steps.episode, steps.reward, minlength=4)
    np.testing.assert_allclose(totals, played.episode_return, rtol=1e-5)
    assert np.issubdtype(steps.action.dtype, action)
    ends = steps.terminated | steps.truncated
    for episode in range(4):
        rows = steps.episode == episode
        assert not ends[rows][:-1].any()  # it goes on to its end, or to the bound
        assert ends[rows][-1] or played.episode_length[episode] == 30
        last = steps.final_observation[episode]
        assert not np.array_equal(last, steps.observation[rows][-1])
    if name == "CartPole-v1" and suite == "gymnasium":  # Euler's step of the position
        first = steps.observation[steps.episode == 0]
        np.testing.assert_allclose(first[1:, 0], first[:-1, 0] + 0.02 * first[:-1, 1], atol=1e-5)
    if not sampled:
        np.testing.assert_allclose(policy(steps.observation), steps.action, atol=1e-4)
