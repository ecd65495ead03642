import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxrl_po.ops import gae
from tests.reference import advantages as reference

T, N = 12, 3
fast_gae = jax.jit(gae)


def random_rollout(seed, end_rate=0.15):
    """Values, rewards, and episodes that end either way, or both ways at once."""
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.normal(size=(3, T, N)).astype(np.float32)
    terminated, truncated = rng.random((2, T, N)) < end_rate
    truncated |= terminated & (rng.random((T, N)) < 0.5)
    return reward, value, next_value, terminated, truncated


@given(seed=st.integers(0, 2**32), gamma=st.floats(0, 1), gae_lambda=st.floats(0, 1))
def test_gae_is_the_double_sum(seed, gamma, gae_lambda):
    rollout = random_rollout(seed)
    advantage = fast_gae(*rollout, gamma=gamma, gae_lambda=gae_lambda)
    expected = reference.gae(*rollout, gamma, gae_lambda)
    np.testing.assert_allclose(advantage, expected, rtol=1e-5, atol=1e-5)


def test_truncation_keeps_the_bootstrap_and_termination_does_not():
    reward, value, next_value = jnp.ones((1, 1)), jnp.full((1, 1), 2.0), jnp.full((1, 1), 10.0)
    yes, no = jnp.ones((1, 1), bool), jnp.zeros((1, 1), bool)
    ends = {(True, False): -1.0, (False, True): 8.0, (False, False): 8.0, (True, True): -1.0}
    for (terminated, truncated), expected in ends.items():
        flags = (yes if terminated else no), (yes if truncated else no)
        advantage = gae(reward, value, next_value, *flags, gamma=0.9, gae_lambda=0.5)
        np.testing.assert_allclose(advantage, expected, rtol=1e-6)


@given(seed=st.integers(0, 2**32))
def test_nothing_leaks_from_the_next_episode(seed):
    reward, value, next_value, terminated, truncated = random_rollout(seed)
    truncated[5] = True
    late = np.arange(T)[:, None] > 5
    other = np.where(late, 100 * reward, reward).astype(np.float32)
    flags = terminated, truncated
    settings = {"gamma": 0.99, "gae_lambda": 0.95}
    before = fast_gae(reward, value, next_value, *flags, **settings)[:6]
    after = fast_gae(other, value, next_value, *flags, **settings)[:6]
    np.testing.assert_array_equal(before, after)


def test_lambda_one_gives_returns_less_values():
    reward, value, next_value, terminated, truncated = random_rollout(0, end_rate=0.0)
    next_value[:-1] = value[1:]
    advantage = fast_gae(
        reward, value, next_value, terminated, truncated, gamma=0.9, gae_lambda=1.0
    )
    discounts = 0.9 ** np.arange(T + 1)
    returns = (discounts[:-1, None] * reward).sum(0) + discounts[-1] * next_value[-1]
    np.testing.assert_allclose(advantage[0], returns - value[0], rtol=1e-5)


def test_gae_keeps_the_precision_of_its_input():
    with jax.enable_x64(True):
        rollout = [jnp.asarray(x) for x in random_rollout(1)]
        single = gae(*rollout, gamma=0.9, gae_lambda=0.9)
        double = gae(
            *(x.astype(float) for x in rollout[:3]), *rollout[3:], gamma=0.9, gae_lambda=0.9
        )
    assert (single.dtype, double.dtype) == (jnp.float32, jnp.float64)
