"""One side of `host_speed.py`, in a process of its own: prints its numbers as JSON.

python experiments/baselines/host_sides.py pool|own|split|sb3 envpool:HalfCheetah-v4 STEPS
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

PARTS = "rollout", "update"
NUM_ENVS, NUM_STEPS, EPOCHS, MINIBATCHES = 8, 256, 10, 32


def vector_environment(env_id: str) -> Any:
    """Eight environments as their suite makes them."""
    suite, name = env_id.split(":")
    if suite == "envpool":
        import envpool

        return envpool.make(name, env_type="gymnasium", num_envs=NUM_ENVS, seed=0)
    import gymnasium

    return gymnasium.make_vec(name, NUM_ENVS, vectorization_mode="sync")


def pool(env_id: str, steps: int) -> dict[str, float]:
    """Random actions alone."""
    env = vector_environment(env_id)
    space = getattr(env, "single_action_space", env.action_space)
    env.reset()
    shape = (steps // NUM_ENVS, NUM_ENVS, *space.shape)
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(space.dtype)
    started = time.perf_counter()
    for action in actions:
        env.step(action)
    return {"steps_per_second": steps / (time.perf_counter() - started)}


def own(env_id: str, steps: int, callbacks: Any = ()) -> dict[str, float]:
    """PPO of this library."""
    from jaxrl_po import PPOConfig, run

    config = PPOConfig(
        env_id=env_id,
        num_envs=NUM_ENVS,
        num_steps=NUM_STEPS,
        total_timesteps=steps,
        update_epochs=EPOCHS,
        num_minibatches=MINIBATCHES,
        normalize_observations=True,
        normalize_rewards=True,
    )
    result = run(config, quiet=True, num_episodes=1, evaluate_every=10**6, callbacks=callbacks)
    return {"steps_per_second": result.timesteps / result.train_seconds}


def split(env_id: str, steps: int) -> dict[str, float]:
    """What its time goes to, in milliseconds an iteration."""
    engines: Any = importlib.import_module("jaxrl_po.host.runs.engines")
    spent = dict.fromkeys((*PARTS, "whole"), 0.0)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started = time.perf_counter()
            outcome = function(*arguments)
            spent[part] += time.perf_counter() - started
            return outcome

        return call

    compiled = engines.compile_blocks

    def timed_update(*arguments: Any) -> Any:
        return timed("update", compiled(*arguments))

    engines.compile_blocks = timed_update
    engines.Collector.collect = timed("rollout", engines.Collector.collect)
    engines.HostEngine.advance = timed("whole", engines.HostEngine.advance)
    seen: list[tuple[int, dict[str, float]]] = []
    own(env_id, steps, [lambda moment: seen.append((moment.iteration, dict(spent)))])
    # Before the first, programs are compiled; before the last, an evaluation has stepped too.
    (first, before), (last, after) = seen[0], seen[-2]
    each = {name: 1000 * (after[name] - before[name]) / (last - first) for name in spent}
    rest = each.pop("whole") - sum(each.values())
    return {**each, "rest": rest}


def sb3(env_id: str, steps: int) -> dict[str, float]:
    """Stable-Baselines3's PPO with the same sizes, on the same environments."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)
    suite, name = env_id.split(":")
    env = sb3_pool(name) if suite == "envpool" else make_vec_env(name, NUM_ENVS)
    started = 0.0

    class Start(BaseCallback):  # type: ignore[misc]  # it has no types
        def _on_training_start(self) -> None:
            nonlocal started
            started = time.perf_counter()

        def _on_step(self) -> bool:
            return True

    model = PPO(
        "MlpPolicy",
        VecNormalize(env),
        n_steps=NUM_STEPS,
        batch_size=NUM_ENVS * NUM_STEPS // MINIBATCHES,
        n_epochs=EPOCHS,
        device="cpu",
        policy_kwargs={"net_arch": [64, 64]},
    )
    model.learn(steps, callback=Start())
    return {"steps_per_second": model.num_timesteps / (time.perf_counter() - started)}


def sb3_pool(name: str) -> Any:
    """EnvPool behind the interface that Stable-Baselines3 asks for."""
    from stable_baselines3.common.vec_env import VecEnv

    env = vector_environment(f"envpool:{name}")

    class Pooled(VecEnv):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            super().__init__(NUM_ENVS, env.observation_space, env.action_space)

        def reset(self) -> Any:
            return env.reset()[0].astype(np.float32)

        def step_async(self, actions: Any) -> None:
            self.actions = actions.astype(np.float64)

        def step_wait(self) -> Any:
            seen, reward, terminated, truncated, _ = env.step(self.actions)
            ended = terminated | truncated
            infos: list[dict[str, Any]] = [{} for _ in range(NUM_ENVS)]
            seen = seen.astype(np.float32)
            if ended.any():
                ids = np.flatnonzero(ended).astype(np.int32)
                for i in ids:
                    infos[i] = {
                        "terminal_observation": seen[i],
                        "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                    }
                seen = seen.copy()
                seen[ids] = env.reset(ids)[0]
            return seen, reward.astype(np.float32), ended, infos

        def close(self) -> None:
            env.close()

        def get_attr(self, attr_name: str, indices: Any = None) -> Any:
            return [None] * NUM_ENVS

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None: ...

        def env_method(self, method_name: str, *args: Any, **kwargs: Any) -> Any:
            return [None] * NUM_ENVS

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> Any:
            return [False] * NUM_ENVS

    return Pooled()


if __name__ == "__main__":
    side, task, count = sys.argv[1:]
    sides = {"pool": pool, "own": own, "split": split, "sb3": sb3}
    print(json.dumps(sides[side](task, int(count))))
