"""Register tiles: vectors of sixteen images, and small blocks of them that stay in registers.

A *lane vector* is one pixel of sixteen images.  A *tile* is M x P of them: M output channels by P neighbouring
pixels.  M and P are compile-time constants, so a compiled tile is a plain tuple of LLVM vectors, and everything
below is unrolled when a kernel is compiled.

Each operation is written twice, one under the other:

* the Python function is what the operation *means*, in NumPy.  It is what runs under ``NUMBA_DISABLE_JIT=1``, so a
  kernel can be stepped through in a debugger.  There a tile is an array (M, P, 16), a row of pixels (P, 16), a
  column of weights (M,).
* the function marked ``@compiled_as(...)`` tells Numba which LLVM instructions stand for a call of it.

Arrays are indexed like arrays, with two differences that make the compiled loads single instructions: nothing is
checked against the bounds, and a negative index does not wrap around.  The last axis must be contiguous.  Under
``NUMBA_BOUNDSCHECK=1`` every vector that is loaded or stored is checked, axis by axis: what lies outside raises
IndexError, which names the operation.
"""

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing.templates import infer_global, make_intrinsic_template
from numba.extending import register_model

LANES = 16
CACHE_LINE = 64
"""Bytes."""
_CHECKED = bool(config.BOUNDSCHECK)


class LaneVector(types.Type):
    """Numba's type of sixteen float32 or float64 values, one an image."""

    def __init__(self, scalar):
        self.scalar = scalar
        super().__init__(name=f"LaneVector({scalar})")


@register_model(LaneVector)
class _LaneVectorModel(models.PrimitiveModel):
    """A lane vector is LLVM's ``<16 x float>``: one AVX-512 register, two AVX2 registers, four of NEON."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.scalar).get_value_type(), LANES))


def compiled_as(meaning):
    """Mark the Numba lowering of the Python function ``meaning``; integers among its arguments arrive as literals."""

    def register(typing):
        # This is what numba.extending.intrinsic does, except that the key is the Python function itself: so one name
        # is an ordinary function to the interpreter and an intrinsic to the compiler.
        template = make_intrinsic_template(meaning, typing, meaning.__name__, prefer_literal=True)
        infer_global(meaning, types.Function(template))
        return typing

    return register


# ---------------------------------------------------------------------------------------------- addresses and vectors

_BYTE = ir.IntType(8)
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_I64S = ir.VectorType(_I64, LANES)


def _address(context, builder, array_type, array, index):
    """Pointer to array[index], with the array's strides: no bounds check, no wraparound."""
    view = context.make_array(array_type)(context, builder, array)
    strides = cgutils.unpack_tuple(builder, view.strides)
    offset = ir.Constant(strides[0].type, 0)
    for position, stride in zip(cgutils.unpack_tuple(builder, index), strides, strict=False):
        offset = builder.add(offset, builder.mul(position, stride, flags=("nsw",)), flags=("nsw",))
    return _move(builder, builder.bitcast(view.data, _BYTE.as_pointer()), offset), view, strides


def check_inside(context, builder, operation, view, place, reach=LANES, unless=None):
    """Raise IndexError, under NUMBA_BOUNDSCHECK=1, if an access leaves its array.

    Parameters
    ----------
    operation : str
        For the message.
    view, place
        The array and where the access begins; without the last axis, at that axis' start.
    reach : int or LLVM integer
        How far it goes along the last axis: a vector, or 1 for a number.
    unless : LLVM bit, optional
        Where it is set, nothing is accessed.
    """
    if not _CHECKED:
        return
    shape = cgutils.unpack_tuple(builder, view.shape)
    zero, one = ir.Constant(_I64, 0), ir.Constant(_I64, 1)
    place = [*place, *[zero] * (len(shape) - len(place))]
    reaches = [one] * (len(shape) - 1) + [ir.Constant(_I64, reach) if isinstance(reach, int) else reach]
    wrong = ir.Constant(ir.IntType(1), 0)
    for position, size, far in zip(place, shape, reaches, strict=True):
        below = builder.icmp_signed("<", position, zero)
        beyond = builder.icmp_signed(">", builder.add(position, far), size)
        wrong = builder.or_(wrong, builder.or_(below, beyond))
    if unless is not None:
        wrong = builder.and_(wrong, builder.not_(unless))
    _refuse(context, builder, operation, wrong)


def _refuse(context, builder, operation, wrong):
    with builder.if_then(wrong, likely=False):
        context.call_conv.return_user_exc(builder, IndexError, (f"{operation}: outside the array",))


def _further(builder, index, *steps):
    """Return an index's numbers after some steps, (axis, how far) each."""
    place = cgutils.unpack_tuple(builder, index)
    for axis, far in steps:
        place[axis] = builder.add(place[axis], ir.Constant(_I64, far) if isinstance(far, int) else far)
    return place


def _move(builder, pointer, offset):
    return builder.gep(pointer, [offset], source_etype=_BYTE)


def _times(builder, stride, count):
    return builder.mul(stride, ir.Constant(stride.type, count))


def _vector_type(context, scalar):
    return ir.VectorType(context.get_value_type(scalar), LANES)


def _load(context, builder, pointer, scalar):
    loaded = builder.load(builder.bitcast(pointer, _vector_type(context, scalar).as_pointer()))
    loaded.align = scalar.bitwidth // 8
    return loaded


def _splat(context, builder, value, scalar):
    vector = _vector_type(context, scalar)
    nothing = ir.Constant(vector, ir.Undefined)
    lane0 = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(lane0, nothing, ir.Constant(ir.VectorType(_I32, LANES), None))


def _splat_whole(builder, value):
    nothing = ir.Constant(_I64S, ir.Undefined)
    lane0 = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(lane0, nothing, ir.Constant(ir.VectorType(_I32, LANES), None))


def _intrinsic(context, builder, name, scalar, arguments):
    """Declare llvm.NAME.v16fNN, which llvmlite cannot name by itself."""
    vector = _vector_type(context, scalar)
    kind = ir.FunctionType(vector, [vector] * arguments)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f{scalar.bitwidth}")


def _nothing(context, builder, scalar):
    """Pointer to a vector of zeros: what is read in place of a pixel outside the image."""
    zeros = cgutils.global_constant(builder, "padding", ir.Constant(_vector_type(context, scalar), None))
    return builder.bitcast(zeros, _BYTE.as_pointer())


def _tile_type(scalar, count):
    return types.UniTuple(LaneVector(scalar), count)


# -------------------------------------------------------------------------------------------------- start of a tile


def zeros(like, m, p):
    """An M x P tile of zeros in the dtype of the array ``like``."""
    return np.zeros((m, p, LANES), like.dtype)


@compiled_as(zeros)
def _zeros(typingctx, like, m, p):
    tile = _tile_type(like.dtype, m.literal_value * p.literal_value)

    def codegen(context, builder, signature, args):
        return cgutils.pack_array(builder, [ir.Constant(_vector_type(context, like.dtype), None)] * tile.count)

    return tile(like, m, p), codegen


def full(like, value, m, p):
    """An M x P tile of ``value`` in the dtype of the array ``like``."""
    return np.full((m, p, LANES), value, like.dtype)


@compiled_as(full)
def _full(typingctx, like, value, m, p):
    tile = _tile_type(like.dtype, m.literal_value * p.literal_value)

    def codegen(context, builder, signature, args):
        return cgutils.pack_array(builder, [_splat(context, builder, args[1], like.dtype)] * tile.count)

    return tile(like, like.dtype, m, p), codegen


def spread(b, f, m, p):
    """An M x P tile whose row i is ``b[f + i]`` in every pixel and lane: a bias, one value a filter."""
    return np.broadcast_to(b[f : f + m, None, None], (m, p, LANES)).copy()


@compiled_as(spread)
def _spread(typingctx, b, f, m, p):
    tile = _tile_type(b.dtype, m.literal_value * p.literal_value)

    def codegen(context, builder, signature, args):
        index = cgutils.pack_array(builder, [args[1]])
        first, view, strides = _address(context, builder, signature.args[0], args[0], index)
        scalar = context.get_value_type(b.dtype)
        rows = []
        for i in range(m.literal_value):
            check_inside(context, builder, "spread", view, _further(builder, index, (0, i)), 1)
            here = builder.bitcast(_move(builder, first, _times(builder, strides[0], i)), scalar.as_pointer())
            rows += [_splat(context, builder, builder.load(here), b.dtype)] * p.literal_value
        return cgutils.pack_array(builder, rows)

    return tile(b, types.intp, m, p), codegen


# ------------------------------------------------------------------------------------------------------------ loads


def vectors(x, index, axis, step, count):
    """``count`` lane vectors from x[index] on, ``step`` apart along ``axis``: neighbouring pixels, taps or channels."""
    lanes = slice(index[-1], index[-1] + LANES) if len(index) == x.ndim else slice(None)
    place = list(index[: x.ndim - 1])
    row = []
    for n in range(count):
        if axis == x.ndim - 1:
            lanes = slice(index[-1] + n * step, index[-1] + n * step + LANES)
        else:
            place[axis] = index[axis] + n * step
        row.append(x[(*place, lanes)])
    return np.stack(row)


@compiled_as(vectors)
def _vectors(typingctx, x, index, axis, step, count):
    row = _tile_type(x.dtype, count.literal_value)

    def codegen(context, builder, signature, args):
        first, view, strides = _address(context, builder, signature.args[0], args[0], args[1])
        gap = builder.mul(args[3], strides[axis.literal_value])
        for n in range(row.count):
            place = _further(builder, args[1], (axis.literal_value, _times(builder, args[3], n)))
            check_inside(context, builder, "vectors", view, place)
        places = [_move(builder, first, _times(builder, gap, n)) for n in range(row.count)]
        return cgutils.pack_array(builder, [_load(context, builder, place, x.dtype) for place in places])

    return row(x, index, axis, types.intp, count), codegen


def padded_vectors(x, index, axis, step, count):
    """Like ``vectors``, where positions before the start or past the end of ``axis`` read as zeros."""
    row = np.zeros((count, LANES), x.dtype)
    for n in range(count):
        position = index[axis] + n * step
        if 0 <= position < x.shape[axis]:
            row[n] = x[(*index[:axis], position, *index[axis + 1 :])]
    return row


@compiled_as(padded_vectors)
def _padded_vectors(typingctx, x, index, axis, step, count):
    row = _tile_type(x.dtype, count.literal_value)

    def codegen(context, builder, signature, args):
        first, view, strides = _address(context, builder, signature.args[0], args[0], args[1])
        axis_number = axis.literal_value
        gap = builder.mul(args[3], strides[axis_number])
        size = cgutils.unpack_tuple(builder, view.shape)[axis_number]
        start = cgutils.unpack_tuple(builder, args[1])[axis_number]
        nothing = _nothing(context, builder, x.dtype)
        out = []
        for n in range(row.count):
            # Choosing between two addresses, not two branches: a conditional move beside eight multiply-adds is free.
            position = builder.add(start, _times(builder, args[3], n))
            inside = builder.icmp_unsigned("<", position, size)
            place = _further(builder, args[1], (axis_number, _times(builder, args[3], n)))
            check_inside(context, builder, "padded_vectors", view, place, unless=builder.not_(inside))
            here = _move(builder, first, _times(builder, gap, n))
            out.append(_load(context, builder, builder.select(inside, here, nothing), x.dtype))
        return cgutils.pack_array(builder, out)

    return row(x, index, axis, types.intp, count), codegen


def padded_pixels(image, index, count):
    """``count`` neighbouring pixels of image[channel] from index = (channel, row, column) on, zeros outside it."""
    c, i, j = index
    row = np.zeros((count, LANES), image.dtype)
    for n in range(count):
        if 0 <= i < image.shape[1] and 0 <= j + n < image.shape[2]:
            row[n] = image[c, i, j + n]
    return row


@compiled_as(padded_pixels)
def _padded_pixels(typingctx, image, index, count):
    row = _tile_type(image.dtype, count.literal_value)

    def codegen(context, builder, signature, args):
        first, view, strides = _address(context, builder, signature.args[0], args[0], args[1])
        _, height, width, _ = cgutils.unpack_tuple(builder, view.shape)
        _, i, j = cgutils.unpack_tuple(builder, args[1])
        row_inside = builder.icmp_unsigned("<", i, height)
        nothing = _nothing(context, builder, image.dtype)
        out = []
        for n in range(row.count):
            inside = builder.and_(row_inside, builder.icmp_unsigned("<", builder.add(j, ir.Constant(j.type, n)), width))
            place = _further(builder, args[1], (2, n))
            check_inside(context, builder, "padded_pixels", view, place, unless=builder.not_(inside))
            here = _move(builder, first, _times(builder, strides[2], n))
            out.append(_load(context, builder, builder.select(inside, here, nothing), image.dtype))
        return cgutils.pack_array(builder, out)

    return row(image, index, count), codegen


def prefetch(x, index, axis, count):
    """Ask for ``count`` neighbouring lane vectors from x[index] on, which will soon be loaded; may lie outside."""


@compiled_as(prefetch)
def _prefetch(typingctx, x, index, axis, count):
    def codegen(context, builder, signature, args):
        first, _, strides = _address(context, builder, signature.args[0], args[0], args[1])
        kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _I32, _I32, _I32])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read_soon_as_data = [ir.Constant(_I32, number) for number in (0, 3, 1)]
        for n in range(count.literal_value):
            for line in range(0, LANES * x.dtype.bitwidth // 8, CACHE_LINE):
                offset = builder.add(_times(builder, strides[axis.literal_value], n), ir.Constant(_I64, line))
                builder.call(ask, [_move(builder, first, offset), *to_read_soon_as_data])
        return context.get_dummy_value()

    return types.void(x, index, axis, count), codegen


def weights(k, index, axis, m):
    """M weights from k[index] on along ``axis``, each one meant for every lane."""
    return np.array([k[(*index[:axis], index[axis] + i, *index[axis + 1 :])] for i in range(m)])


@compiled_as(weights)
def _weights(typingctx, k, index, axis, m):
    column = _tile_type(k.dtype, m.literal_value)

    def codegen(context, builder, signature, args):
        first, view, strides = _address(context, builder, signature.args[0], args[0], args[1])
        scalar = context.get_value_type(k.dtype)
        # A contiguous axis known at compile time folds into the address of the instruction.
        contiguous = k.layout == "C" and axis.literal_value == k.ndim - 1
        gap = ir.Constant(strides[0].type, k.dtype.bitwidth // 8) if contiguous else strides[axis.literal_value]
        out = []
        for i in range(column.count):
            check_inside(context, builder, "weights", view, _further(builder, args[1], (axis.literal_value, i)), 1)
            here = builder.bitcast(_move(builder, first, _times(builder, gap, i)), scalar.as_pointer())
            out.append(_splat(context, builder, builder.load(here), k.dtype))
        return cgutils.pack_array(builder, out)

    return column(k, index, axis, m), codegen


# ------------------------------------------------------------------------------------------------------- arithmetic


def outer_fma(tile, column, row):
    """tile[i, j] + column[i] * row[j] for every i and j, each a multiply-add that rounds once."""
    tile = tile.reshape(len(column), -1, LANES)  # a row of vectors is a tile
    return tile + column.reshape(len(column), 1, -1) * row


@compiled_as(outer_fma)
def _outer_fma(typingctx, tile, column, row):
    def codegen(context, builder, signature, args):
        acc, a, b = (cgutils.unpack_tuple(builder, arg) for arg in args)
        fma = _intrinsic(context, builder, "fma", tile.dtype.scalar, 3)
        products = [
            builder.call(fma, [a[i], b[j], acc[i * row.count + j]])
            for i in range(column.count)
            for j in range(row.count)
        ]
        return cgutils.pack_array(builder, products)

    return tile(tile, column, row), codegen


def correlated(tile, taps, row, step, gap):
    """tile[j] + the sum of taps[v] * row[j*step + v*gap], whose products are added one by one in the order of v."""
    tile = tile.reshape(-1, LANES)  # of one row
    for v in range(len(taps)):
        tile = tile + taps[v] * row[v * gap : v * gap + (len(tile) - 1) * step + 1 : step]
    return tile


@compiled_as(correlated)
def _correlated(typingctx, tile, taps, row, step, gap):
    def codegen(context, builder, signature, args):
        acc, by, pixels = (cgutils.unpack_tuple(builder, arg) for arg in args[:3])
        fma = _intrinsic(context, builder, "fma", tile.dtype.scalar, 3)
        for v in range(taps.count):
            for j in range(tile.count):
                pixel = pixels[j * step.literal_value + v * gap.literal_value]
                acc[j] = builder.call(fma, [by[v], pixel, acc[j]])
        return cgutils.pack_array(builder, acc)

    return tile(tile, taps, row, step, gap), codegen


def fused(a, b, c):
    """a * b + c of three float32, not of vectors, rounded once; loops that call it become loops over vectors."""
    return np.float32(np.float64(a) * np.float64(b) + np.float64(c))


@compiled_as(fused)
def _fused(typingctx, a, b, c):
    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, b, c), codegen


def rectified(tile):
    """max(tile, 0) in every lane; NaN stays NaN, -0.0 becomes 0.0."""
    return np.where(tile <= 0, tile.dtype.type(0), tile)


@compiled_as(rectified)
def _rectified(typingctx, tile):
    def codegen(context, builder, signature, args):
        zero = ir.Constant(_vector_type(context, tile.dtype.scalar), None)
        lanes = cgutils.unpack_tuple(builder, args[0])
        # An ordered comparison is false for NaN, so NaN is kept.
        return cgutils.pack_array(
            builder, [builder.select(builder.fcmp_ordered("<=", v, zero), zero, v) for v in lanes]
        )

    return tile(tile), codegen


def plus(tile, other):
    """tile + other, for two tiles of one shape."""
    return tile + other


@compiled_as(plus)
def _plus(typingctx, tile, other):
    def codegen(context, builder, signature, args):
        pairs = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        return cgutils.pack_array(builder, [builder.fadd(a, b) for a, b in pairs])

    return tile(tile, other), codegen


def minus(tile, other):
    """tile - other, for two tiles of one shape."""
    return tile - other


@compiled_as(minus)
def _minus(typingctx, tile, other):
    def codegen(context, builder, signature, args):
        pairs = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        return cgutils.pack_array(builder, [builder.fsub(a, b) for a, b in pairs])

    return tile(tile, other), codegen


def times(tile, other):
    """tile * other, for two tiles of one shape."""
    return tile * other


@compiled_as(times)
def _times_tiles(typingctx, tile, other):
    def codegen(context, builder, signature, args):
        pairs = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        return cgutils.pack_array(builder, [builder.fmul(a, b) for a, b in pairs])

    return tile(tile, other), codegen


def first_lanes(tile, count):
    """``tile`` in the first ``count`` lanes, 0 in the others."""
    return np.where(np.arange(LANES) < count, tile, tile.dtype.type(0))


@compiled_as(first_lanes)
def _first_lanes(typingctx, tile, count):
    def codegen(context, builder, signature, args):
        mask = builder.icmp_signed("<", ir.Constant(_I64S, list(range(LANES))), _splat_whole(builder, args[1]))
        zero = ir.Constant(_vector_type(context, tile.dtype.scalar), None)
        lanes = cgutils.unpack_tuple(builder, args[0])
        return cgutils.pack_array(builder, [builder.select(mask, v, zero) for v in lanes])

    return tile(tile, types.int64), codegen


def lane_total(tile):
    """Sum of the lanes of a tile of one vector, in the fixed tree of ``store_lane_sums``."""
    part = tile.reshape(LANES)
    while part.size > 1:
        part = part[: part.size // 2] + part[part.size // 2 :]
    return part[0]


@compiled_as(lane_total)
def _lane_total(typingctx, tile):
    def codegen(context, builder, signature, args):
        return _tree(builder, cgutils.unpack_tuple(builder, args[0])[0])

    return tile.dtype.scalar(tile), codegen


def lane_sums(tile):
    """One vector whose lane i is the sum of the lanes of a tile's i-th of sixteen vectors, in ``lane_total``'s tree."""
    part = tile.reshape(LANES, LANES)
    while part.shape[1] > 1:
        half = part.shape[1] // 2
        part = part[:, :half] + part[:, half:]
    return part.reshape(1, LANES)


@compiled_as(lane_sums)
def _lane_sums(typingctx, tile):
    def codegen(context, builder, signature, args):
        parts, width = cgutils.unpack_tuple(builder, args[0]), LANES
        while width > 1:
            # Each vector holds sums that are ``width`` lanes long: of two vectors, their lower halves meet their upper.
            low = [start + lane for start in range(0, 2 * LANES, width) for lane in range(width // 2)]
            low, high = (
                ir.Constant(ir.VectorType(_I32, LANES), [lane + further for lane in low]) for further in (0, width // 2)
            )
            parts = [
                builder.fadd(builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high))
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
            width //= 2
        return cgutils.pack_array(builder, parts)

    return _tile_type(tile.dtype.scalar, 1)(tile), codegen


def _tree(builder, part):
    """Add halves of a vector until one element is left."""
    width = LANES
    while width > 1:
        width //= 2
        low, high = (
            builder.shuffle_vector(part, part, ir.Constant(ir.VectorType(_I32, width), list(range(o, o + width))))
            for o in (0, width)
        )
        part = builder.fadd(low, high)
    return builder.extract_element(part, ir.Constant(_I32, 0))


def turned(rows):
    """The columns of the tile that has these ``rows``: nothing moves, the vectors are named differently."""
    return np.stack([row.reshape(-1, LANES) for row in rows], axis=1)  # a row of vectors may be a tile of one row


@compiled_as(turned)
def _turned(typingctx, rows):
    columns = types.UniTuple(_tile_type(rows.dtype.dtype.scalar, rows.count), rows.dtype.count)

    def codegen(context, builder, signature, args):
        vectors = [cgutils.unpack_tuple(builder, row) for row in cgutils.unpack_tuple(builder, args[0])]
        return cgutils.pack_array(
            builder, [cgutils.pack_array(builder, list(column)) for column in zip(*vectors, strict=True)]
        )

    return columns(rows), codegen


def divided(tile, divisor):
    """tile / divisor, one number for the whole tile."""
    return tile / tile.dtype.type(divisor)


@compiled_as(divided)
def _divided(typingctx, tile, divisor):
    scalar = tile.dtype.scalar

    def codegen(context, builder, signature, args):
        by = _splat(context, builder, args[1], scalar)
        return cgutils.pack_array(builder, [builder.fdiv(v, by) for v in cgutils.unpack_tuple(builder, args[0])])

    return tile(tile, scalar), codegen


def inverse_root(tile, eps):
    """1 / sqrt(tile + eps), each step rounded as IEEE says."""
    return tile.dtype.type(1) / np.sqrt(tile + tile.dtype.type(eps))


@compiled_as(inverse_root)
def _inverse_root(typingctx, tile, eps):
    scalar = tile.dtype.scalar

    def codegen(context, builder, signature, args):
        small = _splat(context, builder, args[1], scalar)
        one = _splat(context, builder, context.get_constant(scalar, 1.0), scalar)
        root = _intrinsic(context, builder, "sqrt", scalar, 1)
        roots = [builder.call(root, [builder.fadd(v, small)]) for v in cgutils.unpack_tuple(builder, args[0])]
        return cgutils.pack_array(builder, [builder.fdiv(one, v) for v in roots])

    return tile(tile, scalar), codegen


def gated(tile, gate):
    """``tile`` where ``gate`` is positive or NaN, else 0: ReLU's gradient, by the sign of ReLU's output."""
    return np.where(gate <= 0, tile.dtype.type(0), tile)


@compiled_as(gated)
def _gated(typingctx, tile, gate):
    def codegen(context, builder, signature, args):
        zero = ir.Constant(_vector_type(context, tile.dtype.scalar), None)
        pairs = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        kept = [builder.select(builder.fcmp_ordered("<=", g, zero), zero, v) for v, g in pairs]
        return cgutils.pack_array(builder, kept)

    return tile(tile, gate), codegen


def larger(best, candidate):
    """``candidate`` where it is larger than ``best`` or NaN, else ``best``: the first maximum wins, NaN stays."""
    return np.where((candidate > best) | np.isnan(candidate), candidate, best)


@compiled_as(larger)
def _larger(typingctx, best, candidate):
    def codegen(context, builder, signature, args):
        old, new = (cgutils.unpack_tuple(builder, arg) for arg in args)
        return cgutils.pack_array(
            builder, [builder.select(_wins(builder, b, a), b, a) for a, b in zip(old, new, strict=True)]
        )

    return best(best, candidate), codegen


def _wins(builder, candidate, best):
    beats = builder.fcmp_ordered(">", candidate, best)
    return builder.or_(beats, builder.fcmp_unordered("uno", candidate, candidate))


def larger_at(place, best, candidate, here):
    """``here`` in the lanes where ``larger`` takes the candidate, else ``place``: the position of the maximum."""
    return np.where((candidate > best) | np.isnan(candidate), place.dtype.type(here), place)


@compiled_as(larger_at)
def _larger_at(typingctx, place, best, candidate, here):
    scalar = place.dtype.scalar

    def codegen(context, builder, signature, args):
        places, old, new = (cgutils.unpack_tuple(builder, arg) for arg in args[:3])
        now = _splat(context, builder, args[3], scalar)
        chosen = [builder.select(_wins(builder, b, a), now, p) for p, a, b in zip(places, old, new, strict=True)]
        return cgutils.pack_array(builder, chosen)

    return place(place, best, candidate, scalar), codegen


def where_equal(tile, place, here):
    """``tile`` in the lanes where ``place`` is ``here``, else 0."""
    return np.where(place == here, tile, tile.dtype.type(0))


@compiled_as(where_equal)
def _where_equal(typingctx, tile, place, here):
    scalar = tile.dtype.scalar

    def codegen(context, builder, signature, args):
        zero = ir.Constant(_vector_type(context, scalar), None)
        now = _splat(context, builder, args[2], scalar)
        values, places = (cgutils.unpack_tuple(builder, arg) for arg in args[:2])
        kept = [
            builder.select(builder.fcmp_ordered("==", p, now), v, zero) for v, p in zip(values, places, strict=True)
        ]
        return cgutils.pack_array(builder, kept)

    return tile(tile, place, scalar), codegen


def transposed(tile):
    """Sixteen vectors, with rows and lanes exchanged."""
    return tile.T


@compiled_as(transposed)
def _transposed(typingctx, tile):
    def codegen(context, builder, signature, args):
        rows = cgutils.unpack_tuple(builder, args[0])
        half = LANES // 2
        while half:  # exchange the upper right and the lower left quarter of each square of two halves
            low, high = [], []
            for lane in range(LANES):
                upper = lane & half
                low.append(LANES + lane - half if upper else lane)
                high.append(LANES + lane if upper else lane + half)
            for i in range(LANES):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = (
                        builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, LANES), choice))
                        for choice in (low, high)
                    )
            half //= 2
        return cgutils.pack_array(builder, rows)

    return tile(tile), codegen


def sampled(image, width, height, columns, rows):
    """Bilinear samples of image[row * width + column], at places between pixels; what is beyond an edge reads the edge.

    The last row and the last column are read only as neighbours of those before them.
    """
    x, y = (np.clip(place, 0, size - 2) for place, size in ((columns, width), (rows, height)))
    c, r = x.astype(np.int32), y.astype(np.int32)
    fx, fy = x - c.astype(x.dtype), y - r.astype(y.dtype)
    at = r * width + c
    top = image[at] + fx * (image[at + 1] - image[at])
    bottom = image[at + width] + fx * (image[at + width + 1] - image[at + width])
    return top + fy * (bottom - top)


@compiled_as(sampled)
def _sampled(typingctx, image, width, height, columns, rows):
    def codegen(context, builder, signature, args):
        array, width, height, columns, rows = args
        scalar, vector = image.dtype, _vector_type(context, image.dtype)
        view = context.make_array(image)(context, builder, array)
        base, (pixel_count,) = builder.ptrtoint(view.data, _I64), cgutils.unpack_tuple(builder, view.shape)

        def split(tile, size):
            (place,) = cgutils.unpack_tuple(builder, tile)
            last = builder.sitofp(builder.sub(size, ir.Constant(_I64, 2)), vector.element)
            limits = ((">", ir.Constant(vector, None)), ("<", _splat(context, builder, last, scalar)))
            for sign, limit in limits:
                place = builder.select(builder.fcmp_ordered(sign, place, limit), place, limit)
            whole = builder.fptosi(place, ir.VectorType(_I32, LANES))
            return builder.sext(whole, _I64S), builder.fsub(place, builder.sitofp(whole, vector))

        (c, fx), (r, fy) = split(columns, width), split(rows, height)
        at = builder.add(builder.mul(r, _splat_whole(builder, width)), c)
        if _CHECKED:
            last = builder.sub(pixel_count, builder.add(width, ir.Constant(_I64, 2)))
            beyond = builder.icmp_signed(">", at, _splat_whole(builder, last))
            below = builder.icmp_signed("<", at, ir.Constant(_I64S, None))
            some = builder.bitcast(builder.or_(below, beyond), ir.IntType(LANES))
            _refuse(context, builder, "sampled", builder.icmp_unsigned("!=", some, ir.Constant(some.type, 0)))
        size = ir.Constant(_I64, scalar.bitwidth // 8)
        at = builder.mul(at, _splat_whole(builder, size))

        def pixels(down, right):
            offset = builder.add(builder.mul(width, ir.Constant(_I64, down)), ir.Constant(_I64, right))
            first = builder.add(base, builder.mul(offset, size))
            return _gather(context, builder, builder.add(at, _splat_whole(builder, first)), scalar)

        def between(a, b, weight):
            return builder.fadd(a, builder.fmul(weight, builder.fsub(b, a)))

        top, bottom = (between(pixels(down, 0), pixels(down, 1), fx) for down in (0, 1))
        return cgutils.pack_array(builder, [between(top, bottom, fy)])

    return columns(image, types.intp, types.intp, columns, rows), codegen


def _gather(context, builder, addresses, scalar):
    """Load sixteen scalars from sixteen addresses."""
    vector, bit = _vector_type(context, scalar), ir.IntType(1)
    pointers, every = ir.VectorType(vector.element.as_pointer(), LANES), ir.VectorType(bit, LANES)
    kind = ir.FunctionType(vector, [pointers, _I32, every, vector])
    name = f"llvm.masked.gather.v{LANES}f{scalar.bitwidth}.v{LANES}p0"
    gather = cgutils.get_or_insert_function(builder.module, kind, name)
    alignment, all_lanes = ir.Constant(_I32, scalar.bitwidth // 8), ir.Constant(every, [1] * LANES)
    nothing = ir.Constant(vector, ir.Undefined)
    return builder.call(gather, [builder.inttoptr(addresses, pointers), alignment, all_lanes, nothing])


# ----------------------------------------------------------------------------------------------------------- stores


def store(tile, y, index, m_axis, m, p_axis, p_step, p):
    """y[... + i, ... + q * p_step, :] = tile[i, q]: row i goes on along ``m_axis``, pixel q along ``p_axis``."""
    tile = tile.reshape(-1, LANES)[: m * p].reshape(m, p, LANES)  # a row of vectors is a tile; some may be left out
    for i in range(m):
        for q in range(p):
            place = list(index)
            place[m_axis] += i
            place[p_axis] += q * p_step
            if len(index) == y.ndim:
                place[-1] = slice(place[-1], place[-1] + LANES)
            y[tuple(place)] = tile[i, q]


@compiled_as(store)
def _store(typingctx, tile, y, index, m_axis, m, p_axis, p_step, p):
    return _writing("store", _put, tile, y, index, m_axis, m, p_axis, p)


def stream(tile, y, index, m_axis, m, p_axis, p_step, p):
    """``store`` past the caches, for what nobody reads soon: no line of memory is fetched to be overwritten.

    The kernel must end with ``settle``.  Measured where it is used: what is read soon is better stored.
    """
    store(tile, y, index, m_axis, m, p_axis, p_step, p)


@compiled_as(stream)
def _stream(typingctx, tile, y, index, m_axis, m, p_axis, p_step, p):
    return _writing("stream", _put_past, tile, y, index, m_axis, m, p_axis, p)


def _writing(operation, put, tile, y, index, m_axis, m, p_axis, p):
    """Return signature and code of ``store``, or of what means the same, where ``put`` writes one vector."""
    M, P = m.literal_value, p.literal_value

    def codegen(context, builder, signature, args):
        first, view, strides = _address(context, builder, signature.args[1], args[1], args[2])
        vector = _vector_type(context, y.dtype).as_pointer()
        lanes = cgutils.unpack_tuple(builder, args[0])
        gap = builder.mul(args[6], strides[p_axis.literal_value])
        for i in range(M):
            for q in range(P):
                offset = builder.add(_times(builder, strides[m_axis.literal_value], i), _times(builder, gap, q))
                here = builder.bitcast(_move(builder, first, offset), vector)
                pixel = p_axis.literal_value, _times(builder, args[6], q)
                place = _further(builder, args[2], (m_axis.literal_value, i), pixel)
                check_inside(context, builder, operation, view, place)
                put(builder, lanes[i * P + q], here, y.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(tile, y, index, m_axis, m, p_axis, types.intp, p), codegen


def _put(builder, vector, pointer, align):
    builder.store(vector, pointer).align = align


def _put_past(builder, vector, pointer, align):
    """Store past the caches if a cache line begins at the address, which hardware demands; else as ``_put``."""
    address = builder.ptrtoint(pointer, _I64)
    begins = builder.icmp_unsigned("==", builder.and_(address, ir.Constant(_I64, CACHE_LINE - 1)), ir.Constant(_I64, 0))
    with builder.if_else(begins, likely=True) as (at_a_line, elsewhere):
        with at_a_line:
            past = builder.store(vector, pointer)
            past.align = CACHE_LINE
            past.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        with elsewhere:
            _put(builder, vector, pointer, align)


def settle():
    """End a kernel that has streamed: what its thread has streamed is then there for whoever runs after the launch.

    A fence in both directions: one for stores alone would be no instruction on x86, where only streamed ones need it.
    """


@compiled_as(settle)
def _settle(typingctx):
    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


def store_within(row, y, index, axis):
    """y[... + n, :] = row[n] along ``axis``, without what would lie past its end."""
    for n, vector in enumerate(row.reshape(-1, LANES)):
        if index[axis] + n < y.shape[axis]:
            y[(*index[:axis], index[axis] + n, *index[axis + 1 :])] = vector


@compiled_as(store_within)
def _store_within(typingctx, row, y, index, axis):
    def codegen(context, builder, signature, args):
        first, view, strides = _address(context, builder, signature.args[1], args[1], args[2])
        axis_number = axis.literal_value
        size = cgutils.unpack_tuple(builder, view.shape)[axis_number]
        start = cgutils.unpack_tuple(builder, args[2])[axis_number]
        for n, vector in enumerate(cgutils.unpack_tuple(builder, args[0])):
            inside = builder.icmp_signed("<", builder.add(start, ir.Constant(_I64, n)), size)
            with builder.if_then(inside):
                check_inside(context, builder, "store_within", view, _further(builder, args[2], (axis_number, n)))
                here = _move(builder, first, _times(builder, strides[axis_number], n))
                pointer = builder.bitcast(here, vector.type.as_pointer())
                builder.store(vector, pointer).align = y.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(row, y, index, axis), codegen


def store_lane_sums(tile, w, index, m_axis, m, p_axis, p):
    """w[... + i, ... + q] = sum of the lanes of tile[i, q], in a fixed tree: halves are added until one is left."""
    tile = tile.reshape(m, p, LANES)
    for i in range(m):
        for q in range(p):
            part = tile[i, q]
            while part.size > 1:
                part = part[: part.size // 2] + part[part.size // 2 :]
            place = list(index)
            place[m_axis] += i
            place[p_axis] += q
            w[tuple(place)] = part[0]


@compiled_as(store_lane_sums)
def _store_lane_sums(typingctx, tile, w, index, m_axis, m, p_axis, p):
    M, P = m.literal_value, p.literal_value

    def codegen(context, builder, signature, args):
        first, view, strides = _address(context, builder, signature.args[1], args[1], args[2])
        scalar = context.get_value_type(w.dtype)
        sums = cgutils.unpack_tuple(builder, args[0])
        for i in range(M):
            for q in range(P):
                total = _tree(builder, sums[i * P + q])
                offset = builder.add(
                    _times(builder, strides[m_axis.literal_value], i), _times(builder, strides[p_axis.literal_value], q)
                )
                place = _further(builder, args[2], (m_axis.literal_value, i), (p_axis.literal_value, q))
                check_inside(context, builder, "store_lane_sums", view, place, 1)
                builder.store(total, builder.bitcast(_move(builder, first, offset), scalar.as_pointer()))
        return context.get_dummy_value()

    return types.void(tile, w, index, m_axis, m, p_axis, p), codegen


def store_columns(tile, w, row, column, m, p, end):
    """w[row + i, column + 16*q + lane] = tile[i, q, lane], left out from column ``end`` on."""
    for i in range(m):
        for q in range(p):
            start = column + LANES * q
            kept = max(0, min(LANES, end - start))
            w[row + i, start : start + kept] = tile[i, q, :kept]


@compiled_as(store_columns)
def _store_columns(typingctx, tile, w, row, column, m, p, end):
    M, P = m.literal_value, p.literal_value

    def codegen(context, builder, signature, args):
        index = cgutils.pack_array(builder, [args[2], args[3]])
        first, view, strides = _address(context, builder, signature.args[1], args[1], index)
        vector = _vector_type(context, w.dtype)
        size = w.dtype.bitwidth // 8
        masks = ir.VectorType(ir.IntType(1), LANES)
        kind = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), _I32, masks])
        masked = cgutils.get_or_insert_function(
            builder.module, kind, f"llvm.masked.store.v{LANES}f{w.dtype.bitwidth}.p0"
        )
        lanes = cgutils.unpack_tuple(builder, args[0])
        left = builder.sub(args[6], args[3])
        most = ir.Constant(_I64, LANES * P)
        kept = builder.select(builder.icmp_signed("<", left, most), left, most)
        for i in range(M):
            check_inside(context, builder, "store_columns", view, _further(builder, index, (0, i)), kept)
        limit = _splat_whole(builder, left)
        for q in range(P):
            here = ir.Constant(_I64S, [LANES * q + lane for lane in range(LANES)])
            mask = builder.icmp_signed("<", here, limit)
            for i in range(M):
                offset = builder.add(_times(builder, strides[0], i), ir.Constant(strides[0].type, q * LANES * size))
                place = builder.bitcast(_move(builder, first, offset), vector.as_pointer())
                builder.call(masked, [lanes[i * P + q], place, ir.Constant(_I32, size), mask])
        return context.get_dummy_value()

    return types.void(tile, w, types.intp, types.intp, m, p, types.intp), codegen
