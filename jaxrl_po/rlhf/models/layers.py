"""Pieces of a transformer's layer: dense maps with low-rank adapters, norms, rotations, scores."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.rlhf.models.config import TransformerConfig
from jaxrl_po.types import Array

Weights = Mapping[str, Array]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


def dense(x: Array, weights: Weights) -> Array:
    """x W + b, and x A B where there is an adapter, of rows [R, in] -> [R, out].

    W may have its in- or outputs on several axes, as heads have them.
    """
    num_inputs = x.shape[-1]

    def matrix(name: str) -> Array:
        return weights[name].astype(x.dtype)

    y = x @ matrix("kernel").reshape(num_inputs, -1)
    if "lora_a" in weights:
        y += (x @ matrix("lora_a")) @ matrix("lora_b")
    if "bias" in weights:
        y += matrix("bias").reshape(1, -1)
    return y


def normalize(x: Array, weights: Weights, config: TransformerConfig) -> Array:
    """Layer norm, or norm by the root mean square, of the last axis, in single precision."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if config.norm == "layer":
        wide -= wide.mean(axis=-1, keepdims=True)
    wide *= jax.lax.rsqrt(jnp.square(wide).mean(axis=-1, keepdims=True) + config.norm_eps)
    row = (1,) * (x.ndim - 1)

    def vector(name: str) -> Array:
        return weights[name].astype(wide.dtype).reshape(*row, -1)

    wide *= vector("scale") + (1.0 if config.norm_offset else 0.0)
    if "bias" in weights:
        wide += vector("bias")
    return wide.astype(x.dtype)


def softcap(x: Array, cap: float) -> Array:
    """c tanh(x / c); x itself for c = 0."""
    return cap * jnp.tanh(x / cap) if cap else x


def frequencies(config: TransformerConfig, sliding: bool) -> np.ndarray:
    """Radians a token [head width / 2] by which each pair of a head is turned.

    θ^(-2i/d); with `rope_scaling="linear"` divided by the factor, with "llama3" so for waves longer
    than `rope_context / rope_low_factor`, with a passage to those that are left as they are.
    """
    size, own = config.head_width, sliding and config.sliding_rope_theta
    theta = np.float32(own or config.rope_theta)
    turn = 1.0 / theta ** (np.arange(0, size, 2, dtype=np.float32) / np.float32(size))
    if own or config.rope_scaling == "none":
        return turn
    if config.rope_scaling == "linear":
        return turn / np.float32(config.rope_factor)
    low, high = config.rope_low_factor, config.rope_high_factor
    waves = config.rope_context * turn / (2 * np.pi)  # that fit in the context
    kept = np.clip((waves - low) / (high - low), 0.0, 1.0)
    mixed: np.ndarray = (kept + (1.0 - kept) / config.rope_factor) * turn
    return mixed.astype(np.float32)


def rotate(x: Array, turn: tuple[Array, Array]) -> Array:
    """Heads [N, L, ..., d], each pair (i, i + d/2) turned by angles whose (cos, sin) [N, L, d/2].

    The pairs are the halves', as in the checkpoints of Hugging Face, not neighbours.
    """
    heads = (1,) * (x.ndim - 3)
    cos, sin = (t.reshape(*t.shape[:2], *heads, -1) for t in turn)
    one, two = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    return jnp.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1).astype(x.dtype)


def attend(
    query: Array, key: Array, value: Array, visible: Array, scale: float, cap: float
) -> Array:
    """What each query takes of the values it sees [N, L, H, d]; the softmax in single precision.

    Args:
        query: [N, L, H, d].
        key: [N, S, K, d], one for each H / K of the queries' heads.
        value: [N, S, K, d].
        visible: which slots each query sees [N, L, S].
        scale: of the scores.
        cap: softcap of the scores, 0 for none.
    """
    N, L, H, size = query.shape
    K = key.shape[2]
    # An axis of one query a key would cost its gradient 3 %: it is there for groups alone.
    heads, sizes = ("k", (K,)) if K == H else ("kg", (K, H // K))
    grouped = query.reshape(N, L, *sizes, size)
    scores = softcap(jnp.einsum(f"nl{heads}d,nskd->n{heads}ls", grouped, key) * scale, cap)
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    # Finite even where a padded query sees nothing: its features are unused, not NaN.
    seen = visible.reshape(N, *(1 for _ in sizes), L, -1)
    scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores).astype(value.dtype)
    taken = jnp.einsum(f"n{heads}ls,nskd->nl{heads}d", weights, value)
    return taken.reshape(N, L, H, size)
