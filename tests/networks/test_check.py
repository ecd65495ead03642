"""A network given by the caller fits, or one error says what does not."""

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxrl_po import (
    NPGConfig,
    PPOConfig,
    TRPOConfig,
    VPGConfig,
    evaluate,
    make_step,
    make_train,
    run,
    sweep,
)
from jaxrl_po.distributions import Categorical, Gaussian
from jaxrl_po.envs import Box, Discrete
from jaxrl_po.networks import make_network, unroll_by_steps
from jaxrl_po.types import Network, Unroll

CONFIG = PPOConfig(num_envs=2, num_steps=4, total_timesteps=8, hidden_sizes=(4,))
GIVEN = make_network(CONFIG, (4,), Discrete(2))
KEY = jax.random.key(0)


class Module(nn.Module):
    """What people have at hand in place of a `Network`."""

    def __call__(self, x):
        return x


def of_policy(change):
    """The network with another policy: params, observation, memory, old outcome -> outcome."""
    policy = lambda *x: change(*x, GIVEN.policy(*x))  # noqa: E731
    return GIVEN._replace(policy=policy)


def with_logits(logits):
    return of_policy(lambda p, o, m, old: (Categorical(logits(old[0].logits)), m))


BAD = {
    "a flax module": (Module(), r"network must be a .*Network.* not a .*Module"),
    "a class": (Network, r"network must be .* not the class .*Network \(an instance is wanted\)"),
    "a function": (make_network, r"network must be .* not a function"),
    "3 logits": (
        with_logits(lambda x: jnp.concatenate([x, x[..., :1]], -1)),
        r"network.policy gives logits \[2, 3\] .* and 2 actions: they must be \[2, 2\]",
    ),
    "too few axes": (with_logits(lambda x: x.sum(-1)), r"network.policy gives logits \[2\]"),
    "no axes": (with_logits(jnp.sum), r"network.policy gives logits \[\]"),
    "distrax": (
        of_policy(lambda p, o, m, old: (distrax.Categorical(old[0].logits), m)),
        r"network.policy must return a distribution .* distrax.* has no fisher_product, kl, noise",
    ),
    "logits alone": (
        of_policy(lambda p, o, m, old: (old[0].logits, m)),
        r"network.policy must return a distribution",
    ),
    "no memory": (
        of_policy(lambda p, o, m, old: old[0]),
        r"network.policy must return a tuple \(distribution, memory\)",
    ),
    "continuous": (
        of_policy(lambda p, o, m, old: (Gaussian(old[0].logits, old[0].logits), m)),
        r"network.policy must give actions of integer type and shape \[2\]",
    ),
    "value of too many axes": (
        GIVEN._replace(value=lambda *x: GIVEN.value(*x)[..., None]),
        r"network.value must return one .* value .*\[2\].* not float32 \[2, 1\]",
    ),
    "value of whole numbers": (
        GIVEN._replace(value=lambda *x: GIVEN.value(*x).astype(int)),
        r"network.value must return one floating-point",
    ),
    "value for one axis only": (
        GIVEN._replace(value=lambda p, o, m: o[:, 0]),
        r"network.value must return one .*\[3, 2\]",
    ),
    "policy_and_value": (
        GIVEN._replace(policy_and_value=lambda *x: GIVEN.policy_and_value(*x)[0]),
        r"network.policy_and_value must return a tuple \(distribution, value\)",
    ),
    "params": (
        GIVEN._replace(init=lambda key: {"policy": {}}),
        r"network.init must return a jaxrl_po.types.Params\(policy=..., value=...\), not a dict",
    ),
    "params of whole numbers": (
        GIVEN._replace(init=lambda key: GIVEN.init(key)._replace(torso=jnp.zeros((), int))),
        r"network.init must return floating-point arrays, not int32 in .torso",
    ),
    "params that are no arrays": (
        GIVEN._replace(init=lambda key: GIVEN.init(key)._replace(torso=3.0)),
        r"network.init must return floating-point arrays, not a float in .torso",
    ),
    "other observations": (
        make_network(CONFIG, (7,), Discrete(2)),
        r"network.policy fails on observations float32\[2, 4\]",
    ),
    "memory": (
        GIVEN._replace(initial_memory=lambda num_envs: jnp.zeros((num_envs, 3))),
        r"network: it has a memory, and no `unroll` to train it through time",
    ),
    "memory of no environment": (
        unroll_by_steps(GIVEN._replace(initial_memory=lambda num_envs: jnp.zeros(3))),
        r"network.initial_memory\(2\) must return arrays \[2, ...\], not one of shape \[3\]",
    ),
    "memory that grows": (
        unroll_by_steps(
            of_policy(lambda p, o, m, old: (old[0], m[..., :2]))._replace(
                initial_memory=lambda num_envs: jnp.zeros((num_envs, 3))
            )
        ),
        r"network.policy must return a memory like .* \(\(2, 3\), 'float32'\) into \(\(2, 2\)",
    ),
    "no record of stretches": (
        GIVEN._replace(unroll=GIVEN.policy),
        r"network.unroll must be a jaxrl_po.types.Unroll\(.*not a function",
    ),
    "stretches without time": (
        GIVEN._replace(
            unroll=Unroll(
                policy=lambda p, o, m, s: GIVEN.policy(p, o[0], m)[0],
                value=lambda p, o, m, s: GIVEN.value(p, o, m),
                policy_and_value=lambda p, o, m, s: GIVEN.policy_and_value(p, o, m),
            )
        ),
        r"network.unroll.policy gives logits \[2, 2\] for \[3, 2\] observations",
    ),
}


@pytest.mark.parametrize(("network", "message"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_named(network, message):
    with pytest.raises(ValueError, match=message):
        make_train(CONFIG, network=network)


@pytest.mark.parametrize("config_class", [VPGConfig, NPGConfig, TRPOConfig])
def test_parts_that_would_never_be_trained_are_refused(config_class):
    shared = make_network(CONFIG.replace(shared_torso=True), (4,), Discrete(2))
    fields = {"num_envs": 2, "num_steps": 4, "total_timesteps": 8, "critic_minibatches": 1}
    with pytest.raises(
        ValueError,
        match=r"network.init gives a torso that policy and value share, .* would not train",
    ):
        make_train(config_class(**fields), network=shared)
    assert make_train(CONFIG, network=shared)


def test_logits_do_not_fit_a_box():
    with pytest.raises(ValueError, match=r"network.policy must give actions of floating type"):
        make_train(
            CONFIG.replace(env_id="Pendulum-v1"), network=make_network(CONFIG, (3,), Discrete(2))
        )


def test_every_door_refuses_memory(tmp_path):
    network = GIVEN._replace(initial_memory=lambda num_envs: jnp.zeros(num_envs))
    state = make_step(CONFIG)[0](KEY)
    for enter in (
        lambda: make_step(CONFIG, network=network),
        lambda: evaluate(CONFIG, state, KEY, network=network),
        lambda: run(CONFIG, directory=tmp_path / "run", network=network, quiet=True),
        lambda: sweep(CONFIG, {"gamma": [0.9, 0.99]}, network=network, num_seeds=1),
    ):
        with pytest.raises(ValueError, match="has a memory, and no `unroll`"):
            enter()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("memory", [(), None, {}, {"rnn": ()}])
def test_a_memory_of_nothing_is_none(memory):
    network = GIVEN._replace(initial_memory=lambda num_envs: memory)
    state = jax.eval_shape(make_train(CONFIG, network=network), KEY).state
    assert state.rollout.memory == memory


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Catch-bsuite"])
def test_the_librarys_own_networks_fit(env_id):
    shape, space = {
        "CartPole-v1": ((4,), Discrete(2)),
        "Pendulum-v1": ((3,), Box([-2.0], [2.0])),
        "Catch-bsuite": ((10, 5), Discrete(3)),
    }[env_id]
    for changes in ({}, {"shared_torso": True}, {"normalize_observations": True}):
        config = CONFIG.replace(env_id=env_id, **changes)
        network = make_network(config, shape, space)
        state = jax.eval_shape(make_train(config, network=network), KEY).state
        assert state.params == jax.eval_shape(network.init, KEY)
