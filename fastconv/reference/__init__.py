"""Naive twins of every operation: the oracle that the fast kernels are judged by, and the first rung of the ladder.

Nothing here is fast and nothing is clever.  An operation that slides a window is a loop over its output elements, one
at a time, and its gradients walk through the same windows again.  NumPy is the only import, so that these files
share no code, and therefore no mistake, with what they judge.

Conventions
-----------
* Images are ``[N, C, H, W]``, filters ``[F, C / groups, KH, KW]``, Linear weights ``[out, in]``; meaning and order of
  every argument are PyTorch's, and so are the results.
* Sizes, strides, paddings and dilations are one integer, or a pair (down, across).
* Everything is computed in float64, whatever float comes in.  Where all arguments hold integers and the operation
  needs no division, it is computed in int64 instead, and the result is exact: compare it with ``==``.
* ``dy`` is the gradient of the loss with respect to the output ``y``.  Arguments are never written to.

Numbers in parentheses, as in "equation (1)", refer to ``docs/backprop.md``, which derives them.
"""

from fastconv.reference.activations import (
    activation,
    activation_backward,
    dropout,
    prelu,
    prelu_backward,
    relu,
    relu_backward,
)
from fastconv.reference.augmentation import augment, augmentation_matrix, elastic_displacement, random_bits
from fastconv.reference.convolution import (
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward_bias,
    conv2d_backward_filter,
    conv2d_backward_input,
    winograd_patch,
    winograd_patch_backward_filter,
)
from fastconv.reference.differences import numeric_gradient
from fastconv.reference.fully_connected import linear, linear_backward
from fastconv.reference.losses import (
    binary_cross_entropy,
    cross_entropy,
    huber,
    l1,
    log_softmax,
    log_softmax_backward,
    mse,
    softmax,
    softmax_backward,
)
from fastconv.reference.normalisation import (
    batch_norm,
    batch_norm_backward,
    batch_statistics,
    group_norm,
    group_norm_backward,
    normalize_uint8,
)
from fastconv.reference.optimisers import adam, adamw, clip_factor, lion, moving_average, rmsprop, sgd
from fastconv.reference.padding import pad, pad_backward
from fastconv.reference.pooling import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_max_pool2d,
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from fastconv.reference.resampling import interpolate, interpolate_backward
from fastconv.reference.transposed_convolution import conv_transpose2d, conv_transpose2d_backward

__all__ = [
    "activation", "activation_backward", "adam", "adamw", "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d", "augment", "augmentation_matrix", "avg_pool2d", "avg_pool2d_backward", "batch_norm",
    "batch_norm_backward", "batch_statistics", "binary_cross_entropy", "clip_factor", "conv1d", "conv1d_backward",
    "conv2d", "conv2d_backward_bias", "conv2d_backward_filter", "conv2d_backward_input", "conv_transpose2d",
    "conv_transpose2d_backward", "cross_entropy", "dropout", "elastic_displacement", "group_norm",
    "group_norm_backward", "huber", "interpolate", "interpolate_backward", "l1", "linear", "linear_backward", "lion",
    "log_softmax", "log_softmax_backward", "max_pool2d", "max_pool2d_backward", "moving_average", "mse",
    "normalize_uint8", "numeric_gradient", "pad", "pad_backward", "prelu", "prelu_backward", "random_bits", "relu",
    "relu_backward", "rmsprop", "sgd", "softmax", "softmax_backward", "winograd_patch",
    "winograd_patch_backward_filter",
]  # fmt: skip
