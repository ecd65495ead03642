"""A decoder-only transformer: stacked layers under a scan, a key-value cache."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_po.rlhf.models.config import TransformerConfig
from jaxrl_po.rlhf.models.layers import (
    ACTIVATIONS,
    attend,
    dense,
    frequencies,
    normalize,
    rotate,
    softcap,
)
from jaxrl_po.rlhf.types import LanguageModel, Tokens, positions
from jaxrl_po.types import Array, PyTree

STDDEV = 0.02  # of initial weights (GPT-2)


class Cache(NamedTuple):
    """Keys and values of what a sequence has seen. One index serves all, thanks to left-padding."""

    keys: Array  # [layers, N, S, K, d]
    values: Array  # [layers, N, S, K, d]
    mask: Array  # [N, S] the slots that hold a token
    next_slot: Array  # [] to fill


class Kind(NamedTuple):
    """What tokens are to a kind of layer: one that sees all, or one that slides."""

    visible: Array  # [N, L, S] the slots that each query sees
    turn: Any  # cosines and sines of positions [N, L, d/2], or ()


def init_params(config: TransformerConfig, key: Array) -> PyTree:
    """Initial weights: normal, those that write to the residual stream smaller (GPT-2)."""
    D, F, H = config.num_features, config.feedforward_width, config.num_heads
    K, d, layers = config.kv_heads, config.head_width, (config.num_layers,)
    keys = iter(jax.random.split(key, 16))

    def kernel(*shape: int, scale: float = 1.0) -> Array:
        return scale * STDDEV * jax.random.normal(next(keys), shape)

    def norm(*shape: int) -> dict[str, Array]:
        scale = {"scale": jnp.zeros(shape) if config.norm_offset else jnp.ones(shape)}
        return scale | ({"bias": jnp.zeros(shape)} if config.norm == "layer" else {})

    def linear(
        inputs: tuple[int, ...], outputs: tuple[int, ...], bias: bool, scale: float = 1.0
    ) -> dict[str, Array]:
        weights = {"kernel": kernel(*layers, *inputs, *outputs, scale=scale)}
        return weights | ({"bias": jnp.zeros((*layers, *outputs))} if bias else {})

    small = (2 * config.num_layers) ** -0.5
    block = {
        "attention_norm": norm(*layers, D),
        "query": linear((D,), (H, d), config.qkv_bias),
        "key": linear((D,), (K, d), config.qkv_bias),
        "value": linear((D,), (K, d), config.qkv_bias),
        "attention_out": linear((H, d), (D,), config.attention_bias, small),
        "feedforward_norm": norm(*layers, D),
        "feedforward_in": linear((D,), (F,), config.feedforward_bias),
        "feedforward_out": linear((F,), (D,), config.feedforward_bias, small),
    }
    if config.gated:
        block["feedforward_gate"] = linear((D,), (F,), config.feedforward_bias)
    if config.qk_norm:
        block |= {"query_norm": norm(*layers, d), "key_norm": norm(*layers, d)}
    if config.post_norms:
        block |= {f"{name}_post_norm": norm(*layers, D) for name in ("attention", "feedforward")}
    params = {"embedding": {"embedding": kernel(config.vocab_size, D)}, "layers": block}
    if config.positions == "learned":
        params["position"] = {"embedding": kernel(config.context_length, D)}
    if not config.tied_embedding:
        params["unembedding"] = {"kernel": kernel(D, config.vocab_size)}
    return params | {"norm": norm(D)}


def apply_layer(
    config: TransformerConfig,
    weights: Mapping[str, Any],
    x: Array,
    kind: Kind,
    cached: Any,
    index: Array,
) -> tuple[Array, Any]:
    """A pre-norm layer: x + attention(norm(x)), then x + feedforward(norm(x)).

    All tokens lie in a row, [N L, D], but for the attention: with [N, L, D] the gradient of a dense
    layer contracts two axes, which a CPU is slow at (0.7 of the time for a minibatch at V = 4096).

    Args:
        config: the transformer.
        weights: of this layer.
        x: features [N L, D].
        kind: what tokens are to this layer.
        cached: its keys and values [N, S, K, d] so far, or None.
        index: the slot where those of x are written.

    Returns:
        Features [N L, D], and keys and values with those of x among them.
    """
    N, L, _ = kind.visible.shape

    def added(name: str, y: Array) -> Array:
        return normalize(y, weights[name], config) if config.post_norms else y

    def heads(name: str, h: Array) -> Array:
        y = dense(h, weights[name]).reshape(N, L, -1, config.head_width)
        if config.qk_norm and name != "value":
            y = normalize(y, weights[f"{name}_norm"], config)
        return rotate(y, kind.turn) if kind.turn and name != "value" else y

    h = normalize(x, weights["attention_norm"], config)
    query, key, value = (heads(name, h) for name in ("query", "key", "value"))
    if cached is not None:
        key, value = (
            jax.lax.dynamic_update_slice_in_dim(old, new, index, axis=1)
            for old, new in zip(cached, (key, value), strict=True)
        )
        cached = key, value
    scale = config.attention_scale or config.head_width**-0.5
    attended = attend(query, key, value, kind.visible, scale, config.attention_softcap)
    x += added("attention_post_norm", dense(attended.reshape(N * L, -1), weights["attention_out"]))

    h = normalize(x, weights["feedforward_norm"], config)
    inner = ACTIVATIONS[config.activation](
        dense(h, weights["feedforward_gate" if config.gated else "feedforward_in"])
    )
    if config.gated:
        inner *= dense(h, weights["feedforward_in"])
    return x + added("feedforward_post_norm", dense(inner, weights["feedforward_out"])), cached


def layer_kinds(
    config: TransformerConfig, visible: Array, slot: Array, position: Array
) -> tuple[list[Kind], Array]:
    """The kinds of layers that there are, and which one each layer is [layers].

    Args:
        config: the transformer.
        visible: the slots that hold a token of the same text [N, 1 or L, S].
        slot: of each query [L].
        position: of each query in its text [N, L].
    """
    slides = [bool(config.sliding_window)] * config.num_layers
    if config.sliding_layers:
        slides = [bool(one) for one in config.sliding_layers]
    distance = slot[:, None] - jnp.arange(visible.shape[2])[None]

    def kind(sliding: bool) -> Kind:
        near = (distance >= 0) & (distance < config.sliding_window if sliding else True)
        turn: Any = ()
        if config.positions == "rotary":
            turned = frequencies(config, sliding)[None, None]
            angle = position[..., None].astype(jnp.float32) * turned
            turn = jnp.cos(angle), jnp.sin(angle)
        return Kind(near[None] & visible, turn)

    found = sorted(set(slides))
    return [kind(one) for one in found], jnp.array([found.index(one) for one in slides])


def apply_transformer(
    config: TransformerConfig, params: PyTree, tokens: Tokens, cache: Cache | None = None
) -> tuple[Array, Cache | None]:
    """Features [N, L, D] of tokens [N, L], and the cache with them appended.

    A token's position is the number of tokens before it, so padding on the left shifts nothing.
    """
    ids, mask, segment = tokens
    N, L = ids.shape
    check_slots(L, config)
    position = positions(tokens)
    index, seen, cached = jnp.zeros((), jnp.int32), mask, None
    if cache is not None:
        if segment is not None:
            raise ValueError("tokens.segment must be None with a cache, which holds a text a row")
        index = cache.next_slot
        position += cache.mask.sum(axis=1, keepdims=True, dtype=jnp.int32)
        seen = jax.lax.dynamic_update_slice_in_dim(cache.mask, mask, index, axis=1)
    position = jnp.where(mask, position, 0)
    visible = seen[:, None]
    if segment is not None:
        visible &= segment[:, :, None] == segment[:, None]
    kinds, kind_of = layer_kinds(config, visible, index + jnp.arange(L), position)

    table = jnp.asarray(params["embedding"]["embedding"])
    x = table[jnp.where(mask, ids, 0)].astype(config.compute_dtype or table.dtype)
    if config.scaled_embedding:
        x *= jnp.asarray(config.num_features**0.5, table.dtype).astype(x.dtype)
    if config.positions == "learned":
        x += jnp.asarray(params["position"]["embedding"])[position].astype(x.dtype)
    if cache is not None:  # in the precision of what is computed
        cached = cache.keys.astype(x.dtype), cache.values.astype(x.dtype)
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *kinds)

    def layer(x: Array, inputs: tuple[Any, Array, Any]) -> tuple[Array, Any]:
        weights, which, cached = inputs
        kind = kinds[0] if len(kinds) == 1 else jax.tree.map(lambda each: each[which], stacked)
        return apply_layer(config, weights, x, kind, cached, index)

    # For the backward pass a layer's products are kept, and what lies between them is computed
    # again: to write it all to memory and read it back takes a fourth more time.
    kept = None if config.remat else jax.checkpoint_policies.dots_saveable
    step = jax.checkpoint(layer, policy=kept, prevent_cse=False)
    x, new = jax.lax.scan(step, x.reshape(N * L, -1), (params["layers"], kind_of, cached))
    if cache is not None:
        cache = Cache(new[0], new[1], seen, index + L)
    return normalize(x, params["norm"], config).reshape(N, L, -1), cache


def apply_head(config: TransformerConfig, params: PyTree, features: Array) -> Array:
    """Logits [..., V] of features [..., D], by the embedding's rows or a matrix of their own."""
    rows = features.reshape(-1, features.shape[-1])
    if config.tied_embedding:
        logits = rows @ params["embedding"]["embedding"].astype(rows.dtype).T
    else:
        logits = dense(rows, params["unembedding"])
    return softcap(logits, config.logit_softcap).reshape(*features.shape[:-1], -1)


def check_slots(num_slots: int, config: TransformerConfig) -> None:
    """Raise where positions would run out."""
    if num_slots > config.context_length:
        raise ValueError(
            f"sequences of {num_slots} slots do not fit in context_length={config.context_length}"
        )


def make_transformer(config: TransformerConfig) -> LanguageModel:
    """The transformer as pure functions on plain parameter pytrees."""

    def init(key: Array) -> PyTree:
        return init_params(config, key)

    def apply(params: PyTree, tokens: Tokens, cache: Any = None) -> Any:
        return apply_transformer(config, params, tokens, cache)

    def logits(params: PyTree, features: Array) -> Array:
        return apply_head(config, params, features)

    def init_cache(num_sequences: int, num_slots: int) -> Cache:
        check_slots(num_slots, config)
        heads = config.kv_heads, config.head_width
        empty = jnp.zeros((config.num_layers, num_sequences, num_slots, *heads))
        mask = jnp.zeros((num_sequences, num_slots), bool)
        return Cache(empty, empty, mask, jnp.zeros((), jnp.int32))

    return LanguageModel(
        init, apply, logits, init_cache, config.num_features, config.context_length
    )
