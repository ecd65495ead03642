"""VPG, NPG, TRPO, PPO and PPO-penalty by four criteria: general, data efficient, robust, simple.

    python experiments/four_criteria.py               # everything: 15 core-minutes
    python experiments/four_criteria.py --resume      # go on from the raw numbers that there are
    python experiments/four_criteria.py --quick       # a smoke run, of no evidence

Protocol. One budget, batch and network for every method and task; a task has no setting but its
discount; a method has no setting but its step size, and the library's defaults otherwise.
1. Robust: each method over three decades of its step size on the two tuning tasks.
2. That sweep, and nothing else, chooses one step size for each method.
3. General and data efficient: all tasks with that one step size, on seeds of their own.
4. Several epochs on one batch: VPG and PPO, each over all learning rates again.
Returns are those of the final policy: sampled actions, 128 fresh episodes a seed.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from baselines import dqn
from four_criteria_report import write_report
from source_size import num_lines

from jaxrl_po import (
    NPGConfig,
    PPOConfig,
    PPOPenaltyConfig,
    TRPOConfig,
    VPGConfig,
    evaluate,
    make_step,
    make_train,
)
from jaxrl_po.algorithms import ALGORITHMS, make_algorithm
from jaxrl_po.config import Config
from jaxrl_po.host.machine.execution import compile_members
from jaxrl_po.loop.learn import make_batch
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.loop.rollout import rollout

RESULTS = pathlib.Path(__file__).parent / "results"


class Task(NamedTuple):
    """An environment, its discount, and the training return that counts as learned."""

    env_id: str
    gamma: float
    threshold: float
    discrete: bool


class Method(NamedTuple):
    """A config, and the field that says how far an update goes, with its grid of three decades."""

    config: Any
    knob: str
    grid: tuple[float, ...]
    settings: Mapping[str, Any] = {}


class Scale(NamedTuple):
    """How much is run."""

    timesteps: int = 100_000
    num_seeds: int = 10
    sweep_seeds: int = 5
    grid_step: int = 1
    num_episodes: int = 128
    num_timings: int = 200
    num_tasks: int = 6
    methods: tuple[str, ...] = ("VPG", "NPG", "TRPO", "PPO", "PPO-penalty", "DQN")
    epochs: tuple[int, ...] = (1, 4, 10)


QUICK = Scale(4_096, 2, 1, 6, 4, 3, 1, ("VPG", "PPO"), (4,))


TASKS = (
    Task("CartPole-v1", 0.99, 475.0, True),
    Task("Pendulum-v1", 0.9, -250.0, False),
    Task("Acrobot-v1", 0.99, -100.0, True),
    Task("Catch-bsuite", 0.99, 0.9, True),
    Task("MountainCarContinuous-v0", 0.99, 90.0, False),
    Task("Reacher-misc", 0.99, 20.0, False),
)
NUM_TUNING_TASKS = 2  # the first ones
LEARNING_RATES = tuple(10.0**e for e in (-4, -3.5, -3, -2.5, -2, -1.5, -1))
MAX_KLS = tuple(10.0**e for e in (-3.5, -3, -2.5, -2, -1.5, -1, -0.5))
METHODS = {
    "VPG": Method(VPGConfig, "learning_rate", LEARNING_RATES),
    "NPG": Method(NPGConfig, "max_kl", MAX_KLS),
    "TRPO": Method(TRPOConfig, "max_kl", MAX_KLS),
    "PPO": Method(PPOConfig, "learning_rate", LEARNING_RATES),
    "PPO-penalty": Method(PPOPenaltyConfig, "learning_rate", LEARNING_RATES),
    "DQN": Method(dqn.DQNConfig, "learning_rate", LEARNING_RATES),
}
SHARED = {
    "num_envs": 8,
    "num_steps": 128,
    "normalize_observations": True,
    "normalize_rewards": True,
}
BLOCK = 1024  # environment steps: curves have one point a block ...
WINDOW = 8  # ... the mean return of the episodes that ended in the last WINDOW blocks
SWEEP_SEED, FINAL_SEED = 1000, 0


def make_config(method: Method, task: Task, timesteps: int) -> Any:
    """The config of a method on a task."""
    shared = {} if method.config is dqn.DQNConfig else SHARED
    return method.config(
        env_id=task.env_id,
        gamma=task.gamma,
        total_timesteps=timesteps,
        **shared,
        **method.settings,
    )


def measure(
    method: Method, task: Task, scale: Scale, values: tuple[float, ...], seeds: range
) -> dict[str, Any]:
    """Train and evaluate one agent for each of P step sizes and S seeds, in one executable.

    Returns:
        "final" [P, S], mean return of the final policy; "curve" [P, S, blocks], see `WINDOW`;
        "kl" [P, S], median KL(old‖new) of an iteration (NaN for DQN); "cpu_seconds" of a run.
    """
    config = make_config(method, task, scale.timesteps)
    is_dqn = method.config is dqn.DQNConfig
    per_block = BLOCK // (config.num_envs * config.num_steps)
    blocks = config.num_iterations // per_block

    def trial(member: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
        value, key = member
        chosen = config.replace(**{method.knob: value})
        result = (dqn.make_train if is_dqn else make_train)(chosen)(key)
        play = dqn.evaluate if is_dqn else evaluate
        final = play(chosen, result.state, jax.random.fold_in(key, 1), scale.num_episodes)
        count = result.metrics["num_episodes"]
        total = jnp.where(count > 0, result.metrics["episode_return"] * count, 0.0)
        count, total = (
            x[: blocks * per_block].reshape(blocks, per_block).sum(1) for x in (count, total)
        )
        kl = jnp.full((), jnp.nan) if is_dqn else jnp.nanmedian(result.metrics["kl"])
        return {"final": final.episode_return.mean(), "count": count, "total": total, "kl": kl}

    members = (
        jnp.repeat(jnp.array(values), len(seeds)),
        jnp.stack([jax.random.key(seed) for _ in values for seed in seeds]),
    )
    run = compile_members(trial, members)
    started = time.process_time()
    outputs = jax.tree.map(np.asarray, run(members))
    seconds = (time.process_time() - started) / len(members[0])
    shaped = {k: v.reshape(len(values), len(seeds), *v.shape[1:]) for k, v in outputs.items()}
    with np.errstate(invalid="ignore"):
        curve = windowed(shaped["total"]) / windowed(shaped["count"])
    curve[..., : WINDOW - 1] = np.nan  # the first episodes to end are not those of usual length
    return {
        "final": shaped["final"],
        "curve": curve,
        "kl": shaped["kl"],
        "cpu_seconds": seconds,
    }


def windowed(x: np.ndarray) -> np.ndarray:
    """Sums over the last `WINDOW` entries of the last axis."""
    sums = np.cumsum(x, axis=-1, dtype=float)
    before = np.zeros_like(sums)
    before[..., WINDOW:] = sums[..., :-WINDOW]
    windows: np.ndarray = sums - before
    return windows


def untrained_return(task: Task, scale: Scale) -> float:
    """Return of the policies that training starts from."""
    config = make_config(METHODS["PPO"], task, scale.timesteps)
    init, _ = make_step(config)

    def play(key: jax.Array) -> jax.Array:
        return evaluate(config, init(key), key, scale.num_episodes).episode_return.mean()

    keys = jax.random.split(jax.random.key(SWEEP_SEED), scale.num_seeds)
    return float(jax.jit(jax.vmap(play))(keys).mean())


def sweep_scores(sweep: dict[str, Any], untrained: dict[str, float]) -> dict[str, Any]:
    """Mean returns [P] as scores: 0 for the untrained policy, 1 for the best of all methods there.

    Both arguments and the result are by method, then task; `untrained` is by task.
    """
    means = {
        name: {task: np.mean(row["final"], axis=1) for task, row in rows.items()}
        for name, rows in sweep.items()
    }
    best = {t: max(rows[t].max() for rows in means.values() if t in rows) for t in untrained}
    return {
        name: {t: (mean - untrained[t]) / (best[t] - untrained[t]) for t, mean in rows.items()}
        for name, rows in means.items()
    }


def choose(scores: dict[str, Any], grids: dict[str, Any]) -> dict[str, float]:
    """For each method the step size of the highest score, mean over the tuning tasks."""
    return {
        name: grids[name][int(np.argmax(np.mean(list(rows.values()), axis=0)))]
        for name, rows in scores.items()
    }


def steps_to_threshold(curve: Any, threshold: float) -> list[float]:
    """For each seed the steps after which its curve [S, blocks] first reaches the threshold."""
    reached = np.array(curve, float) >= threshold  # never so where no episode has ended
    first = (reached.argmax(axis=1) + 1.0) * BLOCK
    times: list[float] = np.where(reached.any(axis=1), first, np.inf).tolist()
    return times


def cost_of(method: Method, scale: Scale) -> dict[str, Any]:
    """Lines of the update, hyperparameters, and the time of an update on one core."""
    config = make_config(method, TASKS[0], scale.timesteps)
    fields = set(method.config.__dataclass_fields__)
    is_dqn = method.config is dqn.DQNConfig
    update = dqn.learn if is_dqn else ALGORITHMS[config.algorithm][1]
    lines, lines_with_calls = num_lines(
        update, ("jaxrl_po.algorithms", "jaxrl_po.fast", "jaxrl_po.ops", "baselines")
    )
    return {
        "lines": lines,
        "lines_with_calls": lines_with_calls,
        "fields": len(fields),
        "own_fields": sorted(fields - set(Config.__dataclass_fields__)),
        "update_seconds": None if is_dqn else update_seconds(config, scale.num_timings),
    }


def update_seconds(config: Config, num_timings: int) -> float:
    """Least wall time of an update on one rollout, policy and critic together, on one thread."""
    environment, network = make_parts(config)
    algorithm = make_algorithm(config, network)
    init, _ = make_step(config)

    def prepare(key: jax.Array) -> Any:
        state = init(key)

        def policy(observation: jax.Array, memory: Any) -> Any:
            return network.policy(state.params, observe(state.normalizer, observation), memory)

        memory = network.initial_memory(config.num_envs)
        _, transitions, _ = rollout(
            environment, policy, memory, state.rollout, key, config.num_steps
        )
        batch, _ = make_batch(config, network, state, transitions)
        return key, state.params, state.algorithm, batch, jnp.ones(())

    arguments = jax.jit(prepare)(jax.random.key(0))
    single_thread: dict[str, str | bool] = {"xla_cpu_multi_thread_eigen": False}
    update = jax.jit(algorithm.update).lower(*arguments).compile(compiler_options=single_thread)
    times = []
    for _ in range(num_timings):
        started = time.perf_counter()
        jax.block_until_ready(update(*arguments))
        times.append(time.perf_counter() - started)
    return min(times)


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    packages = ("jaxrl-po", "jax", "flax", "optax", "gymnax")
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{jax.default_backend()}, {cpu}, {os.cpu_count()} cores",
        "versions": ", ".join(
            [f"Python {platform.python_version()}"]
            + [f"{p} {importlib.metadata.version(p)}" for p in packages]
        ),
    }


def study(scale: Scale, raw: pathlib.Path, resume: bool) -> dict[str, Any]:
    """All measurements as plain lists and numbers, saved one by one in a JSON file."""
    results = json.loads(raw.read_text()) if resume else {}
    tasks = {task.env_id: task for task in TASKS[: scale.num_tasks]}
    tuning = list(tasks)[:NUM_TUNING_TASKS]
    methods = {name: METHODS[name] for name in scale.methods}
    grids = {name: method.grid[:: scale.grid_step] for name, method in methods.items()}
    sweep_seeds = range(SWEEP_SEED, SWEEP_SEED + scale.sweep_seeds)
    seeds = range(FINAL_SEED, FINAL_SEED + scale.num_seeds)

    def once(stage: str, name: str, compute: Callable[..., Any], *arguments: Any) -> Any:
        done = results.setdefault(stage, {})
        if name not in done:
            started = time.perf_counter()
            done[name] = plain(compute(*arguments))
            raw.write_text(json.dumps(results) + "\n")
            print(f"{stage:10} {name:40} {time.perf_counter() - started:6.1f} s", flush=True)
        return done[name]

    def by_method(stage: str, names: list[str], compute: Callable[..., Any]) -> dict[str, Any]:
        """One measurement for each task and each method that can act in it."""
        return {
            name: {
                env_id: once(stage, f"{name} on {env_id}", compute, name, tasks[env_id])
                for env_id in names
                if tasks[env_id].discrete or name != "DQN"
            }
            for name in methods
        }

    def sweep_row(name: str, task: Task) -> dict[str, Any]:
        row = measure(methods[name], task, scale, grids[name], sweep_seeds)
        return {"final": row["final"], "kl": row["kl"]}

    def general_row(name: str, task: Task) -> dict[str, Any]:
        row = measure(methods[name], task, scale, (chosen[name],), seeds)
        final, curve = row["final"][0], row["curve"][0]
        return {"final": final, "curve": curve, "cpu_seconds": row["cpu_seconds"]}

    def epochs_row(name: str, epochs: int) -> dict[str, Any]:
        settings = {"update_epochs": epochs, "num_minibatches": 4}
        method = methods[name]._replace(settings=settings)
        row = measure(method, TASKS[0], scale, grids[name], sweep_seeds)
        return {"final": row["final"], "kl": row["kl"]}

    about = once("about", "machine", machine)
    sweep = by_method("sweep", tuning, sweep_row)
    untrained = {
        env_id: once("untrained", env_id, untrained_return, tasks[env_id], scale)
        for env_id in tuning
    }
    scores = sweep_scores(sweep, untrained)
    chosen = choose(scores, grids)
    general = by_method("general", list(tasks), general_row)
    for rows in general.values():
        for env_id, row in rows.items():
            row["steps"] = steps_to_threshold(row["curve"], tasks[env_id].threshold)
    epochs = {}
    for name in ("VPG", "PPO"):
        for count in scale.epochs:
            label = f"{name}, {count} epoch{'s' * (count > 1)}"
            if (name, count) == ("PPO", 4):  # the default, which the sweep has measured
                epochs[label] = sweep[name][TASKS[0].env_id]
            else:
                epochs[label] = once("epochs", label, epochs_row, name, count)
    costs = {name: once("costs", name, cost_of, method, scale) for name, method in methods.items()}
    return {
        "about": about,
        "scale": scale._asdict(),
        "batch": SHARED["num_envs"] * SHARED["num_steps"],
        "block": BLOCK,
        "window": WINDOW * BLOCK,
        "tasks": {env_id: task._asdict() for env_id, task in tasks.items()},
        "knobs": {name: method.knob for name, method in methods.items()},
        "grids": grids,
        "untrained": untrained,
        "sweep": sweep,
        "scores": scores,
        "chosen": chosen,
        "general": general,
        "epochs": epochs,
        "costs": costs,
    }


def plain(value: Any) -> Any:
    """JSON-ready, with floats of five digits and null for what is not a number."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run, of no evidence")
    parser.add_argument("--resume", action="store_true", help="keep what has been measured")
    parser.add_argument("--directory", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    scale = QUICK if arguments.quick else Scale()
    results = study(scale, arguments.directory / "four_criteria.json", arguments.resume)
    write_report(results, arguments.directory)


if __name__ == "__main__":
    main()
