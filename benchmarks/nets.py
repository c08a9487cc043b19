"""The networks that are compared with other libraries as plain data, from which every peer builds its model.

Imports no library.  Layers are meant, and their parameters and buffers named, as in ``torch.nn.Sequential``:
``0.weight``, ``0.bias`` and so on, those of a block ``3.0.0.weight``; images are channels, height, width.
"""

from __future__ import annotations

from typing import NamedTuple


class Conv2d(NamedTuple):
    """A square convolution."""

    channels: int
    filters: int
    taps: int
    padding: int
    stride: int = 1
    groups: int = 1
    bias: bool = True


EPS, TRACKED = 1e-5, 0.1
"""What all normalisations add to a variance, and the newest batch's share in their running statistics."""


class BatchNorm2d(NamedTuple):
    """Normalisation by the batch's statistics in training, and by the running ones in inference."""

    channels: int


class ReLU(NamedTuple):
    """max(0, x)."""


class MaxPool2d(NamedTuple):
    """The largest of each ``size`` x ``size`` window; windows do not overlap."""

    size: int


class GlobalAvgPool2d(NamedTuple):
    """The average of each channel, as an image of 1 x 1."""


class Residual(NamedTuple):
    """What ``body`` makes of the input, plus what ``shortcut`` makes of it: the input itself, if it has no layers."""

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()


class Flatten(NamedTuple):
    """One row of features an image, in the order channels, height, width."""


class Linear(NamedTuple):
    """A fully connected layer, with bias."""

    inputs: int
    outputs: int


Layer = Conv2d | BatchNorm2d | ReLU | MaxPool2d | GlobalAvgPool2d | Residual | Flatten | Linear


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


def _normalised(channels: int, filters: int, taps: int = 3, stride: int = 1, groups: int = 1) -> tuple[Layer, ...]:
    """Return a convolution without bias that keeps the size at stride 1, and its normalisation."""
    convolution = Conv2d(channels, filters, taps, taps // 2, stride, groups, bias=False)
    return convolution, BatchNorm2d(filters)


def _head(channels: int) -> tuple[Layer, ...]:
    """Return the layers from the last channels to the logits."""
    return GlobalAvgPool2d(), Flatten(), Linear(channels, 10)


def _resnet20() -> Net:
    layers: list[Layer] = [*_normalised(3, 16), ReLU()]
    channels = 16
    for width, stride in ((16, 1), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1)):
        body = (*_normalised(channels, width, 3, stride), ReLU(), *_normalised(width, width))
        layers += [Residual(body, _normalised(channels, width, 1, stride) if stride > 1 else ()), ReLU()]
        channels = width
    return Net("resnet20", (3, 32, 32), (*layers, *_head(channels)))


def _digitnet() -> Net:
    layers: list[Layer] = []
    channels = 1
    for width in (32, 64, 128):
        layers += [*_normalised(channels, width), ReLU(), *_normalised(width, width), ReLU()]
        layers += [MaxPool2d(2)] * (width < 128)
        channels = width
    return Net("digitnet", (1, 28, 28), (*layers, *_head(channels)))


def _mobilenet_small() -> Net:
    layers: list[Layer] = [*_normalised(3, 32), ReLU()]
    channels = 32
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        layers += [*_normalised(channels, channels, 3, stride, channels), ReLU()]
        layers += [*_normalised(channels, width, 1), ReLU()]
        channels = width
    return Net("mobilenet_small", (3, 32, 32), (*layers, *_head(channels)))


RESNET20, DIGITNET, MOBILENET = _resnet20(), _digitnet(), _mobilenet_small()

# Every kind of layer of these on little work, by which tests compare the libraries.
SMALL = Net(
    "small",
    (1, 28, 28),
    (
        *_normalised(1, 4, 3, stride=2),
        ReLU(),
        Residual((*_normalised(4, 4, 3, 2, groups=4), ReLU()), (Conv2d(4, 4, 1, 0, stride=2), BatchNorm2d(4))),
        ReLU(),
        Residual((Conv2d(4, 4, 3, 1), BatchNorm2d(4))),
        *_head(4),
    ),
)

ALL = (LENET5, DIGITS, COLOUR, RESNET20, DIGITNET, MOBILENET, SMALL)


def by_name(name: str) -> Net:
    """Return the network of that name."""
    return next(net for net in ALL if net.name == name)


def training_flops(net: Net) -> int:
    """Return the additions and multiplications of one image's training step that a convolution or Linear must do.

    That is forward, the gradient to the weights, and, but for the first layer, the gradient to the input: three times
    the same products.  Those with padding's zeros count.
    """
    _, height, width = net.image
    return 3 * forward_flops(net.layers, height, width)[0] - forward_flops(net.layers[:1], height, width)[0]


def forward_flops(layers: tuple[Layer, ...], height: int, width: int) -> tuple[int, int, int]:
    """Return the additions and multiplications of one image's forward pass, and the height and width it ends with."""
    total = 0
    for layer in layers:
        match layer:
            case Conv2d(channels, filters, taps, padding, stride, groups):
                height, width = ((size + 2 * padding - taps) // stride + 1 for size in (height, width))
                total += 2 * height * width * filters * channels // groups * taps**2
            case Linear(inputs, outputs):
                total += 2 * inputs * outputs
            case MaxPool2d(size):
                height, width = height // size, width // size
            case GlobalAvgPool2d():
                height = width = 1
            case Residual(body, shortcut):
                total += forward_flops(shortcut, height, width)[0]
                inside, height, width = forward_flops(body, height, width)
                total += inside
            case BatchNorm2d() | ReLU() | Flatten():
                pass
    return total, height, width
