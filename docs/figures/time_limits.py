"""Writes docs/decisions/time_limits_table.md: what it costs to take a time limit for an end.

python docs/figures/time_limits.py    # two minutes on two busy cores
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po import make_train, tuned
from jaxrl_po.config import Config
from jaxrl_po.envs import Environment, make_environment

PAGE = pathlib.Path(__file__).parents[1] / "decisions" / "time_limits_table.md"
NUM_SEEDS, LAST = 5, 6  # iterations at the end that the return is a mean of
RUNS: dict[str, Config] = {
    "TRPO, CartPole-v1": tuned("trpo", "CartPole-v1").replace(total_timesteps=60_000),
    "PPO, Pendulum-v1, γ = 0.95": tuned("ppo", "Pendulum-v1").replace(
        total_timesteps=100_000, gamma=0.95
    ),
}
HEAD = """<!-- written by docs/figures/time_limits.py -->

| method and task | steps | limit bootstrapped | limit taken for an end |
|---|---:|---:|---:|
"""


def limit_is_end(env: Environment) -> Environment:
    """The environment whose time limit is reported as the end of the process."""

    def step(*given: Any) -> Any:
        observation, state, reward, terminated, truncated = env.step(*given)
        return observation, state, reward, terminated | truncated, jnp.zeros_like(truncated)

    return env._replace(step=step)


def final_return(config: Config, env: Environment) -> str:
    """Training return of the last iterations, mean and standard deviation over seeds."""
    train = jax.jit(jax.vmap(make_train(config, env=env)))
    metrics = train(jax.random.split(jax.random.key(0), NUM_SEEDS)).metrics
    returns = np.nanmean(np.asarray(metrics["episode_return"])[:, -LAST:], axis=1)
    return f"{returns.mean():.0f} ± {returns.std():.0f}"


def main() -> None:
    """Train both ways and write the table."""
    rows = []
    for name, config in RUNS.items():
        env = make_environment(config.env_id, {})
        ways = (final_return(config, each) for each in (env, limit_is_end(env)))
        rows.append(f"| {name} | {config.total_timesteps:,} | {' | '.join(ways)} |\n")
    PAGE.write_text(HEAD + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
