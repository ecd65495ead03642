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

    On a CPU it is one product of all patches [B · H' · W', h · w · in] with the kernel as a matrix:
    XLA's own gradients inside a loop take 5 to 15 times as long for the layers of "nature". A
    convolution that is dilated or in groups, or any on another device, is
    `jax.lax.conv_general_dilated`.
    """

    def general(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, window_strides, padding, **options)

    dilated = any(d != 1 for d in (*options["lhs_dilation"], *options["rhs_dilation"]))
    if dilated or options["feature_group_count"] != 1 or options["precision"] is not None:
        return general(x, kernel)

    def patches_times_matrix(x: Array, kernel: Array) -> Array:
        height, width, num_in, num_out = kernel.shape
        shifted = _windows(x, (height, width), tuple(window_strides), padding)
        patches = jnp.concatenate(shifted, axis=-1)
        rows = patches.reshape(-1, height * width * num_in)
        matrix = kernel.reshape(-1, num_out)
        product = dense_dot_general(rows, matrix, (((1,), (0,)), ((), ())))
        return product.reshape(*patches.shape[:3], num_out)

    channels: Array = jax.lax.platform_dependent(
        x, kernel, cpu=patches_times_matrix, default=general
    )
    return channels


def _windows(
    x: Array, size: tuple[int, int], strides: tuple[int, int], padding: Any
) -> list[Array]:
    """For each place in a window, row by row, what all windows have there [B, H', W', C]."""
    pads = padding
    if isinstance(padding, str):
        pads = jax.lax.padtype_to_pads(x.shape[1:3], size, strides, padding)
    if any(any(pad) for pad in pads):
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (
        (length - window) // stride + 1
        for length, window, stride in zip(x.shape[1:3], size, strides, strict=True)
    )
    (down, across), (height, width) = strides, size
    return [
        x[:, i : i + down * (rows - 1) + 1 : down, j : j + across * (columns - 1) + 1 : across]
        for i in range(height)
        for j in range(width)
    ]
