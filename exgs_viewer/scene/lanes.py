"""What the range coder wants of the processor and numba's loops do not give: sixteen numbers at once, and pointers.

A loop over sixteen counters is unrolled by numba's compiler before it could become one vector instruction, and an array
that is handed to a function is counted in and out atomically, which costs as much as coding a bit. Both are said here
in LLVM's own words, which it translates for any processor.

A row is sixteen int32: a count in the first (lane 0) and, in lane k, the chance that a symbol is below k, in 2^-22.
Part of the file format specified in `EXGS.md`: all arithmetic is on 32-bit integers.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

LANES = 16
CERTAIN = 1 << 22
"""A chance of 1."""
SPREAD, FLOOR = 65408, 8
"""Of 2^16 parts of the coder's range, as many follow the chances, and each symbol has these for itself: none vanishes,
whatever rounding does to a row."""
WORD, LONG = ir.IntType(32), ir.IntType(64)
ROW = ir.VectorType(WORD, LANES)


@intrinsic
def borrow(_, array, first):
    """A pointer to the element `first` of a C-contiguous array, which must outlive it: only of what was handed in."""
    if array.layout != "C":
        raise TypingError(f"only a contiguous array can be borrowed, not {array}")

    def build(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.intp), build


@intrinsic
def find_symbol(_, table, special, general, trust, low, width):
    """The symbol at `low` of a range of `width`, where it begins and where it ends.

    Its chances are those of the row `general` and, for `trust` 256ths, of the row `special`.
    """

    def build(context, builder, signature, arguments):
        table, special, general, trust, low, width = arguments
        first = builder.load(_row(builder, table, special), align=4)
        usual = builder.load(_row(builder, table, general), align=4)
        chances = builder.add(usual, _scaled(builder, builder.sub(first, usual), _all(builder, trust), 8))
        bounds = _scaled(builder, builder.ashr(chances, _same(7)), _same(SPREAD), 15)
        bounds = builder.add(bounds, ir.Constant(ROW, [FLOOR * lane for lane in range(LANES)]))
        bounds = builder.mul(bounds, _all(builder, builder.lshr(width, LONG(16))))
        below = builder.icmp_unsigned("<=", bounds, _all(builder, low))
        count = builder.ctpop(builder.bitcast(below, ir.IntType(LANES)))
        symbol = builder.sub(builder.zext(count, LONG), LONG(1))
        # Written down, and the one behind the last, since a vector's lane cannot be chosen by a number.
        room = cgutils.alloca_once(builder, ir.ArrayType(WORD, LANES + 1))
        builder.store(bounds, builder.bitcast(room, ROW.as_pointer()), align=4)
        builder.store(builder.trunc(width, WORD), builder.gep(room, [WORD(0), WORD(LANES)]))

        def bound(place):
            return builder.zext(builder.load(builder.gep(room, [LONG(0), place])), LONG)

        found = [symbol, bound(symbol), bound(builder.add(symbol, LONG(1)))]
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.int64, 3)(table, *[types.int64] * 5), build


@intrinsic
def teach_row(_, table, row, symbol, rate, count):
    """Move the chances of a row towards a symbol that was seen, by `rate` of 2^14, and note its new `count`."""

    def build(context, builder, signature, arguments):
        table, row, symbol, rate, count = arguments
        place = _row(builder, table, row)
        chances = builder.load(place, align=4)
        lanes = ir.Constant(ROW, list(range(LANES)))
        above = builder.ashr(builder.sub(_all(builder, symbol), lanes), _same(31))
        missing = builder.ashr(builder.sub(builder.and_(above, _same(CERTAIN)), chances), _same(6))
        chances = builder.add(chances, _scaled(builder, missing, _all(builder, rate), 8))
        builder.store(builder.insert_element(chances, builder.trunc(count, WORD), WORD(0)), place, align=4)
        return context.get_dummy_value()

    return types.void(table, *[types.int64] * 4), build


def _row(builder, table, row):
    return builder.bitcast(builder.gep(table, [builder.mul(row, LONG(LANES))]), ROW.as_pointer())


def _same(number: int) -> ir.Constant:
    return ir.Constant(ROW, [number] * LANES)


def _all(builder, number):
    """A row of a number that is known at run time only."""
    nothing = ir.Constant(ROW, ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(nothing, builder.trunc(number, WORD), WORD(0)), nothing, _same(0)
    )


def _scaled(builder, row, factor, places: int):
    return builder.ashr(builder.mul(row, factor), _same(places))
