"""One optimiser step of all parameters, in a single pass over their memory.

Mathematics
-----------
Equations (24) to (26) of docs/backprop.md, in PyTorch's form.  w is the parameter, g its gradient, t the step. ::

    SGD    g += d w;  v = mu v + g;  w -= r v,  or  w -= r (g + mu v)  with Nesterov's momentum         (24)
    Adam   g += d w;  m = b1 m + (1-b1) g;  s = b2 s + (1-b2) g*g
           w -= r / (1 - b1**t) * m / (sqrt(s) / sqrt(1 - b2**t) + eps)                                 (25)
    AdamW  as Adam, but w *= 1 - r d  instead of  g += d w                                              (26)
"""

import numpy as np

from fastconv_kernels.crew import prange
from fastconv_kernels.many import part
from fastconv_kernels.runtime import kernel


@kernel()
def sgd(crew, arrays, tasks, like, lr, momentum, nesterov, weight_decay):
    """Write equation (24) into value and velocity of every group.

    Parameters
    ----------
    arrays, tasks, like
        The table of ``many.Many`` for groups (velocity, gradient, value), which must not overlap.
    lr, momentum : float
    nesterov : bool
    weight_decay : float

    Notes
    -----
    Race-free: each task is the only writer of its chunk, and no element looks at another.
    """
    rate, mu, decay = like.dtype.type(lr), like.dtype.type(momentum), like.dtype.type(weight_decay)
    for task in prange(crew, tasks.shape[0]):
        group, start, stop, _ = tasks[task]
        velocities = part(arrays[group, 0], start, stop, like)
        grads = part(arrays[group, 1], start, stop, like)
        values = part(arrays[group, 2], start, stop, like)
        for k in range(values.shape[0]):
            g = grads[k] + decay * values[k]
            v = mu * velocities[k] + g
            velocities[k] = v
            values[k] -= rate * (g + mu * v if nesterov else v)


@kernel()
def adam(crew, arrays, tasks, like, lr, beta1, beta2, eps, weight_decay, decoupled, correction1, correction2):
    """Write equation (25), or (26) if ``decoupled``, into value, mean and square of every group.

    Parameters
    ----------
    arrays, tasks, like
        The table of ``many.Many`` for groups (mean, square, gradient, value), which must not overlap.
    lr, beta1, beta2, eps, weight_decay : float
    decoupled : bool
    correction1, correction2 : float
        1 - beta1**t and sqrt(1 - beta2**t) for the step t = 1, 2, ...

    Notes
    -----
    Race-free: each task is the only writer of its chunk, and no element looks at another.
    """
    b1, b2, epsilon = like.dtype.type(beta1), like.dtype.type(beta2), like.dtype.type(eps)
    # Subtracted in float64: in float32, 1 - 0.999 is off by a hundred units in the last place.
    rest1, rest2 = like.dtype.type(1.0 - beta1), like.dtype.type(1.0 - beta2)
    rate, root = like.dtype.type(lr / correction1), like.dtype.type(correction2)
    coupled = like.dtype.type(0.0 if decoupled else weight_decay)
    shrink = like.dtype.type(1.0 - lr * weight_decay if decoupled else 1.0)
    for task in prange(crew, tasks.shape[0]):
        group, start, stop, _ = tasks[task]
        means = part(arrays[group, 0], start, stop, like)
        squares = part(arrays[group, 1], start, stop, like)
        grads = part(arrays[group, 2], start, stop, like)
        values = part(arrays[group, 3], start, stop, like)
        for k in range(values.shape[0]):
            g = grads[k] + coupled * values[k]
            m = b1 * means[k] + rest1 * g
            s = b2 * squares[k] + rest2 * g * g
            means[k] = m
            squares[k] = s
            values[k] = shrink * values[k] - rate * m / (np.sqrt(s) / root + epsilon)
