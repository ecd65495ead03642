"""Records of the RLHF loop. Shapes: N sequences, P prompt slots, T response slots, L any length.

Prompts are padded on the left and responses on the right, so that the two meet in one place. Masks,
not token ids, say which slots hold a token.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl_po.types import Array, PyTree


class Tokens(NamedTuple):
    """Token sequences of unequal length."""

    ids: Array  # [..., L] token ids; whatever stands in an empty slot has no influence
    mask: Array  # [..., L] bool, the slots that hold a token


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
    ids = jnp.concatenate([first.ids, second.ids], axis=-1)
    return Tokens(ids, jnp.concatenate([first.mask, second.mask], axis=-1))
