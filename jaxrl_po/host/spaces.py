"""Ranges of a sweep, under the name they had first: see `jaxrl_po.host.sweeps.ranges`."""

from jaxrl_po.host.sweeps.ranges import linear, log

__all__ = ["linear", "log"]
