"""From responses to what an update learns from: scores, priced rewards, advantages, masks."""

import jax
import jax.numpy as jnp

from jaxrl_po.distributions import Categorical
from jaxrl_po.ops import gae, normalize_advantage
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.kl import ESTIMATORS
from jaxrl_po.rlhf.types import Generation, RewardFn, Tokens
from jaxrl_po.types import Array, Batch, Network, PyTree

Metrics = dict[str, Array]


def states(generation: Generation) -> Tokens:
    """All tokens but the last [N, P + T - 1]: what the T response tokens are chosen from."""
    return jax.tree.map(lambda x: x[:, :-1], generation.sequence)


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


def ended(config: RLHFConfig, generation: Generation) -> Array:
    """Which responses have their EOS [N]."""
    response = generation.response
    return ((response.ids == config.eos_id) & response.mask).any(axis=1)


def last_slot(mask: Array) -> Array:
    """Of a mask [N, T] that begins with True, its last True alone."""
    return mask & ~jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))


def make_token_batch(
    config: RLHFConfig,
    network: Network,
    params: PyTree,
    kl_coef: Array,
    generation: Generation,
    score: Array,
    reference: Categorical,
) -> tuple[Batch, Metrics]:
    """Rewards, values and advantages of responses: a `Batch` [N, T], and what to log of it.

        r_t = -β (log π(a_t|s_t) - log π_ref(a_t|s_t)) + [t is the last] score

    Old log-probabilities come from the same pass that training makes, not from decoding, so that
    ratios start at 1. The value after the last token is 0, whether that is EOS or the limit.
    """
    mask, action = (
        generation.response.mask,
        jnp.where(generation.response.mask, generation.response.ids, 0),
    )
    observation = states(generation)
    distribution, value = network.policy_and_value(params, observation, ())
    log_prob = distribution.log_prob(action)

    def blank(x: Array) -> Array:
        return jnp.where(mask, x, 0.0)

    log_ratio = blank(log_prob - reference.log_prob(action))
    price = jnp.zeros_like(log_ratio)
    if config.kl_in_reward != "none":
        price = -kl_coef * ESTIMATORS[config.kl_in_reward](log_ratio)
    value, last = blank(value), last_slot(mask)
    reward = price + jnp.where(last, score[:, None], 0.0)
    next_value = jnp.pad(value[:, 1:], ((0, 0), (0, 1)))
    time_major = (x.T for x in (reward, value, next_value, last, jnp.zeros_like(last)))
    advantage = gae(*time_major, gamma=config.update.gamma, gae_lambda=config.update.gae_lambda).T
    target = advantage + value
    if config.update.advantage_normalization == "batch":
        advantage = normalize_advantage(advantage, mask)
    batch = Batch(
        observation=observation,
        memory=(),
        distribution=distribution,
        action=action,
        log_prob=log_prob,
        value=value,
        advantage=advantage,
        target=target,
        mask=mask,
    )
    has_eos = ended(config, generation)
    non_score_reward = price.sum(axis=1).mean()
    metrics = {
        "objective/kl": log_ratio.sum(axis=1).mean(),
        "objective/kl_exact": blank(distribution.kl(reference)).sum(axis=1).mean(),
        "objective/kl_k3": ESTIMATORS["k3"](log_ratio).sum(axis=1).mean(),
        "objective/entropy": -blank(log_prob).sum(axis=1).mean(),
        "objective/scores": score.mean(),
        "objective/non_score_reward": non_score_reward,
        "objective/rlhf_reward": score.mean() + non_score_reward,
        "objective/kl_coef": kl_coef,
        "val/num_eos_tokens": has_eos.sum(),
        "val/decode_log_prob_gap": jnp.abs(blank(log_prob - generation.log_prob)).max(),
        "tokens/response_len_mean": mask.sum(axis=1).mean(dtype=value.dtype),
        "tokens/truncated_frac": 1.0 - has_eos.mean(dtype=value.dtype),
    }
    return batch, metrics
