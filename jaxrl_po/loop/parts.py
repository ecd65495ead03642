"""What a loop is made of: config, environment and network, checked to fit each other."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_po.algorithms import check_class, config_from_dict
from jaxrl_po.algorithms.critic import CriticConfig
from jaxrl_po.algorithms.minibatch import check_minibatches
from jaxrl_po.config import MEMORY_KINDS, Config
from jaxrl_po.config.messages import described
from jaxrl_po.envs import Environment, check_environment, make_environment
from jaxrl_po.envs.environment import forms
from jaxrl_po.loop.masks import heed_mask, show_mask
from jaxrl_po.loop.normalizer import init_normalizer, observe
from jaxrl_po.networks import check_network, make_network
from jaxrl_po.types import AlgorithmFactory, Array, Network, Optimizer, PyTree, TrainState


class Given(NamedTuple):
    """Parts handed in as objects, each in place of what the config describes."""

    env: Any = None
    network: Network | None = None
    algorithm: AlgorithmFactory | None = None
    optimizer: Optimizer | None = None

    @property
    def names(self) -> list[str]:
        """Of those that are given."""
        return [name for name, part in self._asdict().items() if part is not None]


def as_config(config: Config | Mapping[str, Any]) -> Config:
    """The config itself, or the one that a dict describes."""
    if not isinstance(config, Config | Mapping):
        raise ValueError(
            'config must be a config such as PPOConfig(...), or a dict with "algorithm" and any '
            f"of its fields, not {described(config)}"
        )
    if isinstance(config, Mapping):
        return config_from_dict(config)
    check_class(type(config))
    return config


def make_parts(
    config: Config, env: Any = None, network: Network | None = None
) -> tuple[Environment, Network]:
    """Environment and network of a config, or those given in their place, checked to fit.

    With an `action_mask` both speak of `MaskedObservation`s.
    """
    environment = as_environment(config, env)
    if network is None:
        network = make_network(config, environment.observation, environment.action_space)
    else:
        is_separate = isinstance(config, CriticConfig)
        check_network(network, environment, _observation(config, environment), is_separate)
    check_memory(config, network)
    if environment.action_mask is not None:
        network = heed_mask(network)
    return show_mask(environment), network


def as_environment(config: Config, env: Any = None) -> Environment:
    """The environment of a config, or the one given in its place, checked."""
    for name, leaf in _named_leaves(config):
        if jnp.ndim(leaf):
            raise ValueError(
                f"{name} has shape {list(jnp.shape(leaf))}: a run takes one value; "
                "to run several, vmap over the config"
            )
    if isinstance(env, Environment):
        if config.env_params:
            raise ValueError("env_params: an `Environment` object brings parameters of its own")
        check_environment(env)
        environment = env
    else:
        environment = make_environment(config.env_id if env is None else env, config.env_params)
    leaves = jax.tree.leaves(environment.observation)
    floating = any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    if config.normalize_observations and not floating:
        raise ValueError(
            "normalize_observations=True has nothing to act on: it leaves integers and truth "
            f"values as they are, and observations are {forms(environment.observation)}"
        )
    if not environment.action_space.continuous:
        for name in ("squash_actions", "state_dependent_std"):
            if getattr(config, name):
                raise ValueError(f"{name}=True needs continuous actions; these are discrete")
        if not isinstance(config.log_std_init, jax.core.Tracer) and config.log_std_init != 0:
            raise ValueError(
                f"log_std_init={config.log_std_init} needs continuous actions; these are discrete"
            )
    return environment


def check_memory(config: Config, network: Network) -> None:
    """Raise unless the config cuts rollouts into stretches for a network that remembers alone."""
    if network.unroll is None:
        config.check_effect("sequence_length", False, f"a network with memory, {MEMORY_KINDS}")
        return
    for field in ("num_minibatches", "critic_minibatches"):
        if hasattr(config, field):
            check_minibatches(config, field, remembers=True)


def check_state(state: Any) -> None:
    """Raise unless this is the state of one run."""
    if not isinstance(state, TrainState):
        raise ValueError(
            f"state must be a TrainState, such as the `state` of a result, not {described(state)}"
        )
    if jnp.ndim(state.iteration):
        raise ValueError(
            f"state holds several runs, {list(jnp.shape(state.iteration))}: vmap over it and its "
            "keys, as in jax.vmap(lambda state, key: evaluate(config, state, key))(states, keys)"
        )


def check_fit(name: str, tree: PyTree, wanted: PyTree) -> None:
    """Raise unless a state, or its part of a name, has the arrays that a config gives it."""

    def shapes(tree: PyTree) -> dict[str, list[int]]:
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
        keys = [(f"{name}{jax.tree_util.keystr(path)}".lstrip("."), leaf) for path, leaf in leaves]
        return {key: list(jnp.shape(leaf)) for key, leaf in keys}

    found, right = shapes(tree), shapes(wanted)
    for key in right | found:
        if found.get(key) != right.get(key):
            raise ValueError(
                f"state is not of this config, env and network: {key} is "
                f"{found.get(key, 'not there')}; wanted is {right.get(key, 'none')}"
            )


def _observation(config: Config, environment: Environment) -> Any:
    """Shape and dtype of one observation as a network sees it."""

    def first(key: Array) -> PyTree:
        observation, _ = environment.reset(key, environment.params)
        return observe(init_normalizer(config, environment), observation)

    return jax.eval_shape(first, jax.random.key(0))


def _named_leaves(config: Config) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(config)
    return [(jax.tree_util.keystr(path).lstrip("."), leaf) for path, leaf in leaves]
