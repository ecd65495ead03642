"""What every worker of the benchmark does alike: read its setting, time a program, report."""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def read_setting() -> dict[str, Any]:
    """The setting on the command line, a JSON object; `benchmark.py` has their fields."""
    return dict(json.loads(sys.argv[1]))


def report(**values: Any) -> None:
    """Print the measurements, and this process's peak memory, as one line of JSON."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**values, "peak_mib": peak}))


def time_jax(setting: dict[str, Any], program: Callable[[Any], Any]) -> tuple[Any, dict[str, Any]]:
    """Compile `program(key)` and time it; under vmap for more seeds than one.

    Returns:
        What the first run gave, and the measurements.
    """
    import jax

    if setting["num_seeds"] > 1:
        program = jax.vmap(program)
    options = compiler_options(setting)
    return time_calls(
        setting, lambda keys: jax.jit(program).lower(keys).compile(compiler_options=options)
    )


def time_calls(
    setting: dict[str, Any], compile_for: Callable[[Any], Callable[[Any], Any]]
) -> tuple[Any, dict[str, Any]]:
    """Time `compile_for(keys)`, and what it gives on fresh keys, after one call to warm up.

    The fastest of the calls counts: other users of a machine only ever slow them down. Steps/s
    counts the steps of all seeds together; steps per CPU second, the seconds of all threads.
    """
    import jax

    num_seeds, repeats = setting["num_seeds"], setting["repeats"]
    keys = jax.random.split(jax.random.key(setting["seed"]), (repeats + 1, num_seeds))
    keys = keys if num_seeds > 1 else keys[:, 0]
    call, compile_seconds, compile_cpu_seconds = _timed(lambda: compile_for(keys[0]))
    first, _, _ = _timed(lambda: call(keys[0]))
    times = [_timed(lambda k=k: call(k))[1:] for k in keys[1:]]
    wall, cpu = (min(column) for column in zip(*times, strict=True))
    steps = num_seeds * setting["total_timesteps"]
    return first, {
        "compile_seconds": compile_seconds,
        "compile_cpu_seconds": compile_cpu_seconds,
        "steps_per_second": steps / wall,
        "steps_per_cpu_second": steps / cpu,
    }


def compiler_options(setting: dict[str, Any]) -> dict[str, Any]:
    """The same for all JAX programs of a setting: on CPU, small ones run best on one thread."""
    if setting["device"] != "cpu":
        return {}
    return {"xla_cpu_multi_thread_eigen": setting.get("multi_thread", False)}


def steps_to_threshold(
    setting: dict[str, Any], timesteps: Any, episode_return: Any, num_episodes: Any
) -> int | None:
    """When the mean return of the last 100 or more training episodes reached the threshold.

    Args:
        setting: with a "threshold".
        timesteps: environment steps so far [I].
        episode_return: mean over the episodes that ended in an iteration [I], NaN if none did.
        num_episodes: how many did [I].
    """
    recent: list[tuple[float, int]] = []
    for steps, mean, count in zip(timesteps, episode_return, num_episodes, strict=True):
        if count:
            recent.append((float(mean), int(count)))
        while sum(n for _, n in recent[1:]) >= 100:
            recent.pop(0)
        total = sum(n for _, n in recent)
        if total >= 100 and sum(m * n for m, n in recent) / total >= setting["threshold"]:
            return int(steps)
    return None


def _timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Output, seconds, and CPU seconds of all threads."""
    import jax

    started, cpu_started = time.perf_counter(), time.process_time()
    output = jax.block_until_ready(function())
    return output, time.perf_counter() - started, time.process_time() - cpu_started
