"""What a network given by the caller must be, checked by shapes alone before anything runs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.config.messages import described
from jaxrl_po.envs import Environment
from jaxrl_po.envs.environment import forms
from jaxrl_po.types import Array, Distribution, Network, Params, Unroll

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
        _check_memory(memory)
        if jax.tree.leaves(memory) and network.unroll is None:
            raise ValueError(
                "network: it has a memory, and no `unroll` to train it through time: give "
                "unroll=jaxrl_po.types.Unroll(policy, value, policy_and_value), of stretches; "
                "`jaxrl_po.networks.unroll_by_steps(network)` makes one of a network's steps"
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
            remembered = jax.tree.map(
                lambda m, batch=batch: jnp.zeros((*batch, *m.shape[1:]), m.dtype), memory
            )
            given = params, rows, remembered
            distribution, after = _pair("policy", network.policy, "(distribution, memory)", *given)
            _check_kept(remembered, after)
            _check_distribution("policy", distribution, environment, batch)
            _check_value("value", _call("value", network.value, *given), batch)
            distribution, value = _pair(
                "policy_and_value", network.policy_and_value, "(distribution, value)", *given
            )
            _check_distribution("policy_and_value", distribution, environment, batch)
            _check_value("policy_and_value", value, batch)

        if network.unroll is not None:
            starts = jnp.zeros((NUM_STEPS, NUM_ENVS), bool)
            _check_unroll(network.unroll, environment, (params, rows, memory, starts))

    jax.eval_shape(trace, jax.random.key(0))


def _check_unroll(unroll: Any, environment: Environment, stretch: tuple[Any, ...]) -> None:
    """What a stretch gives is what its steps give."""
    if not isinstance(unroll, Unroll):
        raise ValueError(
            "network.unroll must be a jaxrl_po.types.Unroll(policy, value, policy_and_value), not "
            f"{described(unroll)}"
        )
    batch, both = (NUM_STEPS, NUM_ENVS), "(distribution, value)"
    distribution = _call("unroll.policy", unroll.policy, *stretch)
    value = _call("unroll.value", unroll.value, *stretch)
    _check_distribution("unroll.policy", distribution, environment, batch)
    _check_value("unroll.value", value, batch)
    distribution, value = _pair("unroll.policy_and_value", unroll.policy_and_value, both, *stretch)
    _check_distribution("unroll.policy_and_value", distribution, environment, batch)
    _check_value("unroll.policy_and_value", value, batch)


def _check_memory(memory: Any) -> None:
    """Arrays whose first axis is that of environments."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(memory)[0]:
        shape = jnp.shape(leaf)
        if not shape or shape[0] != NUM_ENVS:
            raise ValueError(
                f"network.initial_memory({NUM_ENVS}) must return arrays [{NUM_ENVS}, ...], not one "
                f"of shape {list(shape)}{jax.tree_util.keystr(path)}"
            )


def _check_kept(memory: Any, after: Any) -> None:
    """A step keeps the memory's structure, shapes and dtypes."""
    old, new = (jax.tree.map(lambda x: (x.shape, x.dtype.name), tree) for tree in (memory, after))
    if old != new:
        raise ValueError(
            f"network.policy must return a memory like the one that it was given: it turns {old} "
            f"into {new}"
        )


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
