"""An update and an optimiser handed in as arguments, through every door of the library."""

import functools
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from examples.espo import ESPOConfig
from jaxrl_po import PPOConfig, TRPOConfig, config_from_dict, make_train, resume, run, sweep
from jaxrl_po.algorithms import installed_methods
from jaxrl_po.algorithms.ppo import ppo
from jaxrl_po.algorithms.trpo import trpo
from jaxrl_po.host.runs.run import load_state
from jaxrl_po.loop.learn import make_learn
from jaxrl_po.types import Algorithm
from tests.host.small import RUN, random_walk, same

SIZE = {"num_envs": 4, "num_steps": 16, "hidden_sizes": (4,), "total_timesteps": 2 * 64}
PPO = PPOConfig(num_minibatches=2, update_epochs=1, **SIZE)
ENV = random_walk()
KEY = jax.random.key(0)


def flat(params):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


def final(jit, config=PPO, **given):
    return jit(make_train(config, ENV, **given))(KEY)


def adam(learning_rate):
    return optax.adam(learning_rate, eps=1e-5)


def test_adam_given_is_the_librarys_own(jit):
    own, given = final(jit), final(jit, optimizer=adam)
    np.testing.assert_allclose(flat(given.state.params), flat(own.state.params), rtol=1e-5)
    np.testing.assert_array_equal(given.metrics["learning_rate"], own.metrics["learning_rate"])


def test_a_transformation_takes_the_steps(jit):
    """Steps of size 0 leave alone what minibatches train, and no rate is told that is not known."""
    config = TRPOConfig(critic_epochs=1, **SIZE)
    start, still = (final(jit, config, optimizer=optax.sgd(rate)) for rate in (1.0, 0.0))
    assert "learning_rate" not in start.metrics
    value = [flat(result.state.params.value) for result in (start, still)]
    assert (value[0] != value[1]).any()
    begun = jit(make_train(config.replace(total_timesteps=64), ENV, optimizer=optax.sgd(0.0)))(KEY)
    np.testing.assert_array_equal(flat(begun.state.params.value), value[1])


def test_the_gradient_of_an_optimizer_is_bounded(jit):
    """By `max_grad_norm`, whose bound is the length of the one step of gradient descent."""
    config = PPO.replace(num_minibatches=1, total_timesteps=64)
    ends = [
        flat(final(jit, config.replace(max_grad_norm=1e-3), optimizer=optax.sgd(rate)).state.params)
        for rate in (0.0, 1.0)
    ]
    np.testing.assert_allclose(np.linalg.norm(ends[1] - ends[0]), 1e-3, rtol=1e-3)


def test_the_rate_of_an_optimizer_is_data(jit):
    def end(rate):
        config = PPO.replace(learning_rate=rate)
        return make_train(config, ENV, optimizer=optax.sgd)(KEY).state.params

    many = jit(jax.vmap(end))(jnp.array([0.0, 0.1]))
    assert any((x[0] != x[1]).any() for x in jax.tree.leaves(many))


def test_an_algorithm_given_is_that_of_its_config(jit):
    """NPG's update on TRPO's config differs from TRPO's own; TRPO's given is the same."""
    config = TRPOConfig(critic_epochs=1, cg_iters=2, max_kl=1.0, **SIZE)
    own, given = final(jit, config), final(jit, config, algorithm=trpo)
    assert same(own.state, given.state)

    def other(config, network):
        update = trpo(config, network)
        return Algorithm(
            update.init, lambda key, params, *more: (params, *update.update(key, params, *more)[1:])
        )

    still = final(jit, config, algorithm=other)
    begun = final(jit, config.replace(total_timesteps=64), algorithm=other)
    assert same(still.state.params, begun.state.params)


def test_a_penalty_of_ones_own(jit):
    def penalty(distribution, minibatch):
        return 10.0 * minibatch.distribution.kl(distribution)

    config = PPO.replace(learning_rate=0.05)
    free, held = (
        final(jit, config),
        final(jit, config, algorithm=functools.partial(ppo, penalty=penalty)),
    )
    assert held.metrics["kl"].sum() < free.metrics["kl"].sum()


def test_learning_alone_takes_them_too(jit):
    from jaxrl_po.loop.collect import make_collector
    from jaxrl_po.loop.parts import make_parts
    from jaxrl_po.loop.train import make_step

    given = {"algorithm": ppo, "optimizer": optax.sgd}
    init, step = make_step(PPO, ENV, **given)
    collector = make_collector(PPO, *make_parts(PPO, ENV))

    def both(key):
        state = init(key)
        rollout, transitions, _ = collector.collect(state, jax.random.split(state.key, 3)[1])
        return step(state)[0], make_learn(PPO, ENV, **given)(
            state._replace(rollout=rollout), transitions
        )[0]

    one, other = jit(both)(KEY)
    assert same(one.params, other.params)


def test_a_run_and_its_resumption_take_them(tmp_path):
    given = {"algorithm": ppo, "optimizer": optax.lion, "env": ENV}
    whole = run(PPO, segment_length=1, **given, **RUN)
    run(PPO, segment_length=1, directory=tmp_path, until=1, **given, **RUN)
    with pytest.raises(ValueError, match=r"env and algorithm and optimizer given.*now: env$"):
        resume(tmp_path, env=ENV, quiet=True)
    assert same(resume(tmp_path, quiet=True, **given).state, whole.state)
    config, state = load_state(tmp_path, **given)
    assert (config, same(state, whole.state)) == (PPO, True)
    with pytest.raises(ValueError, match="does not fit"):
        load_state(tmp_path, **{**given, "optimizer": adam})


def test_a_sweep_takes_them(tmp_path):
    space = {"learning_rate": [0.0, 1e-3]}
    settings = {"num_seeds": 1, "env": ENV, "quiet": True, "keep_policies": True}
    sweep(PPO, space, directory=tmp_path, optimizer=optax.lion, **settings)
    for other in (optax.sgd, None):
        with pytest.raises(ValueError, match="its optimizer is"):
            sweep(PPO, space, directory=tmp_path, optimizer=other, **settings)


def test_methods_of_installed_packages_are_known_by_name(monkeypatch):
    point = importlib.metadata.EntryPoint("espo", "examples.espo:ESPOConfig", "jaxrl_po.algorithms")
    shadow = importlib.metadata.EntryPoint("ppo", "nowhere:Config", "jaxrl_po.algorithms")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: (point, shadow))
    installed_methods.cache_clear()
    try:
        assert type(config_from_dict({"algorithm": "espo"})) is ESPOConfig
        assert type(config_from_dict({"algorithm": "ppo"})) is PPOConfig
        with pytest.raises(ValueError, match=r"did you mean 'espo'\?"):
            config_from_dict({"algorithm": "espoo"})
    finally:
        installed_methods.cache_clear()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"algorithm": "trpo"}, "algorithm must be a function .*not a str"),
        ({"algorithm": TRPOConfig}, "not the class .*TRPOConfig"),
        ({"algorithm": lambda config: None}, r"algorithm must take \(config, network\)"),
        (
            {"algorithm": lambda config, network: None, "optimizer": optax.sgd},
            r"algorithm must take \(config, network, optimizer\)",
        ),
        ({"algorithm": lambda config, network: None}, "algorithm must return .* not a NoneType"),
        ({"optimizer": 1e-3}, "optimizer must be an optax.GradientTransformation.*not a float"),
        ({"optimizer": lambda rate: rate}, "optimizer must return an optax.*not return a float"),
        ({"optimizer": lambda: None}, "optimizer must take a learning rate alone"),
        ({"optimizer": optax.sgd(0.1), "learning_rate": 0.1}, "learning_rate=0.1 has no effect"),
        ({"optimizer": optax.sgd(0.1), "anneal_lr": True}, "anneal_lr=True has no effect"),
    ],
)
def test_what_cannot_be_used_is_named(given, message):
    parts = {name: given[name] for name in ("algorithm", "optimizer") if name in given}
    fields = {name: value for name, value in given.items() if name not in parts}
    config = PPOConfig(**SIZE, **fields)
    for door in (make_train, make_learn, functools.partial(run, **RUN)):
        with pytest.raises(ValueError, match=message):
            door(config, env=ENV, **parts)
