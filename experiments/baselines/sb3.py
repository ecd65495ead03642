"""Benchmark worker for Stable-Baselines3's PPO."""

import time
from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from baselines.measurement import read_setting, report


class StopAtThreshold(BaseCallback):  # type: ignore[misc]  # it has no types
    """Stop once the mean return of the last 100 training episodes reaches the threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.reached: int | None = None

    def _on_step(self) -> bool:
        return self.reached is None

    def _on_rollout_end(self) -> None:
        recent = self.model.ep_info_buffer
        mean = sum(episode["r"] for episode in recent) / len(recent) if recent else 0.0
        if len(recent) == 100 and mean >= self.threshold:
            self.reached = self.num_timesteps


def measure(setting: dict[str, Any], make_model: Callable[[int], Any]) -> dict[str, Any]:
    """Steps/s of the fastest of several calls, after one iteration to warm up; or the steps each
    seed takes to the threshold.
    """
    if "threshold" in setting:
        seeds = range(setting["seed"], setting["seed"] + setting["num_seeds"])
        return {"steps_to_threshold": [learn(setting, make_model(seed)) for seed in seeds]}
    model = make_model(setting["seed"])
    model.learn(setting["num_envs"] * setting["num_steps"])
    speeds = []
    for _ in range(setting["repeats"]):
        started, cpu_started = time.perf_counter(), time.process_time()
        model.learn(setting["host_timesteps"])  # counts its steps from 0
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        speeds.append((model.num_timesteps / seconds, model.num_timesteps / cpu_seconds))
    speed, cpu_speed = (max(column) for column in zip(*speeds, strict=True))
    return {"steps_per_second": speed, "steps_per_cpu_second": cpu_speed}


def learn(setting: dict[str, Any], model: Any) -> int | None:
    """Steps to the threshold; None if it is not reached."""
    callback = StopAtThreshold(setting["threshold"])
    model.learn(setting["total_timesteps"], callback=callback)
    return callback.reached


def ppo_arguments(setting: dict[str, Any], seed: int) -> dict[str, Any]:
    """Arguments of PPO for a setting, alike in Stable-Baselines3 and sbx."""
    batch_size = setting["num_envs"] * setting["num_steps"]
    return {
        "policy": "MlpPolicy",
        "env": make_vec_env(setting["env_id"], setting["num_envs"], seed=seed),
        "n_steps": setting["num_steps"],
        "batch_size": batch_size // setting["num_minibatches"],
        "n_epochs": setting["update_epochs"],
        "learning_rate": setting["learning_rate"],
        "gamma": setting["gamma"],
        "gae_lambda": setting["gae_lambda"],
        "clip_range": setting["clip_eps"],
        "vf_coef": setting["vf_coef"],
        "ent_coef": setting["ent_coef"],
        "max_grad_norm": setting["max_grad_norm"],
        "policy_kwargs": {"net_arch": setting["hidden_sizes"]},
        "seed": seed,
    }


def main() -> None:
    """Measure one setting."""
    import torch
    from stable_baselines3 import PPO

    torch.set_num_threads(1)  # the faster choice for networks of this size
    setting = read_setting()
    report(**measure(setting, lambda seed: PPO(**ppo_arguments(setting, seed), device="cpu")))


if __name__ == "__main__":
    main()
