"""A run in a process that is killed: what the test starts again and again."""

from pathlib import Path

import jax

from jaxrl_po import resume, run
from tests.host.simulators.lines import hosted
from tests.host.small import RUN, config, random_walk

ITERATIONS, SEGMENT = 20_000, 20
MEMORY = {"network": "gru", "memory_size": 4, "sequence_length": 4}


def go_on(directory: str, cache: str, until: int | None = None) -> None:
    """Start the run in the directory, or go on with it."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    env = random_walk()
    if (Path(directory) / "config.json").exists():
        resume(directory, env=env, until=until, quiet=True)
    else:
        run(
            config(num_iterations=ITERATIONS, **MEMORY),
            num_seeds=2,
            directory=directory,
            env=env,
            segment_length=SEGMENT,
            until=until,
            **RUN,
        )


def go_on_host(directory: str, cache: str, until: int | None = None) -> None:
    """The same with environments that step on the host."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if (Path(directory) / "config.json").exists():
        resume(directory, env=hosted(), until=until, quiet=True)
    else:
        given = config(num_iterations=ITERATIONS)
        settings = {"env": hosted(), "segment_length": 3, "until": until, **RUN}
        run(given, num_seeds=2, directory=directory, **settings)
