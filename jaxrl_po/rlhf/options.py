"""What an RLHF run may learn from beside GAE with a critic: estimators, and options of the loss."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from jaxrl_po.algorithms import PPOConfig
from jaxrl_po.algorithms.ppo import ProximalConfig
from jaxrl_po.algorithms.trpo import NaturalGradientConfig
from jaxrl_po.config import COUNT, POSITIVE, Config, Range, Settings, setting
from jaxrl_po.schedules import is_schedule

# What standardises advantages where the update was not given anything.
NORMALIZATION = {"rloo": "none", "grpo": "none", "reinforce++": "batch"}
OF_GROUPS = "rloo", "grpo"
# Fields of an update that act on the critic, or through it.
OF_THE_CRITIC = (
    *("gae_lambda", "vf_coef", "clip_value", "value_clip_eps", "value_loss", "shared_torso"),
    *("critic_epochs", "critic_minibatches", "critic_learning_rate"),
)
OF_PPO = "clip_higher", "dynamic_sampling", "loss_average"
OF_THE_CRITICS_ADAM = "learning_rate", "max_grad_norm", "anneal_lr"  # where the policy has none


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignalConfig(Settings):
    """Fields of scores, advantages, the critic and PPO's loss."""

    update: Config
    # how advantages are estimated: "gae", with a critic; "rloo" (Ahmadian et al. 2024,
    # arXiv:2402.14740), less the mean of the other answers to the prompt; "grpo" (Shao et al. 2024,
    # arXiv:2402.03300), standardised among them; "reinforce++" (Hu 2025, arXiv:2501.03262), rewards
    # to go, standardised over the batch. The last three have no critic, and the first two of them
    # take a response as one action, worth the sum of its rewards
    estimator: str = setting("gae", ("gae", *NORMALIZATION))
    # k, answers to each prompt of an iteration, side by side; they divide update.num_envs
    answers_per_prompt: int = setting(1, COUNT)
    # GRPO's division by the group's standard deviation; Dr. GRPO (Liu et al. 2025,
    # arXiv:2503.20783) leaves it out
    divide_by_std: bool = True
    # bound on scores, after scaling, in their unit; inf for none (Zheng et al. 2023,
    # arXiv:2307.04964)
    score_clip: float = setting(math.inf, Range(0.0, open_low=True, infinite=True))
    # divide scores by the standard deviation of all so far (Engstrom et al. 2020, arXiv:2005.12729)
    scale_scores: bool = False
    # factor on PPO's step size for the critic
    critic_learning_rate_factor: float = setting(1.0, POSITIVE)
    # iterations at the start in which the critic alone learns (as VC-PPO, Yuan et al. 2025,
    # arXiv:2503.01491, pretrains it), and the price of the KL does not adapt
    critic_warmup_iterations: int = setting(0, Range(0))
    # PPO's ε above 1 is clip_eps_high: DAPO's "clip-higher" (Yu et al. 2025, arXiv:2503.14476)
    clip_higher: bool = False
    # ε above 1
    clip_eps_high: float = setting(0.28, POSITIVE)
    # leave groups whose scores are all equal out of the batch (DAPO, where others are drawn in
    # their place: here shapes are fixed, so the batch is smaller by them)
    dynamic_sampling: bool = False
    # PPO's loss as a mean over all "token"s (DAPO); as the mean over "sequence"s of their means
    # (GRPO); or as the sum over tokens by the "constant" N · T (Dr. GRPO), which alone leaves a
    # policy gradient unbiased: lengths depend on the policy
    loss_average: str = setting("token", ("token", "sequence", "constant"))

    @property
    def has_critic(self) -> bool:
        """Whether advantages are estimated with one."""
        return self.estimator == "gae"

    @property
    def has_own_algorithm(self) -> bool:
        """Whether the update's class brings an algorithm that is not the library's."""
        return hasattr(self.update, "make_algorithm")

    @property
    def is_library_ppo(self) -> bool:
        """Whether the update is the library's PPO-clip, whose loss has options."""
        return isinstance(self.update, PPOConfig) and not self.has_own_algorithm

    @property
    def update_name(self) -> str:
        """What messages call the update."""
        own = f"{type(self.update).__name__}'s own algorithm"
        return own if self.has_own_algorithm else self.update.algorithm

    @property
    def one_adam_for_both(self) -> bool:
        """Whether policy and critic take steps of one Adam, the library's."""
        own = self.has_own_algorithm
        own = own or type(self.update).make_optimizer is not Config.make_optimizer
        return self.has_critic and isinstance(self.update, ProximalConfig) and not own

    def validate(self) -> None:
        """Check that each option has what it acts on."""
        super().validate()
        k, num_envs = self.answers_per_prompt, self.update.num_envs
        if num_envs % k:
            raise ValueError(f"answers_per_prompt={k} does not divide update.num_envs={num_envs}")
        in_groups = self.estimator in OF_GROUPS
        if in_groups and k < 2:
            raise ValueError(
                f"estimator={self.estimator!r} compares answers to one prompt: "
                f"answers_per_prompt={k} must be >= 2"
            )
        self.check_effect("divide_by_std", self.estimator == "grpo", "estimator='grpo'")
        if not self.has_critic:
            self._check_no_critic()
        if in_groups:
            self._check_one_action()
        self._check_critic_options()
        self._check_loss_options()

    def _check_no_critic(self) -> None:
        """Refuse settings of a critic that is not there."""
        names: tuple[str, ...] = OF_THE_CRITIC
        if isinstance(self.update, NaturalGradientConfig):
            names += OF_THE_CRITICS_ADAM
        for name in names:
            if self._is_set(name):
                raise ValueError(
                    f"update.{name}={getattr(self.update, name)!r} has no effect: "
                    f"estimator={self.estimator!r} has no critic"
                )

    def _check_one_action(self) -> None:
        """Refuse what a response that is one action has no room for."""
        gamma, normalization = self.update.gamma, self.update.advantage_normalization
        if not isinstance(gamma, jax.core.Tracer) and (is_schedule(gamma) or np.any(gamma != 1)):
            raise ValueError(
                f"update.gamma={gamma!r} has no effect: to estimator={self.estimator!r} a response "
                "is one action, so gamma must be 1"
            )
        if self.estimator == "grpo" and self.divide_by_std and normalization != "none":
            raise ValueError(
                f"update.advantage_normalization={normalization!r} would standardise a second "
                "time: estimator='grpo' needs 'none', or divide_by_std=False"
            )

    def _check_critic_options(self) -> None:
        """Check that there is a critic to learn faster, or first."""
        self.check_effect(
            "critic_learning_rate_factor",
            self.one_adam_for_both,
            "estimator='gae' with the Adam of PPO or PPO-penalty (other updates have a rate of "
            "the critic's)",
        )
        self.check_effect("critic_warmup_iterations", self.has_critic, "estimator='gae'")
        warmup, num_iterations = self.critic_warmup_iterations, self.update.num_iterations
        if warmup >= num_iterations:
            raise ValueError(
                f"critic_warmup_iterations={warmup} leaves the policy none of "
                f"{num_iterations} iterations"
            )
        if warmup and self.update.shared_torso:
            raise ValueError(
                f"critic_warmup_iterations={warmup} needs update.shared_torso=False: "
                "a critic on the policy's own torso cannot learn alone"
            )

    def _check_loss_options(self) -> None:
        """Check the options of DAPO."""
        self.check_effect("clip_eps_high", self.clip_higher, "clip_higher=True")
        for name in OF_PPO:
            if getattr(self, name) != default_of(self, name) and not self.is_library_ppo:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} goes with update=PPOConfig(...), "
                    f"not with {self.update_name}"
                )
        if self.clip_higher and self._is_below_clip_eps():
            raise ValueError(
                f"clip_eps_high={self.clip_eps_high} must be >= "
                f"update.clip_eps={self.update.clip_eps}"  # type: ignore[attr-defined]
            )
        if not self.dynamic_sampling:
            return
        if self.estimator not in OF_GROUPS:
            raise ValueError(
                "dynamic_sampling=True leaves out groups that cannot be compared: it needs "
                f"estimator='rloo' or 'grpo', not {self.estimator!r}"
            )
        if self.update.advantage_normalization == "minibatch":
            raise ValueError(
                "dynamic_sampling=True may leave a minibatch empty: it needs "
                "update.advantage_normalization='none' or 'batch', not 'minibatch'"
            )

    def _is_below_clip_eps(self) -> bool:
        """Whether the bound above 1 is known to be narrower than that below."""
        pair: tuple[Any, ...] = (self.clip_eps_high, getattr(self.update, "clip_eps", 0.0))
        if any(isinstance(x, jax.core.Tracer) or is_schedule(x) or np.ndim(x) for x in pair):
            return False
        return bool(pair[0] < pair[1])

    def _is_set(self, name: str) -> bool:
        """Whether a field of the update was given another value than it has by default."""
        value = getattr(self.update, name, None)
        if not self.update.given(name) or isinstance(value, jax.core.Tracer):
            return False
        defaults = [default_of(self.update, name)]
        if isinstance(self.update, ProximalConfig):  # or it does not take them
            defaults.append(getattr(default_of(self, "update"), name, None))
        return not any(bool(np.all(value == default)) for default in defaults)


def default_of(config: Settings, name: str) -> Any:
    """The default of a config's field, or None where it has no such field."""
    return next((f.default for f in dataclasses.fields(config) if f.name == name), None)
