"""TRPO on Pendulum-v1: 10 seeds of 300k steps, to a return above -200.

    python experiments/trpo_pendulum.py

Measured: -177 ± 13 over seeds, in 43 s on two shared cores, besides compilation.
"""

from jaxrl_po import run, tuned

if __name__ == "__main__":
    run(tuned("trpo", "Pendulum-v1"), num_seeds=10)
