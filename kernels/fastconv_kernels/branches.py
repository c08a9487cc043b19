"""Where branches part and meet: sums of blocks, channels side by side, and their gradients.

Mathematics
-----------
Equation numbers are those of docs/backprop.md. ::

    y = a(x) + b(x)                            dx = da + db                (32)
    y = a(x) beside b(x) along channels        dx = da + db                (33)

Each branch gets the upstream gradient dy: all of it in (32), its own channels in (33).
"""

from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import gated, plus, rectified, store, vectors


@kernel()
def add(crew, a, b, y, relu):
    """Write a + b, and max(0, that) if ``relu``, into ``y``, which may be one of them; all float[B, S, 16].

    Notes
    -----
    Race-free: each task is the only writer of its part of ``y``.
    """
    B, S, _ = y.shape
    parts = -(-S // STRIP)
    for task in prange(crew, B * parts):
        n, start = task // parts, task % parts * STRIP
        for s in range(start, min(start + STRIP, S)):
            total = plus(vectors(a, (n, s), 1, 1, 1), vectors(b, (n, s), 1, 1, 1))
            if relu:
                total = rectified(total)
            store(total, y, (n, s), 0, 1, 1, 1, 1)


STRIP = 1024
"""Vectors in a task: 64 KB."""


@kernel()
def copy_gated(crew, dy, y, relu, copy):
    """Gate ``dy`` in place by equation (16) if ``relu``, and copy it; all float[B, S, 16].

    Parameters
    ----------
    dy : float[B, S, 16]
        Overwritten if ``relu``.
    y : float[B, S, 16]
        The output behind the rectifier; read only if ``relu``.
    relu : bool
    copy : float[B, S, 16]
        Overwritten.

    Notes
    -----
    Race-free: each task is the only writer of its part of ``dy`` and ``copy``.
    """
    B, S, _ = dy.shape
    parts = -(-S // STRIP)
    for task in prange(crew, B * parts):
        n, start = task // parts, task % parts * STRIP
        for s in range(start, min(start + STRIP, S)):
            dz = vectors(dy, (n, s), 1, 1, 1)
            if relu:
                dz = gated(dz, vectors(y, (n, s), 1, 1, 1))
                store(dz, dy, (n, s), 0, 1, 1, 1, 1)
            store(dz, copy, (n, s), 0, 1, 1, 1, 1)


@kernel()
def copy_channels(crew, x, first, y, start, channels):
    """Copy ``channels`` channels of ``x`` from ``first`` on to those of ``y`` from ``start`` on.

    Parameters
    ----------
    x, y : float[B, C, S, 16], float[B, F, S, 16]
    first, start, channels : int

    Notes
    -----
    Race-free: task (b, c) is the only writer of channel c of ``y[b]``.
    """
    B, _, S, _ = x.shape
    for task in prange(crew, B * channels):
        b, c = task // channels, task % channels
        for s in range(S):
            store(vectors(x, (b, first + c, s), 2, 1, 1), y, (b, start + c, s), 0, 1, 2, 1, 1)
