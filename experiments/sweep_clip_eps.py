"""How PPO's ε and learning rate act on CartPole: one compiled program, a table and figures.

    python experiments/sweep_clip_eps.py

Stopped, it goes on where it was. Figures and tables are in runs/sweep_clip_eps.
"""

from jaxrl_po import PPOConfig, sweep
from jaxrl_po.host.spaces import log

CONFIG = PPOConfig(env_id="CartPole-v1", total_timesteps=50_000, anneal_lr=True)
SPACE = {"clip_eps": [0.05, 0.1, 0.2, 0.4, 0.8], "learning_rate": log(1e-4, 1e-2, 5)}


def main() -> None:
    """25 settings x 6 seeds."""
    result = sweep(CONFIG, SPACE, num_seeds=6, directory="runs/sweep_clip_eps")
    print(result.summary)


if __name__ == "__main__":
    main()
