"""The critic of the methods that fit it apart from the policy: VPG, NPG and TRPO."""

import dataclasses
from typing import Any

import jax
import optax

from jaxrl_po.algorithms.minibatch import check_minibatches, minibatch_epochs
from jaxrl_po.config import COUNT, Config, setting
from jaxrl_po.ops import value_loss
from jaxrl_po.types import Array, Batch, Network, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticConfig(Config):
    """Fields of a critic fitted by minibatch Adam."""

    # passes over each rollout
    critic_epochs: int = setting(10, COUNT)
    # minibatches of a pass; they divide num_envs * num_steps
    critic_minibatches: int = setting(4, COUNT)

    def validate(self) -> None:
        """Check the minibatches, and that policy and critic are apart."""
        super().validate()
        check_minibatches(self, "critic_minibatches")
        if self.shared_torso:
            raise ValueError(
                f"shared_torso=True does not go with {self.algorithm}: its critic is fitted apart "
                "from the policy, so the two cannot share a torso (ppo and ppo_penalty can)"
            )


def fit_value(
    key: Array,
    network: Network,
    params: PyTree,
    opt_state: PyTree,
    batch: Batch,
    optimizer: optax.GradientTransformation,
    config: CriticConfig,
) -> tuple[PyTree, PyTree, Array]:
    """Regress V on the λ-returns, leaving the policy alone: minimise ½ E[(V(s) - target)²].

    Returns:
        Params with a new "value", its optimiser state, and the mean loss over the last epoch.
    """

    def loss(value_params: PyTree, minibatch: Batch) -> Array:
        value = network.value(
            {**params, "value": value_params}, minibatch.observation, minibatch.memory
        )
        return value_loss(value, minibatch.target, minibatch.mask)

    def step(carry: Any, minibatch: Batch) -> tuple[Any, Array]:
        value_params, opt_state = carry
        error, gradient = jax.value_and_grad(loss)(value_params, minibatch)
        updates, opt_state = optimizer.update(gradient, opt_state, value_params)
        return (optax.apply_updates(value_params, updates), opt_state), error

    (value_params, opt_state), errors = minibatch_epochs(
        key,
        step,
        (params["value"], opt_state),
        batch,
        config.critic_epochs,
        config.critic_minibatches,
    )
    last_epoch = errors[-config.critic_minibatches :]
    return {**params, "value": value_params}, opt_state, last_epoch.mean()
