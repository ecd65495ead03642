"""Proximal policy optimisation (arXiv:1707.06347): clipped surrogate, or KL penalty."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from jaxrl_po.algorithms.minibatch import Descent, blank, check_minibatches, make_descent
from jaxrl_po.config import COUNT, NON_NEGATIVE, POSITIVE, Config, pytree, setting
from jaxrl_po.fast.slices import policy_in_slices
from jaxrl_po.ops import (
    clipped_surrogate_loss,
    clipped_value_loss,
    importance_ratio,
    mean_kl,
    means,
    normalize_advantage,
    surrogate_loss,
    value_loss,
)
from jaxrl_po.types import Algorithm, Array, Batch, Network, Optimizer, PyTree

KL_COEF_BOUNDS = 1e-6, 1e6


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProximalConfig(Config):
    """Fields of both PPOs: several epochs of minibatch Adam on a joint policy and value loss."""

    # over what advantages are standardised
    advantage_normalization: str = setting("minibatch", ("batch", "minibatch", "none"))
    # passes over each rollout
    update_epochs: int = setting(4, COUNT)
    # minibatches of a pass; they divide num_envs * num_steps
    num_minibatches: int = setting(4, COUNT)
    # hold the value within value_clip_eps of the old one in the value loss
    clip_value: bool = False
    # ε of the value loss, in units of value
    value_clip_eps: float = setting(0.2, POSITIVE)
    # weight c₁ of the value loss
    vf_coef: float = setting(0.5, NON_NEGATIVE)
    # weight c₂ of the entropy bonus
    ent_coef: float = setting(0.0, NON_NEGATIVE)

    def validate(self) -> None:
        """Check the minibatches, and what clipping of values needs."""
        super().validate()
        check_minibatches(self, "num_minibatches")
        self.check_advantages("minibatch", self.num_envs * self.num_steps // self.num_minibatches)
        self.check_effect("value_clip_eps", self.clip_value, "clip_value=True")


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOConfig(ProximalConfig):
    """PPO-clip: a ratio that has left [1-ε, 1+ε] gains nothing by going further."""

    algorithm: ClassVar[str] = "ppo"

    # ε
    clip_eps: float = setting(0.2, POSITIVE)
    # value the rollout anew, and estimate advantages, before each epoch; it helped in the study of
    # Andrychowicz et al. (2021, arXiv:2006.05990), at the price of a pass over the rollout an epoch
    # (values at time limits stay as collected where observations are too large to be held twice)
    recompute_advantages: bool = False
    # leave a rollout alone once a minibatch's KL(old‖new) exceeds 1.5 target_kl
    early_stop_kl: bool = False
    # nats of mean KL(old‖new)
    target_kl: float = setting(0.01, POSITIVE)

    def validate(self) -> None:
        """Check that the target is used, and that there is an epoch to recompute before.

        Epochs that each see the rollout anew are updates of their own: a stop would end one alone.
        """
        super().validate()
        several = self.update_epochs > 1
        self.check_effect("recompute_advantages", several, "update_epochs > 1")
        self.check_effect("target_kl", self.early_stop_kl, "early_stop_kl=True")
        if self.early_stop_kl and self.recompute_advantages:
            raise ValueError(
                "early_stop_kl=True beside recompute_advantages=True would stop an epoch and not "
                "the rest: set one of them to False"
            )


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOPenaltyConfig(ProximalConfig):
    """PPO-penalty: the surrogate less β KL(old‖new), with β adapted to a target KL."""

    algorithm: ClassVar[str] = "ppo_penalty"

    # β, or its first value when it adapts
    kl_coef: float = setting(1.0, NON_NEGATIVE)
    # after each update halve β below target_kl / 1.5, double it above 1.5 target_kl
    adaptive_kl: bool = True
    # nats of mean KL(old‖new)
    target_kl: float = setting(0.01, POSITIVE)

    def validate(self) -> None:
        """Check that the target is used, and that one hand moves β."""
        super().validate()
        self.check_effect("target_kl", self.adaptive_kl, "adaptive_kl=True")
        self.check_unscheduled("kl_coef", self.adaptive_kl, "adaptive_kl=True moves it")


class PPOState(NamedTuple):
    """What PPO-clip keeps between iterations."""

    opt_state: PyTree


class PPOPenaltyState(NamedTuple):
    """What PPO-penalty keeps between iterations."""

    opt_state: PyTree
    kl_coef: Array  # [] β


# ratio [b], advantage [b], what gives KL(old‖new) [b] -> loss [b], further quantities to log [b].
# Who does not ask for the KL needs no distributions, but the log-probabilities of actions alone.
PolicyLoss = Callable[[Array, Array, Callable[[], Array]], tuple[Array, dict[str, Array]]]
Penalty = Callable[[Any, Batch], Array]  # π(·|s) [b], minibatch -> a term of the loss [b]
Average = Callable[[Array, Array | None], Array]  # of what has a value a slot [b], mask [b] -> []


def ppo(
    config: PPOConfig,
    network: Network,
    optimizer: Optimizer | None = None,
    *,
    penalty: Penalty | None = None,
    clip_eps_high: Array | float | None = None,
    average: Average | None = None,
) -> Algorithm:
    """PPO-clip as an update (eq. 7 and 9).

    Args:
        config: its settings.
        network: policy and value.
        optimizer: what takes the steps, see `make_descent`.
        penalty: a term of one's own in the loss.
        clip_eps_high: ε above 1, where it is not `config.clip_eps`.
        average: of the loss and its metrics, in place of the mean over all slots that count.
    """
    descent = make_descent(config, network, optimizer)

    def policy_loss(
        ratio: Array, advantage: Array, kl: Callable[[], Array]
    ) -> tuple[Array, dict[str, Array]]:
        if clip_eps_high is None:
            outside = jnp.abs(ratio - 1.0) > config.clip_eps
        else:
            outside = (ratio < 1.0 - config.clip_eps) | (ratio > 1.0 + clip_eps_high)
        loss = clipped_surrogate_loss(ratio, advantage, config.clip_eps, clip_eps_high)
        return loss, {"clip_fraction": outside.astype(ratio.dtype)}

    def init(params: PyTree) -> PPOState:
        return PPOState(descent.init(params))

    def update(
        key: Array, params: PyTree, state: PPOState, batch: Batch, anneal: Array
    ) -> tuple[PyTree, PPOState, dict[str, Array]]:
        max_kl = 1.5 * config.target_kl if config.early_stop_kl else None
        params, opt_state, metrics = proximal_epochs(
            config,
            network,
            descent,
            key,
            params,
            state.opt_state,
            batch,
            anneal,
            policy_loss=policy_loss,
            num_epochs=1 if config.recompute_advantages else config.update_epochs,
            max_kl=max_kl,
            penalty=penalty,
            average=average,
        )
        return params, PPOState(opt_state), metrics

    return Algorithm(init, update, config.update_epochs if config.recompute_advantages else 1)


def ppo_penalty(
    config: PPOPenaltyConfig, network: Network, optimizer: Optimizer | None = None
) -> Algorithm:
    """PPO-penalty as an update: maximise E[r Â] - β KL(π_old ‖ π) (eq. 8), adapt β (sec. 4)."""
    descent = make_descent(config, network, optimizer)

    def init(params: PyTree) -> PPOPenaltyState:
        kl_coef = jnp.asarray(config.kl_coef, jnp.zeros(()).dtype)
        return PPOPenaltyState(descent.init(params), kl_coef)

    def update(
        key: Array, params: PyTree, state: PPOPenaltyState, batch: Batch, anneal: Array
    ) -> tuple[PyTree, PPOPenaltyState, dict[str, Array]]:
        used = state.kl_coef
        if not config.adaptive_kl:  # what a schedule may have moved
            used = jnp.asarray(config.kl_coef, used.dtype)

        def policy_loss(
            ratio: Array, advantage: Array, kl: Callable[[], Array]
        ) -> tuple[Array, dict[str, Array]]:
            return surrogate_loss(ratio, advantage) + used * kl(), {}

        params, opt_state, metrics = proximal_epochs(
            config,
            network,
            descent,
            key,
            params,
            state.opt_state,
            batch,
            anneal,
            policy_loss=policy_loss,
            num_epochs=config.update_epochs,
        )
        beta = used
        if config.adaptive_kl:
            distribution_of = policy_in_slices(network, config.minibatch_shards)
            distribution = distribution_of(params, batch.observation, batch.memory)
            kl = mean_kl(batch.distribution, distribution, batch.mask)
            beta = adapt_kl_coef(beta, kl, config.target_kl)
        return params, PPOPenaltyState(opt_state, beta), {**metrics, "kl_coef": used}

    return Algorithm(init, update)


def adapt_kl_coef(kl_coef: Array, kl: Array, target_kl: Array | float) -> Array:
    """β/2 if KL < target/1.5, 2β if KL > 1.5 target, else β (arXiv:1707.06347, sec. 4).

    Kept within `KL_COEF_BOUNDS`: from an underflow to 0 doubling would never come back.
    """
    factor = jnp.where(kl < target_kl / 1.5, 0.5, jnp.where(kl > 1.5 * target_kl, 2.0, 1.0))
    return jnp.clip(kl_coef * factor.astype(kl_coef.dtype), *KL_COEF_BOUNDS)


def error_of_value(config: ProximalConfig, value: Array, minibatch: Batch) -> Array:
    """The value loss of each sample [b]."""
    if config.clip_value:
        return clipped_value_loss(
            value, minibatch.value, minibatch.target, config.value_clip_eps, config.value_loss
        )
    return value_loss(value, minibatch.target, config.value_loss)


def farthest_from_one(ratio: Array, num_blocks: int) -> Array:
    """The ratio [] that is farthest from 1, of all [b, ...].

    Of several blocks by two reductions: what is picked by its place may be on another device.
    """
    if num_blocks == 1:
        farthest: Array = ratio.ravel()[jnp.argmax(jnp.abs(ratio - 1.0))]
        return farthest
    low, high = ratio.min(), ratio.max()
    return jnp.where(high - 1.0 > 1.0 - low, high, low)


def proximal_epochs(
    config: ProximalConfig,
    network: Network,
    descent: Descent,
    key: Array,
    params: PyTree,
    opt_state: PyTree,
    batch: Batch,
    anneal: Array,
    *,
    policy_loss: PolicyLoss,
    num_epochs: int,
    max_kl: Array | float | None = None,
    penalty: Penalty | None = None,
    average: Average | None = None,
) -> tuple[PyTree, PyTree, dict[str, Array]]:
    """Epochs of minibatch Adam on policy loss + c₁ value loss - c₂ entropy (eq. 9).

    Args:
        policy_loss: the loss of the policy alone.
        num_epochs: passes over the batch.
        max_kl: once a minibatch's KL exceeds it, no further step is taken on this rollout.
        penalty: a further term of the loss.
        average: of the loss and its metrics; None for the mean over all slots that count.

    Returns:
        Params, optimiser state, and means of the metrics over all minibatches.
    """

    def loss(params: PyTree, minibatch: Batch) -> tuple[Array, dict[str, Array]]:
        distribution, value = network.policy_and_value(
            params, minibatch.observation, minibatch.memory
        )
        mask = minibatch.mask
        ratio = importance_ratio(distribution.log_prob(minibatch.action), minibatch.log_prob, mask)

        def kl() -> Array:
            of_each: Array = minibatch.distribution.kl(distribution)
            return of_each

        advantage = minibatch.advantage
        if config.advantage_normalization == "minibatch":
            advantage = normalize_advantage(advantage, mask)
        policy_error, terms = policy_loss(ratio, advantage, kl)
        terms |= {"policy_loss": policy_error}
        if value is not None:
            terms["value_loss"] = error_of_value(config, value, minibatch)
        terms["entropy"] = distribution.entropy()
        total = policy_error
        if value is not None:
            total += config.vf_coef * terms["value_loss"]
        total -= config.ent_coef * terms["entropy"]
        if penalty is not None:
            total += penalty(distribution, minibatch)
        if max_kl is not None:
            terms["minibatch_kl"] = kl()
        if average is None:
            metrics = means(terms, mask)
        else:
            metrics = {name: average(term, mask) for name, term in terms.items()}
        metrics["ratio_first_minibatch"] = farthest_from_one(ratio, config.minibatch_shards)
        return total.mean(where=mask) if average is None else average(total, mask), metrics

    params, opt_state, metrics = descent.run(
        key,
        loss,
        params,
        opt_state,
        blank(batch),
        config.learning_rate * anneal,
        num_epochs=num_epochs,
        num_minibatches=config.num_minibatches,
        stop=None if max_kl is None else lambda metrics: metrics["minibatch_kl"] > max_kl,
    )
    # At the first minibatch policy and old policy are one: the ratio farthest from 1 shows it.
    first_ratio = metrics.pop("ratio_first_minibatch")[0]
    metrics.pop("minibatch_kl", None)  # the loop measures the KL of the whole update
    averages = {name: value.mean() for name, value in metrics.items()}
    return params, opt_state, {**averages, "ratio_first_minibatch": first_ratio}
