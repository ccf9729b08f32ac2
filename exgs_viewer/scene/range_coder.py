"""An adaptive range coder: symbols <-> bytes, each at the price of how likely it was.

Likely is what a context has seen before. Yes or no has a counter, which holds how often it was yes and how sure that
is; a symbol of up to sixteen has a row of `lanes`, of which all chances are looked at and moved at once. What nobody
can predict is not coded at all: these bits stand at the end of the data, in the order opposite to that of the bytes.

Every function here works in both directions: it is given the number (whatever it is when reading) and returns it behind
the coder, so that what is written and what is read cannot disagree. All arithmetic is on integers.
Part of the file format written down in `EXGS.md`.

Coders, counters and tables hold or are pointers (`lanes.borrow`). Reading outside of the data yields zeros: damaged
data give wrong numbers, never an access outside of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from exgs_viewer.scene.lanes import CERTAIN, FLOOR, LANES, SPREAD, find_symbol, teach_row

TOP = 1 << 24
WORD = 0xFFFFFFFF
HALF = 1 << 31
"""A fresh counter: the 22 upper bits are the probability of a 1, the 10 lower ones count what was seen."""
LIMIT = 255
"""Bits after which a counter learns no slower: what is coded changes along the way."""
RATES = np.array([65536 * 2 // (2 * n + 3) for n in range(LIMIT + 1)], np.int64)
"""How far a counter moves towards what it sees after n bits, 1 / (n + 1.5) in 16 bits."""
MOST = 63
"""The same of a row of chances; counts beyond 127 would be taken for a chance."""
ROW_RATES = np.array([16384 // (n + 2) for n in range(MOST + 1)], np.int64)
"""How far a row moves towards the symbol it sees after n of them, 1 / (n + 2) in 14 bits."""
TRUST = np.array([256 * n // (n + 32) for n in range(MOST + 1)], np.int64)
"""How much of a guess, in 256ths, is a special context's once it has seen n symbols; the rest is the general one's."""
MARGIN = 2
"""Zeros that data to be read must have behind their end."""
MOST_NOISE = 32
ESCAPE, ESCAPE_BITS = 192, 24
"""The first magnitude that code_signed writes as it is, less this, in so many bits."""


class Coder(NamedTuple):
    """Where the coder is. While reading, low holds the bytes under the range's bottom."""

    reading: bool
    low: int
    range: int
    at: int
    """Bytes from the front that were read or written; those without room are counted only."""
    noise: int
    held: int
    """Bits in `noise`, which were read or are not written yet."""
    end: int
    """Where the bytes at the end begin that were read or written."""
    size: int
    data: object
    """A pointer to `size` bytes, and MARGIN zeros when reading."""


@njit(cache=True, nogil=True)
def open_coder(reading, data, size):
    """A coder at the start of `size` bytes."""
    low = np.int64(0)
    if reading:
        for at in range(4):
            low = low << 8 | (np.int64(data[at]) if at < size else 0)
    return Coder(
        reading, low, np.int64(WORD), np.int64(4 if reading else 0), np.int64(0), np.int64(0), size, size, data
    )


@njit(cache=True, nogil=True)
def close_coder(coder):
    """Write what is still held back. Where the bytes at the front end and those at the end begin; the data were too
    short where they overlap."""
    low, at, end = coder.low, coder.at, coder.end
    if coder.reading:
        return at, end + coder.held // 8
    for _ in range(4):
        if at < coder.size:
            coder.data[at] = low >> 24
        low = (low << 8) & WORD
        at += 1
    if coder.held > 0:
        end -= 1
        if end >= 0:
            coder.data[end] = coder.noise
    return at, end


@njit(cache=True, nogil=True)
def fresh_counters(counters):
    """Counters [n] uint32 know nothing."""
    counters[:] = HALF


@njit(cache=True, nogil=True)
def fresh_rows(table, start, stop, choices):
    """The rows from `start` of a table [n, LANES] int32 take every symbol below `choices` for as likely."""
    for row in range(start, stop):
        for lane in range(LANES):
            table[row, lane] = min(CERTAIN * lane // choices, CERTAIN)


@njit(cache=True, nogil=True, forceinline=True)
def code_bit(coder, counters, context, bit):
    """One bit in one context. Chances stay 2^-12 away from certainty."""
    counter = np.int64(counters[context])
    chance, seen = counter >> 10, counter & 1023
    bound = (coder.range * min(max(chance >> 6, 16), 65520)) >> 16
    if coder.reading:
        bit = np.int64(coder.low < bound)
    start, stop = (np.int64(0), bound) if bit else (bound, coder.range)
    chance += ((((1 << 22) - 1) * bit - chance) * RATES[seen]) >> 16
    counters[context] = (chance << 10) | min(seen + 1, LIMIT)
    return _narrowed(coder, start, stop), bit


@njit(cache=True, nogil=True, forceinline=True)
def code_even(coder, choices, number):
    """A number in 0 .. choices - 1, each as likely; choices at most 2^16."""
    share = coder.range // choices
    if coder.reading:
        number = min(coder.low // share, choices - 1)
    return _narrowed(coder, number * share, number * share + share), number


@njit(cache=True, nogil=True, forceinline=True)
def code_symbol(coder, table, special, general, symbol):
    """One of sixteen, for which the rows `special` and `general` of a table both speak.

    The special one counts the more the more it has seen.
    """
    coder, symbol = _coded(coder, table, special, general, TRUST[table[LANES * special]], symbol)
    _teach(table, special, symbol)
    _teach(table, general, symbol)
    return coder, symbol


@njit(cache=True, nogil=True, forceinline=True)
def code_lone_symbol(coder, table, row, symbol):
    """One of sixteen in one context."""
    coder, symbol = _coded(coder, table, row, row, np.int64(0), symbol)
    _teach(table, row, symbol)
    return coder, symbol


@njit(cache=True, nogil=True, forceinline=True)
def _coded(coder, table, special, general, trust, symbol):
    if coder.reading:
        symbol, start, stop = find_symbol(table, special, general, trust, coder.low, coder.range)
    else:
        share = coder.range >> 16
        start, stop = _bound(table, special, general, symbol, trust) * share, coder.range
        if symbol < LANES - 1:
            stop = _bound(table, special, general, symbol + 1, trust) * share
    return _narrowed(coder, start, stop), symbol


@njit(cache=True, nogil=True, forceinline=True)
def _teach(table, row, symbol):
    seen = np.int64(table[LANES * row])
    teach_row(table, row, symbol, ROW_RATES[seen], min(seen + 1, MOST))


@njit(cache=True, nogil=True, forceinline=True)
def code_noise(coder, bits, number):
    """A number of so many bits, MOST_NOISE at most, that are as good as random."""
    noise, held, end = coder.noise, coder.held, coder.end
    if coder.reading:
        if held < bits:
            for _ in range(4):
                end -= 1
                if end >= 0:
                    noise |= np.int64(coder.data[end]) << held
                held += 8
        number = noise & ((1 << bits) - 1)
        noise >>= bits
        held -= bits
    else:
        noise, held, end = _put_noise(coder.data, noise | number << held, held + bits, end)
    return _drawn(coder, noise, held, end), number


@njit(cache=True, nogil=True, forceinline=True)
def code_signed(coder, table, special, general, number):
    """An integer below 2^24 in magnitude, small ones cheap: its class is coded, sign and lower bits are noise.

    Classes: 0, 1, 2, 3, then two for each doubling (4-5, 6-7, 8-11, 12-15 ... 128-191), and all that is more.
    """
    magnitude = np.int64(abs(number))
    kind = np.int64(0) if coder.reading else _class_of(magnitude)
    coder, kind = code_symbol(coder, table, special, general, kind)
    if kind == 0:
        return coder, np.int64(0)
    first, bits = kind, np.int64(0)
    if kind >= LANES - 1:
        first, bits = np.int64(ESCAPE), np.int64(ESCAPE_BITS)
    elif kind > 3:
        bits = (kind >> 1) - 1
        first = (2 | kind & 1) << bits
    coder, noise = code_noise(coder, bits + 1, (magnitude - first) << 1 | np.int64(number < 0))
    magnitude = first + (noise >> 1)
    return coder, -magnitude if noise & 1 else magnitude


@njit(cache=True, nogil=True, forceinline=True)
def _class_of(magnitude):
    if magnitude < 4:
        return magnitude
    if magnitude >= ESCAPE:
        return np.int64(LANES - 1)
    bits = np.int64(2)
    while magnitude >> (bits + 1):
        bits += 1
    return 2 * bits + ((magnitude >> (bits - 1)) & 1)


@njit(cache=True, nogil=True, forceinline=True)
def _bound(table, special, general, lane, trust):
    """What `find_symbol` works out for all lanes."""
    usual = np.int64(table[LANES * general + lane])
    chance = usual + ((np.int64(table[LANES * special + lane]) - usual) * trust >> 8)
    return ((chance >> 7) * SPREAD >> 15) + FLOOR * lane


@njit(cache=True, nogil=True, forceinline=True)
def _narrowed(coder, start, stop):
    """The coder with its range cut to what lies between, and above 2^24 again."""
    width = stop - start
    if not coder.reading:
        low, width, at = _put(coder.data, coder.size, coder.low + start, width, coder.at)
        return _moved(coder, low, width, at)
    # Damaged data can lie above the range: low is kept from growing beyond all bounds.
    low, at = coder.low - start, min(coder.at, coder.size)
    bits = 8 * (np.int64(width < TOP) + np.int64(width < 1 << 16))
    next_two = np.int64(coder.data[at]) << 8 | np.int64(coder.data[at + 1])
    return _moved(coder, (low << bits | next_two >> (16 - bits)) & WORD, width << bits, coder.at + (bits >> 3))


@njit(cache=True, nogil=True)
def _put(data, size, low, width, at):
    """The range's bottom, range and place in the data after writing what is settled of the bottom; an overflow of it
    adds one to what has been written. Bytes that have no room are counted only."""
    if low > WORD:
        place = min(at, size) - 1
        while place >= 0 and data[place] == 255:
            data[place] = 0
            place -= 1
        if place >= 0:
            data[place] += 1
        low &= WORD
    while width < TOP:
        width <<= 8
        if at < size:
            data[at] = low >> 24
        low = (low << 8) & WORD
        at += 1
    return low, width, at


@njit(cache=True, nogil=True)
def _put_noise(data, noise, held, end):
    """Whole bytes of the noise, written from the end on; what is left of it, its bits, and where the bytes begin."""
    while held >= 8:
        end -= 1
        if end >= 0:
            data[end] = noise & 255
        noise >>= 8
        held -= 8
    return noise, held, end


@njit(cache=True, nogil=True, forceinline=True)
def _moved(coder, low, width, at):
    return Coder(coder.reading, low, width, at, coder.noise, coder.held, coder.end, coder.size, coder.data)


@njit(cache=True, nogil=True, forceinline=True)
def _drawn(coder, noise, held, end):
    return Coder(coder.reading, coder.low, coder.range, coder.at, noise, held, end, coder.size, coder.data)
