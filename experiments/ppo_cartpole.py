"""PPO on CartPole-v1: 4 seeds of 150k steps.

    python experiments/ppo_cartpole.py

TODO
"""

from configs import SCORES

from jaxrl_po import run

if __name__ == "__main__":
    run(SCORES["ppo-cartpole"].config, num_seeds=4)
