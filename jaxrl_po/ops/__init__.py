"""The mathematics: arrays in, arrays out, no networks and no environments."""

from jaxrl_po.ops.advantages import gae
from jaxrl_po.ops.losses import (
    clipped_surrogate_loss,
    clipped_value_loss,
    explained_variance,
    importance_ratio,
    means,
    normalize_advantage,
    policy_gradient_loss,
    ratio_or_nan,
    surrogate_loss,
    value_loss,
)
from jaxrl_po.ops.natural_gradient import (
    backtracking_line_search,
    conjugate_gradient,
    fisher_vector_product,
    mean_kl,
    natural_gradient,
    trust_region_scale,
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
    "backtracking_line_search",
    "clipped_surrogate_loss",
    "clipped_value_loss",
    "conjugate_gradient",
    "discounted_returns",
    "explained_variance",
    "fisher_vector_product",
    "gae",
    "importance_ratio",
    "init_statistics",
    "mean_kl",
    "means",
    "natural_gradient",
    "normalize",
    "normalize_advantage",
    "policy_gradient_loss",
    "ratio_or_nan",
    "scale_rewards",
    "surrogate_loss",
    "trust_region_scale",
    "update_statistics",
    "value_loss",
]
