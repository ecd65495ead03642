"""What every worker of the benchmark does alike: read its setting, time a program, report."""

import functools
import json
import math
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any


def read_setting() -> dict[str, Any]:
    """The setting on the command line, a JSON object; `benchmark.py` has their fields."""
    return dict(json.loads(sys.argv[1]))


def report(**values: Any) -> None:
    """Print the measurements, and this process's peak memory, as one line of JSON."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**values, "peak_mib": peak}))


def seed_keys(setting: dict[str, Any]) -> Any:
    """A key for each seed [S]."""
    import jax

    return jax.random.split(jax.random.key(setting["seed"]), setting["num_seeds"])


def time_jax(setting: dict[str, Any], program: Callable[[Any], Any]) -> dict[str, float]:
    """Compile `program(key)` and time it; under vmap for more seeds than one."""
    import jax

    members = jax.vmap(program) if setting["num_seeds"] > 1 else lambda keys: program(keys[0])
    options = compiler_options(setting)
    return time_calls(
        setting, lambda keys: jax.jit(members).lower(keys).compile(compiler_options=options)
    )


def time_calls(
    setting: dict[str, Any], compile_for: Callable[[Any], Callable[[Any], Any]]
) -> dict[str, float]:
    """Time `compile_for(keys)`, and what it gives on fresh keys, after one call to warm up.

    The fastest of the calls counts: other users of a machine only ever slow them down. Steps/s
    counts the steps of all seeds together; steps per CPU second, the seconds of all threads.
    """
    import jax

    num_seeds, repeats = setting["num_seeds"], setting["repeats"]
    keys = jax.random.split(jax.random.key(setting["seed"]), (repeats + 1, num_seeds))
    call, compile_seconds, compile_cpu_seconds = _timed(lambda: compile_for(keys[0]))
    jax.block_until_ready(call(keys[0]))
    times = [_timed(functools.partial(call, k))[1:] for k in keys[1:]]
    wall, cpu = (min(column) for column in zip(*times, strict=True))
    steps = num_seeds * setting["total_timesteps"]
    return {
        "compile_seconds": compile_seconds,
        "compile_cpu_seconds": compile_cpu_seconds,
        "steps_per_second": steps / wall,
        "steps_per_cpu_second": steps / cpu,
    }


def compiler_options(setting: dict[str, Any]) -> dict[str, Any]:
    """The same for all JAX programs of a setting: what suits small ones on a CPU."""
    if setting["device"] != "cpu":
        return {}
    return {"xla_cpu_multi_thread_eigen": False, "xla_cpu_prefer_vector_width": 512}


def steps_to_threshold(
    setting: dict[str, Any], episode_return: Any, num_episodes: Any
) -> list[int | None]:
    """Steps until the mean return of the last 100 or more training episodes reached the threshold.

    Args:
        setting: with a "threshold".
        episode_return: mean over the episodes that ended in an iteration [S, I], NaN if none did.
        num_episodes: how many did [S, I].

    Returns:
        One number for each seed; None where it was not reached.
    """
    per_iteration = setting["num_envs"] * setting["num_steps"]
    return [
        next(
            (
                (i + 1) * per_iteration
                for i, mean in enumerate(_recent_means(returns, counts))
                if mean >= setting["threshold"]
            ),
            None,
        )
        for returns, counts in zip(episode_return, num_episodes, strict=True)
    ]


def _recent_means(returns: Any, counts: Any) -> Iterator[float]:
    """After each iteration the mean over the last 100 or more episodes; NaN before there are."""
    recent: deque[tuple[float, int]] = deque()
    for mean, count in zip(returns, counts, strict=True):
        if count:
            recent.append((float(mean), int(count)))
        while sum(n for _, n in recent) - (recent[0][1] if recent else 0) >= 100:
            recent.popleft()
        total = sum(n for _, n in recent)
        yield sum(m * n for m, n in recent) / total if total >= 100 else math.nan


def _timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Output, seconds, and CPU seconds of all threads."""
    import jax

    started, cpu_started = time.perf_counter(), time.process_time()
    output = jax.block_until_ready(function())
    return output, time.perf_counter() - started, time.process_time() - cpu_started
