"""The product of patches is the convolution, and its gradients are the convolution's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.fast.convolution import convolution

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "SAME"},
        {"strides": (2, 2)},
        {"strides": (2, 1), "padding": "SAME"},
        {"padding": ((2, 0), (1, 1))},
        {"kernel_dilation": (2, 2)},
        {"feature_group_count": 2},
        {"precision": "highest"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("shape", "kernel"), [((5, 10, 10, 4), (3, 3)), ((2, 7, 5, 2), (2, 3))])
def test_it_is_the_layers_own(shape, kernel, options, jit):
    make = lambda form: nn.Conv(  # noqa: E731
        6, kernel, **{"padding": "VALID", **options}, conv_general_dilated=form
    )
    x = jax.random.normal(KEY, shape)
    params = make(None).init(KEY, x)

    def loss(form):
        return lambda params, x: jnp.sin(make(form).apply(params, x)).sum()

    outputs = [
        jit(jax.value_and_grad(loss(form), (0, 1)))(params, x) for form in (convolution, None)
    ]
    for a, b in zip(*map(jax.tree.leaves, outputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_on_a_cpu_neither_it_nor_its_gradient_is_a_convolution():
    layer = nn.Conv(16, (3, 3), padding="VALID", conv_general_dilated=convolution)
    x = jnp.ones((4, 10, 10, 4))
    params = layer.init(KEY, x)
    slope = jax.grad(lambda params: jnp.sin(layer.apply(params, x)).sum())
    with jax.default_device(jax.devices("cpu")[0]):
        assert " convolution(" not in jax.jit(slope).lower(params).compile().as_text()
