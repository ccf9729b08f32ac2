"""A hint to the processor, for kernels that read rows in an order it cannot foresee."""

from __future__ import annotations

from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

AHEAD = 16
"""How many rows before its turn a row is asked for: about as long as one takes to draw, times what memory needs."""


@intrinsic
def prefetch(_context, array, row):
    """Begin to load row `row` (any integer, not negative) of a 2-D array into the cache; nothing waits for it.

    It spares the kernels that walk depth-sorted lists the wait for memory, a third of their time. numba offers none, so
    this emits LLVM's `llvm.prefetch` (to read, into every level of cache).
    """

    def generate(context, builder, signature, arguments):
        kind = signature.args[0]
        held = context.make_array(kind)(context, builder, arguments[0])
        first = context.get_constant(types.intp, 0)
        place = [context.cast(builder, arguments[1], signature.args[1], types.intp), first]
        shape, strides = (cgutils.unpack_tuple(builder, values) for values in (held.shape, held.strides))
        address = cgutils.get_item_pointer2(context, builder, held.data, shape, strides, kind.layout, place)
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        call = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        hint = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), call)
        builder.call(hint, [builder.bitcast(address, pointer), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, row), generate


@njit(inline="always")
def ask_ahead(rows, order, k):
    """While it is the turn of order[k], begin to load the row whose turn comes AHEAD places later."""
    prefetch(rows, order[min(k + AHEAD, len(order) - 1)])
