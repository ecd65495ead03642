"""The update of an RLHF run: the library's own, with what the config adds to it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl_po.algorithms import PPOConfig, make_algorithm
from jaxrl_po.algorithms.ppo import ppo
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.kl import ESTIMATORS
from jaxrl_po.types import Algorithm, Array, Batch, Network, Optimizer, Params


def make_update(config: RLHFConfig, network: Network, kl_coef: Array) -> Algorithm:
    """The update, with the price of the KL in its loss where the config puts it there."""
    optimizer = faster_critic(config)
    terms = loss_options(config, kl_coef)
    if terms:
        return ppo(config.update, network, optimizer, **terms)  # type: ignore[arg-type]
    return make_algorithm(config.update, network, optimizer=optimizer)


def loss_options(config: RLHFConfig, kl_coef: Array) -> dict[str, Any]:
    """What the config changes of PPO's loss, as arguments of `ppo`."""
    terms: dict[str, Any] = {}
    if not isinstance(config.update, PPOConfig):
        return terms
    if config.kl_in_loss != "none":
        terms["penalty"] = kl_loss(config, kl_coef)
    if config.clip_higher:
        terms["clip_eps_high"] = config.clip_eps_high
    if config.loss_average != "token" or config.dynamic_sampling:
        terms["average"] = AVERAGES[config.loss_average]
    return terms


def kl_loss(config: RLHFConfig, kl_coef: Array) -> Callable[[Any, Batch], Array]:
    """β · k2 as a term of the loss: E[½ (log π/π_ref)²].

    Its gradient is that of the KL of each token's distribution given its state: what a token does
    to the KL of later ones, which k1 in the reward charges it for, is left out.
    """

    def penalty(distribution: Any, batch: Batch) -> Array:
        reference_log_prob = batch.memory
        log_ratio = distribution.log_prob(batch.action) - reference_log_prob
        return kl_coef * ESTIMATORS[config.kl_in_loss](log_ratio)

    return penalty


# Averages of what has a value a token [n, T], over the slots of a mask; 0 where there is none, so
# that a minibatch of nothing has gradient 0.


def over_tokens(x: Array, mask: Array) -> Array:
    """Σ_i Σ_t x_it / Σ_i L_i (DAPO: Yu et al. 2025, arXiv:2503.14476, sec. 3.3)."""
    return x.sum(where=mask) / jnp.maximum(mask.sum(), 1)


def over_sequences(x: Array, mask: Array) -> Array:
    """Mean over i of Σ_t x_it / L_i (GRPO: Shao et al. 2024, arXiv:2402.03300, eq. 3)."""
    means = x.sum(axis=1, where=mask) / jnp.maximum(mask.sum(axis=1), 1)
    return means.sum() / jnp.maximum(mask.any(axis=1).sum(), 1)


def over_slots(x: Array, mask: Array) -> Array:
    """Mean over i of Σ_t x_it / T (Dr. GRPO: Liu et al. 2025, arXiv:2503.20783)."""
    num_sequences = jnp.maximum(mask.any(axis=1).sum(), 1)
    return x.sum(where=mask) / (num_sequences * mask.shape[1])


AVERAGES: dict[str, Callable[[Array, Array], Array]] = {
    "token": over_tokens,
    "sequence": over_sequences,
    "constant": over_slots,
}


def faster_critic(config: RLHFConfig) -> Optimizer | None:
    """Adam whose steps of the critic are `critic_learning_rate_factor` times as long.

    Its state is that of Adam alone. None where the factor is 1, for the update's own.
    """
    factor = config.critic_learning_rate_factor
    known = not isinstance(factor, jax.core.Tracer)
    if not config.one_adam_for_both or (known and np.all(factor == 1)):
        return None

    def make(learning_rate: Array | float) -> optax.GradientTransformation:
        adam = optax.adam(learning_rate, eps=1e-5)

        def update(gradient: Params, state: Any, params: Any = None) -> tuple[Params, Any]:
            updates, state = adam.update(gradient, state, params)
            return updates._replace(value=optax.tree.scale(factor, updates.value)), state

        return optax.GradientTransformation(adam.init, update)

    return make
