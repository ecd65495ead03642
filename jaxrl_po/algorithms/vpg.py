"""Vanilla policy gradient with a learned baseline (Williams 1992; Sutton et al. 2000)."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax

from jaxrl_po.algorithms.critic import CriticConfig, fit_value
from jaxrl_po.algorithms.minibatch import blank, check_minibatches, make_descent
from jaxrl_po.config import COUNT, NON_NEGATIVE, pytree, setting
from jaxrl_po.fast.slices import policy_in_slices
from jaxrl_po.ops import means, normalize_advantage, policy_gradient_loss
from jaxrl_po.types import Algorithm, Array, Batch, Network, Optimizer, PyTree


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
        self.check_advantages("minibatch", self.num_envs * self.num_steps // self.num_minibatches)


class VPGState(NamedTuple):
    """What VPG keeps between iterations."""

    policy_opt_state: PyTree
    value_opt_state: PyTree


def vpg(config: VPGConfig, network: Network, optimizer: Optimizer | None = None) -> Algorithm:
    """VPG as an update: ascend E[log π(a|s) Â], then fit the critic to the λ-returns."""
    descent = make_descent(config, network, optimizer)
    distribution_of = policy_in_slices(network, config.minibatch_shards)

    def init(params: PyTree) -> VPGState:
        return VPGState(descent.init(params.policy), descent.init(params.value))

    def update(
        key: Array, params: PyTree, state: VPGState, batch: Batch, anneal: Array
    ) -> tuple[PyTree, VPGState, dict[str, Array]]:
        batch = blank(batch)
        policy_key, value_key = jax.random.split(key)

        def loss(policy_params: PyTree, minibatch: Batch) -> tuple[Array, dict[str, Array]]:
            distribution = distribution_of(
                params._replace(policy=policy_params), minibatch.observation, minibatch.memory
            )
            advantage = minibatch.advantage
            if config.advantage_normalization == "minibatch":
                advantage = normalize_advantage(advantage, minibatch.mask)
            error = policy_gradient_loss(distribution.log_prob(minibatch.action), advantage)
            entropy = distribution.entropy()
            total = error - config.ent_coef * entropy
            metrics = means({"policy_loss": error, "entropy": entropy}, minibatch.mask)
            return total.mean(where=minibatch.mask), metrics

        policy_params, policy_opt_state, metrics = descent.run(
            policy_key,
            loss,
            params.policy,
            state.policy_opt_state,
            batch,
            config.learning_rate * anneal,
            num_epochs=config.update_epochs,
            num_minibatches=config.num_minibatches,
        )
        params, value_opt_state, fitted = fit_value(
            config,
            network,
            descent,
            value_key,
            params._replace(policy=policy_params),
            state.value_opt_state,
            batch,
            config.critic_learning_rate * anneal,
        )
        averages = {name: value.mean() for name, value in metrics.items()}
        return (
            params,
            VPGState(policy_opt_state, value_opt_state),
            averages | fitted,
        )

    return Algorithm(init, update)
