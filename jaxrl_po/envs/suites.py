"""Suites of environments in JAX: whose a name or an object is, and the adapter that knows it."""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from jaxrl_po.config.messages import suggestion
from jaxrl_po.envs.environment import Environment
from jaxrl_po.envs.hosted import HostEnvironment, face

# suite, which is also its extra -> its package, and the module of its adapter, SUITE_environment
SUITES = {
    "brax": ("brax", "jaxrl_po.envs.brax"),
    "craftax": ("craftax", "jaxrl_po.envs.craftax"),
    "envpool": ("envpool", "jaxrl_po.envs.hosted"),
    "gymnasium": ("gymnasium", "jaxrl_po.envs.hosted"),
    "gymnax": ("gymnax", "jaxrl_po.envs.gymnax"),
    "jumanji": ("jumanji", "jaxrl_po.envs.jumanji"),
    "navix": ("navix", "jaxrl_po.envs.navix"),
    "pgx": ("pgx", "jaxrl_po.envs.pgx"),
    "playground": ("mujoco_playground", "jaxrl_po.envs.playground"),
    "xminigrid": ("xminigrid", "jaxrl_po.envs.xminigrid"),
}


def make_environment(env: Any, env_params: Mapping[str, Any]) -> Environment:
    """The environment that a name stands for, or that an object of a suite is.

    Args:
        env: "suite:name"; a plain name is gymnax's; or an object, as the suite makes it. What is
            no suite's is taken as an object with gymnax's interface.
        env_params: overrides of its parameters, by name.

    Raises:
        ValueError: naming the suite, the environment or the parameter that is not there.

    Examples:
        >>> env = make_environment("CartPole-v1", {"max_steps_in_episode": 100})
        >>> env.action_space
        Discrete(n=2)
    """
    if isinstance(env, HostEnvironment):
        return face(env)
    suite, name = (suite_and_name(env)) if isinstance(env, str) else (_owner(env), env)
    package, module = SUITES[suite]
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"env_id={env!r} needs the package {package}: pip install 'jaxrl-po[{suite}]'"
        )
    adapter = getattr(importlib.import_module(module), f"{suite}_environment")
    made: Environment = adapter(name, env_params)
    return made


def suite_and_name(env_id: str) -> tuple[str, str]:
    """The suite of an environment, and its name there."""
    suite, colon, name = env_id.partition(":")
    if not colon:
        return "gymnax", env_id
    if suite not in SUITES or not name:
        raise ValueError(
            f"env_id={env_id!r}: a suite's name is before the colon; {suggestion(suite, SUITES)}"
        )
    return suite, name


def _owner(env: Any) -> str:
    """The suite whose class an object's is, or whose class it inherits from; else gymnax."""
    first = env[0] if isinstance(env, tuple) and env else env
    packages = [kind.__module__.split(".")[0] for kind in type(first).__mro__]
    suites = {package: suite for suite, (package, _) in SUITES.items()}
    return next((suites[package] for package in packages if package in suites), "gymnax")
