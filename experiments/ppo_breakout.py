"""PPO on Breakout-MinAtar: 1M steps, a tenth of the usual budget.

    python experiments/ppo_breakout.py

TODO
"""

from configs import SCORES

from jaxrl_po import run

if __name__ == "__main__":
    run(SCORES["ppo-breakout"].config, num_seeds=1)
