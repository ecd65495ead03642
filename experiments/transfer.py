"""Policies trained in gymnax, at work in the real Gymnasium.

python experiments/transfer.py                 # writes experiments/results/transfer.md
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tyro

from jaxrl_po import PPOConfig, evaluate, load_policy, run, save_policy, tuned
from jaxrl_po.config import Config
from jaxrl_po.host.policies.play import play

RESULTS = Path(__file__).parent / "results" / "transfer.md"
RUNS = Path("runs") / "transfer"

# The goal is far and each push costs: without noise beyond the bounds, which clipping turns into
# full pushes, the car is never driven up the hill and the policy learns to stand still.
MOUNTAIN_CAR_CONTINUOUS = PPOConfig(
    env_id="MountainCarContinuous-v0",
    num_envs=16,
    num_steps=256,
    total_timesteps=300_000,
    learning_rate=1e-3,
    anneal_lr=True,
    num_minibatches=16,
    log_std_init=0.5,
    normalize_observations=True,
    normalize_rewards=True,
)
CONFIGS: tuple[Config, ...] = (
    tuned("ppo", "CartPole-v1"),
    tuned("ppo", "Acrobot-v1"),
    tuned("ppo", "Pendulum-v1"),
    MOUNTAIN_CAR_CONTINUOUS,
)


class Comparison(NamedTuple):
    """One policy in both suites: mean and standard error of the return."""

    gymnax: tuple[float, float]
    gymnasium: tuple[float, float]

    @property
    def difference(self) -> float:
        """Of the means, as a fraction of gymnax's."""
        return (self.gymnasium[0] - self.gymnax[0]) / abs(self.gymnax[0])


def compare(config: Config, directory: Path, num_episodes: int) -> tuple[Comparison, Comparison]:
    """Train one agent; its final policy in both suites, greedy and sampled."""
    state = jax.tree.map(lambda x: x[0], run(config, num_episodes=32).state)
    save_policy(directory, config, state)
    policy = load_policy(directory)
    comparisons = []
    for sampled in (False, True):
        ours = jax.jit(
            lambda state, key, greedy: evaluate(config, state, key, num_episodes, greedy),
            static_argnums=2,
        )(state, jax.random.key(10_000), not sampled)
        real = play(policy, f"gymnasium:{config.env_id}", num_episodes, sampled=sampled)
        comparisons.append(
            Comparison(summarise(np.asarray(ours.episode_return)), summarise(real.episode_return))
        )
    return comparisons[0], comparisons[1]


def summarise(returns: np.ndarray) -> tuple[float, float]:
    """Mean and standard error."""
    return float(returns.mean()), float(returns.std() / np.sqrt(len(returns)))


def row(config: Config, mode: str, comparison: Comparison) -> str:
    """A line of the table."""
    ours, real = (f"{mean:.2f} ± {error:.2f}" for mean, error in comparison[:2])
    return f"| {config.env_id} | {mode} | {ours} | {real} | {comparison.difference:+.1%} |"


def main(num_episodes: int = 1000) -> None:
    """Compare the suites on every environment that both have.

    Args:
        num_episodes: played in each suite, each way
    """
    rows = []
    for config in CONFIGS:
        comparisons = compare(config, RUNS / config.env_id, num_episodes)
        for mode, comparison in zip(("greedy", "sampled"), comparisons, strict=True):
            rows.append(row(config, mode, comparison))
            print(rows[-1], flush=True)
    lines = "\n".join(rows)
    RESULTS.write_text(f"""# From gymnax to Gymnasium

One PPO agent an environment, trained in gymnax, then played in both suites, {num_episodes} episodes
each way; mean return ± standard error. Repeat: `python experiments/transfer.py`.

| environment | actions | gymnax | Gymnasium | difference |
|---|---|---|---|---|
{lines}

Differences of the simulators, from their sources: at the left wall of MountainCarContinuous,
Gymnasium sets a leftward velocity to zero; gymnax (1.0.1) tests the goal's position where it means
the wall's, so that there the car stays at the wall until its push has used the velocity up. The
cost of a push is counted before clipping in both; actions are clipped before they reach either.
""")


if __name__ == "__main__":
    tyro.cli(main)
