"""A training run as people watch it: compiled segments, with a line of progress between them."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxrl_po.config import Config
from jaxrl_po.evaluate import Evaluation, evaluate
from jaxrl_po.host.execution import compile_members
from jaxrl_po.train import as_config, make_step
from jaxrl_po.types import Array, Network, TrainState

NUM_SEGMENTS = 20  # visits of the host during a run


class RunResult(NamedTuple):
    """What `run` returns; S seeds, I iterations, E episodes."""

    state: TrainState  # [S, ...]
    metrics: dict[str, np.ndarray]  # [S, I] each
    evaluation: Evaluation  # [S, E], of the final policies, sampled
    compile_seconds: float
    train_seconds: float


def run(
    config: Config | Mapping[str, Any],
    seed: int = 0,
    num_seeds: int = 1,
    *,
    env: Any = None,
    network: Network | None = None,
    quiet: bool = False,
) -> RunResult:
    """Train `num_seeds` agents with seeds `seed`, `seed + 1`, …, show progress, and evaluate them.

    Args:
        config: a config, or a dict with "algorithm".
        seed: the first agent's seed.
        num_seeds: S, agents trained side by side.
        env: as for `make_train`.
        network: as for `make_train`.
        quiet: print nothing.
    """
    config = as_config(config)
    if num_seeds < 1:
        raise ValueError(f"num_seeds={num_seeds} is out of range: it must be >= 1")
    console = Console(quiet=quiet)
    init, step = make_step(config, env, network)
    length = -(-config.num_iterations // NUM_SEGMENTS)

    def segment(state: TrainState, num_iterations: Array) -> tuple[TrainState, dict[str, Array]]:
        """Up to `length` iterations in one program, whatever their number."""
        abstract = jax.eval_shape(step, state)[1]
        buffers = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), abstract)

        def iterate(i: Array, carry: Any) -> Any:
            state, buffers = carry
            state, metrics = step(state)
            return state, jax.tree.map(lambda b, m: b.at[i].set(m), buffers, metrics)

        return jax.lax.fori_loop(0, num_iterations, iterate, (state, buffers))

    started = time.perf_counter()
    keys = jnp.stack([jax.random.key(seed + i) for i in range(num_seeds)])
    state = jax.jit(jax.vmap(init))(keys)
    advance = compile_members(segment, state, jnp.int32(length))
    compile_seconds = time.perf_counter() - started
    console.print(
        f"{config.algorithm} on {config.env_id if env is None else env}: {num_seeds} seed(s) x "
        f"{config.num_iterations} iterations, compiled in {compile_seconds:.1f} s"
    )

    started = time.perf_counter()
    history: list[dict[str, np.ndarray]] = []
    for first in range(0, config.num_iterations, length):
        count = min(length, config.num_iterations - first)
        state, metrics = advance(state, jnp.int32(count))
        history.append({name: np.asarray(value)[:, :count] for name, value in metrics.items()})
        console.print(_progress(history[-1], num_seeds, time.perf_counter() - started))
    train_seconds = time.perf_counter() - started

    def play(state: TrainState, key: Array) -> Evaluation:
        return evaluate(config, state, key, env=env, network=network)

    evaluation_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
    evaluation = jax.jit(jax.vmap(play))(state, evaluation_keys)
    result = RunResult(
        state,
        {name: np.concatenate([h[name] for h in history], axis=1) for name in history[0]},
        jax.tree.map(np.asarray, evaluation),
        compile_seconds,
        train_seconds,
    )
    console.print(summary(result), style="bold")
    return result


def summary(result: RunResult) -> str:
    """One line: the final policies' return over seeds, and what training took."""
    returns = result.evaluation.episode_return.mean(axis=1)
    steps = int(result.metrics["timesteps"][:, -1].sum())
    return (
        f"final return {returns.mean():.1f} ± {returns.std():.1f} over {len(returns)} seed(s) "
        f"({result.evaluation.episode_return.shape[1]} sampled episodes each); "
        f"{steps:,} steps in {result.train_seconds:.1f} s "
        f"({steps / result.train_seconds:,.0f} steps/s)"
    )


def _progress(metrics: dict[str, np.ndarray], num_seeds: int, seconds: float) -> str:
    timesteps = int(metrics["timesteps"][0, -1])
    returns = metrics["episode_return"]
    finished = returns[np.isfinite(returns)]
    mean = f"{finished.mean():10.2f}" if finished.size else "         -"
    return (
        f"{timesteps:>12,} steps  return {mean}  "
        f"{num_seeds * timesteps / seconds:>10,.0f} steps/s  {seconds:6.1f} s"
    )
