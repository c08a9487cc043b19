"""Resampling on lane blocks: every output is a weighted sum of few inputs, chosen for rows and for columns.

Mathematics
-----------
Equation numbers are those of docs/backprop.md.  A is OH x H, D is OW x W, and both are almost empty. ::

    y[n,c,i,j] = sum_{p,q} A[i,p] D[j,q] x[n,c,p,q]                                   (55)
    dx[n,c,p,q] = sum_{i,j} A[i,p] D[j,q] dy[n,c,i,j]                                 (56)

(56) is (55) with the matrices transposed, so one kernel does both.  A matrix comes as what its rows hold: those of row
i are the numbers ``first[i]`` to ``first[i + 1] - 1`` of ``taps`` (which column) and ``weights``.
"""

from fastconv_kernels.crew import prange
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import full, outer_fma, store, vectors, zeros


@kernel()
def resample(crew, x, row_first, row_taps, row_weights, column_first, column_taps, column_weights, y):
    """Write equation (55) into ``y``.

    Parameters
    ----------
    x : float[B, C, H, W, 16]
    row_first, column_first : int64[OH + 1], int64[OW + 1]
    row_taps, column_taps : int64[any], int64[any]
        From 0 to H - 1, and to W - 1.
    row_weights, column_weights : float[any], float[any]
    y : float[B, C, OH, OW, 16]
        Overwritten.

    Notes
    -----
    Race-free: task (b, c) is the only writer of ``y[b, c]``.  Each sum runs over the taps in their order.
    """
    B, C, OH, OW, _ = y.shape
    for task in prange(crew, B * C):
        b, c = task // C, task % C
        for i in range(OH):
            for j in range(OW):
                total = zeros(x, 1, 1)
                for p in range(row_first[i], row_first[i + 1]):
                    for q in range(column_first[j], column_first[j + 1]):
                        weight = full(x, row_weights[p] * column_weights[q], 1, 1)
                        pixel = vectors(x, (b, c, row_taps[p], column_taps[q]), 3, 1, 1)
                        total = outer_fma(total, weight, pixel)
                store(total, y, (b, c, i, j), 2, 1, 3, 1, 1)
