"""Policy optimisation as pure functions: VPG, NPG, TRPO and PPO in one compiled training loop."""

from jaxrl_po.algorithms import (
    NPGConfig,
    PPOConfig,
    PPOPenaltyConfig,
    TRPOConfig,
    VPGConfig,
    config_from_dict,
)
from jaxrl_po.evaluate import Evaluation, evaluate
from jaxrl_po.host.policy import load_policy, save_policy
from jaxrl_po.host.result import RunResult
from jaxrl_po.host.run import load_state, resume, run
from jaxrl_po.host.sweep import sweep
from jaxrl_po.host.sweep_results import SweepResult
from jaxrl_po.host.tuned import tuned
from jaxrl_po.host.version import __version__
from jaxrl_po.train import make_step, make_train
from jaxrl_po.types import TrainResult, TrainState

__all__ = [
    "Evaluation",
    "NPGConfig",
    "PPOConfig",
    "PPOPenaltyConfig",
    "RunResult",
    "SweepResult",
    "TRPOConfig",
    "TrainResult",
    "TrainState",
    "VPGConfig",
    "__version__",
    "config_from_dict",
    "evaluate",
    "load_policy",
    "load_state",
    "make_step",
    "make_train",
    "resume",
    "run",
    "save_policy",
    "sweep",
    "tuned",
]
