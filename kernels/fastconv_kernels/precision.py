"""The functions of exponential.py for float64 and of exponential32.py for float32, under one name each.

A kernel that calls them is one source for both: the compiler chooses by the type of the first argument.
"""

import numpy as np
from numba import types

from fastconv_kernels import exponential, exponential32
from fastconv_kernels.runtime import kernel
from fastconv_kernels.tile import compiled_as


def alike(value, x):
    """``value`` in the type of ``x``: next to a float32, a plain 1.0 would make a float64 of the result."""
    return type(x)(value)


@compiled_as(alike)
def _alike(typingctx, value, x):
    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], value, x)

    return x(value, x), codegen


def _by_precision(single, double):
    def function(x):
        return (single if isinstance(x, np.float32) else double)(x)

    @compiled_as(function)
    def _function(typingctx, x):
        chosen = types.Dispatcher(single if x == types.float32 else double)

        def codegen(context, builder, signature, args):
            return context.get_function(chosen, signature)(builder, args)

        return chosen.get_call_type(typingctx, (x,), {}), codegen

    return function


decay = _by_precision(exponential32.decay, exponential.exp)
expm1 = _by_precision(exponential32.expm1, exponential.expm1)
tanh = _by_precision(exponential32.tanh, exponential.tanh)
normal = _by_precision(exponential32.normal, exponential.normal)


@kernel(parallel=False)
def decay_to(a, b):
    """Return e to the (a - b) for a of at most b, to 2 units in the last place even where a - b is rounded."""
    difference = a - b
    part = difference - a
    rest = (a - (difference - part)) - (b + part)  # a - b is difference + rest: Knuth's TwoSum
    power = decay(difference)
    return power + power * rest if difference - difference == 0 else power
