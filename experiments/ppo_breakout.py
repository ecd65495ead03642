"""PPO on Breakout-MinAtar: 1M steps, a tenth of the usual budget.

    python experiments/ppo_breakout.py

Measured: 12.3 for seed 0, 19 ± 6 over three seeds (from 0.9 in the first twentieth of training);
20 s of training and 37 s of compiling on two cores shared with other work, 2026-11-22.
"""

from jaxrl_po import run, tuned

if __name__ == "__main__":
    run(tuned("ppo", "Breakout-MinAtar"), num_seeds=1)
