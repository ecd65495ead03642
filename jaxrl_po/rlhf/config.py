"""What an RLHF run is made of: a model, an update of the library, and the price of the KL."""

import dataclasses

import jax

from jaxrl_po.algorithms import PPOConfig
from jaxrl_po.algorithms.ppo import ProximalConfig
from jaxrl_po.config import (
    NON_NEGATIVE,
    POSITIVE,
    Config,
    EnvironmentConfig,
    NetworkConfig,
    Range,
    pytree,
    setting,
)
from jaxrl_po.rlhf.checks import check_padding
from jaxrl_po.rlhf.lora import LoRAConfig
from jaxrl_po.rlhf.models.config import TransformerConfig
from jaxrl_po.rlhf.options import NORMALIZATION, SignalConfig, default_of

WITHOUT_MEANING = EnvironmentConfig, NetworkConfig  # of an update's records, on token sequences
MINIBATCH_FIELDS = "num_minibatches", "critic_minibatches"

MODEL = TransformerConfig()
LORA = LoRAConfig()
PPO = PPOConfig(
    num_envs=64,
    num_steps=16,
    total_timesteps=100 * 64 * 16,
    gamma=1.0,
    learning_rate=1e-4,
    max_grad_norm=1.0,
    vf_coef=0.1,
)
# What an update takes from `PPO` where it was not given: the defaults of its own are for
# environments, with a discount that episodes need and responses do not.
DEFAULTS = ("gamma",)
PROXIMAL_DEFAULTS = "learning_rate", "max_grad_norm", "vf_coef"


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class RLHFConfig(SignalConfig):
    """RLHF: an update acting on token sequences, with a price on the KL to a reference policy.

    The update's `num_envs` is N, sequences generated side by side; its `num_steps` is T, tokens a
    response may have; `total_timesteps` counts N · T an iteration. Its fields on environments and
    dense networks have nothing to act on here and must be left alone.

    Where they were not given, γ is 1, and PPO's learning_rate is 1e-4, max_grad_norm 1 and vf_coef
    0.1, in place of the update's own defaults, which are for environments; and advantages are not
    standardised after "rloo" and "grpo", and over the batch after "reinforce++".
    """

    # the transformer; a model of one's own can be given to `make_rlhf` instead
    model: TransformerConfig = MODEL
    # the update, and the loop's size
    update: Config = PPO
    # low-rank adapters, if that is what is learned
    lora: LoRAConfig = LORA
    # sequences that pass through the model at a time in the update, and again backwards: the same
    # gradient in less memory; 0 for the whole minibatch
    micro_batch_size: int = setting(0, Range(0))
    # of the softmax, wherever a log-probability is taken: sampling, training, reference
    temperature: float = setting(1.0, POSITIVE)
    # β, reward units a nat of log π/π_ref costs; its first value, not 0, when it adapts
    kl_coef: float = setting(0.1, NON_NEGATIVE)
    # move β towards target_kl_per_sequence
    adaptive_kl: bool = False
    # nats of KL(π‖π_ref), summed over a response
    target_kl_per_sequence: float = setting(6.0, POSITIVE)
    # sequences over which a relative error of 1 would double β
    kl_horizon_sequences: float = setting(10_000.0, Range(0.0, open_low=True, infinite=True))
    # estimator in the reward; k2 and k3 have the wrong gradient there
    kl_in_reward: str = setting("k1", ("k1", "none"))
    # estimator in the loss, with update.advantage_normalization="none", or β would have another
    # unit than the advantage; k1 and k3 have the wrong gradient there
    kl_in_loss: str = setting("none", ("none", "k2"))
    # taken from the score of a response without EOS
    missing_eos_penalty: float = setting(0.0, NON_NEGATIVE)
    # token that ends a response
    eos_id: int = setting(0, Range(0))
    # other tokens that end a response as eos_id does
    stop_ids: tuple[int, ...] = setting((), Range(0))
    # token that fills empty slots; it may lie outside the vocabulary
    pad_id: int = -1

    def __post_init__(self) -> None:
        if isinstance(self.update, Config):
            names: tuple[str, ...] = DEFAULTS
            if isinstance(self.update, ProximalConfig):
                names += PROXIMAL_DEFAULTS
            defaults = {name: getattr(PPO, name) for name in names}
            name = "advantage_normalization"
            usual = default_of(self.update, name)  # it may be filled in for another estimator
            defaults[name] = NORMALIZATION.get(self.estimator, usual)
            missing = {n: value for n, value in defaults.items() if not self.update.given(n)}
            if missing:
                object.__setattr__(self, "update", self.update.filled(**missing))
        super().__post_init__()

    def validate(self) -> None:
        """Check that the parts fit each other."""
        super().validate()
        check_padding(self.eos_id, self.stop_ids, self.pad_id)
        self._check_price()
        if self.adaptive_kl:
            if self.kl_in_loss == self.kl_in_reward == "none":
                raise ValueError(
                    "adaptive_kl=True has nothing to adapt: kl_in_reward and kl_in_loss are 'none'"
                )
            self.check_unscheduled("kl_coef", True, "adaptive_kl=True moves it")
            if not isinstance(self.kl_coef, jax.core.Tracer) and self.kl_coef == 0:
                raise ValueError(
                    "kl_coef=0.0 would stay 0 under adaptive_kl=True, which multiplies it: "
                    "it must be > 0"
                )
        self._check_update()

    def _check_update(self) -> None:
        """Check that an update has what it acts on, and nothing that it does not."""
        for record in WITHOUT_MEANING:
            for field in dataclasses.fields(record):
                default = {} if field.name == "env_params" else field.default
                value = getattr(self.update, field.name)
                if not isinstance(value, jax.core.Tracer) and value != default:
                    raise ValueError(
                        f"update.{field.name}={value!r} has no meaning on token sequences: "
                        "leave it at its default"
                    )
        if getattr(self.update, "recompute_advantages", False):
            raise ValueError("update.recompute_advantages=True: responses are valued once")
        size = self.update.num_envs
        if self.micro_batch_size > size:
            raise ValueError(
                f"micro_batch_size={self.micro_batch_size} is more than update.num_envs={size}"
            )
        for name in MINIBATCH_FIELDS if self.has_critic else MINIBATCH_FIELDS[:1]:
            count, shards = getattr(self.update, name, 1), self.update.minibatch_shards
            if size % (count * shards):
                of = f" of each of update.minibatch_shards={shards} blocks" if shards > 1 else ""
                raise ValueError(
                    f"update.{name}={count} does not divide the {size // shards} sequences{of} "
                    f"of update.num_envs={size}"
                )

    def _check_price(self) -> None:
        """Check that the price of the KL is charged once, and in the reward's unit."""
        if self.dynamic_sampling and self.kl_in_reward != "none":
            raise ValueError(
                f"dynamic_sampling=True beside kl_in_reward={self.kl_in_reward!r} would leave out "
                "responses that differ in the price of their KL: set kl_in_reward='none'"
            )
        if self.kl_in_loss != "none" and not self.is_library_ppo:
            raise ValueError(
                f"kl_in_loss={self.kl_in_loss!r} goes with update=PPOConfig(...), "
                f"not with {self.update_name}"
            )
        if self.kl_in_loss != "none" and self.kl_in_reward != "none":
            raise ValueError(
                f"kl_in_loss={self.kl_in_loss!r} beside kl_in_reward={self.kl_in_reward!r} would "
                "charge for the KL twice: set one of them to 'none'"
            )
        if self.kl_in_loss != "none" and self.update.advantage_normalization != "none":
            raise ValueError(
                f"kl_in_loss={self.kl_in_loss!r} prices the KL in units of reward: it needs "
                "update.advantage_normalization='none', not "
                f"{self.update.advantage_normalization!r}"
            )
