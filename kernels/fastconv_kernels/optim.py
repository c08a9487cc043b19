"""One optimiser step of one parameter, in a single pass over its memory.

Mathematics
-----------
Equations (24) to (26) of docs/backprop.md, in PyTorch's form.  w is the parameter, g its gradient, t the step. ::

    SGD    g += d w;  v = mu v + g;  w -= r v,  or  w -= r (g + mu v)  with Nesterov's momentum         (24)
    Adam   g += d w;  m = b1 m + (1-b1) g;  s = b2 s + (1-b2) g*g
           w -= r / (1 - b1**t) * m / (sqrt(s) / sqrt(1 - b2**t) + eps)                                 (25)
    AdamW  as Adam, but w *= 1 - r d  instead of  g += d w                                              (26)
"""

import numpy as np
from numba import prange

from fastconv_kernels.runtime import kernel

CHUNK = 4096


@kernel()
def sgd(value, grad, velocity, lr, momentum, nesterov, weight_decay):
    """Write equation (24) into ``value`` and ``velocity``; arrays float[K], which must not overlap.

    Notes
    -----
    Race-free: each task is the only writer of its chunk, and no element looks at another.
    """
    K = value.shape[0]
    rate, mu, decay = value.dtype.type(lr), value.dtype.type(momentum), value.dtype.type(weight_decay)
    for task in prange(-(-K // CHUNK)):
        part = slice(task * CHUNK, min(K, (task + 1) * CHUNK))
        values, grads, velocities = value[part], grad[part], velocity[part]
        for k in range(values.shape[0]):
            g = grads[k] + decay * values[k]
            v = mu * velocities[k] + g
            velocities[k] = v
            values[k] -= rate * (g + mu * v if nesterov else v)


@kernel()
def adam(value, grad, mean, square, lr, beta1, beta2, eps, weight_decay, decoupled, correction1, correction2):
    """Write equation (25), or (26) if ``decoupled``, into ``value``, ``mean`` and ``square``; arrays float[K].

    ``correction1`` is 1 - beta1**t and ``correction2`` is sqrt(1 - beta2**t), float64, for the step t = 1, 2, ...

    Notes
    -----
    Race-free: each task is the only writer of its chunk, and no element looks at another.
    """
    K = value.shape[0]
    b1, b2, epsilon = value.dtype.type(beta1), value.dtype.type(beta2), value.dtype.type(eps)
    # Subtracted in float64: in float32, 1 - 0.999 is off by a hundred units in the last place.
    rest1, rest2 = value.dtype.type(1.0 - beta1), value.dtype.type(1.0 - beta2)
    rate, root = value.dtype.type(lr / correction1), value.dtype.type(correction2)
    coupled = value.dtype.type(0.0 if decoupled else weight_decay)
    shrink = value.dtype.type(1.0 - lr * weight_decay if decoupled else 1.0)
    for task in prange(-(-K // CHUNK)):
        part = slice(task * CHUNK, min(K, (task + 1) * CHUNK))
        values, grads, means, squares = value[part], grad[part], mean[part], square[part]
        for k in range(values.shape[0]):
            g = grads[k] + coupled * values[k]
            m = b1 * means[k] + rest1 * g
            s = b2 * squares[k] + rest2 * g * g
            means[k] = m
            squares[k] = s
            values[k] = shrink * values[k] - rate * m / (np.sqrt(s) / root + epsilon)
