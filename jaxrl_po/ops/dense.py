"""The product of a dense layer and its derivative, in the forms that a CPU is fastest at."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxrl_po.types import Array

# Outputs of a head: so few are multiplied and summed faster than a matrix product takes them.
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
    return dense_p.bind(x, kernel)


def _product(x: Array, kernel: Array) -> Array:
    # For one output the product is the faster form; an exported policy's batch has no size yet.
    known = isinstance(x.shape[0], int)
    if known and kernel.shape[1] > 1 and x.size * kernel.shape[1] <= FEW_PRODUCTS:
        return (x[:, :, None] * kernel[None]).sum(axis=1)
    return x @ kernel


def _input_gradient(cotangent: Array, x: Any, kernel: Array) -> Array:
    return cotangent @ kernel.T


def _kernel_gradient(cotangent: Array, x: Array, kernel: Any) -> Array:
    return jax.lax.platform_dependent(
        x, cotangent, cpu=_transposed_first, default=lambda x, cotangent: x.T @ cotangent
    )


def _transposed_first(x: Array, cotangent: Array) -> Array:
    if cotangent.shape[1] == 1:
        return (cotangent.T @ x).T
    if cotangent.shape[1] <= FEW_OUTPUTS:
        return (x[:, None, :] * cotangent[:, :, None]).sum(axis=0).T
    return jax.lax.optimization_barrier(x.T) @ cotangent


# A primitive of our own is the one way to give a product that is differentiated in both modes a
# transpose of another form: a custom derivative's is the transpose of what runs forward.
dense_p = Primitive("dense")
dense_p.def_impl(jax.jit(jnp.matmul))
dense_p.def_abstract_eval(lambda x, kernel: x.update(shape=(x.shape[0], kernel.shape[1])))
mlir.register_lowering(dense_p, mlir.lower_fun(_product, multiple_results=False), platform="cpu")
mlir.register_lowering(dense_p, mlir.lower_fun(jnp.matmul, multiple_results=False))
ad.defbilinear(dense_p, _input_gradient, _kernel_gradient)


def _batched(arrays: Any, axes: Any) -> Any:
    return jax.vmap(jnp.matmul, in_axes=axes)(*arrays), 0


batching.primitive_batchers[dense_p] = _batched
