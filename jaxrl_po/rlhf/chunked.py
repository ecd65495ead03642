"""A distribution over a vocabulary so large that a minibatch of logits is not held at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl_po.distributions import Categorical
from jaxrl_po.rlhf.chunks import in_chunks
from jaxrl_po.types import Array


class ChunkedCategorical:
    """π(·|s) of tokens [..., D]: what a loss asks of it is computed a chunk of tokens at a time.

    The logits of a chunk are computed, used and dropped, and computed again in the backward pass,
    where the gradients of the weights add up over chunks. A tool of one trace: no pytree.
    """

    def __init__(self, policy: Callable[[Array], Categorical], features: Array, size: int) -> None:
        """`policy` maps features [R, D] to π(·|s) [R]; `size` tokens are worked on at a time."""
        self._policy, self._features, self._size = policy, features, size
        self._entropy: Array | None = None
        self._asked: tuple[Array, Array] | None = None  # the last action, and its log π(a|s)

    def log_prob(self, action: Array) -> Array:
        """log π(a|s) [...]; the entropy comes of the same pass, and who asks again pays nothing."""
        if self._asked is not None and self._asked[0] is action:
            return self._asked[1]

        def both(rows: tuple[Array, Array]) -> tuple[Array, Array]:
            features, action = rows
            distribution = self._policy(features)
            return distribution.log_prob(action), distribution.entropy()

        rows = self._features.reshape(-1, self._features.shape[-1]), action.ravel()
        found = in_chunks(jax.checkpoint(both), rows, self._size)
        log_prob: Array = found[0].reshape(action.shape)
        self._entropy = found[1].reshape(action.shape)
        self._asked = action, log_prob
        return log_prob

    def entropy(self) -> Array:
        """-Σ π log π [...]."""
        if self._entropy is None:
            self.log_prob(jnp.zeros(self._features.shape[:-1], jnp.int32))
        assert self._entropy is not None
        return self._entropy
