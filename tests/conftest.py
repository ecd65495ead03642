"""Strict JAX, a compilation cache, and what all tests share."""

import functools
import pathlib
import re

import jax
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from jaxrl_po.algorithms import ALGORITHMS

CACHE = pathlib.Path(__file__).parent.parent / ".jax_cache"

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

settings.register_profile("default", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("default")


@pytest.fixture(scope="session", params=ALGORITHMS)
def algorithm(request):
    """Every algorithm, by name."""
    return request.param


@pytest.fixture(scope="session")
def jit():
    """`jax.jit` for tiny programs: three times as quick to compile, and slower to run."""
    return functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class ByFileAndAlgorithm(LoadScopeScheduling):
    """One worker takes a file's tests of an algorithm, and so compiles each program once."""

    def _split_scope(self, nodeid):
        file, _, test = nodeid.partition("::")
        if file.startswith("tests/learning"):  # long runs that share nothing
            return nodeid
        parameters = re.split(r"[\[\]-]", test)
        return "::".join([file, *[name for name in parameters if name in ALGORITHMS]])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return ByFileAndAlgorithm(config, log)
