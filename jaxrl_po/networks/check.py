"""What a network given by the caller must be, checked by shapes alone before anything runs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.config.messages import described
from jaxrl_po.envs import Environment
from jaxrl_po.envs.environment import forms
from jaxrl_po.types import Array, Distribution, Network, Params

METHODS = sorted(name for name in vars(Distribution) if not name.startswith("_"))
NUM_STEPS, NUM_ENVS = 3, 2  # any two numbers that differ


def check_network(
    network: Any, environment: Environment, observation: Any, is_separate: bool
) -> None:
    """Raise unless a network fits an environment.

    Args:
        network: what stands in a `Network`'s place.
        environment: whose actions it is to take.
        observation: shapes and dtypes of one observation, as the network sees it.
        is_separate: whether policy and value are trained apart, and no torso of both.

    Raises:
        ValueError: naming the function of the network, what it returns and what is wanted.
    """
    if not isinstance(network, Network):
        raise ValueError(
            "network must be a `jaxrl_po.types.Network` of pure functions, not "
            f"{described(network)}; `jaxrl_po.networks.make_network` shows how flax modules "
            "become one"
        )

    def trace(key: Array) -> None:
        memory = _call("initial_memory", network.initial_memory, NUM_ENVS)
        if jax.tree.leaves(memory):
            raise ValueError(
                "network: policies with memory are not trained yet, for minibatches shuffle "
                f"single steps: initial_memory must return an empty pytree such as (), not {memory}"
            )
        params = _call("init", network.init, key)
        if not isinstance(params, Params):
            raise ValueError(
                "network.init must return a jaxrl_po.types.Params(policy=..., value=...), "
                f"not {described(params)}"
            )
        _check_params(params, is_separate)
        for batch in [(NUM_ENVS,), (NUM_STEPS, NUM_ENVS)]:
            rows = jax.tree.map(
                lambda x, batch=batch: jnp.zeros((*batch, *x.shape), x.dtype), observation
            )
            given = params, rows, memory
            distribution, _ = _pair("policy", network.policy, "(distribution, memory)", *given)
            _check_distribution("policy", distribution, environment, batch)
            _check_value("value", _call("value", network.value, *given), batch)
            distribution, value = _pair(
                "policy_and_value", network.policy_and_value, "(distribution, value)", *given
            )
            _check_distribution("policy_and_value", distribution, environment, batch)
            _check_value("policy_and_value", value, batch)

    jax.eval_shape(trace, jax.random.key(0))


def _call(name: str, function: Callable[..., Any], *given: Any) -> Any:
    try:
        return function(*given)
    except Exception as error:
        on = f" on observations {forms(given[1])}" if len(given) > 1 else ""
        raise ValueError(f"network.{name} fails{on}: {type(error).__name__}: {error}") from error


def _pair(name: str, function: Callable[..., Any], wanted: str, *given: Any) -> Any:
    result = _call(name, function, *given)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ValueError(f"network.{name} must return a tuple {wanted}, not {described(result)}")
    return result


def _check_params(params: Params, is_separate: bool) -> None:
    """Parameters that gradients exist for, each in a part that the algorithm trains."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                "network.init must return floating-point arrays, "
                f"not {dtype or described(leaf)} in {jax.tree_util.keystr(path)}"
            )
    if is_separate and jax.tree.leaves(params.torso):
        raise ValueError(
            "network.init gives a torso that policy and value share, which an algorithm that fits "
            "its critic apart from the policy would not train (ppo and ppo_penalty do)"
        )


def _check_value(name: str, value: Any, batch: tuple[int, ...]) -> None:
    shape, dtype = jnp.shape(value), getattr(value, "dtype", None)
    if shape != batch or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"network.{name} must return one floating-point value an observation, {list(batch)} "
            f"of {list(batch)} observations, not {dtype or described(value)} {list(shape)}"
        )


def _check_distribution(
    name: str, distribution: Any, environment: Environment, batch: tuple[int, ...]
) -> None:
    """A distribution of the library's kind, over the actions that the environment takes."""
    missing = [method for method in METHODS if not hasattr(distribution, method)]
    if missing:
        raise ValueError(
            f"network.{name} must return a distribution like those of `jaxrl_po.distributions`; "
            f"{described(distribution)} has no {', '.join(missing)}"
        )
    if environment.action_mask is not None and not hasattr(distribution, "masked"):
        raise ValueError(
            f"network.{name}: the environment has an action_mask, and {described(distribution)} "
            "has no `masked`, as those of `jaxrl_po.distributions` have"
        )
    space = environment.action_space
    if not space.continuous:
        _check_logits(name, distribution, environment, batch)

    def numbers() -> tuple[Array, dict[str, Array]]:
        action = distribution.sample(distribution.noise(jax.random.key(0)))
        return distribution.to_env(action), {
            "log_prob": distribution.log_prob(action),
            "entropy": distribution.entropy(),
            "kl": distribution.kl(distribution),
        }

    taken, of_each = _call(f"{name}'s distribution", numbers)
    wanted = (*batch, *space.sample_shape)
    kind: Any = jnp.floating if space.continuous else jnp.integer
    if taken.shape != wanted or not jnp.issubdtype(taken.dtype, kind):
        raise ValueError(
            f"network.{name} must give actions of {kind.__name__} type and shape {list(wanted)} "
            f"for {list(batch)} observations and {space}, not {taken.dtype} {list(taken.shape)}"
        )
    for method, number in of_each.items():
        if number.shape != batch:
            raise ValueError(
                f"network.{name}: the distribution's {method} must have shape {list(batch)}, "
                f"one number an observation, not {list(number.shape)}"
            )


def _check_logits(
    name: str, distribution: Any, environment: Environment, batch: tuple[int, ...]
) -> None:
    """Of the space's own kind of distribution: as many logits as actions, cut as they are."""
    space = environment.action_space
    own: Any = space.distribution(jnp.zeros((*batch, space.num_outputs)))
    if type(distribution) is not type(own):
        return
    if distribution.logits.shape != own.logits.shape:
        raise ValueError(
            f"network.{name} gives logits {list(distribution.logits.shape)} for {list(batch)} "
            f"observations and {space.num_outputs} actions: they must be {list(own.logits.shape)}"
        )
    cuts = [getattr(each, "nvec", None) for each in (distribution, own)]
    if cuts[0] != cuts[1]:
        raise ValueError(f"network.{name} gives logits of the choices {cuts[0]}, not {cuts[1]}")
