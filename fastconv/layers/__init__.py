"""The layers: thin objects that hold parameters and call the kernels of the file named in each module's first line."""

from fastconv.layers.activation import Dropout as Dropout
from fastconv.layers.activation import ReLU as ReLU
from fastconv.layers.activation import Softmax as Softmax
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
from fastconv.layers.flatten import Flatten as Flatten
from fastconv.layers.linear import Linear as Linear
from fastconv.layers.pool import AvgPool2d as AvgPool2d
from fastconv.layers.pool import MaxPool2d as MaxPool2d
