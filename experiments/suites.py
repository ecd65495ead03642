"""Environments of other suites, trained to a return that random actions do not reach.

pip install 'jaxrl-po[brax,jumanji,pgx,xminigrid]'        # or some of them: the others' rows wait
python experiments/suites.py                              # rows that are there are kept
python experiments/suites.py brax:hopper/spring --again   # one, anew
"""

import argparse
import importlib.metadata
import importlib.util
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scores import curve, keep, kept, machine, measure

from jaxrl_po import PPOConfig, run
from jaxrl_po.envs import SUITES, make_environment, suite_and_name
from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.simulators.pool import Pool
from jaxrl_po.host.tuned import EPOCHS as MUJOCO

RESULTS = pathlib.Path(__file__).with_name("results") / "suites"
PAGE = """\
# Suites: `python experiments/suites.py`

{measured}

PPO. Final return: mean ± standard deviation over seeds, 128 sampled episodes each, of the last
policy (512 of Craftax-Symbolic). Random: random allowed actions. Curve: mean return of the episodes
that ended in each fifth of training. CPU s: processor seconds of all threads and all seeds
together, with the evaluation, and on EnvPool and Gymnasium with compiling.
Settings: [suites.py](../suites.py).

| environment | steps | seeds | final return | worst seed | random | asked | curve | CPU s |
|---|---|---|---|---|---|---|---|---|
{rows}
"""
WIDE = {"num_envs": 64, "num_steps": 32, "num_minibatches": 8, "learning_rate": 1e-3}
ANNEALED = WIDE | {"anneal_lr": True}
BODY = ANNEALED | {"normalize_observations": True, "normalize_rewards": True}
GRID = ANNEALED | {"ent_coef": 0.01}
CRAFT = GRID | {"num_steps": 64, "gae_lambda": 0.8, "total_timesteps": 1_000_000}


class Row(NamedTuple):
    """What is trained, and the return that it is held to; None where random is the measure."""

    settings: dict[str, Any]
    gate: float | None = None
    num_episodes: int = 128  # of the last policy's evaluation


ROWS = {
    # Where every episode lasts, advantages are noise: standardised, they undo what was learned.
    "brax:inverted_pendulum/spring": Row(
        BODY
        | {"num_envs": 32, "num_steps": 64, "log_std_init": -1.0}
        | {"advantage_normalization": "none", "total_timesteps": 1_000_000},
        950.0,
    ),
    "brax:hopper/spring": Row(
        BODY
        | {"num_envs": 32, "num_steps": 128, "num_minibatches": 16, "learning_rate": 6e-4}
        | {"gamma": 0.997, "total_timesteps": 4_000_000},
        1500.0,
    ),
    "playground:CartpoleBalance": Row(BODY | {"total_timesteps": 1_000_000}, 980.0),
    "playground:CartpoleSwingup": Row(BODY | {"total_timesteps": 1_000_000}),
    "navix:Navix-Empty-8x8-v0": Row(GRID | {"total_timesteps": 500_000}, 0.9),
    "navix:Navix-DoorKey-5x5-v0": Row(GRID | {"total_timesteps": 1_000_000}),
    "xminigrid:MiniGrid-Empty-8x8": Row(GRID | {"total_timesteps": 500_000}, 0.9),
    "xminigrid:MiniGrid-DoorKey-5x5": Row(GRID | {"total_timesteps": 1_000_000}),
    "pgx:minatar-breakout": Row(GRID | {"total_timesteps": 2_000_000}),
    "pgx:2048": Row(GRID | {"total_timesteps": 1_000_000}),
    "jumanji:Game2048-v1": Row(GRID | {"total_timesteps": 1_000_000}),
    "jumanji:Snake-v1": Row(GRID | {"total_timesteps": 1_000_000}),
    "envpool:HalfCheetah-v4": Row(MUJOCO),
    "envpool:Hopper-v4": Row(MUJOCO),
    "gymnasium:Hopper-v5": Row(MUJOCO | {"total_timesteps": 500_000}),
    "gymnasium:CartPole-v1": Row(
        MUJOCO | {"num_steps": 128, "num_minibatches": 4, "total_timesteps": 100_000}, 475.0
    ),
    "craftax:Craftax-Classic-Symbolic-v1": Row(
        CRAFT | {"hidden_sizes": [256, 256], "learning_rate": 5e-4}
    ),
    "craftax:Craftax-Symbolic-v1": Row(
        CRAFT
        # Discounts for Crafter at this budget, of arXiv:2307.03486.
        | {"hidden_sizes": [512, 512, 512], "learning_rate": 3e-4}
        | {"gamma": 0.95, "gae_lambda": 0.65},
        0.023 * 226,
        num_episodes=512,  # 128 of the same policy gave 5.01: too few to tell so near the gate
    ),
}


def random_return_on_host(env_id: str, num_episodes: int = 32) -> float:
    """Mean return of actions that are uniform in their space, or in a box of it from -1 to 1."""
    env, host = make_environment(env_id, {}), host_environment(env_id, None, {})
    assert host is not None
    rng, space = np.random.default_rng(0), env.action_space
    shape, choices = (num_episodes, *space.shape), space.num_outputs
    pool = Pool(host, list(range(num_episodes)))
    pool.reset()
    total, running = np.zeros(num_episodes), np.ones(num_episodes, bool)
    while running.any():
        uniform = rng.uniform(-1, 1, shape)
        actions = uniform if space.continuous else rng.integers(choices, size=shape)
        outcome = pool.step(actions)
        total += outcome.reward * running
        running &= ~(outcome.terminated | outcome.truncated)
        pool.restart(outcome.terminated | outcome.truncated)
    return float(total.mean())


def measure_on_host(config: PPOConfig, seeds: range, num_episodes: int) -> dict[str, Any]:
    """`measure` by a run, where environments step on the host."""
    cpu_started = time.process_time()
    result = run(
        config, seeds.start, len(seeds), quiet=True, num_episodes=num_episodes, evaluate_every=10**6
    )
    wall = result.train_seconds + result.evaluation_seconds
    numbers = wall, result.compile_seconds, time.process_time() - cpu_started
    return {
        "first_seed": seeds.start,
        "timesteps": int(result.metrics["timesteps"][0, -1]),
        "final": result.evaluation.episode_return.mean(axis=1).astype(float).round(4).tolist(),
        "curve": curve(result.metrics["episode_return"], result.metrics["num_episodes"]),
        "seconds": [round(s, 1) for s in numbers],
        "measured": f"{time.strftime('%Y-%m-%d')}: {machine()}",
    }


def random_return(env_id: str) -> float:
    """Mean return of random allowed actions."""
    on_host = host_environment(env_id, None, {}) is not None
    return (random_return_on_host if on_host else random_return_in_jax)(env_id)


def random_return_in_jax(env_id: str, num_episodes: int = 128, max_steps: int = 10_000) -> float:
    """Mean return of actions that are uniform among those that are allowed, or in their box."""
    env = make_environment(env_id, {})
    space = env.action_space

    def uniform(key: jax.Array, observation: Any) -> jax.Array:
        if space.continuous:
            return jax.random.uniform(key, space.shape, minval=-1.0, maxval=1.0)
        policy: Any = space.distribution(jnp.zeros(space.num_outputs), None)
        if env.action_mask is not None:
            policy = policy.masked(env.action_mask(observation))
        action: jax.Array = policy.to_env(policy.sample(policy.noise(key)))
        return action

    def episode(key: jax.Array) -> jax.Array:
        observation, state = env.reset(key, env.params)

        def step(carry: Any) -> Any:
            t, observation, state, total, _ = carry
            step_key, action_key = jax.random.split(jax.random.fold_in(key, t))
            action = uniform(action_key, observation)
            observation, state, reward, *ends = env.step(step_key, state, action, env.params)
            return t + 1, observation, state, total + reward, ends[0] | ends[1]

        def goes_on(carry: Any) -> jax.Array:
            t, *_, over = carry
            more: jax.Array = ~over & (t < max_steps)
            return more

        start = jnp.int32(0), observation, state, jnp.zeros(()), jnp.zeros((), bool)
        total: jax.Array = jax.lax.while_loop(goes_on, step, start)[3]
        return total

    keys = jax.random.split(jax.random.key(0), num_episodes)
    return float(jax.jit(jax.vmap(episode))(keys).mean())


def trial(env_id: str, seeds: range) -> dict[str, Any]:
    """Train and evaluate one row, beside random actions."""
    on_host = host_environment(env_id, None, {}) is not None
    measured = measure_on_host if on_host else measure
    row = ROWS[env_id]
    config = PPOConfig(env_id=env_id, **row.settings)
    record = measured(config, seeds, num_episodes=row.num_episodes)
    suite, _ = suite_and_name(env_id)  # also the name of its distribution
    record["measured"] += f", {suite} {importlib.metadata.version(suite)}"
    return record | {"random": random_return(env_id)}


def line(env_id: str, record: dict[str, Any]) -> str:
    """A line of the table."""
    final, first, gate = np.array(record["final"]), record["first_seed"], ROWS[env_id].gate
    asked = "above random" if gate is None else f"≥ {gate:g}"
    missed = " MISSED" if final.mean() < (record["random"] if gate is None else gate) else ""
    fifths = [f"{x:.3g}" if x is not None else "—" for x in record["curve"][3::4]]
    cpu = record["seconds"][2]
    return (
        f"| {env_id} | {record['timesteps']:,} | {first}–{first + len(final) - 1} | "
        f"**{final.mean():.4g}** ± {final.std():.2g} | {final.min():.4g} | "
        f"{record['random']:.3g} | {asked}{missed} | {' '.join(fifths)} | {cpu:.0f} |"
    )


def main() -> None:
    """Measure what is missing or asked for and installed, and rewrite the table after each row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    records = kept(arguments.output)
    for name in arguments.names or ROWS:
        suite, _ = suite_and_name(name)
        if importlib.util.find_spec(SUITES[suite][0]) is None:
            print(f"{name}: {suite} is not installed: its row waits", flush=True)
            continue
        if name in records and not arguments.again:
            continue
        records[name] = trial(name, range(arguments.seeds))
        print(line(name, records[name]), flush=True)
        keep(arguments.output, records, ROWS, line, PAGE)


if __name__ == "__main__":
    main()
