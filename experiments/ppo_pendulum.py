"""PPO on Pendulum-v1: 4 seeds of 300k steps.

    python experiments/ppo_pendulum.py

Measured: -176 ± 7 over seeds after 299,008 steps each; 22 s of training and 30 s of compiling on
two cores shared with other work, 2026-11-22.
"""

from jaxrl_po import run, tuned

if __name__ == "__main__":
    run(tuned("ppo", "Pendulum-v1"), num_seeds=4)
