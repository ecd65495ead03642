"""A convolution and its derivative, in the form that a CPU is fastest at."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.fast.dense import dense_dot_general
from jaxrl_po.types import Array


def convolution(
    x: Array, kernel: Array, window_strides: Any, padding: Any, **options: Any
) -> Array:
    """x [B, H, W, in] * kernel [h, w, in, out], as the `conv_general_dilated` of a `nn.Conv`.

    On a CPU a convolution without strides and padding is one product of all patches
    [B · H' · W', h · w · in] with the kernel as a matrix: XLA's own gradient of a kernel takes
    tens of times as long. Any other convolution, or device, keeps `jax.lax.conv_general_dilated`.
    """

    def general(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **options)

    dilated = any(d != 1 for d in (*options["lhs_dilation"], *options["rhs_dilation"]))
    plain = tuple(window_strides) == (1, 1) and padding == "VALID" and not dilated
    if not plain or options["feature_group_count"] != 1 or options["precision"] is not None:
        return general(x, kernel)
    channels: Array = jax.lax.platform_dependent(
        x, kernel, cpu=_patches_times_matrix, default=general
    )
    return channels


def _patches_times_matrix(x: Array, kernel: Array) -> Array:
    height, width, num_in, num_out = kernel.shape
    rows, columns = x.shape[1] - height + 1, x.shape[2] - width + 1
    shifted = [x[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]
    patches = jnp.concatenate(shifted, axis=-1).reshape(-1, height * width * num_in)
    matrix = kernel.reshape(-1, num_out)
    product = dense_dot_general(patches, matrix, (((1,), (0,)), ((), ())))
    return product.reshape(-1, rows, columns, num_out)
