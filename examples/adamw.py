"""An optimiser of one's own: PPO with AdamW, whose step size warms up.

python -m jaxrl_po train examples.adamw:AdamWConfig --env-id CartPole-v1 --weight-decay 1e-3
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from jaxrl_po import PPOConfig
from jaxrl_po.config import NON_NEGATIVE, POSITIVE, pytree, setting


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamWConfig(PPOConfig):
    """PPO-clip by AdamW (Loshchilov & Hutter 2019)."""

    # part of the parameters that a step takes away, in learning rates
    weight_decay: float = setting(1e-4, NON_NEGATIVE)
    # steps of the optimiser until the whole learning rate
    warmup_steps: float = setting(100.0, POSITIVE)

    def make_optimizer(self, learning_rate: jax.Array | float) -> optax.GradientTransformation:
        """AdamW behind a bound on the gradient's norm."""

        def schedule(count: jax.Array) -> jax.Array:
            return learning_rate * jnp.minimum(1.0, (count + 1) / self.warmup_steps)

        return optax.chain(
            optax.clip_by_global_norm(self.max_grad_norm),
            optax.adamw(schedule, weight_decay=self.weight_decay),
        )
