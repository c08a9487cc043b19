"""Loops over arrays: the compiled kernels of fastconv.  They import numpy, numba, llvmlite and nothing of fastconv."""
