"""Random numbers by counting: a pure function of a key and of a number, so that no thread and no order enters them.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

import numpy as np

from fastconv_kernels.runtime import kernel


@kernel(parallel=False)
def random_bits(key, number):
    """Mix two uint64 to 64 random bits: the finaliser of SplitMix64 (Steele et al. 2014), twice."""
    z = key + number * np.uint64(0x9E3779B97F4A7C15)
    for _ in range(2):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return z


@kernel(parallel=False)
def uniform(key, number):
    """Return a float64 above 0 and below 1, the middle of one of 2**52 equal parts."""
    return (np.float64(random_bits(key, number) >> np.uint64(12)) + 0.5) * 2.0**-52
