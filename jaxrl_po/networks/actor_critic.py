"""Actor-critic networks in flax.linen behind the `Network` interface."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.envs.environment import forms, is_shape, named_leaves
from jaxrl_po.fast.convolution import convolution
from jaxrl_po.networks.layers import dense, options
from jaxrl_po.networks.memory import MEMORIES, stacked
from jaxrl_po.networks.recurrent import remembering
from jaxrl_po.spaces import Space
from jaxrl_po.types import Array, Distribution, Network, Params, PyTree

CHANNELS, KERNEL = 16, (3, 3)  # the convolution of MinAtar's own baselines (Young & Tian 2019)


class Torso(nn.Module):
    """Observation [B, ...] to features: convolutions on grids (optional), then dense layers.

    The leaves of an observation stand side by side for the dense layers, in the order of names.
    """

    hidden_sizes: tuple[int, ...]
    activation: Callable[[Array], Array]
    convolution: bool

    @nn.compact
    def __call__(self, leaves: list[Array]) -> Array:
        """Features [B, hidden_sizes[-1]]."""
        if self.convolution:
            leaves = [self.convolve(x) if is_grid(x.shape[1:]) else x for x in leaves]
        rows = [x.reshape(x.shape[0], -1) for x in leaves]
        x = rows[0] if len(rows) == 1 else jnp.concatenate(rows, axis=-1)
        for size in self.hidden_sizes:
            x = self.activation(dense(size, np.sqrt(2), x.dtype)(x))
        return x

    def convolve(self, grid: Array) -> Array:
        """Channels [B, H', W', C] of a grid [B, H, W(, C)]."""
        conv = nn.Conv(
            CHANNELS,
            KERNEL,
            padding="VALID",
            conv_general_dilated=convolution,
            **options(np.sqrt(2), grid.dtype),
        )
        return self.activation(conv(grid if grid.ndim == 4 else grid[..., None]))


class PolicyHead(nn.Module):
    """Features to π(·|s). The small last layer starts the policy near uniform or zero-mean."""

    action_space: Space
    log_std_init: Any
    state_dependent_std: bool
    squash: bool

    @nn.compact
    def __call__(self, x: Array) -> Distribution:
        """The distribution over a batch of features [B, F]."""
        space, size = self.action_space, self.action_space.num_outputs
        outputs = dense(size * (1 + self.state_dependent_std), 0.01, x.dtype)(x)
        if not space.continuous:
            return space.distribution(outputs)
        if self.state_dependent_std:
            mean, offset = jnp.split(outputs, 2, axis=-1)
            log_std = offset + jnp.asarray(self.log_std_init, x.dtype)
            return space.distribution(mean, log_std, self.squash)
        log_std = self.param("log_std", lambda _: jnp.full(size, self.log_std_init, x.dtype))
        return space.distribution(outputs, jnp.broadcast_to(log_std, outputs.shape), self.squash)


class ValueHead(nn.Module):
    """Features to V(s)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Values [B] of features [B, F]."""
        return dense(1, 1.0, x.dtype)(x)[:, 0]


def make_network(config: Config, observation: Any, action_space: Space) -> Network:
    """The actor-critic that `config` describes.

    Orthogonal weights (gain √2, policy head 0.01, value head 1), zero biases. Policy and value
    have networks of their own unless `config.shared_torso`. Numbers of any type are taken as
    floats, as they are.

    Args:
        config: the config.
        observation: one observation's arrays, or their shapes and dtypes, as
            `Environment.observation` has them; or the shape of its only array.
        action_space: what the policy acts in.

    Raises:
        ValueError: when no part of the observation is a grid and `network="cnn"`.
    """
    if is_shape(observation):
        observation = jax.ShapeDtypeStruct(tuple(observation), jnp.float32)
    shapes = [leaf.shape for leaf in named_leaves(observation).values()]
    if config.torso_kind == "cnn" and not any(map(is_grid, shapes)):
        raise ValueError(
            f"network={config.network!r} needs observations of [height, width(, channels)], at "
            f"least 3 x 3; this environment's are {forms(observation)}: use network='mlp'"
        )
    activation = getattr(nn, config.activation)
    torso = Torso(config.hidden_sizes, activation, config.torso_kind == "cnn")
    policy_head = PolicyHead(
        action_space, config.log_std_init, config.state_dependent_std, config.squash_actions
    )
    value_head = ValueHead()
    example = [jnp.zeros((1, *shape)) for shape in shapes]
    if config.memory_kind:
        layer = MEMORIES[config.memory_kind](config.memory_size, config.stretch_length)
        return remembering(
            torso,
            stacked([layer] * config.memory_layers),
            policy_head,
            value_head,
            shared=config.shared_torso,
            fold=lambda observation: _flatten(observation, shapes),
            example=example,
        )

    def init(key: Array) -> Params:
        policy_key, value_key, torso_key, value_torso_key = jax.random.split(key, 4)
        torso_params = torso.init(torso_key, example)
        features = torso.apply(torso_params, example)
        policy = policy_head.init(policy_key, features)
        value = value_head.init(value_key, features)
        if config.shared_torso:
            return Params(policy, torso_params, value)
        value_torso = torso.init(value_torso_key, example)
        return Params(
            policy={"torso": torso_params, "head": policy},
            value={"torso": value_torso, "head": value},
        )

    def run(head: nn.Module, own: PyTree, params: Params, x: list[Array]) -> Any:
        if config.shared_torso:
            return head.apply(own, torso.apply(params.torso, x))
        return head.apply(own["head"], torso.apply(own["torso"], x))

    def policy(params: Params, observation: PyTree, memory: PyTree) -> tuple[Any, PyTree]:
        flat, unflatten = _flatten(observation, shapes)
        return unflatten(run(policy_head, params.policy, params, flat)), memory

    def value(params: Params, observation: PyTree, memory: PyTree) -> Array:
        flat, unflatten = _flatten(observation, shapes)
        values: Array = unflatten(run(value_head, params.value, params, flat))
        return values

    def policy_and_value(params: Params, observation: PyTree, memory: PyTree) -> tuple[Any, Array]:
        if not config.shared_torso:
            return policy(params, observation, memory)[0], value(params, observation, memory)
        flat, unflatten = _flatten(observation, shapes)
        features = torso.apply(params.torso, flat)
        return (
            unflatten(policy_head.apply(params.policy, features)),
            unflatten(value_head.apply(params.value, features)),
        )

    return Network(init, policy, value, policy_and_value, initial_memory=lambda num_envs: ())


def is_grid(shape: tuple[int, ...]) -> bool:
    """Whether a 3 x 3 convolution can go over an array: [height, width(, channels)]."""
    return len(shape) in (2, 3) and min(shape[:2]) >= 3


def _flatten(
    observation: PyTree, shapes: list[tuple[int, ...]]
) -> tuple[list[Array], Callable[[PyTree], PyTree]]:
    """Floats with all batch axes folded into one, and the function that unfolds them again."""
    leaves = list(named_leaves(observation).values())
    batch = leaves[0].shape[: leaves[0].ndim - len(shapes[0])]

    def unflatten(output: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), output)

    floats = [
        leaf.astype(jnp.result_type(float)).reshape(-1, *shape)
        for leaf, shape in zip(leaves, shapes, strict=True)
    ]
    return floats, unflatten
