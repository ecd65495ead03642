"""The product of a dense layer and its derivative, in the forms that a CPU is fastest at."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.types import Array

# A head's: in the gradient so few are multiplied and summed faster than by a matrix product.
FEW_OUTPUTS = 8
# Multiplications that take less time than the call of a matrix product.
FEW_PRODUCTS = 3072


def dense_dot_general(
    x: Array,
    kernel: Array,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """x W for x [B, in] and W [in, out], as the `dot_general` of a `flax.linen.Dense`.

    Any other product, or one of a chosen precision, is `jax.lax.dot_general`'s own.

    A few numbers, such as a policy's for 4 environments, are multiplied and summed in the kernel
    that uses them: a call of a matrix product takes longer than its arithmetic (a fifth of the
    time of CartPole's rollout).

    The gradient of W is xᵀ ȳ. A product whose left factor is transposed is the one that XLA's CPU
    kernels are slowest at, so there xᵀ is written out first, behind a barrier that keeps XLA from
    folding it back: 8 % less time for a minibatch of 128 and two networks of 64 units. A head's
    few columns of ȳ are multiplied and summed. Other devices multiply all forms alike.
    """
    over, batch = dimension_numbers
    plain = x.ndim == 2 and [tuple(axes) for axes in (*over, *batch)] == [(1,), (0,), (), ()]
    if not plain or precision is not None or preferred_element_type is not None:
        return jax.lax.dot_general(x, kernel, dimension_numbers, precision, preferred_element_type)
    return _product(x, kernel)


@jax.custom_jvp
def _product(x: Array, kernel: Array) -> Array:
    # For one output the product is the faster form; an exported policy's batch has no size yet.
    known = isinstance(x.shape[0], int)
    if known and kernel.shape[1] > 1 and x.size * kernel.shape[1] <= FEW_PRODUCTS:
        product: Array = jax.lax.platform_dependent(x, kernel, cpu=_summed, default=jnp.matmul)
        return product
    return x @ kernel


@_product.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    # Linear in dkernel. Unless this is what will run, what matters is the form of its transpose.
    form = jnp.matmul if _forwards.get() else _transposed_first
    change = jax.lax.platform_dependent(x, dkernel, cpu=form, default=jnp.matmul)
    return _product(x, kernel), dx @ kernel + change


_forwards: ContextVar[bool] = ContextVar("forwards", default=False)


@contextmanager
def forward_derivatives() -> Iterator[None]:
    """Derivatives traced in this context have the form that is fast run forwards, not transposed.

    The other form, run forwards, is that product with a transposed left factor. What is jitted
    inside may keep the form it was first traced with: slower, not wrong.
    """
    token = _forwards.set(True)
    try:
        yield
    finally:
        _forwards.reset(token)


def _summed(x: Array, kernel: Array) -> Array:
    return (x[:, :, None] * kernel[None]).sum(axis=1)


def _transposed_first(x: Array, dkernel: Array) -> Array:
    if dkernel.shape[1] == 1:
        return jax.lax.dot_general(x, dkernel.T, (((1,), (1,)), ((), ())))
    if dkernel.shape[1] <= FEW_OUTPUTS:
        return (x[:, None, :] * dkernel.T[None]).sum(axis=2)
    written_out = jax.lax.optimization_barrier(x.T)
    return jax.lax.dot_general(written_out, dkernel, (((0,), (0,)), ((), ())))
