"""Plain 3x3 convolutions with batch normalisation, in the manner of Simonyan & Zisserman 2015, arXiv:1409.1556."""

from fastconv.models.blocks import three_pairs
from fastconv.sequential import Sequential


def digitnet(in_channels: int = 1, num_classes: int = 10, seed: int = 0) -> Sequential:
    """Return six 3x3 convolutions, two each of 32, 64 and 128 channels: 288,170 parameters for 10 classes.

    58.3 MFLOP for an image of 1x28x28.  Of the networks here it has the highest accuracy on digits.

    Parameters
    ----------
    in_channels, num_classes : int
    seed : int
        What the initial weights are drawn from.
    """
    return three_pairs(in_channels, num_classes, seed, poolings=2)


def vgg_small(in_channels: int = 3, num_classes: int = 10, seed: int = 0) -> Sequential:
    """Return six 3x3 convolutions, two each of 32, 64 and 128 channels: 288,746 parameters for 10 classes.

    77.3 MFLOP for an image of 3x32x32.

    Parameters
    ----------
    in_channels, num_classes : int
    seed : int
        What the initial weights are drawn from.
    """
    return three_pairs(in_channels, num_classes, seed, poolings=3)
