"""What several networks are made of."""

from fastconv.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Layer, Linear, MaxPool2d, ReLU
from fastconv.sequential import Sequential


def convolved(channels: int, filters: int, taps: int = 3, stride: int = 1, groups: int = 1) -> list[Layer]:
    """Return a convolution that keeps the size at stride 1, its normalisation and a ReLU."""
    convolution = Conv2d(channels, filters, taps, stride, taps // 2, groups=groups, bias=False)
    return [convolution, BatchNorm2d(filters), ReLU()]


def three_pairs(in_channels: int, num_classes: int, seed: int, poolings: int) -> Sequential:
    """Return two 3x3 convolutions each of 32, 64 and 128 channels, the first ``poolings`` pairs halving the image."""
    layers: list[Layer] = []
    channels = in_channels
    for number, width in enumerate((32, 64, 128)):
        layers += [*convolved(channels, width), *convolved(width, width)]
        if number < poolings:
            layers.append(MaxPool2d(2))
        channels = width
    return Sequential(*layers, GlobalAvgPool2d(), Flatten(), Linear(channels, num_classes), seed=seed)
