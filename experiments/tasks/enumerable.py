"""A language small enough to enumerate, so that the optimum of KL-regularised RL is known exactly.

V tokens, EOS among them, and at most T of them: every response is a row of a table, every
expectation a sum, and

    J(π) = E_π[r] - β KL(π ‖ π_ref)   has the maximum   J* = β log E_ref[exp(r / β)]

(Ziegler et al. 2019, sec. 2; the Gibbs variational principle).
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.rlhf.generation import response_distribution
from jaxrl_po.rlhf.types import LanguageModel, RewardFn, Tokens, concatenate
from jaxrl_po.types import Array, PyTree

EOS = 0


class Objective(NamedTuple):
    """A policy's exact standing, in units of reward and nats."""

    reward: Array  # [] E_π[r]
    kl: Array  # [] KL(π ‖ π_ref) of whole responses
    value: Array  # [] J(π) = reward - β kl


def all_responses(vocab_size: int, max_length: int) -> Tokens:
    """Every response of at most `max_length` tokens: ended by EOS, or as long as can be.

    Σ_{k<T} (V-1)^k + (V-1)^T rows; 3,906 for V = 6 and T = 5.
    """
    words = range(1, vocab_size)
    ids, mask = [], []
    for length in range(max_length + 1):
        num_tokens = min(length + 1, max_length)
        for body in itertools.product(words, repeat=length):
            ids.append([*body, *[EOS] * (max_length - length)])
            mask.append([slot < num_tokens for slot in range(max_length)])
    return Tokens(jnp.asarray(ids, jnp.int32), jnp.asarray(mask))


def bigram_reward(key: Array, vocab_size: int) -> RewardFn:
    """A reward Σ_t w(a_{t-1}, a_t) / √T with Gaussian w: order matters, and so does stopping."""
    weight = 0.5 * jax.random.normal(key, (vocab_size, vocab_size))

    def reward(prompt: Tokens, response: Tokens) -> Array:
        ids = jnp.where(response.mask, response.ids, EOS)
        before = jnp.concatenate([prompt.ids[:, -1:], ids[:, :-1]], axis=1)
        each = jnp.where(response.mask, weight[before, ids], 0.0)
        score: Array = each.sum(axis=1) / np.sqrt(ids.shape[1])
        return score

    return reward


def response_log_probs(
    model: LanguageModel,
    params: PyTree,
    prompt: Array,
    responses: Tokens,
    temperature: float | Array = 1.0,
) -> Array:
    """log π(response | prompt) [R] of all responses to one prompt [P]."""
    rows, T = responses.ids.shape
    ids = jnp.tile(prompt[None], (rows, 1))
    sequence = concatenate(Tokens(ids, jnp.ones_like(ids, bool)), responses)
    states = jax.tree.map(lambda x: x[:, :-1], sequence)
    distribution = response_distribution(model, params, states, T, temperature)
    log_prob = distribution.log_prob(responses.ids)
    return jnp.where(responses.mask, log_prob, 0.0).sum(axis=1)


def objective(
    log_prob: Array, reference_log_prob: Array, reward: Array, kl_coef: float | Array
) -> Objective:
    """J(π) by summing over all responses [R]."""
    probability = jnp.exp(log_prob)
    expected = probability @ reward
    kl = probability @ (log_prob - reference_log_prob)
    return Objective(expected, kl, expected - kl_coef * kl)


def optimum(reference_log_prob: Array, reward: Array, kl_coef: float | Array) -> Array:
    """J* = β log E_ref[exp(r / β)]."""
    return kl_coef * jax.scipy.special.logsumexp(reference_log_prob + reward / kl_coef)


def fraction_of_gap(value: Array, start: Array, best: Array) -> Array:
    """(J - J0) / (J* - J0): 0 for the reference policy, 1 for the optimum."""
    return (value - start) / (best - start)
