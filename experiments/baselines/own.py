"""Benchmark worker for jaxrl_po itself."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from experiments.baselines.measurement import (
    compiler_options,
    read_setting,
    report,
    steps_to_threshold,
    time_calls,
    time_jax,
)
from jaxrl_po import config_from_dict, make_train
from jaxrl_po.config import Config
from jaxrl_po.host.execution import compile_members

FIELDS = """env_id num_envs num_steps total_timesteps gamma gae_lambda learning_rate max_grad_norm
hidden_sizes""".split()
PPO_FIELDS = "update_epochs num_minibatches clip_eps vf_coef ent_coef".split()
TRPO_FIELDS = "max_kl cg_iters cg_damping max_backtracks critic_epochs critic_minibatches".split()


def make_config(setting: dict[str, Any]) -> Config:
    """The config of a setting."""
    fields = FIELDS + (TRPO_FIELDS if setting["algorithm"] == "trpo" else PPO_FIELDS)
    return config_from_dict({name: setting[name] for name in ["algorithm", *fields]})


def time_threads(setting: dict[str, Any], config: Config) -> dict[str, Any]:
    """Measurements of members executed as `run` and `sweep` execute them."""
    train = make_train(config)
    return time_calls(setting, lambda keys: compile_members(lambda key: train(key).metrics, keys))[
        1
    ]


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
    if setting.get("execution") == "threads":
        report(**time_threads(setting, config))
        return
    result, timing = time_jax(setting, make_train(config))
    if "threshold" in setting:
        names = "timesteps", "episode_return", "num_episodes"
        curve = (result.metrics[name] for name in names)
        timing["steps_to_threshold"] = steps_to_threshold(setting, *curve)
    if setting.get("measure_limit"):
        timing["matmul_flops"] = matmul_flops(setting)
    report(**timing)


if __name__ == "__main__":
    main()
