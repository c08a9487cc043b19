"""The layers: thin objects that hold parameters and call the kernels of the file named in each module's first line."""

from typing import TYPE_CHECKING

from fastconv.lazy import lazily

if TYPE_CHECKING:
    from fastconv.layers.activation import ELU as ELU
    from fastconv.layers.activation import GELU as GELU
    from fastconv.layers.activation import Hardswish as Hardswish
    from fastconv.layers.activation import LeakyReLU as LeakyReLU
    from fastconv.layers.activation import PReLU as PReLU
    from fastconv.layers.activation import ReLU as ReLU
    from fastconv.layers.activation import Sigmoid as Sigmoid
    from fastconv.layers.activation import SiLU as SiLU
    from fastconv.layers.activation import Tanh as Tanh
    from fastconv.layers.adaptive import AdaptiveAvgPool2d as AdaptiveAvgPool2d
    from fastconv.layers.adaptive import AdaptiveMaxPool2d as AdaptiveMaxPool2d
    from fastconv.layers.adaptive import GlobalAvgPool2d as GlobalAvgPool2d
    from fastconv.layers.adaptive import GlobalMaxPool2d as GlobalMaxPool2d
    from fastconv.layers.base import Layer as Layer
    from fastconv.layers.base import Parameter as Parameter
    from fastconv.layers.base import Workspace as Workspace
    from fastconv.layers.batchnorm import BatchNorm1d as BatchNorm1d
    from fastconv.layers.batchnorm import BatchNorm2d as BatchNorm2d
    from fastconv.layers.branches import Concat as Concat
    from fastconv.layers.branches import Parallel as Parallel
    from fastconv.layers.branches import Residual as Residual
    from fastconv.layers.conv import Conv2d as Conv2d
    from fastconv.layers.conv1d import Conv1d as Conv1d
    from fastconv.layers.conv_transpose import ConvTranspose2d as ConvTranspose2d
    from fastconv.layers.dropout import Dropout as Dropout
    from fastconv.layers.dropout import Dropout2d as Dropout2d
    from fastconv.layers.flatten import Flatten as Flatten
    from fastconv.layers.flatten import Reshape as Reshape
    from fastconv.layers.groupnorm import GroupNorm as GroupNorm
    from fastconv.layers.groupnorm import LayerNorm as LayerNorm
    from fastconv.layers.linear import Linear as Linear
    from fastconv.layers.pool import AvgPool2d as AvgPool2d
    from fastconv.layers.pool import MaxPool2d as MaxPool2d
    from fastconv.layers.softmax import LogSoftmax as LogSoftmax
    from fastconv.layers.softmax import Softmax as Softmax
    from fastconv.layers.upsample import Upsample as Upsample
    from fastconv.layers.zeropad import ZeroPad2d as ZeroPad2d

_NAMES = {
    "fastconv.layers.activation": ("ELU", "GELU", "Hardswish", "LeakyReLU", "PReLU", "ReLU", "Sigmoid", "SiLU", "Tanh"),
    "fastconv.layers.adaptive": ("AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "GlobalAvgPool2d", "GlobalMaxPool2d"),
    "fastconv.layers.base": ("Layer", "Parameter", "Workspace"),
    "fastconv.layers.batchnorm": ("BatchNorm1d", "BatchNorm2d"),
    "fastconv.layers.branches": ("Concat", "Parallel", "Residual"),
    "fastconv.layers.conv": ("Conv2d",),
    "fastconv.layers.conv1d": ("Conv1d",),
    "fastconv.layers.conv_transpose": ("ConvTranspose2d",),
    "fastconv.layers.dropout": ("Dropout", "Dropout2d"),
    "fastconv.layers.flatten": ("Flatten", "Reshape"),
    "fastconv.layers.groupnorm": ("GroupNorm", "LayerNorm"),
    "fastconv.layers.linear": ("Linear",),
    "fastconv.layers.pool": ("AvgPool2d", "MaxPool2d"),
    "fastconv.layers.softmax": ("LogSoftmax", "Softmax"),
    "fastconv.layers.upsample": ("Upsample",),
    "fastconv.layers.zeropad": ("ZeroPad2d",),
}

__getattr__, __dir__, __all__ = lazily(__name__, _NAMES)
