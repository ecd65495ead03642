"""One GPU in a few minutes: right numbers, speed beside the textbook program, launches counted.

    bash experiments/gpu.sh                                      # everything, to results/gpu.json
    JAX_PLATFORMS=cpu python experiments/gpu.py --tiny --output /tmp/gpu   # the same, tiny

Sections run in order of worth, and each is written down when it ends. One that hangs is left out.
The timed call is the second one where the first took under five seconds.
"""

import argparse
import collections
import faulthandler
import itertools
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from baselines import own, textbook
from benchmark import GPU_ROWS, PPO, TRPO, Setting
from gpu_report import write_report
from scores import kept, machine

from jaxrl_po import PPOConfig, config_from_dict, make_step, make_train
from jaxrl_po.envs import make_environment, transform_observation
from jaxrl_po.fast import optimizer, packing
from jaxrl_po.host.machine.devices import device_mesh
from jaxrl_po.rlhf import (
    RLHFConfig,
    Tokens,
    TransformerConfig,
    make_rlhf_step,
    make_transformer,
)

FOLDER = pathlib.Path(__file__).parent
METHODS = "vpg", "npg", "trpo", "ppo", "ppo_penalty"
# Learning rate, discount, and numbers of environments, epochs and minibatches are Brax's own PPO's.
ANT: Setting = {
    "algorithm": "ppo",
    "env_id": "brax:ant/positional",
    "seed": 0,
    "num_seeds": 1,
    "num_envs": 4096,
    "num_steps": 20,
    "total_timesteps": 50_000_000,
    "num_minibatches": 32,
    "update_epochs": 4,
    "learning_rate": 3e-4,
    "anneal_lr": True,
    "gamma": 0.97,
    "gae_lambda": 0.95,
    "hidden_sizes": [256, 256],
    "normalize_observations": True,
    "normalize_rewards": True,
}
# What XLA may put into one CUDA graph: by default no loops.
LOOPS_AS_GRAPHS = (
    "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,"
    "DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE --xla_gpu_graph_min_graph_size=1"
)


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the output of a call is there, and the output."""
    started = time.perf_counter()
    output = jax.block_until_ready(function())
    return time.perf_counter() - started, output


def measure(program: Callable[[Any], Any], setting: Setting) -> dict[str, Any]:
    """Compile and time a program of all seeds, vmapped; its last returns show that it learned."""
    count = setting["num_seeds"]
    keys = jax.random.split(jax.random.key(setting["seed"]), (2, count))
    members = jax.vmap(program) if count > 1 else lambda keys: program(keys[0])
    started = time.perf_counter()
    compiled = jax.jit(members).lower(keys[0]).compile()
    compile_seconds = time.perf_counter() - started
    wall, output = seconds(lambda: compiled(keys[0]))
    if wall < 5.0:
        wall, output = seconds(lambda: compiled(keys[1]))
    returns = np.asarray(output["episode_return"]).reshape(count, -1)
    memory = jax.devices()[0].memory_stats() or {}
    return {
        "compile_seconds": compile_seconds,
        "seconds": wall,
        "steps_per_second": count * setting["total_timesteps"] / wall,
        "last_return": float(np.nanmean(returns[:, -max(1, returns.shape[1] // 20) :])),
        "peak_bytes": memory.get("peak_bytes_in_use"),
    }


def row(setting: Setting, sides: Iterable[str]) -> dict[str, Any]:
    """The sides of a row, one after the other."""
    programs = {
        "own": lambda key: make_train(own.make_config(setting))(key).metrics,
        "textbook": lambda key: textbook.make_train(setting)(key)[1],
    }
    return {side: measure(programs[side], setting) for side in sides}


Task = tuple[str, str, str, str]  # method, environment, network, precision of products
TASKS: list[Task] = [
    *((method, "CartPole-v1", "mlp", "float32") for method in METHODS),
    ("trpo", "CartPole-v1", "mlp", "default"),
]
NETWORK_TASKS: list[Task] = [
    ("ppo", "CartPole-v1", "gru", "float32"),
    ("ppo", "Breakout-MinAtar", "cnn", "float32"),
]


def correctness(tasks: list[Task]) -> dict[str, Any]:
    """One iteration of each task here and on the CPU, from one key: the largest differences.

    For the parameters, and for metrics, as a part of the largest number of each array. Products
    are single precision on both sides; by default a GPU may round their factors to TF32.
    """

    def compare(method: str, env_id: str, network: str, precision: str) -> dict[str, float]:
        config = config_from_dict(
            {"algorithm": method, "env_id": env_id, "num_envs": 8, "num_steps": 64}
            | {"total_timesteps": 512, "normalize_observations": True, "network": network}
        )
        devices = jax.devices()[0], jax.devices("cpu")[0]
        init, step = make_step(config)
        with jax.default_matmul_precision(precision):
            # Apart: in one program that begins and does one iteration, XLA's newer compiler for
            # CPUs takes minutes over convolutions of weights that it sees being drawn.
            start = jax.jit(init)(jax.device_put(jax.random.key(0), devices[1]))
            sides = [jax.jit(step)(jax.device_put(start, device)) for device in devices]
        here, there = (jax.device_get((state.params, metrics)) for state, metrics in sides)
        params = map(difference, jax.tree.leaves(here[0]), jax.tree.leaves(there[0]))
        metrics = {name: difference(here[1][name], there[1][name]) for name in here[1]}
        return {"params": max(params), **metrics}

    return {" ".join(task): compare(*task) for task in tasks}


def difference(here: Any, there: Any) -> float:
    """max |here - there| as a part of max |there|; NaN where only one of them is."""
    here, there = np.asarray(here, float), np.asarray(there, float)
    if np.array_equal(np.isnan(here), np.isnan(there)):
        here, there = np.nan_to_num(here), np.nan_to_num(there)
    return float(np.abs(here - there).max() / max(1e-8, np.abs(there).max()))


def networks(settings: dict[str, Setting]) -> dict[str, Any]:
    """The library's own speed in settings of several names."""
    return {name: row(setting, ["own"])["own"] for name, setting in settings.items()}


def ant_settings(
    setting: Setting, learning_rates: list[float], gammas: list[float]
) -> dict[str, Any]:
    """The last returns of Ant at several settings, trained side by side: [rates][gammas]."""

    def trained(learning_rate: Any, gamma: Any) -> jax.Array:
        config = own.make_config(setting | {"learning_rate": learning_rate, "gamma": gamma})
        returns = make_train(config)(jax.random.key(1)).metrics["episode_return"]
        return jnp.nanmean(returns[-len(returns) // 20 :])

    over_gammas = jax.vmap(trained, (None, 0))
    train = jax.jit(jax.vmap(over_gammas, (0, None)))
    wall, returns = seconds(lambda: train(jnp.array(learning_rates), jnp.array(gammas)))
    grid = {"learning_rates": learning_rates, "gammas": gammas}
    return grid | {"seconds": wall, "last_returns": np.asarray(returns).tolist()}


def pixels(setting: Setting) -> dict[str, Any]:
    """Breakout drawn large, each of its cells 8 x 8 pixels, with the network of "nature"."""

    def drawn(observation: jax.Array) -> jax.Array:
        cells = (255 * observation).astype(jnp.uint8)
        return jnp.repeat(jnp.repeat(cells, 8, axis=0), 8, axis=1)

    config = own.make_config(setting)
    env = transform_observation(make_environment(config.env_id, {}), drawn)
    return {"own": measure(lambda key: make_train(config, env)(key).metrics, setting)}


def variants(setting: Setting) -> dict[str, Any]:
    """The library without each of two forms that are there for CPUs."""
    results = {}
    for name, module, limit in (
        ("parameters as a tree", optimizer, "VECTOR_SIZE"),
        ("arrays of a loop unpacked", packing, "MAX_ROW"),
    ):
        kept = getattr(module, limit)
        setattr(module, limit, 0)
        results[name] = row(setting, ["own"])["own"]
        setattr(module, limit, kept)
    return results


def mesh(setting: Setting) -> dict[str, Any]:
    """What laying a run out over devices costs where there is one, in turn."""
    config = own.make_config(setting | {"minibatch_shards": 1})
    meshes = {"no mesh": None, "a mesh of one": device_mesh(1)}
    rounds: dict[str, Any] = {}
    for _ in range(2):
        for name, layout in meshes.items():
            train = make_train(config, mesh=layout)

            def program(key: Any, train: Any = train) -> Any:
                return train(key).metrics

            measured = measure(program, setting)
            rounds[name] = min(measured, rounds.get(name, measured), key=lambda m: m["seconds"])
    return rounds


def profile(setting: Setting) -> dict[str, Any]:
    """Kernels of a training run, by the device's own trace: how many, how long, the gaps."""
    keys = jax.random.split(jax.random.key(0), setting["num_seeds"])
    program = jax.vmap(lambda key: make_train(own.make_config(setting))(key).metrics)
    compiled = jax.jit(program).lower(keys).compile()
    jax.block_until_ready(compiled(keys))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            wall, _ = seconds(lambda: compiled(keys))
        path = next(pathlib.Path(folder).rglob("*.xplane.pb"))
        data: Any = jax.profiler.ProfileData.from_file(str(path))
        planes = [plane for plane in data.planes if plane.name.startswith("/device:GPU")]
        lines = [line for plane in planes for line in plane.lines if "Stream" in line.name]
        spans = sorted(
            (event.start_ns, event.duration_ns, event.name)
            for line in lines
            for event in line.events
        )
    names: dict[str, list[float]] = collections.defaultdict(list)
    for _, duration, name in spans:
        names[name].append(duration)
    busy = sum(duration for _, duration, _ in spans)
    gaps = [after[0] - before[0] - before[1] for before, after in itertools.pairwise(spans)]
    iterations = setting["total_timesteps"] // (setting["num_envs"] * setting["num_steps"])
    return {
        "seconds": wall,
        "iterations": iterations,
        "launches_per_iteration": len(spans) / iterations,
        "busy_fraction": busy / 1e9 / wall,
        "median_kernel_us": float(np.median([d for _, d, _ in spans])) / 1e3 if spans else None,
        "median_gap_us": float(np.median(gaps)) / 1e3 if gaps else None,
        "kernels": {
            name: {"launches": len(times) / iterations, "us": sum(times) / iterations / 1e3}
            for name, times in sorted(names.items(), key=lambda item: -sum(item[1]))[:25]
        },
    }


def rlhf(tiny: bool) -> dict[str, Any]:
    """PPO on the tokens of a small transformer, whose score counts a token: time and learning."""
    N, P, T, V, num_iterations = (8, 4, 8, 64, 3) if tiny else (1024, 16, 32, 4096, 20)
    model_config = TransformerConfig(
        vocab_size=V, context_length=P + T, num_layers=4, num_heads=4, num_features=256
    )
    config = RLHFConfig(
        model=model_config,
        update=PPOConfig(
            num_envs=N,
            num_steps=T,
            total_timesteps=num_iterations * N * T,
            gamma=1.0,
            learning_rate=3e-4,
            num_minibatches=4,
            update_epochs=2,
        ),
        kl_coef=0.02,
        eos_id=0,
        pad_id=-1,
    )
    key = jax.random.key(0)
    prompts = jax.random.randint(key, (256, P), 1, V)
    params = jax.jit(make_transformer(model_config).init)(key)
    init, step = make_rlhf_step(config, share_of_low_tokens, prompts)
    state = jax.jit(init)(key, params)
    compiled = jax.jit(step).lower(state, params).compile()
    scores, walls = [], []
    for _ in range(num_iterations):
        started = time.perf_counter()
        state, metrics = jax.block_until_ready(compiled(state, params))
        walls.append(time.perf_counter() - started)
        scores.append(float(metrics["objective/scores"]))
    return {
        "tokens_per_second": N * T / float(np.median(walls)),
        "seconds_per_iteration": float(np.median(walls)),
        "first_score": scores[0],
        "last_score": scores[-1],
        "ratio_first_minibatch": float(metrics["val/ratio_first_minibatch"]),
    }


def share_of_low_tokens(prompt: Tokens, response: Tokens) -> jax.Array:
    """The score of the RLHF section: the part of a response's ids below 512."""
    ids, mask, _ = response
    return (mask & (ids < 512)).sum(-1) / jnp.maximum(1, mask.sum(-1))


def in_a_process(names: list[str], flags: str, tiny: bool) -> Any:
    """Sections measured by this script in a process of its own, under other flags of XLA."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, __file__, *names, "--output", folder, "--seconds", "60"]
        done = subprocess.run(
            arguments + ["--tiny"] * tiny,
            env=os.environ | {"XLA_FLAGS": flags},
            capture_output=True,
            text=True,
            timeout=120,
        )
        path = pathlib.Path(folder) / "gpu.json"
        return json.loads(path.read_text()) if path.exists() else {"failed": done.stderr[-2000:]}


def sections(tiny: bool) -> dict[str, Callable[[], Any]]:
    """What is measured, in order of worth."""

    def shrunk(setting: Setting, **changes: Any) -> Setting:
        setting = setting | changes
        if tiny:
            setting |= {"num_envs": min(8, setting["num_envs"])}
            setting |= {"total_timesteps": 2 * setting["num_envs"] * setting["num_steps"]}
            setting |= {"num_seeds": min(2, setting["num_seeds"])}
        return setting

    def speed(name: str, **changes: Any) -> Callable[[], Any]:
        _, setting, sides = GPU_ROWS[name]
        return partial(row, shrunk(setting, **changes), sides)

    short = PPO | {"total_timesteps": 10 * 512}
    gru = PPO | {"num_envs": 16, "total_timesteps": 51_200, "network": "gru"}
    long = gru | {"num_steps": 1024, "total_timesteps": 65_536}
    memories = {
        "gru": gru,
        "gru, 64 agents": gru | {"num_seeds": 64},
        "gru, stretches of 1,024": long,
        "mingru, stretches of 1,024": long | {"network": "mingru"},
    }
    breakout = GPU_ROWS["breakout_10m"][1] | {"total_timesteps": 409_600}
    return {
        "cartpole_2048": speed("cartpole_2048", total_timesteps=51_200),
        "cartpole_1": speed("cartpole_1", total_timesteps=51_200),
        "correctness": partial(correctness, TASKS[:2] if tiny else TASKS),
        "correctness_networks": partial(correctness, NETWORK_TASKS),
        "profile_1": partial(profile, shrunk(short)),
        "profile_2048": partial(profile, shrunk(short, num_seeds=2048)),
        "memories": partial(networks, {name: shrunk(s) for name, s in memories.items()}),
        "cnn": partial(row, shrunk(breakout, network="cnn"), ["own"]),
        "pixels": partial(pixels, shrunk(breakout, network="nature", total_timesteps=81_920)),
        "breakout": speed("breakout_10m", total_timesteps=409_600),
        "trpo_64": partial(row, shrunk(TRPO, num_seeds=64), ["own"]),
        "rlhf": partial(rlhf, tiny),
        "cartpole_64": speed("cartpole_64", total_timesteps=51_200),
        "ant": partial(row, shrunk(ANT), ["own"]),
        "ant_settings": partial(ant_settings, shrunk(ANT), [3e-4, 6e-4, 1e-3], [0.97, 0.99]),
        "cartpole_2048_5e5": speed("cartpole_2048"),
        "breakout_1e7": speed("breakout_10m"),
        "mesh": partial(mesh, shrunk(PPO, num_envs=1024, total_timesteps=20_000_000)),
        "variants_1": partial(variants, shrunk(PPO, total_timesteps=51_200)),
        "variants_2048": partial(variants, shrunk(PPO, num_seeds=2048, total_timesteps=51_200)),
        "graphs": partial(
            in_a_process, ["cartpole_1", "profile_1"], "" if tiny else LOOPS_AS_GRAPHS, tiny
        ),
    }


def work(names: list[str], options: argparse.Namespace) -> None:
    """Measure sections one after the other, each printed as a line of JSON."""
    measured = sections(options.tiny)
    for name in names:
        try:
            result = measured[name]()
        except Exception as error:  # one that fails must not take the others with it
            result = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps([name, result]), flush=True)


def supervise(names: list[str], options: argparse.Namespace, results: dict[str, Any]) -> None:
    """Measure sections in a process that is replaced, less the section, when one hangs."""
    deadline = time.monotonic() + options.seconds
    stamp = f"{time.strftime('%Y-%m-%d')}: {machine()}"
    while names and time.monotonic() < deadline:
        arguments = [sys.executable, __file__, *names, "--work", *["--tiny"] * options.tiny]
        arguments += ["--patience", str(options.patience)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            while names:
                patience = min(options.patience, deadline - time.monotonic())
                ready, _, _ = select.select([worker.stdout], [], [], max(0.0, patience))
                line = worker.stdout.readline() if ready else ""
                if line and not line.startswith('["'):
                    continue  # what a package prints when it is imported
                if not line:
                    failure = {"failed": f"no result within {patience:.0f} s"}
                    print(json.dumps([names[0], failure]), flush=True)
                    results.setdefault(names.pop(0), failure)  # what was measured before stays
                    break
                name, results[name] = json.loads(line)
                names.remove(name)
                print(line.rstrip()[:1500], flush=True)
                results.setdefault("measured", {})[name] = stamp
                (options.output / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
            worker.kill()


def main() -> None:
    """Measure what was asked for while there is time, and write it down after each section."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="sections; all of them by default")
    parser.add_argument("--seconds", type=float, default=400.0, help="all ends then")
    parser.add_argument("--patience", type=float, default=100.0, help="seconds for a section")
    parser.add_argument("--tiny", action="store_true", help="to try the script on a CPU")
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER / "results")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        faulthandler.dump_traceback_later(0.9 * options.patience)  # where it hangs
        work(options.names, options)
        return
    results = kept(options.output / "gpu")
    supervise(options.names or list(sections(options.tiny)), options, results)
    (options.output / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
    write_report(results, options.output)


if __name__ == "__main__":
    main()
