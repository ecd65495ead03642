"""Benchmark worker for sbx's PPO: JAX updates, Gymnasium environments on the host.

sbx compiles as it goes, so its compilation falls into the iteration that warms up.
"""

import os

from baselines.measurement import read_setting, report
from baselines.sb3 import measure, ppo_arguments


def main() -> None:
    """Measure one setting."""
    # as all JAX programs here
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false --xla_cpu_prefer_vector_width=512"
    import torch
    from sbx import PPO

    torch.set_num_threads(1)
    setting = read_setting()
    report(**measure(setting, lambda seed: PPO(**ppo_arguments(setting, seed))))


if __name__ == "__main__":
    main()
