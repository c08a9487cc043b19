"""LeNet: the blog's small one, and LeCun's with rectifiers."""

from fastconv.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from fastconv.sequential import Sequential
from fastconv.shapes import ShapeError


def lenet_seed(in_channels: int = 1, num_classes: int = 10, image_size: int = 28, seed: int = 0) -> Sequential:
    """Return the network of the post that fastconv grew from: 5,120 parameters for 10 classes of 1x28x28 images.

    0.485 MFLOP for an image of 1x28x28.

    Parameters
    ----------
    in_channels, num_classes : int
    image_size : int
        Height and width of an image, at least 16.
    seed : int
        What the initial weights are drawn from.

    Raises
    ------
    ShapeError
        If the images are too small.
    """
    side = _after("lenet_seed", image_size, 0)
    return Sequential(
        Conv2d(in_channels, 6, 5, bias=False),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5, bias=False),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(16 * side * side, num_classes),
        seed=seed,
    )


def lenet5(in_channels: int = 1, num_classes: int = 10, image_size: int = 28, seed: int = 0) -> Sequential:
    """Return LeNet-5 (LeCun et al. 1998) with rectifiers and max-pooling: 61,706 parameters for 10 classes of 1x28x28.

    0.833 MFLOP for an image of 1x28x28.

    Parameters
    ----------
    in_channels, num_classes : int
    image_size : int
        Height and width of an image, at least 12.
    seed : int
        What the initial weights are drawn from.

    Raises
    ------
    ShapeError
        If the images are too small.
    """
    side = _after("lenet5", image_size, 2)
    return Sequential(
        Conv2d(in_channels, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(16 * side * side, 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        Linear(84, num_classes),
        seed=seed,
    )


def _after(name: str, image_size: int, padding: int) -> int:
    """Return the height and width behind two convolutions of 5x5, the first padded, each halved by a pooling."""
    side = ((image_size + 2 * padding - 4) // 2 - 4) // 2
    if side < 1:
        raise ShapeError(f"{name}: expected image_size of at least {16 - 2 * padding}, got {image_size}")
    return side
