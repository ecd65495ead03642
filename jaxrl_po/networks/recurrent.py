"""Actor-critics that remember: torso, memory, head. Policy and critic each have all, or share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl_po.networks.layers import Pieces
from jaxrl_po.networks.memory import Memory
from jaxrl_po.types import Array, Network, Params, PyTree, Unroll


class Body(NamedTuple):
    """All of a network before its head."""

    init: Callable[[Array], tuple[PyTree, Array]]  # key -> params, features of one observation
    initial: Callable[[int], PyTree]
    # params, observation [*batch, ...], state [*batch, H] -> features [*batch, H], next state
    step: Callable[[PyTree, PyTree, PyTree], tuple[Array, PyTree]]
    # params, observation [L, n, ...], state [n, H], starts [L, n] -> features [L, n, H]
    unroll: Callable[[PyTree, PyTree, PyTree, Array], Array]


class Head(NamedTuple):
    """What a network says of features."""

    init: Callable[[Array, Array], PyTree]
    apply: Callable[[PyTree, Array], Any]  # params, features [*batch, H] -> output [*batch]


def remembering(pieces: Pieces, memory: Memory) -> Network:
    """A network with a memory behind its torso."""
    body = _make_body(pieces, memory)
    network = _together if pieces.shared else _apart
    return network(body, _make_head(pieces.policy_head), _make_head(pieces.value_head))


def _make_body(pieces: Pieces, memory: Memory) -> Body:
    torso, fold, example = pieces.torso, pieces.fold, pieces.example

    def init(key: Array) -> tuple[PyTree, Array]:
        torso_key, memory_key = jax.random.split(key)
        params = torso.init(torso_key, example)
        features: Any = torso.apply(params, example)
        memory_params = memory.init(memory_key, features.shape[-1])
        outputs, _ = memory.step(memory_params, features, memory.initial(1))
        return {"torso": params, "memory": memory_params}, outputs

    def step(params: PyTree, observation: PyTree, state: PyTree) -> tuple[Array, PyTree]:
        rows, unfold = fold(observation)
        features: Any = torso.apply(params["torso"], rows)
        state = jax.tree.map(lambda x: x.reshape(features.shape[0], -1), state)
        both: tuple[Array, PyTree] = unfold(memory.step(params["memory"], features, state))
        return both

    def unroll(params: PyTree, observation: PyTree, state: PyTree, starts: Array) -> Array:
        rows, unfold = fold(observation)
        features: Array = unfold(torso.apply(params["torso"], rows))
        return memory.unroll(params["memory"], features, state, starts)

    return Body(init, memory.initial, step, unroll)


def _make_head(module: nn.Module) -> Head:
    def apply(params: PyTree, features: Array) -> Any:
        batch = features.shape[:-1]
        output = module.apply(params, features.reshape(-1, features.shape[-1]))
        return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), output)

    return Head(module.init, apply)


def _together(body: Body, policy_head: Head, value_head: Head) -> Network:
    """One body with two heads, and one memory."""

    def init(key: Array) -> Params:
        body_key, policy_key, value_key = jax.random.split(key, 3)
        params, features = body.init(body_key)
        return Params(
            policy=policy_head.init(policy_key, features),
            torso=params,
            value=value_head.init(value_key, features),
        )

    def heads(params: Params, features: Array) -> tuple[Any, Array]:
        distribution = policy_head.apply(params.policy, features)
        return distribution, value_head.apply(params.value, features)

    def policy(params: Params, observation: PyTree, state: PyTree) -> tuple[Any, PyTree]:
        features, state = body.step(params.torso, observation, state)
        return policy_head.apply(params.policy, features), state

    def policy_and_value(params: Params, observation: PyTree, state: PyTree) -> tuple[Any, Array]:
        return heads(params, body.step(params.torso, observation, state)[0])

    def unrolled(params: Params, *stretch: Any) -> tuple[Any, Array]:
        return heads(params, body.unroll(params.torso, *stretch))

    return Network(
        init,
        policy,
        value=lambda *given: policy_and_value(*given)[1],
        policy_and_value=policy_and_value,
        initial_memory=body.initial,
        unroll=Unroll(
            policy=lambda *given: unrolled(*given)[0],
            value=lambda *given: unrolled(*given)[1],
            policy_and_value=unrolled,
        ),
    )


def _apart(body: Body, policy_head: Head, value_head: Head) -> Network:
    """Two bodies, and a memory for each: (the policy's, the critic's).

    A step of the policy takes both on, for the critic sees what the policy sees.
    """

    def init(key: Array) -> Params:
        def branch(key: Array, head: Head) -> PyTree:
            body_key, head_key = jax.random.split(key)
            params, features = body.init(body_key)
            return {**params, "head": head.init(head_key, features)}

        policy_key, value_key = jax.random.split(key)
        return Params(branch(policy_key, policy_head), (), branch(value_key, value_head))

    def policy(params: Params, observation: PyTree, states: PyTree) -> tuple[Any, PyTree]:
        features, own = body.step(params.policy, observation, states[0])
        _, critics = body.step(params.value, observation, states[1])
        return policy_head.apply(params.policy["head"], features), (own, critics)

    def value(params: Params, observation: PyTree, states: PyTree) -> Array:
        features, _ = body.step(params.value, observation, states[1])
        values: Array = value_head.apply(params.value["head"], features)
        return values

    def unrolled_policy(params: Params, observation: PyTree, states: PyTree, starts: Array) -> Any:
        features = body.unroll(params.policy, observation, states[0], starts)
        return policy_head.apply(params.policy["head"], features)

    def unrolled_value(params: Params, observation: PyTree, states: PyTree, starts: Array) -> Array:
        features = body.unroll(params.value, observation, states[1], starts)
        values: Array = value_head.apply(params.value["head"], features)
        return values

    return Network(
        init,
        policy,
        value,
        policy_and_value=lambda *given: (policy(*given)[0], value(*given)),
        initial_memory=lambda num_envs: (body.initial(num_envs), body.initial(num_envs)),
        unroll=Unroll(
            unrolled_policy,
            unrolled_value,
            policy_and_value=lambda *given: (unrolled_policy(*given), unrolled_value(*given)),
        ),
    )


def unroll_by_steps(network: Network) -> Network:
    """A network of one's own that remembers, with an `unroll` that goes through it step by step."""

    def through(
        step: Callable[[Params, PyTree, PyTree], Any],
    ) -> Callable[[Params, PyTree, PyTree, Array], Any]:
        def unroll(params: Params, observation: PyTree, memory: PyTree, starts: Array) -> Any:
            initial = network.initial_memory(starts.shape[1])

            def one(memory: PyTree, inputs: tuple[PyTree, Array]) -> tuple[PyTree, Any]:
                observed, start = inputs
                memory = jax.tree.map(
                    lambda m, fresh: jnp.where(start.reshape(-1, *[1] * (m.ndim - 1)), fresh, m),
                    memory,
                    initial,
                )
                following = network.policy(params, observed, memory)[1]
                return following, step(params, observed, memory)

            return jax.lax.scan(one, memory, (observation, starts))[1]

        return unroll

    return network._replace(
        unroll=Unroll(
            policy=through(lambda *given: network.policy(*given)[0]),
            value=through(network.value),
            policy_and_value=through(network.policy_and_value),
        )
    )
