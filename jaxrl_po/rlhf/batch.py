"""From responses to what an update learns from: scores, priced rewards, advantages, masks."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_po.algorithms import PPOConfig, VPGConfig
from jaxrl_po.config import Config
from jaxrl_po.distributions import Categorical
from jaxrl_po.loop.learn import advantages_and_targets
from jaxrl_po.ops import normalize_advantage
from jaxrl_po.rlhf.chunks import in_chunks, is_kept, rows_at_once
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.estimators import (
    group_relative,
    groups_that_differ,
    leave_one_out,
    rewards_to_go,
)
from jaxrl_po.rlhf.generation import generate, is_end
from jaxrl_po.rlhf.kl import ESTIMATORS
from jaxrl_po.rlhf.types import Generation, LanguageModel, RewardFn, Tokens
from jaxrl_po.types import Array, Batch, Network, PyTree

Metrics = dict[str, Array]
Policy = Callable[[Tokens], Categorical]  # states [N, P + T - 1] -> π(·|s_t) [N, T]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Unkept:
    """In the place of π_old(·|s) in a batch whose update asks for log π_old(a|s) alone."""


class Evaluation(NamedTuple):
    """What the policy and its reference make of responses."""

    log_prob: Array  # [N, T] log π(a_t|s_t)
    value: Array | None  # [N, T] V(s_t); None without a critic
    reference_log_prob: Array  # [N, T] log π_ref(a_t|s_t)
    kl: Array  # [N, T] KL(π(·|s_t) ‖ π_ref(·|s_t))
    distribution: Categorical | Unkept  # π(·|s_t), where it is kept


def states(generation: Generation) -> Tokens:
    """All tokens but the last [N, P + T - 1]: what the T response tokens are chosen from."""
    all_but_last: Tokens = jax.tree.map(lambda x: x[:, :-1], generation.sequence)
    return all_but_last


def score_responses(config: RLHFConfig, reward_fn: RewardFn, generation: Generation) -> Array:
    """Scores [N] in floating point, less the penalty of responses without EOS."""
    score = reward_fn(generation.prompt, generation.response)
    if score.shape != generation.response.ids.shape[:1]:
        raise ValueError(
            f"reward_fn must return one score a sequence, "
            f"{list(generation.response.ids.shape[:1])}, not {list(score.shape)}"
        )
    return score.astype(generation.log_prob.dtype) - config.missing_eos_penalty * ~ended(
        config, generation
    )


def respond(
    config: RLHFConfig, model: LanguageModel, params: PyTree, prompt: Tokens, key: Array
) -> Generation:
    """Responses to prompts [N, P], as the config has them sampled and ended."""
    return generate(
        model,
        params,
        prompt,
        key,
        num_steps=config.update.num_steps,
        temperature=config.temperature,
        eos_id=config.eos_id,
        stop_ids=config.stop_ids,
        pad_id=config.pad_id,
    )


def ended(config: RLHFConfig, generation: Generation) -> Array:
    """Which responses have an end [N]: EOS or one of `stop_ids`."""
    response = generation.response
    return (is_end(response.ids, config.eos_id, config.stop_ids) & response.mask).any(axis=1)


def last_slot(mask: Array) -> Array:
    """Of a mask [N, T] that begins with True, its last True alone."""
    return mask & ~jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))


def chunk_of(policy: Policy, observation: Tokens) -> int:
    """How many rows of distributions over the vocabulary are held at once."""
    num_rows = observation.ids.shape[0]
    return rows_at_once(num_rows, num_logits(policy, observation) // num_rows)


def num_logits(policy: Policy, observation: Tokens) -> int:
    """Size of the distributions over the vocabulary of a whole batch."""
    return int(jax.eval_shape(policy, observation).logits.size)


def log_prob_is_enough(update: Config) -> bool:
    """Whether an update asks of π_old, and of π, no more than the actions' log-probabilities."""
    clip_alone = isinstance(update, PPOConfig) and not update.early_stop_kl
    return clip_alone or isinstance(update, VPGConfig)


def evaluate_responses(
    update: Config,
    network: Network,
    params: PyTree,
    reference: Policy,
    observation: Tokens,
    action: Array,
) -> Evaluation:
    """Log-probabilities and values of responses, in chunks of rows.

    A batch of distributions over the whole vocabulary is kept where the update needs it, and where
    it is small.
    """
    num_rows, size = action.shape[0], num_logits(reference, observation)
    chunk = rows_at_once(num_rows, size // num_rows)
    keep = is_kept(size) or not log_prob_is_enough(update)

    def evaluate(rows: tuple[Tokens, Array]) -> Evaluation:
        observation, action = rows
        distribution, value = network.policy_and_value(params, observation, ())
        other = reference(observation)
        return Evaluation(
            distribution.log_prob(action),
            value,
            other.log_prob(action),
            distribution.kl(other),
            distribution if keep else Unkept(),
        )

    found: Evaluation = in_chunks(evaluate, (observation, action), chunk)
    return found


def make_token_batch(
    config: RLHFConfig,
    network: Network,
    params: PyTree,
    reference: Policy,
    kl_coef: Array,
    generation: Generation,
    score: Array,
) -> tuple[Batch, Metrics]:
    """Rewards, values and advantages of responses: a `Batch` [N, T], and what to log of it.

        r_t = -β (log π(a_t|s_t) - log π_ref(a_t|s_t)) + [t is the last] score

    Old log-probabilities come from the same pass that training makes, not from decoding, so that
    ratios start at 1. The value after the last token is 0, whether that is EOS or the limit.
    Responses whose score is not finite are left out of the batch, and of the means of scores. Where
    the KL is priced in the loss, the reference's log-probabilities ride as the batch's memory.
    Without a critic values are 0.
    """
    response, observation = generation.response, states(generation)
    mask, action = response.mask, jnp.where(response.mask, response.ids, 0)
    found = evaluate_responses(config.update, network, params, reference, observation, action)

    def blank(x: Array) -> Array:
        return jnp.where(mask, x, 0.0)

    log_ratio = blank(found.log_prob - found.reference_log_prob)
    price = jnp.zeros_like(log_ratio)
    if config.kl_in_reward != "none":
        price = -kl_coef * ESTIMATORS[config.kl_in_reward](log_ratio)
    value = jnp.zeros_like(log_ratio) if found.value is None else blank(found.value)
    last = last_slot(mask)
    finite = jnp.isfinite(score)
    reward = price + jnp.where(last & finite[:, None], score[:, None], 0.0)
    next_value = jnp.pad(value[:, 1:], ((0, 0), (0, 1)))
    counts = finite
    if config.dynamic_sampling:
        counts = finite & groups_that_differ(score, finite, config.answers_per_prompt)
    counted = mask & counts[:, None]
    advantage, target = advantages_of(config, reward, value, next_value, last, counted)
    batch = Batch(
        observation=observation,
        memory=() if config.kl_in_loss == "none" else found.reference_log_prob,
        distribution=found.distribution,
        action=action,
        log_prob=found.log_prob,
        value=value,
        advantage=advantage,
        target=target,
        mask=counted,
    )
    has_eos = ended(config, generation)
    mean_score, non_score_reward = score.mean(where=finite), price.sum(axis=1).mean()
    metrics = {
        "objective/kl": log_ratio.sum(axis=1).mean(),
        "objective/kl_exact": blank(found.kl).sum(axis=1).mean(),
        "objective/kl_k3": ESTIMATORS["k3"](log_ratio).sum(axis=1).mean(),
        "objective/entropy": -blank(found.log_prob).sum(axis=1).mean(),
        "objective/scores": mean_score,
        "objective/non_finite_scores": (~finite).sum(),
        "objective/non_score_reward": non_score_reward,
        "objective/rlhf_reward": mean_score + non_score_reward,
        "objective/kl_coef": kl_coef,
        "val/num_eos_tokens": has_eos.sum(),
        "val/decode_log_prob_gap": jnp.abs(blank(found.log_prob - generation.log_prob)).max(),
        "tokens/response_len_mean": mask.sum(axis=1).mean(dtype=value.dtype),
        "tokens/truncated_frac": 1.0 - has_eos.mean(dtype=value.dtype),
    }
    if config.dynamic_sampling:
        left_out = ~counts.reshape(-1, config.answers_per_prompt).any(axis=1)
        metrics["objective/groups_left_out"] = left_out.sum()
    return batch, metrics


def advantages_of(
    config: RLHFConfig,
    reward: Array,
    value: Array,
    next_value: Array,
    last: Array,
    counted: Array,
) -> tuple[Array, Array]:
    """Advantages by the config's estimator, and what values are to become: both [N, T].

    Args:
        config: the run.
        reward: r_t [N, T], 0 in empty slots.
        value: V(s_t) [N, T], likewise.
        next_value: V(s_{t+1}) [N, T], likewise, and at the last.
        last: which slot ends a response [N, T].
        counted: which slots count [N, T].
    """
    update, k = config.update, config.answers_per_prompt
    if config.has_critic:
        given = reward, value, next_value, last, jnp.zeros_like(last), counted
        advantage, target = advantages_and_targets(update, *(x.T for x in given))
        return advantage.T, target.T
    if config.estimator == "reinforce++":
        advantage = rewards_to_go(reward, update.gamma)
    else:
        outcome, counts = reward.sum(axis=1), counted.any(axis=1)
        if config.estimator == "rloo":
            of_response = leave_one_out(outcome, counts, k)
        else:
            of_response = group_relative(outcome, counts, k, config.divide_by_std)
        advantage = jnp.broadcast_to(of_response[:, None], reward.shape)
    if update.advantage_normalization == "batch":
        advantage = normalize_advantage(advantage, counted)
    return advantage, jnp.zeros_like(advantage)
