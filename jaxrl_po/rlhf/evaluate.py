"""A policy held against its reference on prompts that it was not trained on."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxrl_po.distributions import Categorical
from jaxrl_po.rlhf.batch import chunk_of, respond, states
from jaxrl_po.rlhf.chunks import in_chunks
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.generation import response_distribution
from jaxrl_po.rlhf.lora import adapted
from jaxrl_po.rlhf.types import Generation, LanguageModel, RewardFn, Tokens
from jaxrl_po.types import Array, PyTree


class Answers(NamedTuple):
    """Responses to prompts of an evaluation."""

    generation: Generation  # [E]
    score: Array  # [E]
    kl: Array  # [E] Σ_t KL(π(·|s_t) ‖ π_ref(·|s_t)) in nats


def make_answer(
    config: RLHFConfig, model: LanguageModel, reward_fn: RewardFn
) -> Callable[[PyTree, PyTree, Tokens, Array], Answers]:
    """One answer to each prompt, its score, and its exact distance from the reference.

    Returns:
        answer(learned, sft_params, prompts [E, P], key) -> `Answers`; `learned` are the policy's
        parameters, adapters where `config.lora.rank` says so, or None for the reference itself,
        whose KL is 0. The config has no schedules: `config.at` gives such a one.
    """
    T = config.update.num_steps

    def answer(learned: PyTree, sft_params: PyTree, prompts: Tokens, key: Array) -> Answers:
        policy, params = model, learned
        if learned is None:
            params = sft_params
        elif config.lora.rank:
            policy = adapted(model, sft_params, config.lora)
        generation = respond(config, policy, params, prompts, key)
        score = reward_fn(generation.prompt, generation.response)
        if learned is None:
            return Answers(generation, score, jnp.zeros_like(score))

        def reference(observation: Tokens) -> Categorical:
            return response_distribution(model, sft_params, observation, T, config.temperature)

        def distance(observation: Tokens) -> Array:
            own = response_distribution(policy, params, observation, T, config.temperature)
            return own.kl(reference(observation))

        observation, mask = states(generation), generation.response.mask
        kl = in_chunks(distance, observation, chunk_of(reference, observation))
        return Answers(generation, score, jnp.where(mask, kl, 0.0).sum(axis=1))

    return answer


class Comparison(NamedTuple):
    """A policy's scores beside its reference's, on the same prompts."""

    score: Array  # [] mean
    reference_score: Array  # [] mean
    win_rate: Array  # [] how often an answer scores higher, ties half
    left_out: Array  # [] prompts with a score that is not finite, which count in none of these


def compare(score: Array, reference_score: Array) -> Comparison:
    """Scores [E] of answers to the same prompts, side by side; NaN where none is finite."""
    both = jnp.isfinite(score) & jnp.isfinite(reference_score)
    wins = (score > reference_score) + 0.5 * (score == reference_score)
    means = [x.mean(where=both) for x in (score, reference_score, wins)]
    return Comparison(means[0], means[1], means[2], (~both).sum())
