"""LeNet: the blog's small one, and LeCun's with rectifiers."""

from fastconv.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from fastconv.sequential import Sequential


def lenet_seed(num_classes: int = 10, seed: int = 0, in_channels: int = 1) -> Sequential:
    """Return the network of the post that fastconv grew from: 5,120 parameters for 10 classes of 1x28x28 images.

    Parameters
    ----------
    num_classes : int
    seed : int
        What the initial weights are drawn from.
    in_channels : int
        3 for colour images, of 28x28 too.
    """
    return Sequential(
        Conv2d(in_channels, 6, 5, bias=False),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5, bias=False),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(256, num_classes),
        seed=seed,
    )


def lenet5(num_classes: int = 10, seed: int = 0, in_channels: int = 1) -> Sequential:
    """Return LeNet-5 (LeCun et al. 1998) with rectifiers and max-pooling: 61,706 parameters for 10 classes of 1x28x28.

    Parameters
    ----------
    num_classes : int
    seed : int
        What the initial weights are drawn from.
    in_channels : int
        3 for colour images, of 28x28 too.
    """
    return Sequential(
        Conv2d(in_channels, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(400, 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        Linear(84, num_classes),
        seed=seed,
    )
