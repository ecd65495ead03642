"""The dense product and its derivatives, of every order and mode, are those of x @ W."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.ops.dense import FEW, dense_dot_general

X = jax.random.normal(jax.random.key(0), (16, 5))


@pytest.mark.parametrize("outputs", [1, 2, FEW, FEW + 1, 12])
def test_derivatives(outputs):
    keys = jax.random.split(jax.random.key(1), 3)
    kernel, weight, direction = (
        jax.random.normal(k, s)
        for k, s in zip(keys, [(5, outputs), (16, outputs), (5, outputs)], strict=True)
    )

    def loss(product):
        return lambda x, kernel: (jnp.sin(product(x, kernel)) * weight).sum()

    ours, plain = loss(dense_dot_general), loss(jnp.matmul)
    np.testing.assert_allclose(ours(X, kernel), plain(X, kernel), rtol=1e-6)
    for one, other in zip(
        jax.jit(jax.grad(ours, (0, 1)))(X, kernel), jax.grad(plain, (0, 1))(X, kernel), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)

    def curvature(f):
        gradient = jax.grad(lambda kernel: f(X, kernel))
        return jax.jvp(gradient, (kernel,), (direction,))[1]

    np.testing.assert_allclose(curvature(ours), curvature(plain), rtol=1e-4, atol=1e-4)


def test_a_cpu_multiplies_no_transposed_left_factor():
    def found(product):
        gradient = jax.grad(lambda kernel, x: jnp.sin(product(x, kernel)).sum())
        return "lhs_contracting_dims={0}" in jax.jit(gradient).lower(kernel, X).compile().as_text()

    kernel = jnp.ones((5, 12))
    assert found(jnp.matmul)
    assert found(dense_dot_general) == (jax.default_backend() != "cpu")
