"""Action masks: told by what an environment shows, carried with it, heeded by the policy."""

from collections.abc import Callable
from typing import Any

from jaxrl_po.envs import Environment
from jaxrl_po.types import Array, MaskedObservation, Network, PyTree, Unroll


def show_mask(env: Environment) -> Environment:
    """The environment with what is allowed beside what is observed; itself without a mask.

    From here on the two are one record: the rollout stores them together, and whatever becomes of
    the observation (it may be normalised), the mask is what the environment's own numbers said.
    """
    action_mask = env.action_mask
    if action_mask is None:
        return env

    def reset(key: Array, params: PyTree) -> tuple[MaskedObservation, PyTree]:
        observation, state = env.reset(key, params)
        return MaskedObservation(observation, action_mask(observation)), state

    def step(key: Array, state: PyTree, action: Array, params: PyTree) -> Any:
        observation, *rest = env.step(key, state, action, params)
        return MaskedObservation(observation, action_mask(observation)), *rest

    return env._replace(reset=reset, step=step)


def heed_mask(network: Network) -> Network:
    """The network on a `MaskedObservation`: its policy takes allowed actions only."""
    unroll = network.unroll

    def policy(params: PyTree, seen: MaskedObservation, memory: PyTree) -> tuple[Any, PyTree]:
        distribution, memory = network.policy(params, seen.observation, memory)
        return distribution.masked(seen.mask), memory

    return network._replace(
        policy=policy,
        value=_unseeing(network.value),
        policy_and_value=_heeding(network.policy_and_value),
        unroll=unroll
        and Unroll(
            policy=lambda params, seen, *more: unroll.policy(
                params, seen.observation, *more
            ).masked(seen.mask),
            value=_unseeing(unroll.value),
            policy_and_value=_heeding(unroll.policy_and_value),
        ),
    )


def _unseeing(value: Callable[..., Array]) -> Callable[..., Array]:
    """Values, which no mask changes."""
    return lambda params, seen, *more: value(params, seen.observation, *more)


def _heeding(
    policy_and_value: Callable[..., tuple[Any, Any]],
) -> Callable[..., tuple[Any, Any]]:
    """Values, and distributions over allowed actions only."""

    def heeding(params: PyTree, seen: MaskedObservation, *more: Any) -> tuple[Any, Any]:
        distribution, value = policy_and_value(params, seen.observation, *more)
        return distribution.masked(seen.mask), value

    return heeding


def unmasked(observation: PyTree) -> PyTree:
    """What is observed, without what is allowed."""
    return observation.observation if isinstance(observation, MaskedObservation) else observation
