"""The mathematics: arrays in, arrays out, no networks and no environments."""

from jaxrl_po.ops.advantages import gae
from jaxrl_po.ops.losses import (
    clipped_surrogate_loss,
    clipped_value_loss,
    explained_variance,
    normalize_advantage,
    policy_gradient_loss,
    surrogate_loss,
    value_loss,
)
from jaxrl_po.ops.normalization import (
    RunningStatistics,
    discounted_returns,
    init_statistics,
    normalize,
    scale_rewards,
    update_statistics,
)

__all__ = [
    "RunningStatistics",
    "clipped_surrogate_loss",
    "clipped_value_loss",
    "discounted_returns",
    "explained_variance",
    "gae",
    "init_statistics",
    "normalize",
    "normalize_advantage",
    "policy_gradient_loss",
    "scale_rewards",
    "surrogate_loss",
    "update_statistics",
    "value_loss",
]
