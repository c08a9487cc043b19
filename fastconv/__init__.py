"""fastconv: convolutional networks on multicore CPUs, with kernels written in Python and compiled by Numba.

The public names are below, each imported from its file when it is first used: ``import fastconv`` alone loads neither
NumPy's nor Numba's compiled parts, so that ``fastconv --help`` answers at once.
"""

from typing import TYPE_CHECKING

from fastconv.lazy import lazily

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fastconv import augment as augment
    from fastconv import data as data
    from fastconv import functional as functional
    from fastconv import init as init
    from fastconv import models as models
    from fastconv import plots as plots
    from fastconv import reference as reference
    from fastconv import schedules as schedules
    from fastconv.averaging import EMA as EMA
    from fastconv.checkup import doctor as doctor
    from fastconv.ensemble import Ensemble as Ensemble
    from fastconv.gradient_check import GradientError as GradientError
    from fastconv.gradient_check import gradcheck as gradcheck
    from fastconv.io import ModelFileError as ModelFileError
    from fastconv.io import load as load
    from fastconv.io import save as save
    from fastconv.layers import ELU as ELU
    from fastconv.layers import GELU as GELU
    from fastconv.layers import AdaptiveAvgPool2d as AdaptiveAvgPool2d
    from fastconv.layers import AdaptiveMaxPool2d as AdaptiveMaxPool2d
    from fastconv.layers import AvgPool2d as AvgPool2d
    from fastconv.layers import BatchNorm1d as BatchNorm1d
    from fastconv.layers import BatchNorm2d as BatchNorm2d
    from fastconv.layers import Concat as Concat
    from fastconv.layers import Conv1d as Conv1d
    from fastconv.layers import Conv2d as Conv2d
    from fastconv.layers import ConvTranspose2d as ConvTranspose2d
    from fastconv.layers import Dropout as Dropout
    from fastconv.layers import Dropout2d as Dropout2d
    from fastconv.layers import Flatten as Flatten
    from fastconv.layers import GlobalAvgPool2d as GlobalAvgPool2d
    from fastconv.layers import GlobalMaxPool2d as GlobalMaxPool2d
    from fastconv.layers import GroupNorm as GroupNorm
    from fastconv.layers import Hardswish as Hardswish
    from fastconv.layers import Layer as Layer
    from fastconv.layers import LayerNorm as LayerNorm
    from fastconv.layers import LeakyReLU as LeakyReLU
    from fastconv.layers import Linear as Linear
    from fastconv.layers import LogSoftmax as LogSoftmax
    from fastconv.layers import MaxPool2d as MaxPool2d
    from fastconv.layers import Parallel as Parallel
    from fastconv.layers import Parameter as Parameter
    from fastconv.layers import PReLU as PReLU
    from fastconv.layers import ReLU as ReLU
    from fastconv.layers import Reshape as Reshape
    from fastconv.layers import Residual as Residual
    from fastconv.layers import Sigmoid as Sigmoid
    from fastconv.layers import SiLU as SiLU
    from fastconv.layers import Softmax as Softmax
    from fastconv.layers import Tanh as Tanh
    from fastconv.layers import Upsample as Upsample
    from fastconv.layers import Workspace as Workspace
    from fastconv.layers import ZeroPad2d as ZeroPad2d
    from fastconv.losses import BCEWithLogitsLoss as BCEWithLogitsLoss
    from fastconv.losses import CrossEntropyLoss as CrossEntropyLoss
    from fastconv.losses import HuberLoss as HuberLoss
    from fastconv.losses import L1Loss as L1Loss
    from fastconv.losses import MSELoss as MSELoss
    from fastconv.normalization import Normalization as Normalization
    from fastconv.optim import SGD as SGD
    from fastconv.optim import Adam as Adam
    from fastconv.optim import AdamW as AdamW
    from fastconv.optim import Lion as Lion
    from fastconv.optim import RMSprop as RMSprop
    from fastconv.room import NoRoomError as NoRoomError
    from fastconv.sequential import Sequential as Sequential
    from fastconv.shapes import ShapeError as ShapeError
    from fastconv.training import Callback as Callback
    from fastconv.training import Checkpoint as Checkpoint
    from fastconv.training import EarlyStopping as EarlyStopping
    from fastconv.training import NotFiniteError as NotFiniteError
    from fastconv.training import TimeBudget as TimeBudget
    from fastconv.training import TrainingError as TrainingError
    from fastconv.training import lr_find as lr_find
    from fastconv.training import train_step as train_step
    from fastconv_kernels.runtime import get_num_threads as get_num_threads
    from fastconv_kernels.runtime import set_num_threads as set_num_threads
    from fastconv_kernels.runtime import thread_layer as thread_layer

_MODULES = ("augment", "data", "functional", "init", "models", "plots", "reference", "schedules")
_NAMES = {
    "fastconv.averaging": ("EMA",),
    "fastconv.checkup": ("doctor",),
    "fastconv.ensemble": ("Ensemble",),
    "fastconv.gradient_check": ("GradientError", "gradcheck"),
    "fastconv.io": ("ModelFileError", "load", "save"),
    "fastconv.layers": (
        "AdaptiveAvgPool2d",
        "AdaptiveMaxPool2d",
        "AvgPool2d",
        "BatchNorm1d",
        "BatchNorm2d",
        "Concat",
        "Conv1d",
        "Conv2d",
        "ConvTranspose2d",
        "Dropout",
        "Dropout2d",
        "ELU",
        "Flatten",
        "GELU",
        "GlobalAvgPool2d",
        "GlobalMaxPool2d",
        "GroupNorm",
        "Hardswish",
        "Layer",
        "LayerNorm",
        "LeakyReLU",
        "Linear",
        "LogSoftmax",
        "MaxPool2d",
        "PReLU",
        "Parallel",
        "Parameter",
        "ReLU",
        "Reshape",
        "Residual",
        "SiLU",
        "Sigmoid",
        "Softmax",
        "Tanh",
        "Upsample",
        "Workspace",
        "ZeroPad2d",
    ),
    "fastconv.losses": ("BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "MSELoss"),
    "fastconv.optim": ("SGD", "Adam", "AdamW", "Lion", "RMSprop"),
    "fastconv.room": ("NoRoomError",),
    "fastconv.normalization": ("Normalization",),
    "fastconv.sequential": ("Sequential",),
    "fastconv.shapes": ("ShapeError",),
    "fastconv.training": (
        "Callback",
        "Checkpoint",
        "EarlyStopping",
        "NotFiniteError",
        "TimeBudget",
        "TrainingError",
        "lr_find",
        "train_step",
    ),
    "fastconv_kernels.runtime": ("get_num_threads", "set_num_threads", "thread_layer"),
}

__getattr__, __dir__, __all__ = lazily(__name__, _NAMES, _MODULES)
__all__ += ["__version__"]
