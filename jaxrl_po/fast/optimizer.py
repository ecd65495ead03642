"""Adam in the form that few kernels suffice for: one factor for the bound, one vector if small."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxrl_po.types import Array, PyTree

# Numbers of a model whose copying, in and out of a vector, costs less than it saves.
VECTOR_SIZE = 2**14


def adam(
    learning_rate: Array | float, max_grad_norm: Array | float
) -> optax.GradientTransformation:
    """Adam behind a bound on the gradient's global norm, built where its numbers are traced.

    The bound is one factor min(1, max/‖g‖), which XLA folds into Adam's own kernels; optax's
    `clip_by_global_norm` writes the clipped gradient out first.
    """
    return optax.chain(clip_by_norm(max_grad_norm), optax.adam(learning_rate, eps=1e-5))


def clip_by_norm(max_grad_norm: Array | float) -> optax.GradientTransformation:
    """A bound on the gradient's global norm that keeps the gradient's precision."""

    def clip(gradient: PyTree, _: PyTree) -> PyTree:
        factor = jnp.minimum(1.0, max_grad_norm / optax.tree.norm(gradient))
        return jax.tree.map(lambda g: (factor * g).astype(g.dtype), gradient)

    return optax.stateless(clip)


def to_vector(params: PyTree, flat: bool) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Parameters as an optimiser sees them, and the way back: if `flat`, and small, one vector.

    On one vector Adam is a few large kernels in place of several for each parameter. A CPU gains
    most: XLA hands many small kernels that could run side by side to several threads, whose
    waiting for each other takes a quarter of the time of a minibatch of 128. Larger networks (two
    of 128 units) are faster as a tree. Parameters of several dtypes stay one, for a vector would
    promote them.
    """
    leaves = jax.tree.leaves(params)
    small = sum(leaf.size for leaf in leaves) <= VECTOR_SIZE
    if flat and small and len({leaf.dtype for leaf in leaves}) == 1:
        return ravel_pytree(params)
    return params, lambda params: params
