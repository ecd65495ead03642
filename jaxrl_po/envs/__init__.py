"""Environments behind one small interface."""

from jaxrl_po.envs.environment import Environment, check_environment
from jaxrl_po.envs.gymnax import make_environment
from jaxrl_po.envs.wrappers import stack_frames, transform_observation
from jaxrl_po.spaces import Box, Discrete, MultiDiscrete, to_bounds

__all__ = [
    "Box",
    "Discrete",
    "Environment",
    "MultiDiscrete",
    "check_environment",
    "make_environment",
    "stack_frames",
    "to_bounds",
    "transform_observation",
]
