"""The dense product and its derivatives, of every order and mode, are those of x @ W."""

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.distributions import Categorical
from jaxrl_po.fast.dense import FEW_OUTPUTS, FEW_PRODUCTS, dense_dot_general, forward_derivatives
from jaxrl_po.ops import fisher_vector_product

IN = 5


def ours(x, kernel):
    """As a layer of flax calls it."""
    return dense_dot_general(x, kernel, (((1,), (0,)), ((), ())))


@pytest.mark.parametrize("rows", [1, 16, FEW_PRODUCTS])
@pytest.mark.parametrize("outputs", [1, 2, FEW_OUTPUTS, FEW_OUTPUTS + 1, 12])
def test_derivatives(rows, outputs, jit):
    keys = jax.random.split(jax.random.key(1), 4)
    shapes = (rows, IN), (IN, outputs), (rows, outputs), (IN, outputs)
    arrays = list(map(jax.random.normal, keys, shapes))

    def derivatives(product):
        def program(X, kernel, weight, direction):
            loss = lambda x, kernel: (jnp.sin(product(x, kernel)) * weight).sum()  # noqa: E731
            gradient = jax.grad(loss, (0, 1))
            _, curvature = jax.jvp(lambda w: gradient(X, w)[1], (kernel,), (direction,))
            return loss(X, kernel), gradient(X, kernel), curvature

        return jit(program)(*arrays)

    (value, gradient, curvature), expected = derivatives(ours), derivatives(jnp.matmul)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    for one, other in zip(gradient, expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(curvature, expected[2], rtol=1e-4, atol=1e-4)


def test_a_cpu_calls_no_matrix_product_for_a_few_numbers():
    def calls(product, rows):
        x, kernel = jnp.ones((rows, IN)), jnp.ones((IN, 12))
        return " dot(" in jax.jit(product).lower(x, kernel).compile().as_text()

    assert calls(jnp.matmul, 4)
    assert calls(ours, 4) == (jax.default_backend() != "cpu")
    assert calls(ours, FEW_PRODUCTS)


@pytest.mark.parametrize("outputs", [1, FEW_OUTPUTS, 12])
def test_a_cpu_multiplies_no_transposed_left_factor(outputs):
    X, kernel = jnp.ones((16, IN)), jnp.ones((IN, outputs))

    def found(product):
        gradient = jax.grad(lambda kernel, x: jnp.sin(product(x, kernel)).sum())
        return "lhs_contracting_dims={0}" in jax.jit(gradient).lower(kernel, X).compile().as_text()

    assert found(jnp.matmul)
    # the one column of a value's head is a row of as many numbers, transposed for nothing
    assert found(ours) == (jax.default_backend() != "cpu" or outputs == 1)


def test_a_cpu_multiplies_no_transposed_left_factor_forwards():
    X, kernel = jnp.ones((16, IN)), jnp.ones((IN, 12))

    def found(function):
        fresh = jax.jit(lambda kernel: function(kernel))  # jit would not trace the same one again
        return "lhs_contracting_dims={0}" in fresh.lower(kernel).compile().as_text()

    def forwards(kernel):
        return jax.linearize(lambda w: jnp.sin(ours(X, w)), kernel)[1](kernel)

    def fisher_product(kernel):
        return fisher_vector_product(lambda w: Categorical(ours(X, w)), kernel)(kernel)

    assert found(forwards) == (jax.default_backend() == "cpu")
    with forward_derivatives():
        assert not found(forwards)
    assert found(fisher_product) == (jax.default_backend() != "cpu")


@pytest.mark.parametrize("batched", ["x", "kernel", "both"])
def test_a_batch_of_products(batched, jit):
    x, kernel = jax.random.normal(jax.random.key(0), (3, 16, IN)), jnp.ones((3, IN, 12))
    axes = (None if batched == "kernel" else 0), (None if batched == "x" else 0)
    arrays = [a[0] if axis is None else a for a, axis in zip((x, kernel), axes, strict=True)]

    def gradients(product):
        loss = jax.value_and_grad(lambda x, kernel: jnp.sin(product(x, kernel)).sum(), (0, 1))
        return jit(jax.vmap(loss, in_axes=axes))(*arrays)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        *map(gradients, (ours, jnp.matmul)),
    )


@pytest.mark.parametrize("shape", [(IN,), (3, IN), (2, 4, IN), (20, 40, IN)])
def test_in_a_layer_of_any_batch_shape(shape):
    layers = nn.Dense(12), nn.Dense(12, dot_general=dense_dot_general)
    x = jax.random.normal(jax.random.key(0), shape)
    params = layers[0].init(jax.random.key(1), x)

    def gradient(layer):
        return jax.jit(jax.grad(lambda p: jnp.sin(layer.apply(p, x)).sum()))(params)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *map(gradient, layers)
    )


def test_precision_is_heeded():
    x, kernel = jnp.ones((4, IN), jnp.bfloat16), jnp.ones((IN, 12), jnp.bfloat16)
    dimensions = ((1,), (0,)), ((), ())
    wide = dense_dot_general(x, kernel, dimensions, preferred_element_type=jnp.float32)
    assert wide.dtype == jnp.float32
    text = jax.jit(lambda: dense_dot_general(x, kernel, dimensions, "highest")).lower().as_text()
    assert "HIGHEST" in text


def test_a_batch_without_a_number_can_be_exported():
    rows = jax.export.symbolic_shape("rows")[0]
    x = jax.ShapeDtypeStruct((rows, IN), jnp.float32)
    kernel = jnp.arange(IN * 12.0).reshape(IN, 12)
    exported = jax.export.export(jax.jit(lambda x: ours(x, kernel)))(x)
    np.testing.assert_allclose(exported.call(jnp.ones((3, IN))), jnp.ones((3, IN)) @ kernel)
