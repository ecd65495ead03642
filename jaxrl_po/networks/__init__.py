"""Actor-critic networks behind the `Network` interface."""

from jaxrl_po.networks.actor_critic import make_network
from jaxrl_po.networks.check import check_network
from jaxrl_po.networks.recurrent import unroll_by_steps

__all__ = ["check_network", "make_network", "unroll_by_steps"]
