"""Actor-critic networks in flax.linen behind the `Network` interface."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.envs.environment import forms, is_shape, named_leaves
from jaxrl_po.networks.layers import Pieces, dense
from jaxrl_po.networks.memory import MEMORIES, stacked
from jaxrl_po.networks.recurrent import remembering
from jaxrl_po.networks.vision import BYTES_ARE_FRACTIONS, SMALLEST, VISION
from jaxrl_po.spaces import Space
from jaxrl_po.types import Array, Distribution, Network, Params, PyTree


class Torso(nn.Module):
    """Observation [B, ...] to features: convolutions on grids (optional), then dense layers.

    The leaves of an observation stand side by side for the dense layers, in the order of names;
    each grid goes through convolutions of its own first.
    """

    hidden_sizes: tuple[int, ...]
    activation: Callable[[Array], Array]
    kind: str  # "mlp", or one of `VISION`

    @nn.compact
    def __call__(self, leaves: list[Array]) -> Array:
        """Features [B, hidden_sizes[-1]]."""
        if self.kind in VISION:
            leaves = [self.see(x) if is_grid(x.shape[1:], self.kind) else x for x in leaves]
        rows = [x.reshape(x.shape[0], -1) for x in leaves]
        x = rows[0] if len(rows) == 1 else jnp.concatenate(rows, axis=-1)
        for size in self.hidden_sizes:
            x = self.activation(dense(size, np.sqrt(2), x.dtype)(x))
        return x

    def see(self, grid: Array) -> Array:
        """Channels [B, H', W', C] of a grid [B, H, W(, C)]."""
        return VISION[self.kind](grid if grid.ndim == 4 else grid[..., None], self.activation)


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
    floats, as they are, but for bytes that "nature" and "impala" take as parts of 255.

    Args:
        config: the config.
        observation: one observation's arrays, or their shapes and dtypes, as
            `Environment.observation` has them; or the shape of its only array.
        action_space: what the policy acts in.

    Raises:
        ValueError: when the network has convolutions and no part of the observation is a grid.
    """
    if is_shape(observation):
        observation = jax.ShapeDtypeStruct(tuple(observation), jnp.float32)
    seen = list(named_leaves(observation).values())
    shapes, kind = [leaf.shape for leaf in seen], config.torso_kind
    if kind in VISION and not any(is_grid(shape, kind) for shape in shapes):
        raise ValueError(
            f"network={config.network!r} needs observations of [height, width(, channels)], at "
            f"least {SMALLEST[kind]} x {SMALLEST[kind]}; this environment's are "
            f"{forms(observation)}: use network='mlp'"
        )
    units = [_unit(leaf, kind) for leaf in seen]
    pieces = Pieces(
        Torso(config.hidden_sizes, getattr(nn, config.activation), kind),
        PolicyHead(
            action_space, config.log_std_init, config.state_dependent_std, config.squash_actions
        ),
        ValueHead(),
        shared=config.shared_torso,
        fold=lambda observation: _flatten(observation, shapes, units),
        example=[jnp.zeros((1, *shape)) for shape in shapes],
    )
    if not config.memory_kind:
        return feed_forward(pieces)
    layer = MEMORIES[config.memory_kind](config.memory_size, config.stretch_length)
    return remembering(pieces, stacked([layer] * config.memory_layers))


def feed_forward(pieces: Pieces) -> Network:
    """A network of one torso, or of one each, and two heads."""
    torso, policy_head, value_head, shared, fold, example = pieces

    def init(key: Array) -> Params:
        policy_key, value_key, torso_key, value_torso_key = jax.random.split(key, 4)
        torso_params = torso.init(torso_key, example)
        features = torso.apply(torso_params, example)
        policy = policy_head.init(policy_key, features)
        value = value_head.init(value_key, features)
        if shared:
            return Params(policy, torso_params, value)
        value_torso = torso.init(value_torso_key, example)
        return Params(
            policy={"torso": torso_params, "head": policy},
            value={"torso": value_torso, "head": value},
        )

    def run(head: nn.Module, own: PyTree, params: Params, x: list[Array]) -> Any:
        if shared:
            return head.apply(own, torso.apply(params.torso, x))
        return head.apply(own["head"], torso.apply(own["torso"], x))

    def policy(params: Params, observation: PyTree, memory: PyTree) -> tuple[Any, PyTree]:
        flat, unfold = fold(observation)
        return unfold(run(policy_head, params.policy, params, flat)), memory

    def value(params: Params, observation: PyTree, memory: PyTree) -> Array:
        flat, unfold = fold(observation)
        values: Array = unfold(run(value_head, params.value, params, flat))
        return values

    def policy_and_value(params: Params, observation: PyTree, memory: PyTree) -> tuple[Any, Array]:
        if not shared:
            return policy(params, observation, memory)[0], value(params, observation, memory)
        flat, unfold = fold(observation)
        features = torso.apply(params.torso, flat)
        return (
            unfold(policy_head.apply(params.policy, features)),
            unfold(value_head.apply(params.value, features)),
        )

    return Network(init, policy, value, policy_and_value, initial_memory=lambda num_envs: ())


def is_grid(shape: tuple[int, ...], kind: str) -> bool:
    """Whether convolutions of a kind can go over an array: [height, width(, channels)]."""
    return len(shape) in (2, 3) and min(shape[:2]) >= SMALLEST[kind]


def _unit(leaf: Any, kind: str) -> float:
    """What an array's numbers are counted in."""
    return 255.0 if kind in BYTES_ARE_FRACTIONS and leaf.dtype == jnp.uint8 else 1.0


def _flatten(
    observation: PyTree, shapes: list[tuple[int, ...]], units: list[float]
) -> tuple[list[Array], Callable[[PyTree], PyTree]]:
    """Floats, of their units, with all batch axes folded into one, and what unfolds them again."""
    leaves = list(named_leaves(observation).values())
    batch = leaves[0].shape[: leaves[0].ndim - len(shapes[0])]

    def unflatten(output: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x.reshape(*batch, *x.shape[1:]), output)

    floats = [
        leaf.astype(jnp.result_type(float)).reshape(-1, *shape)
        for leaf, shape in zip(leaves, shapes, strict=True)
    ]
    return [x if unit == 1 else x / unit for x, unit in zip(floats, units, strict=True)], unflatten
