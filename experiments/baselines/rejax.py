"""Benchmark worker for rejax's PPO (rejax 0.1.3 on gymnax 0.0.9).

Only training is timed: rejax evaluates inside its program, so the evaluations are taken out, and
put back in a second program for the steps to a threshold return.
"""

from typing import Any

import jax
import numpy as np
import rejax

from baselines.measurement import read_setting, report, seed_keys, time_jax


def make_algorithm(setting: dict[str, Any], eval_freq: int) -> Any:
    """The algorithm of a setting, evaluated every `eval_freq` steps."""
    return rejax.get_algo("ppo").create(
        env=setting["env_id"],
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": tuple(setting["hidden_sizes"])},
        num_envs=setting["num_envs"],
        num_steps=setting["num_steps"],
        total_timesteps=setting["total_timesteps"],
        num_epochs=setting["update_epochs"],
        num_minibatches=setting["num_minibatches"],
        gamma=setting["gamma"],
        gae_lambda=setting["gae_lambda"],
        learning_rate=setting["learning_rate"],
        max_grad_norm=setting["max_grad_norm"],
        clip_eps=setting["clip_eps"],
        vf_coef=setting["vf_coef"],
        ent_coef=setting["ent_coef"],
        eval_freq=eval_freq,
        skip_initial_evaluation=True,
    )


def steps_to_threshold(setting: dict[str, Any]) -> list[int | None]:
    """The first of 100 evaluations, of 128 episodes each, whose mean reached the threshold."""
    per_iteration = setting["num_envs"] * setting["num_steps"]
    eval_freq = max(1, setting["total_timesteps"] // per_iteration // 100) * per_iteration
    train = make_algorithm(setting, eval_freq).train
    _, (_, returns) = jax.jit(jax.vmap(train))(seed_keys(setting))
    reached = np.asarray(returns).mean(axis=-1) >= setting["threshold"]
    return [int((1 + r.argmax()) * eval_freq) if r.any() else None for r in reached]


def main() -> None:
    """Measure one setting."""
    setting = read_setting()
    if "threshold" in setting:
        report(steps_to_threshold=steps_to_threshold(setting))
        return
    algorithm = make_algorithm(setting, setting["total_timesteps"])
    algorithm = algorithm.replace(eval_callback=lambda algorithm, state, key: ())
    report(**time_jax(setting, lambda key: algorithm.train(key)[0].actor_ts.params))


if __name__ == "__main__":
    main()
