"""Environments behind one small interface."""

from jaxrl_po.envs.environment import Box, Discrete, Environment, check_environment
from jaxrl_po.envs.gymnax import make_environment, to_bounds

__all__ = ["Box", "Discrete", "Environment", "check_environment", "make_environment", "to_bounds"]
