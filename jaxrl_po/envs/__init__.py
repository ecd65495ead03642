"""Environments behind one small interface."""

from jaxrl_po.envs.environment import Environment, check_environment
from jaxrl_po.envs.hosted import HostEnvironment
from jaxrl_po.envs.suites import SUITES, make_environment, suite_and_name
from jaxrl_po.envs.wrappers import stack_frames, transform_observation
from jaxrl_po.spaces import Box, Discrete, MultiDiscrete, to_bounds

__all__ = [
    "SUITES",
    "Box",
    "Discrete",
    "Environment",
    "HostEnvironment",
    "MultiDiscrete",
    "check_environment",
    "make_environment",
    "stack_frames",
    "suite_and_name",
    "to_bounds",
    "transform_observation",
]
