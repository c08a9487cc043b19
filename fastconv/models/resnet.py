"""Residual networks for small images: He et al. 2016, arXiv:1512.03385, section 4.2."""

from fastconv.layers import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Linear, ReLU, Residual
from fastconv.models.blocks import convolved
from fastconv.sequential import Sequential


def resnet20(in_channels: int = 3, num_classes: int = 10, seed: int = 0) -> Sequential:
    """Return ResNet-20: 272,474 parameters for 10 classes; 81.6 MFLOP for an image of 3x32x32.

    Where the number of channels doubles, the shortcut is a 1x1 convolution (the paper's option B).

    Parameters
    ----------
    in_channels, num_classes : int
    seed : int
        What the initial weights are drawn from.
    """
    return _resnet(3, in_channels, num_classes, seed)


def resnet32(in_channels: int = 3, num_classes: int = 10, seed: int = 0) -> Sequential:
    """Return ResNet-32: 466,906 parameters for 10 classes; 138 MFLOP for 3x32x32.  Parameters as in ``resnet20``."""
    return _resnet(5, in_channels, num_classes, seed)


def resnet56(in_channels: int = 3, num_classes: int = 10, seed: int = 0) -> Sequential:
    """Return ResNet-56: 855,770 parameters for 10 classes; 252 MFLOP for 3x32x32.  Parameters as in ``resnet20``."""
    return _resnet(9, in_channels, num_classes, seed)


def _resnet(blocks: int, in_channels: int, num_classes: int, seed: int) -> Sequential:
    layers = convolved(in_channels, 16)
    channels = 16
    for width in (16, 32, 64):
        for number in range(blocks):
            stride = 2 if width > 16 and number == 0 else 1
            layers += [_block(channels, width, stride), ReLU()]
            channels = width
    return Sequential(*layers, GlobalAvgPool2d(), Flatten(), Linear(channels, num_classes), seed=seed)


def _block(channels: int, width: int, stride: int) -> Residual:
    body = Sequential(
        *convolved(channels, width, 3, stride),
        Conv2d(width, width, 3, padding=1, bias=False),
        BatchNorm2d(width),
    )
    if stride == 1 and channels == width:
        return Residual(body)
    return Residual(body, Sequential(Conv2d(channels, width, 1, stride, bias=False), BatchNorm2d(width)))
