"""A kernel's tasks are handed to a crew of threads, each of which runs the kernel and takes what is left to do.

A kernel is an ordinary function whose first parameter is its ``Crew``.  ``prange(crew, n)`` gives the worker who asks
its own tasks, which are neighbours, in order, and when these are finished it helps the others with theirs: a core that
other programs keep busy holds up one task, not half of the loop.  No task depends on another, so who takes it changes
no bit.

Numba's own ``prange`` does not help out, and compiles each kernel's body three times (docs/adr/0020).  From Numba come
the threads: ``numba_parallel_for`` of its thread layers calls a function once for each worker.
"""

from typing import NamedTuple

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.callconv import Status, excinfo_ptr_t

from fastconv_kernels.tile import CACHE_LINE, compiled_as


class Crew(NamedTuple):
    """What a worker knows: its number, how many there are, and where it is written how many tasks were taken."""

    worker: int
    workers: int
    taken: int


# ---------------------------------------------------------------------------------------------------- handing out tasks


@njit(error_model="numpy", forceinline=True)
def prange(crew, n):
    """Range of ``n`` tasks, each of which goes to one worker of the crew."""
    for turn in range(crew.workers):
        whose = (crew.worker + turn) % crew.workers
        first, stop = whose * n // crew.workers, (whose + 1) * n // crew.workers
        while True:
            task = first + take(crew.taken, whose)
            if task >= stop:
                break
            yield task


def take(taken, whose):
    """Return how many of that worker's tasks were taken before, and count one more."""
    taken[whose] += 1
    return taken[whose] - 1


_BYTE, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_POINTER = _BYTE.as_pointer()


@compiled_as(take)
def _take(typingctx, taken, whose):
    def codegen(context, builder, signature, args):
        counter = builder.add(args[0], builder.mul(args[1], ir.Constant(_I64, CACHE_LINE)))
        pointer = builder.inttoptr(counter, _I64.as_pointer())
        # Relaxed order is enough: tasks share nothing, and the end of the launch is a barrier.
        return builder.atomic_rmw("add", pointer, ir.Constant(_I64, 1), "monotonic")

    return types.int64(types.int64, types.int64), codegen


# ----------------------------------------------------------------------------------------------------- calling the crew


def call_crew(kernel, workers, arguments):
    """Run ``kernel(crew, *arguments)`` once for each worker, at the same time."""
    kernel(Crew(0, 1, [0]), *arguments)


@compiled_as(call_crew)
def _call_crew(typingctx, kernel, workers, arguments):
    crew = types.NamedUniTuple(types.int64, 3, Crew)
    parameters = (crew, *arguments.types)
    compiled = kernel.dispatcher.get_compile_result(kernel.get_call_type(typingctx, parameters, {}))

    def codegen(context, builder, signature, args):
        _, workers, values = args
        workers = builder.sext(workers, _I64) if workers.type.width < 64 else workers
        context.active_code_library.add_linking_library(compiled.library)
        # A counter a cache line: one that two cores write would go to and fro.
        counters = builder.alloca(_BYTE, builder.mul(workers, ir.Constant(_I64, CACHE_LINE)))
        counters.align = CACHE_LINE
        cgutils.memset(builder, counters, builder.mul(workers, ir.Constant(_I64, CACHE_LINE)), 0)
        error = cgutils.alloca_once_value(builder, ir.Constant(_I32, 0))
        reason = cgutils.alloca_once(builder, excinfo_ptr_t)
        shared = [values, workers, builder.ptrtoint(counters, _I64), error, reason]
        member = _member(context, builder.module, compiled.fndesc, parameters, [value.type for value in shared])
        note = builder.bitcast(cgutils.alloca_once_value(builder, cgutils.pack_struct(builder, shared)), _POINTER)
        with builder.if_else(builder.icmp_signed("==", workers, ir.Constant(_I64, 1))) as (alone, together):
            with alone:
                number = cgutils.alloca_once_value(builder, ir.Constant(_POINTER, None))
                unused = ir.Constant(_I64.as_pointer(), None)
                builder.call(member, [number, unused, unused, note])
            with together:
                _parallel_for(builder, member, workers, note)
        code = builder.load(error)
        with builder.if_then(builder.icmp_unsigned("!=", code, ir.Constant(_I32, 0)), likely=False):
            status = Status(code, *[None] * 6, excinfoptr=builder.load(reason))
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(kernel, workers, arguments), codegen


def _member(context, module, fndesc, parameters, shared):
    """Make what a thread is given: void(char **number, size_t *, size_t *, void *shared), which calls the kernel."""
    kind = ir.FunctionType(ir.VoidType(), [_POINTER.as_pointer(), _I64.as_pointer(), _I64.as_pointer(), _POINTER])
    member = ir.Function(module, kind, module.get_unique_name("crew_member"))
    member.linkage = "internal"
    builder = ir.IRBuilder(member.append_basic_block())
    number, _, _, note = member.args
    worker = builder.ptrtoint(builder.load(number), _I64)
    note = builder.load(builder.bitcast(note, ir.LiteralStructType(shared).as_pointer()))
    values, workers, taken, error, reason = (builder.extract_value(note, k) for k in range(len(shared)))
    arguments = [cgutils.pack_array(builder, [worker, workers, taken])]
    arguments += [builder.extract_value(values, k) for k in range(len(parameters) - 1)]
    kernel = context.declare_function(module, fndesc)
    status, _ = context.call_conv.call_function(builder, kernel, fndesc.restype, parameters, arguments)
    with builder.if_then(status.is_error, likely=False):  # NUMBA_BOUNDSCHECK; one worker's is enough
        builder.store(status.excinfoptr, reason)
        builder.store(status.code, error)
    builder.ret_void()
    return member


def _parallel_for(builder, member, workers, note):
    """Call ``member`` on each thread: a gufunc over one array whose n-th address is n, in steps of 1 byte."""
    kind = [_POINTER, _POINTER.as_pointer(), _I64.as_pointer(), _I64.as_pointer(), _POINTER, _I64, _I64, _I32]
    pool = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), kind), "numba_parallel_for")
    one, none = ir.Constant(_I64, 1), ir.Constant(_I64, 0)
    first = ir.Constant(_POINTER, None), workers, one
    arrays, dimensions, steps = (cgutils.alloca_once_value(builder, value) for value in first)
    threads = builder.trunc(workers, _I32)
    builder.call(pool, [builder.bitcast(member, _POINTER), arrays, dimensions, steps, note, none, one, threads])
