"""Policy optimisation as pure functions: VPG, NPG, TRPO and PPO in one compiled training loop.

The core is here at once. What lives on the host (`run`, `sweep`, saved policies) is imported when
it is first asked for: where only pure functions are needed, no file or terminal library is.
"""

import importlib
from typing import TYPE_CHECKING, Any

from jaxrl_po.algorithms import (
    NPGConfig,
    PPOConfig,
    PPOPenaltyConfig,
    TRPOConfig,
    VPGConfig,
    config_from_dict,
)
from jaxrl_po.loop.evaluate import Evaluation, evaluate
from jaxrl_po.loop.learn import make_learn
from jaxrl_po.loop.train import make_step, make_train
from jaxrl_po.types import TrainResult, TrainState
from jaxrl_po.version import __version__

if TYPE_CHECKING:  # who checks types sees the names themselves, and no door for others
    from jaxrl_po.host.language.checkpoints import Pretrained, load_pretrained, save_pretrained
    from jaxrl_po.host.language.gguf import read_gguf
    from jaxrl_po.host.language.run import run_rlhf
    from jaxrl_po.host.policies.play import rollout_policy
    from jaxrl_po.host.policies.policy import load_policy, save_policy
    from jaxrl_po.host.policies.trajectories import Trajectories
    from jaxrl_po.host.policies.trajectory_files import (
        load_trajectories,
        save_dataset,
        save_trajectories,
    )
    from jaxrl_po.host.report.write import write_report
    from jaxrl_po.host.runs.callbacks import stop_at_return
    from jaxrl_po.host.runs.plots import plot_runs
    from jaxrl_po.host.runs.result import RunResult
    from jaxrl_po.host.runs.run import load_state, resume, run
    from jaxrl_po.host.sweeps.figure import plot_sweep
    from jaxrl_po.host.sweeps.read import read_sweep
    from jaxrl_po.host.sweeps.results import SweepResult
    from jaxrl_po.host.sweeps.sweep import sweep
    from jaxrl_po.host.tuned import tuned

HOST = {
    "Pretrained": "language.checkpoints",
    "RunResult": "runs.result",
    "SweepResult": "sweeps.results",
    "Trajectories": "policies.trajectories",
    "load_policy": "policies.policy",
    "load_pretrained": "language.checkpoints",
    "load_state": "runs.run",
    "load_trajectories": "policies.trajectory_files",
    "plot_runs": "runs.plots",
    "plot_sweep": "sweeps.figure",
    "read_gguf": "language.gguf",
    "read_sweep": "sweeps.read",
    "resume": "runs.run",
    "rollout_policy": "policies.play",
    "run": "runs.run",
    "run_rlhf": "language.run",
    "save_dataset": "policies.trajectory_files",
    "save_policy": "policies.policy",
    "save_pretrained": "language.checkpoints",
    "save_trajectories": "policies.trajectory_files",
    "stop_at_return": "runs.callbacks",
    "sweep": "sweeps.sweep",
    "tuned": "tuned",
    "write_report": "report.write",
}

__all__ = [
    "Evaluation",
    "NPGConfig",
    "PPOConfig",
    "PPOPenaltyConfig",
    "Pretrained",
    "RunResult",
    "SweepResult",
    "TRPOConfig",
    "TrainResult",
    "TrainState",
    "Trajectories",
    "VPGConfig",
    "__version__",
    "config_from_dict",
    "evaluate",
    "load_policy",
    "load_pretrained",
    "load_state",
    "load_trajectories",
    "make_learn",
    "make_step",
    "make_train",
    "plot_runs",
    "plot_sweep",
    "read_gguf",
    "read_sweep",
    "resume",
    "rollout_policy",
    "run",
    "run_rlhf",
    "save_dataset",
    "save_policy",
    "save_pretrained",
    "save_trajectories",
    "stop_at_return",
    "sweep",
    "tuned",
    "write_report",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What lives on the host, from the module that it is in."""
        if name not in HOST:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"jaxrl_po.host.{HOST[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *HOST})
