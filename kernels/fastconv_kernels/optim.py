"""One optimiser step of all parameters, in a single pass over their memory; the norm of all gradients; averages.

Mathematics
-----------
Equations (24) to (26) and (78) to (81) of docs/backprop.md, in PyTorch's form.  w is the parameter, g its gradient
times the factor of equation (80), t the step. ::

    SGD      g += d w;  v = mu v + g;  w -= r v,  or  w -= r (g + mu v)  with Nesterov's momentum       (24)
    Adam     g += d w;  m = b1 m + (1-b1) g;  s = b2 s + (1-b2) g*g
             w -= r / (1 - b1**t) * m / (sqrt(s) / sqrt(1 - b2**t) + eps)                               (25)
    AdamW    as Adam, but w *= 1 - r d  instead of  g += d w                                            (26)
    RMSprop  g += d w;  s = a s + (1-a) g*g;  m = a m + (1-a) g  if centered, else 0
             v = mu v + g / (sqrt(s - m*m) + eps);  w -= r v                                            (78)
    Lion     w -= r d w + r sign(b1 m + (1-b1) g);  m = b2 m + (1-b2) g                                 (79)
    EMA      a += (1-k) (w - a)                                                                         (81)
"""

import numpy as np

from fastconv_kernels.crew import prange
from fastconv_kernels.many import part
from fastconv_kernels.runtime import kernel


@kernel()
def sgd(crew, arrays, tasks, like, lr, momentum, nesterov, decays, scale):
    """Write equation (24) into value and velocity of every group.

    Parameters
    ----------
    arrays, tasks, like
        The table of ``many.Many`` for groups (velocity, gradient, value), which must not overlap.
    lr, momentum : float
    nesterov : bool
    decays : float64[groups]
        Each group's weight decay.
    scale : float
        What gradients are multiplied by.

    Notes
    -----
    Race-free: each task is the only writer of its chunk, and no element looks at another.
    """
    rate, mu, factor = like.dtype.type(lr), like.dtype.type(momentum), like.dtype.type(scale)
    for task in prange(crew, tasks.shape[0]):
        group, start, stop, _ = tasks[task]
        decay = like.dtype.type(decays[group])
        velocities = part(arrays[group, 0], start, stop, like)
        grads = part(arrays[group, 1], start, stop, like)
        values = part(arrays[group, 2], start, stop, like)
        for k in range(values.shape[0]):
            g = factor * grads[k] + decay * values[k]
            v = mu * velocities[k] + g
            velocities[k] = v
            values[k] -= rate * (g + mu * v if nesterov else v)


@kernel()
def adam(crew, arrays, tasks, like, lr, beta1, beta2, eps, decays, decoupled, correction1, correction2, scale):
    """Write equation (25), or (26) if ``decoupled``, into value, mean and square of every group.

    Parameters
    ----------
    arrays, tasks, like
        The table of ``many.Many`` for groups (mean, square, gradient, value), which must not overlap.
    lr, beta1, beta2, eps : float
    decays : float64[groups]
        Each group's weight decay.
    decoupled : bool
    correction1, correction2 : float
        1 - beta1**t and sqrt(1 - beta2**t) for the step t = 1, 2, ...
    scale : float
        What gradients are multiplied by.

    Notes
    -----
    Race-free: each task is the only writer of its chunk, and no element looks at another.
    """
    b1, b2, epsilon = like.dtype.type(beta1), like.dtype.type(beta2), like.dtype.type(eps)
    # Subtracted in float64: in float32, 1 - 0.999 is off by a hundred units in the last place.
    rest1, rest2 = like.dtype.type(1.0 - beta1), like.dtype.type(1.0 - beta2)
    rate, root, factor = like.dtype.type(lr / correction1), like.dtype.type(correction2), like.dtype.type(scale)
    for task in prange(crew, tasks.shape[0]):
        group, start, stop, _ = tasks[task]
        coupled = like.dtype.type(0.0 if decoupled else decays[group])
        shrink = like.dtype.type(1.0 - lr * decays[group] if decoupled else 1.0)
        means = part(arrays[group, 0], start, stop, like)
        squares = part(arrays[group, 1], start, stop, like)
        grads = part(arrays[group, 2], start, stop, like)
        values = part(arrays[group, 3], start, stop, like)
        for k in range(values.shape[0]):
            g = factor * grads[k] + coupled * values[k]
            m = b1 * means[k] + rest1 * g
            s = b2 * squares[k] + rest2 * g * g
            means[k] = m
            squares[k] = s
            values[k] = shrink * values[k] - rate * m / (np.sqrt(s) / root + epsilon)


@kernel()
def rmsprop(crew, arrays, tasks, like, lr, alpha, eps, momentum, centered, decays, scale):
    """Write equation (78) into value, mean, velocity and square of every group.

    Parameters
    ----------
    arrays, tasks, like
        The table of ``many.Many`` for groups (mean, velocity, square, gradient, value), which must not overlap.
    lr, alpha, eps, momentum : float
    centered : bool
        Without it the mean stays as it is.
    decays : float64[groups]
    scale : float
        What gradients are multiplied by.

    Notes
    -----
    Race-free: each task is the only writer of its chunk, and no element looks at another.
    """
    rate, kept, rest = like.dtype.type(lr), like.dtype.type(alpha), like.dtype.type(1.0 - alpha)
    mu, epsilon, factor = like.dtype.type(momentum), like.dtype.type(eps), like.dtype.type(scale)
    for task in prange(crew, tasks.shape[0]):
        group, start, stop, _ = tasks[task]
        decay = like.dtype.type(decays[group])
        means = part(arrays[group, 0], start, stop, like)
        velocities = part(arrays[group, 1], start, stop, like)
        squares = part(arrays[group, 2], start, stop, like)
        grads = part(arrays[group, 3], start, stop, like)
        values = part(arrays[group, 4], start, stop, like)
        for k in range(values.shape[0]):
            g = factor * grads[k] + decay * values[k]
            s = kept * squares[k] + rest * g * g
            squares[k] = s
            if centered:
                m = kept * means[k] + rest * g
                means[k] = m
                # Rounding may leave a little less than nothing, where PyTorch's root is NaN.
                s = s - m * m if not s < m * m else like.dtype.type(0.0)
            v = mu * velocities[k] + g / (np.sqrt(s) + epsilon)
            velocities[k] = v
            values[k] -= rate * v


@kernel()
def lion(crew, arrays, tasks, like, lr, beta1, beta2, decays, scale):
    """Write equation (79) into value and mean of every group.

    Parameters
    ----------
    arrays, tasks, like
        The table of ``many.Many`` for groups (mean, gradient, value), which must not overlap.
    lr, beta1, beta2 : float
    decays : float64[groups]
    scale : float
        What gradients are multiplied by.

    Notes
    -----
    Race-free: each task is the only writer of its chunk, and no element looks at another.
    """
    b1, b2, factor = like.dtype.type(beta1), like.dtype.type(beta2), like.dtype.type(scale)
    rest1, rest2 = like.dtype.type(1.0 - beta1), like.dtype.type(1.0 - beta2)
    rate, one = like.dtype.type(lr), like.dtype.type(1.0)
    for task in prange(crew, tasks.shape[0]):
        group, start, stop, _ = tasks[task]
        shrink = like.dtype.type(1.0 - lr * decays[group])
        means = part(arrays[group, 0], start, stop, like)
        grads = part(arrays[group, 1], start, stop, like)
        values = part(arrays[group, 2], start, stop, like)
        for k in range(values.shape[0]):
            g = factor * grads[k]
            c = b1 * means[k] + rest1 * g
            sign = one if c > 0 else -one if c < 0 else c  # 0, or NaN
            values[k] = shrink * values[k] - rate * sign
            means[k] = b2 * means[k] + rest2 * g


# ------------------------------------------------------------------------------------------- all gradients, all weights


@kernel()
def squares_of_gradients(crew, arrays, tasks, like, totals):
    """Write each task's share of the sum in equation (80).

    Parameters
    ----------
    arrays, tasks, like
        The table of ``many.Many`` for groups (..., gradient, value).
    totals : float64[tasks]
        Overwritten.

    Notes
    -----
    Race-free: each task is the only writer of its total.  It adds up every fourth element, then those four sums.
    """
    for task in prange(crew, tasks.shape[0]):
        group, start, stop, _ = tasks[task]
        grads = part(arrays[group, arrays.shape[1] - 2], start, stop, like)
        size = stop - start
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        for k in range(0, size - 3, 4):
            a += np.float64(grads[k]) * np.float64(grads[k])
            b += np.float64(grads[k + 1]) * np.float64(grads[k + 1])
            c += np.float64(grads[k + 2]) * np.float64(grads[k + 2])
            d += np.float64(grads[k + 3]) * np.float64(grads[k + 3])
        for k in range(size - size % 4, size):
            a += np.float64(grads[k]) * np.float64(grads[k])
        totals[task] = (a + b) + (c + d)


@kernel()
def average(crew, arrays, tasks, like, share):
    """Write equation (81) into the average of every group.

    Parameters
    ----------
    arrays, tasks, like
        The table of ``many.Many`` for groups (average, value), which must not overlap.
    share : float
        1 - k.

    Notes
    -----
    Race-free: each task is the only writer of its chunk, and no element looks at another.
    """
    weight = like.dtype.type(share)
    for task in prange(crew, tasks.shape[0]):
        group, start, stop, _ = tasks[task]
        averages = part(arrays[group, 0], start, stop, like)
        values = part(arrays[group, 1], start, stop, like)
        for k in range(values.shape[0]):
            averages[k] += weight * (values[k] - averages[k])
