"""A decoder-only transformer in flax.linen: stacked layers under a scan, a key-value cache."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl_po.config import COUNT, Settings, pytree, setting
from jaxrl_po.rlhf.types import LanguageModel, Tokens, positions
from jaxrl_po.types import Array, PyTree

STDDEV = 0.02  # of initial weights (GPT-2)


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(Settings):
    """Size of the transformer."""

    # V, tokens it knows
    vocab_size: int = setting(256, COUNT)
    # slots a sequence may have, prompt and response together
    context_length: int = setting(64, COUNT)
    # layers, each attention and a feed-forward network
    num_layers: int = setting(2, COUNT)
    # attention heads; they divide num_features
    num_heads: int = setting(4, COUNT)
    # D, width of the residual stream
    num_features: int = setting(64, COUNT)

    def validate(self) -> None:
        """Check that the heads divide the width."""
        if self.num_features % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} does not divide num_features={self.num_features}"
            )


class Cache(NamedTuple):
    """Keys and values of what a sequence has seen. One index serves all, thanks to left-padding."""

    keys: Array  # [layers, N, S, H, D/H]
    values: Array  # [layers, N, S, H, D/H]
    mask: Array  # [N, S] the slots that hold a token
    next_slot: Array  # [] to fill


class Block(nn.Module):
    """A pre-norm layer: x + attention(norm(x)), then x + feedforward(norm(x)).

    A feed-forward network here is two dense layers with a GELU between them, 4 D wide. All tokens
    lie in a row, [N L, D], but for the attention: with [N, L, D] the gradient of a dense layer
    contracts two axes, which a CPU is slow at (0.7 of the time for a minibatch at V = 4096).
    """

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: Array, cached: Any, visible: Array, index: Array) -> tuple[Array, Any]:
        """Features [N L, D] and this layer's cached keys and values, both one step on.

        `visible` [N, L, S] says which slots each query sees, `index` where its keys are written.
        """
        config = self.config
        size = config.num_features // config.num_heads
        heads = (config.num_heads, size)
        N, L, _ = visible.shape
        inner = nn.initializers.normal(STDDEV)
        outer = nn.initializers.normal(STDDEV / (2 * config.num_layers) ** 0.5)

        h = nn.LayerNorm(name="attention_norm")(x)
        query, key, value = (
            nn.DenseGeneral(heads, use_bias=False, kernel_init=inner, name=name)(h).reshape(
                N, L, *heads
            )
            for name in ("query", "key", "value")
        )
        if cached is not None:
            key, value = (
                jax.lax.dynamic_update_slice_in_dim(old, new, index, axis=1)
                for old, new in zip(cached, (key, value), strict=True)
            )
            cached = key, value
        scores = jnp.einsum("nlhd,nshd->nhls", query, key) / size**0.5
        # Finite even where a padded query sees nothing: its features are unused, not NaN.
        scores = jnp.where(visible[:, None], scores, jnp.finfo(scores.dtype).min)
        attended = jnp.einsum("nhls,nshd->nlhd", jax.nn.softmax(scores), value)
        x = x + nn.DenseGeneral(
            config.num_features, axis=(-2, -1), kernel_init=outer, name="attention_out"
        )(attended.reshape(N * L, *heads))

        h = nn.LayerNorm(name="feedforward_norm")(x)
        h = nn.gelu(nn.Dense(4 * config.num_features, kernel_init=inner, name="feedforward_in")(h))
        x = x + nn.Dense(config.num_features, kernel_init=outer, name="feedforward_out")(h)
        return x, cached


class Transformer(nn.Module):
    """Tokens to features; the embedding turns features back into logits."""

    config: TransformerConfig

    def setup(self) -> None:
        """Embeddings of tokens and positions, the layers, the last norm."""
        init = nn.initializers.normal(STDDEV)
        config = self.config
        self.embedding = nn.Embed(config.vocab_size, config.num_features, embedding_init=init)
        self.position = nn.Embed(config.context_length, config.num_features, embedding_init=init)
        self.layers = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=config.num_layers,
        )(config)
        self.norm = nn.LayerNorm()

    def __call__(self, tokens: Tokens, cache: Cache | None = None) -> tuple[Array, Cache | None]:
        """Features [N, L, D] of tokens [N, L], and the cache with them appended.

        A token's position is the number of tokens before it, so padding on the left shifts nothing.
        """
        ids, mask, segment = tokens
        N, L = ids.shape
        check_slots(L, self.config)
        position = positions(tokens)
        index = jnp.zeros((), jnp.int32)
        seen, cached = mask, None
        if cache is not None:
            if segment is not None:
                raise ValueError(
                    "tokens.segment must be None with a cache, which holds a text a row"
                )
            index = cache.next_slot
            position += cache.mask.sum(axis=1, keepdims=True, dtype=jnp.int32)
            seen = jax.lax.dynamic_update_slice_in_dim(cache.mask, mask, index, axis=1)
        slot = index + jnp.arange(L)
        causal = jnp.arange(seen.shape[1])[None] <= slot[:, None]
        visible = causal[None] & seen[:, None]
        if segment is not None:
            visible &= segment[:, :, None] == segment[:, None]

        x = self.embedding(jnp.where(mask, ids, 0)) + self.position(jnp.where(mask, position, 0))
        if cache is not None:  # in the precision of what is computed, which parameters set
            cached = cache.keys.astype(x.dtype), cache.values.astype(x.dtype)
        x, cached = self.layers(x.reshape(N * L, -1), cached, visible, index)
        if cache is not None:
            cache = Cache(cached[0], cached[1], seen, index + L)
        return self.norm(x).reshape(N, L, -1), cache

    def logits(self, features: Array) -> Array:
        """Logits [..., V] of features [..., D], with the embedding as the last layer."""
        flat = self.embedding.attend(features.reshape(-1, features.shape[-1]))
        return flat.reshape(*features.shape[:-1], -1)


def check_slots(num_slots: int, config: TransformerConfig) -> None:
    """Raise where positions would run out: their embedding has no row for more."""
    if num_slots > config.context_length:
        raise ValueError(
            f"sequences of {num_slots} slots do not fit in context_length={config.context_length}"
        )


def make_transformer(config: TransformerConfig) -> LanguageModel:
    """The transformer as pure functions on plain parameter pytrees."""
    module = Transformer(config)

    def init(key: Array) -> PyTree:
        one = jnp.zeros((1, 1), jnp.int32)
        return module.init(key, Tokens(one, one == 0))["params"]

    def apply(params: PyTree, tokens: Tokens, cache: Any = None) -> Any:
        return module.apply({"params": params}, tokens, cache)

    def logits(params: PyTree, features: Array) -> Any:
        return module.apply({"params": params}, features, method="logits")

    def init_cache(num_sequences: int, num_slots: int) -> Cache:
        check_slots(num_slots, config)
        heads = config.num_heads, config.num_features // config.num_heads
        empty = jnp.zeros((config.num_layers, num_sequences, num_slots, *heads))
        mask = jnp.zeros((num_sequences, num_slots), bool)
        return Cache(empty, empty, mask, jnp.zeros((), jnp.int32))

    return LanguageModel(
        init, apply, logits, init_cache, config.num_features, config.context_length
    )
