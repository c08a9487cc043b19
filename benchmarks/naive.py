"""Every operation as scalar loops over NCHW arrays: what the kernels are measured against.

One source gives three rungs of the ladder.  Numba's ``prange`` is ``range`` to the interpreter and to plain ``njit``,
and shares out the outermost loop, nearly always that over the images, under ``njit(parallel=True)``.

Arrays come first that are read, then numbers, then arrays that are overwritten.  Convolutions take images that are
padded already.  Numbers in parentheses are the equations of docs/backprop.md.
"""

import math
from collections.abc import Callable
from functools import cache
from types import FunctionType

from numba import njit, prange

# ------------------------------------------------------------------------------------------------------ convolution


def conv2d_forward(x, k, b, stride, y):
    """Write (1): x float[N, C, H, W], k float[F, C, KH, KW], b float[F], y float[N, F, OH, OW]."""
    N, F, OH, OW = y.shape
    C, KH, KW = k.shape[1:]
    for n in prange(N):
        for f in range(F):
            for i in range(OH):
                for j in range(OW):
                    total = b[f]
                    for c in range(C):
                        for u in range(KH):
                            for v in range(KW):
                                total += x[n, c, i * stride + u, j * stride + v] * k[f, c, u, v]
                    y[n, f, i, j] = total


def conv2d_backward_input(dy, k, stride, dx):
    """Write (3): dx float[N, C, H, W], padding included."""
    N, F, OH, OW = dy.shape
    C, KH, KW = k.shape[1:]
    for n in prange(N):
        dx[n] = 0
        for f in range(F):
            for i in range(OH):
                for j in range(OW):
                    for c in range(C):
                        for u in range(KH):
                            for v in range(KW):
                                dx[n, c, i * stride + u, j * stride + v] += dy[n, f, i, j] * k[f, c, u, v]


def conv2d_backward_filter(dy, x, stride, dk):
    """Write (2): dk float[F, C, KH, KW].  Parallel over filters, because all images add to one filter."""
    N, F, OH, OW = dy.shape
    C, KH, KW = dk.shape[1:]
    for f in prange(F):
        for c in range(C):
            for u in range(KH):
                for v in range(KW):
                    total = dk.dtype.type(0)
                    for n in range(N):
                        for i in range(OH):
                            for j in range(OW):
                                total += dy[n, f, i, j] * x[n, c, i * stride + u, j * stride + v]
                    dk[f, c, u, v] = total


def bias_backward(dy, y, dz, db):
    """Write (16) and (4): dz float[N, F, H, W] is dy behind ReLU's gate, db float[F] its sums.  Parallel over F."""
    N, F, H, W = dy.shape
    for f in prange(F):
        total = db.dtype.type(0)
        for n in range(N):
            for i in range(H):
                for j in range(W):
                    value = dy[n, f, i, j] if y[n, f, i, j] > 0 else db.dtype.type(0)
                    dz[n, f, i, j] = value
                    total += value
        db[f] = total


# ---------------------------------------------------------------------------------------------------------- pooling


def max_pool2d_forward(x, size, y, place):
    """Write (7) for windows of size x size that do not overlap, and the first winner's number u*size + v."""
    N, C, OH, OW = y.shape
    for n in prange(N):
        for c in range(C):
            for i in range(OH):
                for j in range(OW):
                    best, at = x[n, c, i * size, j * size], 0
                    for u in range(size):
                        for v in range(size):
                            if x[n, c, i * size + u, j * size + v] > best:
                                best, at = x[n, c, i * size + u, j * size + v], u * size + v
                    y[n, c, i, j] = best
                    place[n, c, i, j] = at


def max_pool2d_backward(dy, place, size, dx):
    """Write (8)."""
    N, C, OH, OW = dy.shape
    for n in prange(N):
        dx[n] = 0
        for c in range(C):
            for i in range(OH):
                for j in range(OW):
                    at = place[n, c, i, j]
                    dx[n, c, i * size + at // size, j * size + at % size] += dy[n, c, i, j]


def avg_pool2d_forward(x, size, y):
    """Write (9)."""
    N, C, OH, OW = y.shape
    for n in prange(N):
        for c in range(C):
            for i in range(OH):
                for j in range(OW):
                    total = y.dtype.type(0)
                    for u in range(size):
                        for v in range(size):
                            total += x[n, c, i * size + u, j * size + v]
                    y[n, c, i, j] = total / (size * size)


def avg_pool2d_backward(dy, size, dx):
    """Write (10)."""
    N, C, OH, OW = dy.shape
    for n in prange(N):
        dx[n] = 0
        for c in range(C):
            for i in range(OH):
                for j in range(OW):
                    share = dy[n, c, i, j] / (size * size)
                    for u in range(size):
                        for v in range(size):
                            dx[n, c, i * size + u, j * size + v] += share


# ----------------------------------------------------------------------------------------------------------- linear


def linear_forward(x, w, b, y):
    """Write (11): x float[N, I], w float[J, I], b float[J], y float[N, J]."""
    N, J = y.shape
    for n in prange(N):
        for j in range(J):
            total = b[j]
            for i in range(x.shape[1]):
                total += w[j, i] * x[n, i]
            y[n, j] = total


def linear_backward_input(dy, w, dx):
    """Write (12)."""
    N, J = dy.shape
    for n in prange(N):
        for i in range(dx.shape[1]):
            total = dx.dtype.type(0)
            for j in range(J):
                total += dy[n, j] * w[j, i]
            dx[n, i] = total


def linear_backward_weight(dy, x, dw):
    """Write (13), parallel over outputs, because all images add to one weight."""
    J, I = dw.shape
    for j in prange(J):
        for i in range(I):
            total = dw.dtype.type(0)
            for n in range(dy.shape[0]):
                total += dy[n, j] * x[n, i]
            dw[j, i] = total


# -------------------------------------------------------------------------------------------- activations and losses


def relu_forward(x, y):
    """Write (15); both float[N, C, H, W]."""
    N, C, H, W = x.shape
    for n in prange(N):
        for c in range(C):
            for i in range(H):
                for j in range(W):
                    y[n, c, i, j] = max(x[n, c, i, j], x.dtype.type(0))


def relu_backward(dy, y, dx):
    """Write (16); all float[N, C, H, W]."""
    N, C, H, W = dy.shape
    for n in prange(N):
        for c in range(C):
            for i in range(H):
                for j in range(W):
                    dx[n, c, i, j] = dy[n, c, i, j] if y[n, c, i, j] > 0 else dy.dtype.type(0)


def softmax_forward(z, p):
    """Write (17); both float[N, K]."""
    N, K = z.shape
    for n in prange(N):
        largest = z[n, 0]
        for k in range(1, K):
            largest = max(largest, z[n, k])
        total = 0.0
        for k in range(K):
            p[n, k] = math.exp(z[n, k] - largest)
            total += p[n, k]
        for k in range(K):
            p[n, k] /= total


def softmax_backward(dp, p, dz):
    """Write (18); all float[N, K]."""
    N, K = p.shape
    for n in prange(N):
        inner = 0.0
        for k in range(K):
            inner += dp[n, k] * p[n, k]
        for k in range(K):
            dz[n, k] = p[n, k] * (dp[n, k] - inner)


def cross_entropy(z, labels, dz, losses):
    """Write (21) into dz, float[N, K], and each image's term of the sum in (20) into losses, float64[N]."""
    N, K = z.shape
    for n in prange(N):
        largest = z[n, 0]
        for k in range(1, K):
            largest = max(largest, z[n, k])
        total = 0.0
        for k in range(K):
            total += math.exp(z[n, k] - largest)
        losses[n] = math.log(total) - (z[n, labels[n]] - largest)
        for k in range(K):
            dz[n, k] = (math.exp(z[n, k] - largest) / total - (k == labels[n])) / N


# ------------------------------------------------------------------------------------------------------- optimisers


def sgd(grad, lr, momentum, value, velocity):
    """Write (24) without weight decay; all arrays float[K], parallel over them."""
    for k in prange(value.shape[0]):
        velocity[k] = momentum * velocity[k] + grad[k]
        value[k] -= lr * velocity[k]


def adam(grad, lr, beta1, beta2, eps, step, value, mean, square):
    """Write (25) without weight decay; all arrays float[K], parallel over them."""
    for k in prange(value.shape[0]):
        mean[k] = beta1 * mean[k] + (1 - beta1) * grad[k]
        square[k] = beta2 * square[k] + (1 - beta2) * grad[k] * grad[k]
        corrected = mean[k] / (1 - beta1**step)
        value[k] -= lr * corrected / (math.sqrt(square[k] / (1 - beta2**step)) + eps)


# ---------------------------------------------------------------------------------------------------------- packing


def pack_pixels(images, index, table, x):
    """Choose and normalise: images uint8[N, C, H, W], index int64[n], table float[C, 256], x float[n, C, H, W]."""
    n, C, H, W = x.shape
    for number in prange(n):
        for c in range(C):
            for i in range(H):
                for j in range(W):
                    x[number, c, i, j] = table[c, images[index[number], c, i, j]]


def pack(images, index, x):
    """Choose images: float[N, C, H, W] to float[n, C, H, W]."""
    n, C, H, W = x.shape
    for number in prange(n):
        for c in range(C):
            for i in range(H):
                for j in range(W):
                    x[number, c, i, j] = images[index[number], c, i, j]


def unpack(x, images):
    """Take images, float[n, C, H, W], out of lane blocks, float[B, C, H, W, 16]."""
    n, C, H, W = images.shape
    for number in prange(n):
        for c in range(C):
            for i in range(H):
                for j in range(W):
                    images[number, c, i, j] = x[number // 16, c, i, j, number % 16]


# -------------------------------------------------------------------------------------------------- the three rungs

RUNGS = ("Python loops", "njit", "njit parallel")


@cache
def rung(function: Callable[..., None], name: str) -> Callable[..., None]:
    """Return one of the functions above as it is, compiled, or compiled for all cores."""
    if name == "Python loops":
        return function
    # Numba's cache tells functions apart by file, line and name, and not by flags: two names, or one gets the other's.
    twin = FunctionType(function.__code__, function.__globals__, function.__name__)
    twin.__qualname__ = f"{function.__name__}_{name.replace(' ', '_')}"
    return njit(parallel=name == "njit parallel", cache=True)(twin)
