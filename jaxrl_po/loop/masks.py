"""Action masks: told by what an environment shows, carried with it, heeded by the policy."""

from typing import Any

from jaxrl_po.envs import Environment
from jaxrl_po.types import Array, MaskedObservation, Network, PyTree


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

    def policy(params: PyTree, seen: MaskedObservation, memory: PyTree) -> tuple[Any, PyTree]:
        distribution, memory = network.policy(params, seen.observation, memory)
        return distribution.masked(seen.mask), memory

    def value(params: PyTree, seen: MaskedObservation, memory: PyTree) -> Array:
        return network.value(params, seen.observation, memory)

    def policy_and_value(
        params: PyTree, seen: MaskedObservation, memory: PyTree
    ) -> tuple[Any, Array]:
        distribution, value = network.policy_and_value(params, seen.observation, memory)
        return distribution.masked(seen.mask), value

    return network._replace(policy=policy, value=value, policy_and_value=policy_and_value)


def unmasked(observation: PyTree) -> PyTree:
    """What is observed, without what is allowed."""
    return observation.observation if isinstance(observation, MaskedObservation) else observation
