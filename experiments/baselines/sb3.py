"""Benchmark worker for Stable-Baselines3's PPO."""

import time
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from experiments.baselines.measurement import read_setting, report


class StopAtThreshold(BaseCallback):
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


def measure(setting: dict[str, Any], model: Any) -> dict[str, Any]:
    """Steps/s after one iteration to warm up, and the steps to the threshold if one is set."""
    model.learn(setting["num_envs"] * setting["num_steps"])
    callback = StopAtThreshold(setting.get("threshold", float("inf")))
    before, started, cpu_started = model.num_timesteps, time.perf_counter(), time.process_time()
    model.learn(setting["total_timesteps"], callback=callback, reset_num_timesteps=False)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    steps = model.num_timesteps - before
    return {
        "steps_per_second": steps / seconds,
        "steps_per_cpu_second": steps / cpu_seconds,
        "steps_to_threshold": callback.reached,
    }


def main() -> None:
    """Measure one setting."""
    torch.set_num_threads(1)  # the faster choice for networks of this size
    setting = read_setting()
    batch_size = setting["num_envs"] * setting["num_steps"]
    model = PPO(
        "MlpPolicy",
        make_vec_env(setting["env_id"], setting["num_envs"], seed=setting["seed"]),
        n_steps=setting["num_steps"],
        batch_size=batch_size // setting["num_minibatches"],
        n_epochs=setting["update_epochs"],
        learning_rate=setting["learning_rate"],
        gamma=setting["gamma"],
        gae_lambda=setting["gae_lambda"],
        clip_range=setting["clip_eps"],
        vf_coef=setting["vf_coef"],
        ent_coef=setting["ent_coef"],
        max_grad_norm=setting["max_grad_norm"],
        policy_kwargs={"net_arch": setting["hidden_sizes"]},
        seed=setting["seed"],
        device="cpu",
    )
    report(**measure(setting, model))


if __name__ == "__main__":
    main()
