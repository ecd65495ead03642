"""Convolutions, from grids [B, H, W, C] to features [B, H', W', C'], as parts of a module."""

from collections.abc import Callable

import flax.linen as nn
import numpy as np

from jaxrl_po.fast.convolution import convolution
from jaxrl_po.networks.layers import options
from jaxrl_po.types import Array

Activation = Callable[[Array], Array]


def small(x: Array, activation: Activation) -> Array:
    """One convolution of 3 x 3: that of MinAtar's own baselines (Young & Tian 2019)."""
    return activation(_convolve(x, 16, 3))


def nature(x: Array, activation: Activation) -> Array:
    """The three convolutions of DQN (Mnih et al. 2015), with its ReLU, of 84 x 84 pixels 7 x 7.

    There a dense layer of 512 follows.
    """
    for channels, window, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
        x = nn.relu(_convolve(x, channels, window, stride=stride))
    return x


def impala(x: Array, activation: Activation) -> Array:
    """IMPALA's residual network (Espeholt et al. 2018), with its ReLU: an eighth of each side.

    There a dense layer of 256 follows.
    """
    for channels in (16, 32, 32):
        x = _convolve(x, channels, 3, padding="SAME")
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for _ in range(2):
            y = _convolve(nn.relu(x), channels, 3, padding="SAME")
            x = x + _convolve(nn.relu(y), channels, 3, padding="SAME")
    return nn.relu(x)


VISION = {"cnn": small, "nature": nature, "impala": impala}
SMALLEST = {"cnn": 3, "nature": 36, "impala": 3}  # height and width that each can see
BYTES_ARE_FRACTIONS = {"nature", "impala"}  # uint8 are pixels, seen as parts of 255


def _convolve(
    x: Array, channels: int, window: int, *, stride: int = 1, padding: str = "VALID"
) -> Array:
    layer = nn.Conv(
        channels,
        (window, window),
        strides=(stride, stride),
        padding=padding,
        conv_general_dilated=convolution,
        **options(np.sqrt(2), x.dtype),
    )
    convolved: Array = layer(x)
    return convolved
