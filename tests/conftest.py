"""Strict JAX, a compilation cache, and what all tests share."""

import functools
import gc
import os
import pathlib
import re

import jax
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from jaxrl_po.algorithms import ALGORITHMS

CACHE = pathlib.Path(__file__).parent.parent / ".jax_cache"

# Most of what the tests take is the compilation of a thousand small programs that run for
# milliseconds. XLA makes them, here and in the processes that tests start, in a fifth of the time:
QUICK = (
    "--xla_backend_optimization_level=0",  # no LLVM passes
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",  # MLIR: two thirds of it
    "--xla_cpu_parallel_codegen_split_count=1",  # the cores have a worker each
)
AS_SHIPPED = {  # undoes it, for tests of what XLA makes of a program: its bits, memory and kernels
    "xla_backend_optimization_level": 3,
    "xla_backend_extra_options": "",
}
os.environ["XLA_FLAGS"] = " ".join(
    dict.fromkeys([*QUICK, *os.environ.get("XLA_FLAGS", "").split()])
)
SETTINGS = {  # of JAX, here and in those processes
    "jax_numpy_rank_promotion": "raise",
    "jax_compilation_cache_dir": str(CACHE),
    "jax_persistent_cache_min_compile_time_secs": 0,
}
for name, value in SETTINGS.items():
    os.environ[name.upper()] = str(value)
    jax.config.update(name, value)

settings.register_profile("default", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("default")


def pytest_collection_finish():
    """Look for garbage less often, and not in what was imported: a sixth of what tracing takes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(scope="session", params=ALGORITHMS)
def algorithm(request):
    """Every algorithm, by name."""
    return request.param


@pytest.fixture(scope="session")
def jit():
    """`jax.jit`, quick to compile as all is here."""
    return jax.jit


@pytest.fixture(scope="session")
def jit_as_shipped():
    """`jax.jit` as users have it."""
    return functools.partial(jax.jit, compiler_options=AS_SHIPPED)


def pytest_collection_modifyitems(items):
    """Begin with what takes minutes, so that no core waits at the end for the last of it."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
