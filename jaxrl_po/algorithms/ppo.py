"""Proximal policy optimisation with the clipped surrogate (arXiv:1707.06347)."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl_po.algorithms.minibatch import adam, minibatch_epochs
from jaxrl_po.config import COUNT, NON_NEGATIVE, POSITIVE, Config, pytree, setting
from jaxrl_po.ops import (
    clipped_surrogate_loss,
    clipped_value_loss,
    normalize_advantage,
    value_loss,
)
from jaxrl_po.types import Algorithm, Array, Batch, Network, PyTree


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOConfig(Config):
    """PPO-clip: several epochs of minibatch Adam on a clipped surrogate and the value error."""

    algorithm: ClassVar[str] = "ppo"

    advantage_normalization: str = setting("minibatch", ("batch", "minibatch", "none"))
    # passes over each rollout
    update_epochs: int = setting(4, COUNT)
    # minibatches of a pass; they divide num_envs * num_steps
    num_minibatches: int = setting(4, COUNT)
    # ε, how far a ratio may leave 1 and still gain
    clip_eps: float = setting(0.2, POSITIVE)
    # hold the value within value_clip_eps of the old one in the value loss
    clip_value: bool = False
    value_clip_eps: float = setting(0.2, POSITIVE)
    # weight of the value loss
    vf_coef: float = setting(0.5, NON_NEGATIVE)
    # weight of the entropy bonus
    ent_coef: float = setting(0.0, NON_NEGATIVE)
    # stop updating on a rollout once a minibatch's KL exceeds 1.5 target_kl
    early_stop_kl: bool = False
    target_kl: float = setting(0.01, POSITIVE)

    def validate(self) -> None:
        """Check that the minibatches divide the rollout."""
        super().validate()
        check_minibatches(self, "num_minibatches")


def check_minibatches(config: Config, field: str) -> None:
    """Raise unless the named number of minibatches divides the rollout."""
    size, count = config.num_envs * config.num_steps, getattr(config, field)
    if size % count:
        raise ValueError(f"{field}={count} does not divide num_envs * num_steps = {size}")


class PPOState(NamedTuple):
    """What PPO keeps between iterations."""

    opt_state: PyTree


def ppo(config: PPOConfig, network: Network) -> Algorithm:
    """PPO-clip as an update: maximise E[min(r Â, clip(r) Â)] - c₁ value loss + c₂ entropy (eq. 9)."""

    def loss(params: PyTree, batch: Batch) -> tuple[Array, dict[str, Array]]:
        distribution, value = network.policy_and_value(params, batch.observation, batch.memory)
        ratio = jnp.exp(distribution.log_prob(batch.action) - batch.log_prob)
        advantage = batch.advantage
        if config.advantage_normalization == "minibatch":
            advantage = normalize_advantage(advantage)
        policy_loss = clipped_surrogate_loss(ratio, advantage, config.clip_eps)
        if config.clip_value:
            error = clipped_value_loss(value, batch.value, batch.target, config.value_clip_eps)
        else:
            error = value_loss(value, batch.target)
        entropy = distribution.entropy().mean()
        metrics = {
            "policy_loss": policy_loss,
            "value_loss": error,
            "entropy": entropy,
            "clip_fraction": (jnp.abs(ratio - 1.0) > config.clip_eps).mean(dtype=ratio.dtype),
            "ratio_first_minibatch": ratio[jnp.argmax(jnp.abs(ratio - 1.0))],
        }
        if config.early_stop_kl:
            metrics["minibatch_kl"] = batch.distribution.kl(distribution).mean()
        return policy_loss + config.vf_coef * error - config.ent_coef * entropy, metrics

    def init(params: PyTree) -> PPOState:
        return PPOState(adam(config.learning_rate, config.max_grad_norm).init(params))

    def update(
        key: Array, params: PyTree, state: PPOState, batch: Batch, anneal: Array
    ) -> tuple[PyTree, PPOState, dict[str, Array]]:
        optimizer = adam(config.learning_rate * anneal, config.max_grad_norm)

        def step(carry: Any, minibatch: Batch) -> tuple[Any, dict[str, Array]]:
            params, opt_state, stop = carry
            gradient, metrics = jax.grad(loss, has_aux=True)(params, minibatch)
            updates, new_opt_state = optimizer.update(gradient, opt_state, params)
            new = optax.apply_updates(params, updates), new_opt_state
            if config.early_stop_kl:
                stop |= metrics.pop("minibatch_kl") > 1.5 * config.target_kl
                old = params, opt_state
                new = jax.tree.map(lambda n, o: jnp.where(stop, o, n), new, old)
            return (*new, stop), {**metrics, "grad_norm": optax.tree.norm(gradient)}

        carry = (params, state.opt_state, jnp.zeros((), bool))
        (params, opt_state, _), metrics = minibatch_epochs(
            key, step, carry, batch, config.update_epochs, config.num_minibatches
        )
        first_ratio = metrics.pop("ratio_first_minibatch")[0]
        means = {name: value.mean() for name, value in metrics.items()}
        return params, PPOState(opt_state), {**means, "ratio_first_minibatch": first_ratio}

    return Algorithm(init, update)
