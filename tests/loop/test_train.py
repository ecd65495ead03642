import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, VPGConfig, config_from_dict, evaluate, make_step, make_train
from jaxrl_po.loop.learn import make_batch
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.loop.rollout import init_rollout, rollout
from tests import probes
from tests.reference import advantages as reference

TINY = {
    "env_id": "Pendulum-v1",
    "env_params": {"max_steps_in_episode": 5},
    "num_envs": 2,
    "num_steps": 8,
    "hidden_sizes": (8,),
}
KEY = jax.random.key(0)


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("budget", [16, 31, 48, 63])
def test_metrics_tell_the_true_number_of_steps(budget):
    train = make_train(PPOConfig(**TINY, total_timesteps=budget))
    assert jax.eval_shape(train, KEY).metrics["timesteps"].shape == (budget // 16,)


@pytest.fixture(scope="module")
def annealed(jit):
    config = VPGConfig(**TINY, total_timesteps=16 * 4, anneal_lr=True, learning_rate=0.5)
    return jit(make_train(config))(KEY)


def test_timesteps_and_iterations_are_counted(annealed):
    np.testing.assert_array_equal(annealed.metrics["timesteps"], [16, 32, 48, 64])
    assert annealed.state.iteration == 4


def test_the_learning_rate_falls_in_a_straight_line(annealed):
    rates = annealed.metrics["learning_rate"]
    np.testing.assert_allclose(rates, [0.5, 0.375, 0.25, 0.125], rtol=1e-6)


@pytest.fixture(scope="module")
def annealing(algorithm, jit):
    """The config of a method without annealing, its first state, and its step with annealing."""
    config = config_from_dict({"algorithm": algorithm, **TINY, "total_timesteps": 64})
    init, step = make_step(config.replace(anneal_lr=True))
    return config, init(KEY), jit(step)


def test_learning_rates_stay_at_0_past_the_planned_end(annealing):
    _, state, step = annealing
    for iteration in (4, 5, 400):
        after, metrics = step(state._replace(iteration=jnp.array(iteration, jnp.uint32)))
        assert metrics["learning_rate"] == 0
        for a, b in zip(leaves(after.params.value), leaves(state.params.value), strict=True):
            np.testing.assert_array_equal(a, b)


def test_intended_nans_do_not_stop_a_run_that_looks_for_others(jit):
    config = VPGConfig(**{**TINY, "env_params": {"max_steps_in_episode": 12}}, total_timesteps=32)
    with jax.debug_nans(True):
        metrics = jit(make_train(config))(KEY).metrics
    np.testing.assert_array_equal(metrics["num_episodes"], [0, 2])
    np.testing.assert_array_equal(metrics["episode_length"], [0, 12])


def test_episode_metrics_are_nan_until_an_episode_ends(jit):
    config = VPGConfig(**{**TINY, "env_params": {"max_steps_in_episode": 12}}, total_timesteps=48)
    metrics = jit(make_train(config))(KEY).metrics
    np.testing.assert_array_equal(metrics["num_episodes"], [0, 2, 2])
    np.testing.assert_array_equal(metrics["episode_length"], [np.nan, 12, 12])
    np.testing.assert_array_equal(np.isnan(metrics["episode_return"]), [True, False, False])


def test_annealing_reaches_every_optimiser(annealing, jit):
    """Halfway through, an annealed step is a step at half of each learning rate."""
    config, state, step = annealing
    rates = ("learning_rate", "critic_learning_rate")
    halves = {name: getattr(config, name) / 2 for name in rates if hasattr(config, name)}
    state = state._replace(iteration=jnp.array(2, jnp.uint32))
    annealed, _ = step(state)
    halved, _ = jit(make_step(config.replace(**halves))[1])(state)
    for a, b in zip(leaves(annealed.params), leaves(halved.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


OPTIONS = [
    {"clip_value": True, "value_clip_eps": 1e-4},
    {"early_stop_kl": True, "target_kl": 1e-6},
    {"squash_actions": True},
    {"state_dependent_std": True, "log_std_init": -0.5},
    {"shared_torso": True},
    {"normalize_observations": True},
    {"normalize_rewards": True},
    {"advantage_normalization": "batch"},
    {"advantage_normalization": "none"},
    {"activation": "relu"},
    {"value_loss": "huber"},
    {"update_epochs": 3},
    {"num_minibatches": 8},
]
PENDULUM_PPO = PPOConfig(**TINY, total_timesteps=32, learning_rate=0.01)


@pytest.fixture(scope="module")
def plain(jit):
    return jit(make_train(PENDULUM_PPO))(KEY)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_changes_the_outcome(option, plain, jit):
    result = jit(make_train(PENDULUM_PPO.replace(**option)))(KEY)
    assert (result.metrics["value_loss"] != plain.metrics["value_loss"]).any()
    for leaf in leaves(result.state.params):
        assert np.isfinite(leaf).all()


def test_a_zero_learning_rate_leaves_all_but_the_noise_alone(jit):
    config = PENDULUM_PPO.replace(learning_rate=0.0)
    init, step = make_step(config)
    state, step = init(KEY), jit(step)
    after, metrics = step(state)
    for a, b in zip(leaves(state.params), leaves(after.params), strict=True):
        np.testing.assert_array_equal(a, b)
    # The next iteration does the same from the same place, but for its noise.
    _, again = step(state._replace(key=after.key))
    assert again["policy_loss"] != metrics["policy_loss"]


@pytest.fixture(scope="module")
def prepared(jit):
    """A rollout after some training, and the batch that the update would see."""
    config = PENDULUM_PPO.replace(
        normalize_observations=True, normalize_rewards=True, advantage_normalization="none"
    )
    environment, network = make_parts(config)

    @jit
    def prepare(key):
        state = make_train(config)(key).state
        _, transitions, _ = rollout(
            environment,
            lambda o, m: network.policy(state.params, observe(state.normalizer, o), m),
            network.initial_memory(config.num_envs),
            state.rollout,
            key,
            config.num_steps,
        )
        return state, transitions, *make_batch(config, network, state, transitions)

    return config, network, *prepare(KEY)


def flat(x):
    """[T, N, ...] as samples [B, ...]."""
    return np.asarray(x).reshape(-1, *x.shape[2:])


def test_the_batch_sees_what_the_policy_saw(prepared):
    _, network, state, transitions, batch, normalizer = prepared
    policy, _ = network.policy(state.params, batch.observation, ())
    np.testing.assert_allclose(policy.log_prob(batch.action), batch.log_prob, rtol=1e-5, atol=1e-5)
    old, new = (jax.tree.map(np.asarray, n.observation) for n in (state.normalizer, normalizer))
    assert new.num_samples == old.num_samples + 16
    normalised = (flat(transitions.observation) - old.mean) / np.sqrt(old.variance)
    np.testing.assert_allclose(batch.observation, normalised, rtol=1e-3, atol=1e-4)


def test_the_normaliser_is_numpys_over_all_that_was_seen(prepared):
    *_, state, transitions, _, normalizer = prepared
    count, mean = state.normalizer.observation.num_samples, state.normalizer.observation.mean
    samples = np.asarray(transitions.observation).reshape(16, -1)
    expected = (count * mean + samples.sum(0)) / (count + 16)
    np.testing.assert_allclose(normalizer.observation.mean, expected, rtol=1e-4, atol=1e-5)


def test_targets_are_lambda_returns_of_the_scaled_rewards(prepared):
    config, network, state, transitions, batch, normalizer = prepared
    statistics, _ = normalizer.reward
    reward = np.asarray(transitions.reward) / np.sqrt(statistics.variance)
    old = jax.tree.map(np.asarray, state.normalizer.observation)
    after = (np.asarray(transitions.next_observation) - old.mean) / np.sqrt(old.variance)
    next_value = np.asarray(network.value(state.params, after, ()))
    flags = np.asarray(transitions.terminated), np.asarray(transitions.truncated)
    assert flags[1].any()
    expected = reference.gae(
        reward,
        np.asarray(batch.value).reshape(reward.shape),
        next_value,
        *flags,
        config.gamma,
        config.gae_lambda,
    )
    np.testing.assert_allclose(batch.advantage, expected.ravel(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(batch.target, batch.advantage + batch.value, rtol=1e-6)


def test_actions_are_stored_as_sampled(jit):
    """Most of what a wide policy samples is out of bounds: stored as it is, clipped at the door."""
    config = PENDULUM_PPO.replace(env_params={}, log_std_init=2.0)
    environment, network = make_parts(config, env=probes.Echo())

    @jit
    def play(key):
        params = network.init(key)
        start = init_rollout(environment, network, 4, key)
        policy = lambda o, m: network.policy(params, o, m)  # noqa: E731
        return rollout(environment, policy, (), start, key, 16)[1]

    transitions = play(KEY)
    action, seen = np.asarray(transitions.action), np.asarray(transitions.next_observation)
    assert (np.abs(action[..., :2]) > 1).mean() > 0.5
    scaled = action * [2, 5, 1] + [1, 5, 0]
    clipped = np.clip(scaled, probes.Echo.low, probes.Echo.high)
    np.testing.assert_allclose(seen, clipped, rtol=1e-5, atol=1e-5)


def test_a_config_of_many_runs_is_refused():
    with pytest.raises(ValueError, match=r"gamma has shape \[2\].*vmap over the config"):
        make_train(PPOConfig(gamma=jnp.array([0.9, 0.99])))


def test_a_custom_network_takes_the_place_of_the_configs(jit):
    config = VPGConfig(**TINY, total_timesteps=16)
    _, network = make_parts(config)
    calls = []
    spy = network._replace(init=lambda key: calls.append(1) or network.init(key))
    jax.eval_shape(make_train(config, network=spy), KEY)
    assert calls


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("rollout.env_state", {"num_envs": 4}),
        ("normalizer.observation.mean", {"normalize_observations": False}),
        ("normalizer.reward", {"normalize_rewards": True}),
        ("params", {"hidden_sizes": (9,)}),
        ("algorithm", {"algorithm": "ppo"}),
    ],
)
def test_a_state_of_another_config_is_named(name, changes):
    settings = {"algorithm": "vpg", **TINY, "total_timesteps": 32, "normalize_observations": True}
    config, other = config_from_dict(settings), config_from_dict({**settings, **changes})
    state = jax.eval_shape(make_step(config)[0], KEY)
    with pytest.raises(ValueError, match=rf"state is not of this config.*: {name}.* wanted"):
        jax.eval_shape(make_step(other)[1], state)
    if name == "params":
        with pytest.raises(ValueError, match=rf"state is not of this config.*: {name}.* wanted"):
            jax.eval_shape(lambda state: evaluate(other, state, KEY), state)


def test_a_state_of_several_runs_is_not_one(jit):
    config = VPGConfig(**TINY, total_timesteps=16)
    init, step = make_step(config)
    states = jax.eval_shape(jax.vmap(init), jax.random.split(KEY, 3))
    for use in (step, lambda state: evaluate(config, state, KEY)):
        with pytest.raises(ValueError, match=r"state holds several runs, \[3\]: vmap"):
            jax.eval_shape(use, states)
        with pytest.raises(ValueError, match=r"state must be a TrainState.* not a tuple"):
            use((1, 2))
    for name in ("num_episodes", "max_steps"):
        for value in (0, -1, 2.5, "8"):
            with pytest.raises(ValueError, match=name):
                evaluate(config, init(KEY), KEY, **{name: value})


def test_the_size_of_a_state_does_not_depend_on_the_budget():
    states = [
        jax.eval_shape(make_step(PPOConfig(**TINY, total_timesteps=budget))[0], KEY)
        for budget in (16, 16_000_000)
    ]
    assert states[0] == states[1]
