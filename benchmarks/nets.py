"""The networks of ``benchmarks.step`` and ``benchmarks.latency`` as plain data, from which every peer builds its model.

Imports no library.  Layers are meant, and their parameters named, as in ``torch.nn.Sequential``: ``0.weight``,
``0.bias`` and so on; images are channels, height, width.
"""

from typing import NamedTuple


class Conv2d(NamedTuple):
    """A square convolution at stride 1, with bias."""

    channels: int
    filters: int
    taps: int
    padding: int


class ReLU(NamedTuple):
    """max(0, x)."""


class MaxPool2d(NamedTuple):
    """The largest of each ``size`` x ``size`` window; windows do not overlap."""

    size: int


class Flatten(NamedTuple):
    """One row of features an image, in the order channels, height, width."""


class Linear(NamedTuple):
    """A fully connected layer, with bias."""

    inputs: int
    outputs: int


Layer = Conv2d | ReLU | MaxPool2d | Flatten | Linear


class Net(NamedTuple):
    """A name, the shape of one image, and layers."""

    name: str
    image: tuple[int, int, int]
    layers: tuple[Layer, ...]


LENET5 = Net(
    "LeNet-5",
    (1, 28, 28),
    (
        Conv2d(1, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5, padding=0),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(400, 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        Linear(84, 10),
    ),
)


def _threes(name: str, channels: int, size: int) -> Net:
    """Return 32-32-pool-64-64-pool-128-10 with 3x3 filters on square images."""
    layers = (
        Conv2d(channels, 32, 3, padding=1),
        ReLU(),
        Conv2d(32, 32, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Conv2d(32, 64, 3, padding=1),
        ReLU(),
        Conv2d(64, 64, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(64 * (size // 4) ** 2, 128),
        ReLU(),
        Linear(128, 10),
    )
    return Net(name, (channels, size, size), layers)


DIGITS = _threes("digits 3x3", 1, 28)
COLOUR = _threes("colour 3x3", 3, 32)

ALL = (LENET5, DIGITS, COLOUR)


def by_name(name: str) -> Net:
    """Return the network of that name."""
    return next(net for net in ALL if net.name == name)


def training_flops(net: Net) -> int:
    """Return the additions and multiplications of one image's training step that a convolution or Linear must do.

    That is forward, the gradient to the weights, and, but for the first layer, the gradient to the input: three times
    the same products.  Those with padding's zeros count.
    """
    _, height, width = net.image
    total, passes = 0, 2
    for layer in net.layers:
        match layer:
            case Conv2d(channels, filters, taps, padding):
                height, width = height + 2 * padding - taps + 1, width + 2 * padding - taps + 1
                total += passes * 2 * height * width * filters * channels * taps**2
                passes = 3
            case Linear(inputs, outputs):
                total += passes * 2 * inputs * outputs
                passes = 3
            case MaxPool2d(size):
                height, width = height // size, width // size
            case ReLU() | Flatten():
                pass
    return total
