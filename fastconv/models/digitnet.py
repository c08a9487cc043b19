"""The network of the highest accuracy on digits."""

from fastconv.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Layer, Linear, MaxPool2d, ReLU
from fastconv.sequential import Sequential


def digitnet(in_channels: int = 1, num_classes: int = 10, seed: int = 0) -> Sequential:
    """Return six 3x3 convolutions, two each of 32, 64 and 128 channels: 288,170 parameters for 10 classes.

    58.3 MFLOP for an image of 1x28x28.

    Parameters
    ----------
    in_channels, num_classes : int
    seed : int
        What the initial weights are drawn from.
    """
    layers: list[Layer] = []
    channels = in_channels
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [Conv2d(channels, width, 3, padding=1, bias=False), BatchNorm2d(width), ReLU()]
            channels = width
        layers.append(MaxPool2d(2))
    return Sequential(*layers[:-1], GlobalAvgPool2d(), Flatten(), Linear(channels, num_classes), seed=seed)
