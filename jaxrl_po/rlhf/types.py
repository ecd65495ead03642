"""Records of the RLHF loop. Shapes: N sequences, P prompt slots, T response slots, L any length.

Prompts are padded on the left and responses on the right, so that the two meet in one place. Masks,
not token ids, say which slots hold a token.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_po.types import Array, PyTree


class Tokens(NamedTuple):
    """Token sequences of unequal length; or several texts in a row, told apart by segments.

    Segments do not decrease along a row. A token sees those of its own segment alone, and its
    position is its place among them.
    """

    ids: Array  # [..., L] token ids; whatever stands in an empty slot has no influence
    mask: Array  # [..., L] bool, the slots that hold a token
    segment: Array | None = None  # [..., L] int, the text a token is of; None: a row is a text


class Generation(NamedTuple):
    """Prompts and what the policy answered."""

    prompt: Tokens  # [N, P]
    response: Tokens  # [N, T] the mask includes EOS
    log_prob: Array  # [N, T] log π(a_t|s_t) while decoding; 0 in empty slots

    @property
    def sequence(self) -> Tokens:
        """Prompt and response in a row [N, P + T]."""
        return concatenate(self.prompt, self.response)


class LanguageModel(NamedTuple):
    """A causal language model as pure functions: the door for models of one's own.

    `apply(params, tokens, cache)` returns features [N, L, D] and the cache. Without a cache it is
    the training pass over whole sequences; with one it appends L tokens to what the cache holds.
    Features in empty slots must be finite.
    """

    init: Callable[[Array], PyTree]  # key -> params
    apply: Callable[[PyTree, Tokens, Any], tuple[Array, Any]]
    logits: Callable[[PyTree, Array], Array]  # params, features [..., D] -> [..., V]
    init_cache: Callable[[int, int], Any]  # N, slots -> an empty cache
    num_features: int  # D
    context_length: int  # slots a sequence may have


RewardFn = Callable[[Tokens, Tokens], Array]  # prompt [N, P], response [N, T] -> score [N]


def concatenate(first: Tokens, second: Tokens) -> Tokens:
    """One sequence after the other."""
    both: Tokens = jax.tree.map(lambda *x: jnp.concatenate(x, axis=-1), first, second)
    return both


def positions(tokens: Tokens) -> Array:
    """How many tokens of its text are before each [N, L]; without meaning in empty slots."""
    before = jnp.cumsum(tokens.mask, axis=1, dtype=jnp.int32) - tokens.mask
    if tokens.segment is None:
        return before
    lowest = jnp.iinfo(tokens.segment.dtype).min
    segment = jax.lax.cummax(jnp.where(tokens.mask, tokens.segment, lowest), axis=1)
    begins = jnp.pad(segment[:, 1:] != segment[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    return before - jax.lax.cummax(jnp.where(begins, before, 0), axis=1)


def predicted(tokens: Tokens, completion: Array | None = None) -> Array:
    """Which of the tokens [N, 1:] are there, with one of their text before them [N, L - 1].

    Those of `completion` [N, L] alone, if it is given.
    """
    found = tokens.mask[:, 1:] & tokens.mask[:, :-1]
    if tokens.segment is not None:
        found &= tokens.segment[:, 1:] == tokens.segment[:, :-1]
    return found if completion is None else found & completion[:, 1:]
