"""The critic of the methods that fit it apart from the policy: VPG, NPG and TRPO."""

import dataclasses

import jax

from jaxrl_po.algorithms.minibatch import Descent, check_minibatches
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
    config: CriticConfig,
    network: Network,
    descent: Descent,
    key: Array,
    params: PyTree,
    opt_state: PyTree,
    batch: Batch,
    learning_rate: Array | float,
) -> tuple[PyTree, PyTree, dict[str, Array]]:
    """Regress V on the λ-returns, leaving the policy alone: minimise E[ℓ(V(s) - target)].

    Params without a value have no critic to fit, and come back as they are.

    Returns:
        Params with a new "value", its optimiser state, and the mean loss over the last epoch as
        "value_loss".
    """
    if not jax.tree.leaves(params.value):
        return params, opt_state, {}

    def loss(value_params: PyTree, minibatch: Batch) -> tuple[Array, dict[str, Array]]:
        value = network.value(
            params._replace(value=value_params), minibatch.observation, minibatch.memory
        )
        error = value_loss(value, minibatch.target, config.value_loss).mean(where=minibatch.mask)
        return error, {"value_loss": error}

    value_params, opt_state, metrics = descent.run(
        key,
        loss,
        params.value,
        opt_state,
        batch,
        learning_rate,
        num_epochs=config.critic_epochs,
        num_minibatches=config.critic_minibatches,
    )
    last_epoch = metrics["value_loss"][-config.critic_minibatches :]
    return params._replace(value=value_params), opt_state, {"value_loss": last_epoch.mean()}
