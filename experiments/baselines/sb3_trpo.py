"""Benchmark worker for sb3-contrib's TRPO."""

from typing import Any

import torch
from sb3_contrib import TRPO
from stable_baselines3.common.env_util import make_vec_env

from baselines.measurement import read_setting, report
from baselines.sb3 import measure


def make_model(setting: dict[str, Any], seed: int) -> TRPO:
    """TRPO as the setting describes it."""
    batch_size = setting["num_envs"] * setting["num_steps"]
    return TRPO(
        "MlpPolicy",
        make_vec_env(setting["env_id"], setting["num_envs"], seed=seed),
        n_steps=setting["num_steps"],
        batch_size=batch_size // setting["critic_minibatches"],
        n_critic_updates=setting["critic_epochs"],
        cg_max_steps=setting["cg_iters"],
        cg_damping=setting["cg_damping"],
        line_search_max_iter=setting["max_backtracks"],
        target_kl=setting["max_kl"],
        learning_rate=setting["learning_rate"],
        gamma=setting["gamma"],
        gae_lambda=setting["gae_lambda"],
        policy_kwargs={"net_arch": setting["hidden_sizes"]},
        seed=seed,
        device="cpu",
    )


def main() -> None:
    """Measure one setting."""
    torch.set_num_threads(1)
    setting = read_setting()
    report(**measure(setting, lambda seed: make_model(setting, seed)))


if __name__ == "__main__":
    main()
