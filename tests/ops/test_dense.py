"""The dense product and its derivatives, of every order and mode, are those of x @ W."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.ops.dense import FEW, TINY, dense_dot_general

IN = 5


@pytest.mark.parametrize("rows", [1, 16, TINY])
@pytest.mark.parametrize("outputs", [1, 2, FEW, FEW + 1, 12])
def test_derivatives(rows, outputs):
    keys = jax.random.split(jax.random.key(1), 4)
    shapes = (rows, IN), (IN, outputs), (rows, outputs), (IN, outputs)
    X, kernel, weight, direction = map(jax.random.normal, keys, shapes)

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


def test_a_cpu_calls_no_matrix_product_for_a_few_numbers():
    def calls(product, rows):
        x, kernel = jnp.ones((rows, IN)), jnp.ones((IN, 12))
        return " dot(" in jax.jit(product).lower(x, kernel).compile().as_text()

    assert calls(jnp.matmul, 4)
    assert calls(dense_dot_general, 4) == (jax.default_backend() != "cpu")
    assert calls(dense_dot_general, TINY)


def test_a_cpu_multiplies_no_transposed_left_factor():
    X, kernel = jnp.ones((16, IN)), jnp.ones((IN, 12))

    def found(product):
        gradient = jax.grad(lambda kernel, x: jnp.sin(product(x, kernel)).sum())
        return "lhs_contracting_dims={0}" in jax.jit(gradient).lower(kernel, X).compile().as_text()

    assert found(jnp.matmul)
    assert found(dense_dot_general) == (jax.default_backend() != "cpu")
