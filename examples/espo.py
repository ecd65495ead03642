"""ESPO, a method of one's own: epochs on the plain surrogate, left when ratios stray too far.

Sun et al. 2022 (arXiv:2202.00079): no clip; a rollout is left alone once E|r - 1| > δ.

    python -m jaxrl_po train examples.espo:ESPOConfig --env-id CartPole-v1 --total-timesteps 1e5
"""

import dataclasses

import jax.numpy as jnp

from jaxrl_po.algorithms.minibatch import check_minibatches, make_descent
from jaxrl_po.config import COUNT, NON_NEGATIVE, POSITIVE, Config, pytree, setting
from jaxrl_po.ops import importance_ratio, means, surrogate_loss, value_loss
from jaxrl_po.types import Algorithm, Array, Batch, Network, PyTree


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class ESPOConfig(Config):
    """Early-stopping policy optimisation."""

    # passes over each rollout, at most
    update_epochs: int = setting(10, COUNT)
    # minibatches of a pass; they divide num_envs * num_steps
    num_minibatches: int = setting(4, COUNT)
    # δ, the mean |r - 1| of a minibatch that ends the update
    max_deviation: float = setting(0.25, POSITIVE)
    # weight of the value loss
    vf_coef: float = setting(0.5, NON_NEGATIVE)

    def validate(self) -> None:
        """Check that the minibatches divide the rollout."""
        super().validate()
        check_minibatches(self, "num_minibatches")

    def make_algorithm(self, network: Network) -> Algorithm:
        """The update, acting on `network`."""
        descent = make_descent(self, network)

        def loss(params: PyTree, batch: Batch) -> tuple[Array, dict[str, Array]]:
            distribution, value = network.policy_and_value(params, batch.observation, batch.memory)
            ratio = importance_ratio(distribution.log_prob(batch.action), batch.log_prob)
            policy_error = surrogate_loss(ratio, batch.advantage)
            value_error = value_loss(value, batch.target)
            terms = {"policy_loss": policy_error, "value_loss": value_error}
            terms |= {"entropy": distribution.entropy(), "deviation": jnp.abs(ratio - 1.0)}
            return (policy_error + self.vf_coef * value_error).mean(), means(terms)

        def update(
            key: Array, params: PyTree, state: PyTree, batch: Batch, anneal: Array
        ) -> tuple[PyTree, PyTree, dict[str, Array]]:
            rate = self.learning_rate * anneal
            sizes = {"num_epochs": self.update_epochs, "num_minibatches": self.num_minibatches}
            stop = lambda metrics: metrics["deviation"] > self.max_deviation  # noqa: E731
            start = params, state, batch
            params, state, metrics = descent.run(key, loss, *start, rate, **sizes, stop=stop)
            return params, state, {name: values.mean() for name, values in metrics.items()}

        return Algorithm(descent.init, update)
