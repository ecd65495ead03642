"""Benchmark worker for sbx's PPO (JAX updates, Gymnasium environments)."""

from sbx import PPO
from stable_baselines3.common.env_util import make_vec_env

from experiments.baselines.measurement import read_setting, report
from experiments.baselines.sb3 import measure


def main() -> None:
    """Measure one setting. sbx compiles as it goes: compilation is in the warm-up iteration."""
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
    )
    report(**measure(setting, model))


if __name__ == "__main__":
    main()
