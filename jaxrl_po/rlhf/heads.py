"""A language model as actor-critic: the `Network` that every update of the library acts on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.distributions import Categorical
from jaxrl_po.rlhf.chunked import ChunkedCategorical
from jaxrl_po.rlhf.chunks import in_chunks, rows_that_fit
from jaxrl_po.rlhf.generation import next_token, response_features
from jaxrl_po.rlhf.types import LanguageModel, Tokens
from jaxrl_po.types import Array, Network, Params, PyTree


def init_head(key: Array, num_features: int) -> PyTree:
    """A scalar head with weights ~ N(0, 1/(D + 1)) (as in "Learning to summarize", 2020)."""
    kernel = jax.random.normal(key, (num_features,)) / (num_features + 1) ** 0.5
    return {"kernel": kernel, "bias": jnp.zeros(())}


def zero_head(num_features: int) -> PyTree:
    """A scalar head that says 0 of everything."""
    return {"kernel": jnp.zeros(num_features), "bias": jnp.zeros(())}


def apply_head(head: PyTree, features: Array) -> Array:
    """Scalars [...] of features [..., D]."""
    scalars: Array = features @ head["kernel"] + head["bias"]
    return scalars


def init_actor_critic(
    model: LanguageModel, params: PyTree, shared_torso: bool, critic: PyTree = None
) -> Params:
    """Policy and value, both begun from a fine-tuned model; the value head begins at 0.

    Where they share no torso, the value may begin as another `critic`, {"torso", "head"}.
    """
    head = zero_head(model.num_features)
    if shared_torso:
        return Params(policy=(), torso=params, value=head)
    return Params(
        policy=params, value={"torso": params, "head": head} if critic is None else critic
    )


def init_actor(params: PyTree) -> Params:
    """A policy without a critic, begun from a fine-tuned model."""
    return Params(policy=params)


def policy_params(params: Params) -> PyTree:
    """The language model in an actor-critic's parameters."""
    return params.torso if _is_shared(params) else params.policy


def critic_params(params: Params) -> tuple[PyTree, PyTree]:
    """The torso and the head of the values in an actor-critic's parameters."""
    if _is_shared(params):
        return params.torso, params.value
    return params.value["torso"], params.value["head"]


def _is_shared(params: Params) -> bool:
    return bool(jax.tree.leaves(params.torso))


def token_network(
    model: LanguageModel,
    num_steps: int,
    temperature: float | Array,
    *,
    micro_batch_size: int = 0,
    chunked: bool = False,
) -> Network:
    """The actor-critic of responses: an observation is all of a sequence's tokens but the last.

    In the token MDP s_t is the prompt and t response tokens, and a_t the next one. One causal pass
    sees all T states of a sequence, so a sequence is one sample: `policy` maps `Tokens`
    [..., P + T - 1] to π(·|s_t) [..., T] and `value` to V(s_t) [..., T]. Of `init_actor`'s
    parameters there is no value to ask for, and None beside the policy.

    With `micro_batch_size` so many sequences pass through the model at a time, and again in the
    backward pass, where their gradients add up. With `chunked`, for losses that ask for
    log-probabilities and entropies alone, a policy beside a value whose logits are more than a
    chunk is a `ChunkedCategorical`.
    """

    def features(params: PyTree, observation: Tokens) -> Array:
        def some(rows: Tokens) -> Array:
            return response_features(model, params, rows, num_steps)

        if not micro_batch_size:
            return some(observation)
        found: Array = in_chunks(jax.checkpoint(some), observation, micro_batch_size)
        return found

    def distribution_of(params: PyTree, hidden: Array) -> Categorical | ChunkedCategorical:
        return in_chunks_if_large(
            lambda hidden: next_token(model, params, hidden, temperature), hidden, chunked
        )

    def policy(params: Params, observation: Any, memory: PyTree) -> tuple[Categorical, PyTree]:
        torso = policy_params(params)
        hidden = features(torso, _flat(observation))
        distribution = next_token(model, torso, hidden, temperature)
        return _unflat(distribution, observation), memory

    def value(params: Params, observation: Any, memory: PyTree) -> Array:
        torso, head = critic_params(params)
        values: Array = _unflat(apply_head(head, features(torso, _flat(observation))), observation)
        return values

    def policy_and_value(
        params: Params, observation: Any, memory: PyTree
    ) -> tuple[Any, Array | None]:
        torso = policy_params(params)
        hidden = features(torso, _flat(observation))
        distribution: Any = distribution_of(torso, hidden)
        if not isinstance(distribution, ChunkedCategorical):
            distribution = _unflat(distribution, observation)
        if not jax.tree.leaves(params.value):
            return distribution, None
        if not _is_shared(params):
            return distribution, value(params, observation, memory)
        return distribution, _unflat(apply_head(params.value, hidden), observation)

    def init(key: Array) -> Params:
        return init_actor_critic(model, model.init(key), shared_torso=False)

    return Network(
        init,
        policy,
        value,
        policy_and_value,
        initial_memory=lambda num_envs: (),
        flat_params=False,
    )


def in_chunks_if_large(
    policy: Callable[[Array], Categorical], hidden: Array, chunked: bool
) -> Categorical | ChunkedCategorical:
    """π(·|s) of features [n, T, D]; in chunks, if so wanted, where logits are more than one."""
    most = rows_that_fit(jax.eval_shape(policy, hidden[0, 0]).logits.size)
    if chunked and hidden.shape[0] * hidden.shape[1] > most:
        return ChunkedCategorical(policy, hidden, most)
    return policy(hidden)


def _flat(tokens: Tokens) -> Tokens:
    """All batch axes folded into one."""
    folded: Tokens = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), tokens)
    return folded


def _unflat(output: PyTree, tokens: Tokens) -> PyTree:
    """The batch axes of `tokens` back in place of one."""
    batch = tokens.ids.shape[:-1]
    return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), output)
