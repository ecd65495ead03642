"""Worker of `sweep_throughput.py`, for a Python with Stable-Baselines3: steps a second of one seed.

python experiments/sweep_throughput_sb3.py SEED STEPS
"""

import sys
import time

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env


def main() -> None:
    """PPO's own defaults, but 4 environments x 128 steps, 4 epochs of 4 minibatches."""
    seed, steps = map(int, sys.argv[1:])
    torch.set_num_threads(1)  # the faster choice for networks of this size
    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", 4, seed=seed),
        n_steps=128,
        batch_size=128,
        n_epochs=4,
        seed=seed,
        device="cpu",
    )
    model.learn(512)  # warms up
    started = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    print((model.num_timesteps - 512) / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
