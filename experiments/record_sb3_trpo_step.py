"""Record one TRPO step of sb3-contrib, for tests/algorithms/test_trpo_against_sb3.py.

    experiments/baselines/environments.sh .venv-peers python3.11 sb3
    .venv-peers/sb3/bin/python experiments/record_sb3_trpo_step.py

Each file holds a rollout as sb3-contrib's `train()` saw it, its settings, and the policy's weights
before and after. The radius is wide enough that the line search has to shrink the full step.
"""

import importlib.metadata
import json
import pathlib
from typing import Any

import gymnasium
import numpy as np
from sb3_contrib import TRPO

DATA = pathlib.Path(__file__).parents[1] / "tests" / "algorithms" / "data"
# Seeds, radii and damping such that the search shrinks the step, by either KL as often, and CG
# converges: where it does not, its direction is rounding's, and another on each processor.
CASES = {
    "discrete": ("CartPole-v1", 2, 0.1, 2e-2),
    "box": ("Pendulum-v1", 0, 3.0, 1e-1),
}
BATCH, PRACTICE = 512, 4  # steps of a rollout, iterations before the recorded one
SETTINGS = {
    "cg_max_steps": 10,
    "line_search_shrinking_factor": 0.8,
    "line_search_max_iter": 10,
}


def weights(model: TRPO) -> dict[str, np.ndarray]:
    """The policy's parameters by our names; kernels [in, out]."""
    policy = model.policy
    net = policy.mlp_extractor.policy_net
    layers = {"torso_0": net[0], "torso_1": net[2], "head": policy.action_net}
    named = {}
    for name, layer in layers.items():
        named[f"{name}_kernel"] = layer.weight.detach().numpy().T.copy()
        named[f"{name}_bias"] = layer.bias.detach().numpy().copy()
    if hasattr(policy, "log_std"):
        named["log_std"] = policy.log_std.detach().numpy().copy()
    return named


def record(env_id: str, seed: int, radius: float, damping: float) -> dict[str, Any]:
    """One step after some practice: batch, settings, weights before and after."""
    model = TRPO(
        "MlpPolicy",
        gymnasium.make(env_id),
        n_steps=BATCH,
        batch_size=BATCH,
        normalize_advantage=False,
        policy_kwargs={"net_arch": [32, 32]},
        seed=seed,
        device="cpu",
        **SETTINGS,
    )
    model.learn(PRACTICE * BATCH)
    model.target_kl, model.cg_damping = radius, damping
    before = weights(model)
    model.learn(BATCH, reset_num_timesteps=False)
    buffer = model.rollout_buffer  # `train()` has left it flat, in the order of the rollout
    return {
        "settings": json.dumps(
            {
                "max_kl": radius,
                "cg_iters": SETTINGS["cg_max_steps"],
                "cg_damping": damping,
                "backtrack_coeff": SETTINGS["line_search_shrinking_factor"],
                "max_backtracks": SETTINGS["line_search_max_iter"] - 1,
            }
        ),
        "versions": json.dumps(
            {name: importlib.metadata.version(name) for name in ("sb3-contrib", "torch")}
        ),
        "observation": buffer.observations,
        "action": buffer.actions,
        "log_prob": buffer.log_probs.reshape(-1),
        "advantage": buffer.advantages.reshape(-1),
        **{f"before_{name}": value for name, value in before.items()},
        **{f"after_{name}": value for name, value in weights(model).items()},
    }


def main() -> None:
    """Write a file for each case."""
    DATA.mkdir(exist_ok=True)
    for name, case in CASES.items():
        path = DATA / f"sb3_trpo_{name}.npz"
        np.savez_compressed(path, **record(*case))
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
