"""Benchmark worker for jaxrl_po itself."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp

from baselines.measurement import (
    compiler_options,
    read_setting,
    report,
    seed_keys,
    steps_to_threshold,
    time_calls,
    time_jax,
)
from jaxrl_po import make_train
from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.config import Config
from jaxrl_po.envs import make_environment
from jaxrl_po.host.machine.execution import compile_members


def make_config(setting: dict[str, Any]) -> Config:
    """The config of a setting: those of its entries that are fields of the algorithm's config."""
    config_class, _ = ALGORITHMS[setting["algorithm"]]
    names = {field.name for field in dataclasses.fields(config_class)}
    return config_class(**{name: value for name, value in setting.items() if name in names})


def time_threads(setting: dict[str, Any], config: Config) -> dict[str, float]:
    """Measurements of members executed as `run` and `sweep` execute them."""
    train = make_train(config)
    return time_calls(setting, lambda keys: compile_members(lambda key: train(key).metrics, keys))


def matmul_flops(setting: dict[str, Any], size: int = 2048) -> float:
    """Floating-point operations a second of a large matrix product: the machine's limit."""
    product = jax.jit(jnp.matmul)
    x = jnp.ones((size, size))
    compiled = product.lower(x, x).compile(compiler_options=compiler_options(setting))
    compiled(x, x).block_until_ready()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        compiled(x, x).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def main() -> None:
    """Measure one setting."""
    setting = read_setting()
    config = make_config(setting)
    make_environment(config.env_id, {})  # imports gymnax, which is no part of compiling
    if "threshold" in setting:
        metrics = jax.jit(jax.vmap(make_train(config)))(seed_keys(setting)).metrics
        curves = metrics["episode_return"], metrics["num_episodes"]
        report(steps_to_threshold=steps_to_threshold(setting, *curves))
    elif setting.get("execution") == "threads":
        report(**time_threads(setting, config))
    else:
        limit = {"matmul_flops": matmul_flops(setting)} if setting.get("measure_limit") else {}
        report(**time_jax(setting, lambda key: make_train(config)(key).metrics), **limit)


if __name__ == "__main__":
    main()
