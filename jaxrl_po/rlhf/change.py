"""What an update did to the policy and values of its batch."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl_po.algorithms.ppo import ProximalConfig
from jaxrl_po.distributions import Categorical
from jaxrl_po.ops import importance_ratio
from jaxrl_po.rlhf.batch import Unkept, chunk_of
from jaxrl_po.rlhf.chunks import in_chunks
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.kl import ESTIMATORS
from jaxrl_po.rlhf.types import Tokens
from jaxrl_po.types import Array, Batch, Network, PyTree

Metrics = dict[str, Array]


class Change(NamedTuple):
    """What an update did to the policy and values of a batch [N, T]."""

    kl: Array  # KL(π_old(·|s_t) ‖ π(·|s_t))
    log_ratio: Array  # log π(a_t|s_t) - log π_old(a_t|s_t)
    value: Array | None  # V(s_t); None without a critic


def after_update(
    config: RLHFConfig, network: Network, old: PyTree, params: PyTree, batch: Batch
) -> Metrics:
    """How far an update has gone from the old parameters, on the whole batch, a chunk at a time."""

    def policy(observation: Tokens) -> Categorical:
        distribution: Categorical = network.policy(old, observation, ())[0]
        return distribution

    def change(rows: Batch) -> Change:
        distribution, value = network.policy_and_value(params, rows.observation, ())
        kept = not isinstance(rows.distribution, Unkept)
        before = rows.distribution if kept else policy(rows.observation)
        log_ratio = distribution.log_prob(rows.action) - rows.log_prob
        return Change(before.kl(distribution), log_ratio, value)

    found = in_chunks(change, batch, chunk_of(policy, batch.observation))
    mask = batch.mask
    ratio = importance_ratio(found.log_ratio, jnp.zeros_like(found.log_ratio), mask)
    metrics = {
        "policy/kl": found.kl.mean(where=mask),
        "policy/approxkl_avg": ESTIMATORS["k2"](found.log_ratio).mean(where=mask),
        "val/ratio": ratio.mean(where=mask),
        "val/ratio_var": ratio.var(where=mask),
    }
    if (
        isinstance(config.update, ProximalConfig)
        and found.value is not None
        and config.update.clip_value
    ):
        far = jnp.abs(found.value - batch.value) > config.update.value_clip_eps
        metrics["val/clipfrac_avg"] = far.mean(where=mask, dtype=found.value.dtype)
    return metrics
