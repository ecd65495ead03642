"""PPO on Pendulum-v1: 4 seeds of 300k steps.

    python experiments/ppo_pendulum.py

TODO
"""

from configs import SCORES

from jaxrl_po import run

if __name__ == "__main__":
    run(SCORES["ppo-pendulum"].config, num_seeds=4)
