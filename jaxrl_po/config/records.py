"""The config of a method: records of what an environment, a network and the loop need."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import optax

from jaxrl_po.config.fields import (
    ANY,
    COUNT,
    FRACTION,
    NON_NEGATIVE,
    Range,
    setting,
)
from jaxrl_po.config.settings import Settings, data_fields

MEMORY_KINDS = "gru", "lstm", "mingru"
VISION_KINDS = "cnn", "nature", "impala"
NETWORKS = (
    *("mlp", *VISION_KINDS, *MEMORY_KINDS),
    *(f"{vision}+{memory}" for vision in VISION_KINDS for memory in MEMORY_KINDS),
)
ENV_PARAMS = "env_params."  # prefix of the name of an environment's parameter


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvironmentConfig(Settings):
    """What an environment needs. The values of `env_params` are data, like the floats."""

    # "suite:name" of an environment; a plain name is gymnax's
    env_id: str = "CartPole-v1"
    # overrides of the environment's parameters, by name (data)
    env_params: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # shift and scale observations by running statistics
    normalize_observations: bool = False
    # scale rewards by the running standard deviation of the discounted return
    normalize_rewards: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig(Settings):
    """What the library's own networks need."""

    # widths of the hidden dense layers
    hidden_sizes: tuple[int, ...] = setting((64, 64), COUNT)
    # nonlinearity of the hidden layers
    activation: str = setting("tanh", ("tanh", "relu", "swish", "elu", "gelu"))
    # "cnn", "nature", "impala" put convolutions on grids before the dense layers; "gru", "lstm",
    # "mingru" a memory behind them
    network: str = setting("mlp", NETWORKS)
    # units of a memory's layer
    memory_size: int = setting(128, COUNT)
    # layers of memory
    memory_layers: int = setting(1, COUNT)
    # L, steps that a network with memory is trained through at a time; 0 for num_steps
    sequence_length: int = setting(0, Range(0))
    # initial log standard deviation of a Gaussian policy, in half-ranges of the action
    log_std_init: float = setting(0.0, ANY, only_at_start=True)
    # a Gaussian policy whose standard deviation is a function of the observation, too; in the
    # papers of TRPO and PPO it is not
    state_dependent_std: bool = False
    # bound continuous actions by tanh instead of clipping them
    squash_actions: bool = False

    def validate(self) -> None:
        """Check that a nonlinearity has a layer to follow."""
        super().validate()
        hidden = self.hidden_sizes or self.torso_kind != "mlp"
        self.check_effect("activation", hidden, "a hidden layer (hidden_sizes is empty)")
        for name in ("memory_size", "memory_layers"):
            self.check_effect(name, self.memory_kind, f"a network with memory, {MEMORY_KINDS}")

    @property
    def torso_kind(self) -> str:
        """What sees an observation: of "cnn+gru" "cnn", of "gru" "mlp"."""
        first = self.network.partition("+")[0]
        return "mlp" if first in MEMORY_KINDS else first

    @property
    def memory_kind(self) -> str:
        """What remembers: of "cnn+gru" and of "gru" "gru"; "" where nothing does."""
        last = self.network.rpartition("+")[2]
        return last if last in MEMORY_KINDS else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(NetworkConfig, EnvironmentConfig):
    """Fields that every method has: an environment's, a network's, the loop's and the update's."""

    algorithm: ClassVar[str]

    # N, environments stepped side by side
    num_envs: int = setting(4, COUNT)
    # T, steps of each environment in a rollout
    num_steps: int = setting(128, COUNT)
    # M, blocks of environments: each minibatch takes as many samples from one as from another, and
    # a rollout draws each one's random numbers by themselves. Devices that divide M hold whole
    # blocks, and compute the same
    minibatch_shards: int = setting(1, COUNT)
    # budget in environment steps over all environments; never exceeded
    total_timesteps: int = setting(500_000, Range(1, 2**32 - 1))
    # discount γ
    gamma: float = setting(0.99, FRACTION)
    # λ of generalised advantage estimation
    gae_lambda: float = setting(0.95, FRACTION)
    # step size of Adam
    learning_rate: float = setting(3e-4, NON_NEGATIVE)
    # anneal learning rates linearly to 0 over the run
    anneal_lr: bool = False
    # bound on the global norm of the gradient; inf for none
    max_grad_norm: float = setting(0.5, Range(0.0, open_low=True, infinite=True))
    # one network with a policy head and a value head
    shared_torso: bool = False
    # the critic's error: "huber" grows linearly beyond 1, in units of value; it did not help in the
    # study of Andrychowicz et al. (2021, arXiv:2006.05990)
    value_loss: str = setting("mse", ("mse", "huber"))
    # over what advantages are standardised
    advantage_normalization: str = setting("batch", ("batch", "minibatch", "none"))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A class without a name of its own is known by where it can be imported from."""
        super().__init_subclass__(**kwargs)
        if "algorithm" not in vars(cls):
            cls.algorithm = f"{cls.__module__}:{cls.__qualname__}"

    def make_optimizer(
        self, learning_rate: jax.Array | float
    ) -> optax.GradientTransformation | None:
        """The optimiser of minibatch descent; None for Adam behind `max_grad_norm`.

        For subclasses: any optax transformation. Floats of the config inside it, and inside its
        schedules, stay data.

        Args:
            learning_rate: that of the field that the method uses, as annealing has left it.
        """
        return None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; "env_params.NAME" is a single parameter's name."""
        return super().replace(**with_env_params(self.env_params, changes))

    def validate(self) -> None:
        """Check that the budget holds one iteration; subclasses add their own rules."""
        super().validate()
        per_iteration = self.num_envs * self.num_steps
        if self.total_timesteps < per_iteration:
            raise ValueError(
                f"total_timesteps={self.total_timesteps} is less than one iteration of "
                f"num_envs * num_steps = {per_iteration} steps"
            )
        if self.num_envs % self.minibatch_shards:
            raise ValueError(
                f"minibatch_shards={self.minibatch_shards} does not divide num_envs={self.num_envs}"
            )
        if self.num_steps % self.stretch_length:
            raise ValueError(
                f"sequence_length={self.sequence_length} does not divide num_steps={self.num_steps}"
            )
        self.check_advantages("batch", per_iteration)
        for name in data_fields(type(self)):
            if name.endswith("learning_rate"):
                self.check_unscheduled(name, self.anneal_lr, "anneal_lr=True anneals it")

    def check_advantages(self, over: str, num_samples: int) -> None:
        """Refuse to standardise single advantages: each less its own mean is 0."""
        if self.advantage_normalization == over and num_samples == 1:
            raise ValueError(
                f"advantage_normalization={over!r} with one sample a {over} makes every advantage "
                f"0, and the policy would never move: use 'none', or more samples a {over}"
            )

    @property
    def stretch_length(self) -> int:
        """L of a network with memory."""
        return self.sequence_length or self.num_steps

    @property
    def num_iterations(self) -> int:
        """I, the whole iterations that fit in `total_timesteps`."""
        return self.total_timesteps // (self.num_envs * self.num_steps)

    def fraction_done(self, iteration: jax.Array) -> jax.Array:
        """How much of the run is done: 0 at first, 1 from the planned end on."""
        return jnp.minimum(iteration / self.num_iterations, 1.0)

    def learning_rate_factor(self, iteration: jax.Array) -> jax.Array:
        """What annealing leaves of the learning rates: 1 at first, 0 from the planned end on."""
        if not self.anneal_lr:
            return jnp.ones(())
        return jnp.maximum(1.0 - iteration / self.num_iterations, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """A plain dict that `config_from_dict` reads back, with the algorithm's name."""
        return {"algorithm": self.algorithm, **super().to_dict()}


def with_env_params(env_params: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of a config in which each "env_params.NAME" has become part of "env_params"."""
    single = {
        name.removeprefix(ENV_PARAMS): value
        for name, value in changes.items()
        if name.startswith(ENV_PARAMS)
    }
    if not single:
        return dict(changes)
    fields = {name: value for name, value in changes.items() if not name.startswith(ENV_PARAMS)}
    return {**fields, "env_params": {**fields.get("env_params", env_params), **single}}
