"""Loops over arrays: the compiled kernels of fastconv.  They import numpy, numba, llvmlite and nothing of fastconv."""

import os

from fastconv_kernels.limits import check_variables

check_variables(os.environ)
