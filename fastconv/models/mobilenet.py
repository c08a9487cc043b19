"""Small networks of depthwise separable convolutions: Howard et al. 2017, arXiv:1704.04861."""

from fastconv.layers import Conv2d, Flatten, GlobalAvgPool2d, Linear, MaxPool2d
from fastconv.models.blocks import convolved
from fastconv.sequential import Sequential


def mobilenet_small(in_channels: int = 3, num_classes: int = 10, seed: int = 0) -> Sequential:
    """Return five depthwise separable blocks behind one convolution: 136,778 parameters for 10 classes.

    33.1 MFLOP for an image of 3x32x32.

    Parameters
    ----------
    in_channels, num_classes : int
    seed : int
        What the initial weights are drawn from.
    """
    layers = convolved(in_channels, 32)
    channels = 32
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        layers += [*convolved(channels, channels, 3, stride, groups=channels), *convolved(channels, width, 1)]
        channels = width
    return Sequential(*layers, GlobalAvgPool2d(), Flatten(), Linear(channels, num_classes), seed=seed)


def tiny(in_channels: int = 1, num_classes: int = 10, seed: int = 0) -> Sequential:
    """Return six separable blocks of twelve channels behind one convolution: 1,918 parameters for 10 classes.

    0.836 MFLOP for an image of 1x28x28.  Its depthwise filters have no normalisation and rectifier of their own, which
    leaves parameters for two more blocks.

    Parameters
    ----------
    in_channels, num_classes : int
    seed : int
        What the initial weights are drawn from.
    """
    channels = 12
    layers = convolved(in_channels, channels)
    for blocks, pooled in ((1, True), (2, True), (3, False)):
        for _ in range(blocks):
            layers += [
                Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
                *convolved(channels, channels, 1),
            ]
        if pooled:
            layers.append(MaxPool2d(2))
    return Sequential(*layers, GlobalAvgPool2d(), Flatten(), Linear(channels, num_classes), seed=seed)
