"""A distribution over a vocabulary that is computed a chunk of tokens at a time."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.distributions import Categorical
from jaxrl_po.rlhf.chunked import ChunkedCategorical


def test_who_asks_again_pays_nothing():
    weights = jax.random.normal(jax.random.key(0), (3, 5))
    features = jax.random.normal(jax.random.key(1), (4, 2, 3))
    calls = []

    def policy(rows):
        calls.append(rows.shape)
        return Categorical(rows @ weights)

    action = jnp.arange(8).reshape(4, 2) % 5
    chunked, whole = ChunkedCategorical(policy, features, 3), Categorical(features @ weights)
    first, entropy = chunked.log_prob(action), chunked.entropy()
    num_calls = len(calls)
    assert chunked.log_prob(action) is first
    assert len(calls) == num_calls
    np.testing.assert_allclose(first, whole.log_prob(action), rtol=1e-5)
    np.testing.assert_allclose(entropy, whole.entropy(), rtol=1e-5)
    other = (action + 1) % 5
    np.testing.assert_allclose(chunked.log_prob(other), whole.log_prob(other), rtol=1e-5)
