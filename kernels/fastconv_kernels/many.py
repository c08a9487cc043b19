"""Many arrays in one launch: a model has a dozen parameters, most of them smaller than the cost of a launch.

A kernel gets a table of addresses and a list of tasks, each one chunk of one group of arrays, and asks ``part`` for
the chunk.  The table has sizes beside the addresses, for ``NUMBA_BOUNDSCHECK=1``.
"""

import ctypes

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastconv_kernels.tile import check_inside, compiled_as

CHUNK = 4096


class Many:
    """Groups of contiguous arrays of one dtype, such as (value, gradient, velocity) of each parameter.

    Parameters
    ----------
    groups : sequence of tuples of arrays
        The last array of a group has its size; those before may have a multiple of it.
    numbers : sequence of float, optional
        One for each group, such as its share of the weight decay; ones by default.

    Attributes
    ----------
    groups : list of tuples of float[K]
        The arrays themselves, flat, for those who compute with NumPy.
    table : (int64[groups, arrays, 2], int64[tasks, 4], float[0])
        What a kernel takes: addresses and sizes; group, first element, the one behind the last, and K; the dtype.
    numbers : float64[groups]
    """

    def __init__(self, groups, numbers=None):
        self.groups = [tuple(array.reshape(-1) for array in group) for group in groups]
        self.numbers = np.ones(len(self.groups)) if numbers is None else np.array(numbers, np.float64)
        places = [[(array.ctypes.data, array.size) for array in group] for group in self.groups]
        tasks = [
            (number, start, min(group[-1].size, start + CHUNK), group[-1].size)
            for number, group in enumerate(self.groups)
            for start in range(0, group[-1].size, CHUNK)
        ]
        self.table = (
            np.array(places, np.int64),
            np.array(tasks, np.int64).reshape(-1, 4),
            np.empty(0, self.groups[0][0].dtype),
        )


def part(place, start, stop, like):
    """Elements ``start`` to ``stop`` of the array at ``place``, int64[2] of the table, in the dtype of ``like``."""
    address, size = map(int, place)
    memory = (ctypes.c_char * (size * like.dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, like.dtype)[start:stop]


@compiled_as(part)
def _part(typingctx, place, start, stop, like):
    array = types.Array(like.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        from numba.np import arrayobj  # takes 50 ms, which a process that finds its kernels cached need not spend

        entry, start, stop, _ = args
        address, count = (
            builder.load(cgutils.gep_inbounds(builder, context.make_array(place)(context, builder, entry).data, n))
            for n in (0, 1)
        )
        whole, length = context.make_array(array)(context, builder), builder.sub(stop, start)
        whole.shape = cgutils.pack_array(builder, [count])
        check_inside(context, builder, "part", whole, [start], length)
        size = ir.Constant(address.type, like.dtype.bitwidth // 8)
        first = builder.add(address, builder.mul(start, size))
        view = context.make_array(array)(context, builder)
        arrayobj.populate_array(
            view,
            data=builder.inttoptr(first, context.get_data_type(like.dtype).as_pointer()),
            shape=[length],
            strides=[size],
            itemsize=size,
            meminfo=None,
        )
        return view._getvalue()

    return array(place, types.int64, types.int64, like), codegen
