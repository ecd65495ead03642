"""Vanilla policy gradient with a learned baseline (Williams 1992; Sutton et al. 2000)."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import optax

from jaxrl_po.algorithms.critic import CriticConfig, fit_value
from jaxrl_po.algorithms.minibatch import adam, blank, check_minibatches, minibatch_epochs
from jaxrl_po.config import COUNT, NON_NEGATIVE, pytree, setting
from jaxrl_po.ops import normalize_advantage, policy_gradient_loss
from jaxrl_po.types import Algorithm, Array, Batch, Network, PyTree


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class VPGConfig(CriticConfig):
    """VPG: an Adam step along the policy gradient, then a regression of the critic.

    The textbook method is the default: one step on the whole rollout.
    """

    algorithm: ClassVar[str] = "vpg"

    # passes over each rollout; the gradient is exact for the first step only
    update_epochs: int = setting(1, COUNT)
    # minibatches of a pass; they divide num_envs * num_steps
    num_minibatches: int = setting(1, COUNT)
    # weight of the entropy bonus
    ent_coef: float = setting(0.0, NON_NEGATIVE)
    # the critic's Adam; `learning_rate` is the policy's
    critic_learning_rate: float = setting(1e-3, NON_NEGATIVE)

    def validate(self) -> None:
        """Check that the minibatches divide the rollout."""
        super().validate()
        check_minibatches(self, "num_minibatches")


class VPGState(NamedTuple):
    """What VPG keeps between iterations."""

    policy_opt_state: PyTree
    value_opt_state: PyTree


def vpg(config: VPGConfig, network: Network) -> Algorithm:
    """VPG as an update: ascend E[log π(a|s) Â], then fit the critic to the λ-returns."""

    def loss(policy_params: PyTree, params: PyTree, batch: Batch) -> tuple[Array, Any]:
        distribution, _ = network.policy(
            {**params, "policy": policy_params}, batch.observation, batch.memory
        )
        advantage = batch.advantage
        if config.advantage_normalization == "minibatch":
            advantage = normalize_advantage(advantage, batch.mask)
        log_prob = distribution.log_prob(batch.action)
        policy_loss = policy_gradient_loss(log_prob, advantage, batch.mask)
        entropy = distribution.entropy().mean(where=batch.mask)
        metrics = {"policy_loss": policy_loss, "entropy": entropy}
        return policy_loss - config.ent_coef * entropy, metrics

    def init(params: PyTree) -> VPGState:
        return VPGState(
            adam(config.learning_rate, config.max_grad_norm).init(params["policy"]),
            adam(config.critic_learning_rate, config.max_grad_norm).init(params["value"]),
        )

    def update(
        key: Array, params: PyTree, state: VPGState, batch: Batch, anneal: Array
    ) -> tuple[PyTree, VPGState, dict[str, Array]]:
        batch = blank(batch)
        policy_key, value_key = jax.random.split(key)
        optimizer = adam(config.learning_rate * anneal, config.max_grad_norm)
        critic_optimizer = adam(config.critic_learning_rate * anneal, config.max_grad_norm)

        def step(carry: Any, minibatch: Batch) -> tuple[Any, dict[str, Array]]:
            policy_params, opt_state = carry
            gradient, metrics = jax.grad(loss, has_aux=True)(policy_params, params, minibatch)
            updates, opt_state = optimizer.update(gradient, opt_state, policy_params)
            metrics["grad_norm"] = optax.tree.norm(gradient)
            return (optax.apply_updates(policy_params, updates), opt_state), metrics

        (policy_params, policy_opt_state), metrics = minibatch_epochs(
            policy_key,
            step,
            (params["policy"], state.policy_opt_state),
            batch,
            config.update_epochs,
            config.num_minibatches,
        )
        params, value_opt_state, error = fit_value(
            value_key,
            network,
            {**params, "policy": policy_params},
            state.value_opt_state,
            batch,
            critic_optimizer,
            config,
        )
        means = {name: value.mean() for name, value in metrics.items()}
        return params, VPGState(policy_opt_state, value_opt_state), {**means, "value_loss": error}

    return Algorithm(init, update)
