"""An adaptive binary range coder: numbers <-> bytes, each bit at the price of how likely it was.

A model is a table of counters, one for each context in which a bit is seen; a counter holds how often the bit was 1 and
how sure that is. Every function here works in both directions: it is given the number (whatever it is when decoding)
and returns it, so that what is written and what is read cannot disagree. All arithmetic is on integers.
Part of the file format written down in `EXGS.md`.

A coder is the pair `state` (int64 [4]: DIRECTION, LOW, RANGE, AT) and `data` (uint8). Reading behind the end
yields zeros: damaged data give wrong numbers, never an access outside of `data`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

DIRECTION, LOW, RANGE, AT = range(4)
"""Places in `state`: 0 reads and 1 writes; while reading, LOW holds the bytes under the range's bottom."""
TOP = 1 << 24
WORD = 0xFFFFFFFF
HALF = 1 << 31
"""A fresh counter: the 22 upper bits are the probability of a 1, the 10 lower ones count what was seen."""
LIMIT = 255
"""Bits after which a counter learns no slower: what is coded changes along the way."""
RATES = np.array([65536 * 2 // (2 * n + 3) for n in range(LIMIT + 1)], np.int64)
"""How far a counter moves towards what it sees after n bits, 1 / (n + 1.5) in 16 bits."""
TRUST = np.array([256 * n // (n + 4) for n in range(LIMIT + 1)], np.int64)
"""How much of a guess, in 256ths, is a special context's once it has seen n bits; the rest is the general one's."""


@njit(cache=True, nogil=True)
def open_writer():
    """The state for writing from the start of some data."""
    state = np.zeros(4, np.int64)
    state[DIRECTION], state[RANGE] = 1, WORD
    return state


@njit(cache=True, nogil=True)
def open_reader(data):
    """The state for reading `data` from its start."""
    state = np.zeros(4, np.int64)
    for at in range(4):
        state[LOW] = (state[LOW] << 8) | (np.int64(data[at]) if at < len(data) else 0)
    state[RANGE], state[AT] = WORD, 4
    return state


@njit(cache=True, nogil=True)
def close_writer(state, data):
    """Write what is still held back; the number of bytes, or -1 where `data` was too short."""
    low, at = state[LOW], state[AT]
    for _ in range(4):
        if at < len(data):
            data[at] = low >> 24
        low = (low << 8) & WORD
        at += 1
    return at if at <= len(data) else -1


def read_whole(state, data) -> bool:
    """Whether a reader found all the bytes it wanted."""
    return bool(state[AT] <= len(data))


@njit(cache=True, nogil=True)
def fresh(size):
    """A model of `size` counters that know nothing."""
    return np.full(size, HALF, np.uint32)


@njit(cache=True, nogil=True)
def code_bit(state, data, model, context, bit):
    """One bit in one context."""
    reading, low, width, at = state[DIRECTION] == 0, state[LOW], state[RANGE], state[AT]
    chance = np.int64(model[context]) >> 10
    low, width, at, bit = _step(reading, low, width, at, data, chance, bit)
    _learn(model, context, bit)
    state[LOW], state[RANGE], state[AT] = low, width, at
    return bit


@njit(cache=True, nogil=True)
def code_even(state, data, choices, number):
    """A number in 0 .. choices - 1, each as likely; choices at most 2^16."""
    reading, low, width, at = state[DIRECTION] == 0, state[LOW], state[RANGE], state[AT]
    width //= choices
    if reading:
        number = min(low // width, choices - 1)
        low -= width * number
    else:
        low = _carried(low + width * number, data, at)
    low, width, at = _settled(reading, low, width, at, data)
    state[LOW], state[RANGE], state[AT] = low, width, at
    return number


@njit(cache=True, nogil=True, error_model="numpy")
def code_bits(state, data, width, number):
    """A number of `width` bits (up to 63), each as likely, upper bits first."""
    reading, low, share, at = state[DIRECTION] == 0, state[LOW], state[RANGE], state[AT]
    whole = np.int64(0)
    while width > 0:
        step = min(width, 16)
        width -= step
        share >>= step  # As code_even divides, but quicker.
        part = (number >> width) & ((1 << step) - 1)
        if reading:
            part = np.int64(min(np.uint32(low) // np.uint32(share), (1 << step) - 1))
            low -= share * part
        else:
            low = _carried(low + share * part, data, at)
        low, share, at = _settled(reading, low, share, at, data)
        whole = (whole << step) | part
    state[LOW], state[RANGE], state[AT] = low, share, at
    return whole


@njit(cache=True, nogil=True)
def code_tree(state, data, model, base, bits, number):
    """A number of `bits` bits with one counter for each beginning: `base` is the first of 2^bits."""
    reading, low, width, at = state[DIRECTION] == 0, state[LOW], state[RANGE], state[AT]
    node = 1
    for place in range(bits - 1, -1, -1):
        chance = np.int64(model[base + node]) >> 10
        low, width, at, bit = _step(reading, low, width, at, data, chance, (number >> place) & 1)
        _learn(model, base + node, bit)
        node = 2 * node + bit
    state[LOW], state[RANGE], state[AT] = low, width, at
    return node - (1 << bits)


@njit(cache=True, nogil=True)
def code_tree_of_two(state, data, model, special, general, bits, number):
    """The same where the counters from `special` and those from `general` both speak for each bit.

    The special one counts the more the more it has seen.
    """
    reading, low, width, at = state[DIRECTION] == 0, state[LOW], state[RANGE], state[AT]
    node = 1
    for place in range(bits - 1, -1, -1):
        first, usual = np.int64(model[special + node]), np.int64(model[general + node]) >> 10
        chance = usual + ((((first >> 10) - usual) * TRUST[first & 1023]) >> 8)
        low, width, at, bit = _step(reading, low, width, at, data, chance, (number >> place) & 1)
        _learn(model, special + node, bit)
        _learn(model, general + node, bit)
        node = 2 * node + bit
    state[LOW], state[RANGE], state[AT] = low, width, at
    return node - (1 << bits)


SIGNED = 112
"""Counters that code_signed takes."""
LONGEST = 24
"""Bits of the largest magnitude that code_signed writes."""


@njit(cache=True, nogil=True)
def code_signed(state, data, model, base, number):
    """An integer below 2^24 in magnitude, small ones cheap: is it 0, its sign, the bits it has, these bits."""
    if code_bit(state, data, model, base, np.int64(number == 0)):
        return np.int64(0)
    negative = code_bit(state, data, model, base + 1, np.int64(number < 0))
    magnitude, bits = abs(number), 1
    while bits < LONGEST and code_bit(state, data, model, base + 1 + bits, np.int64(magnitude >> bits != 0)):
        bits += 1
    # The highest bit is known. Two more are learned, the rest is noise.
    value, left = np.int64(1), bits - 1
    for depth in range(min(left, 2)):
        left -= 1
        context = base + 26 + 3 * bits + (0 if depth == 0 else 1 + (value & 1))
        value = 2 * value + code_bit(state, data, model, context, (magnitude >> left) & 1)
    if left > 0:
        value = (value << left) | code_bits(state, data, left, magnitude & ((1 << left) - 1))
    return -value if negative else value


@njit(cache=True, nogil=True, inline="always")
def _step(reading, low, width, at, data, chance, bit):
    """One bit of which a 1 has `chance` of 2^22; chances stay 2^-12 away from certainty."""
    bound = (width * min(max(chance >> 6, 16), 65520)) >> 16
    if reading:
        bit = np.int64(low < bound)
    if bit:
        width = bound
    else:
        width -= bound
        low = low - bound if reading else _carried(low + bound, data, at)
    low, width, at = _settled(reading, low, width, at, data)
    return low, width, at, bit


@njit(cache=True, nogil=True, inline="always")
def _settled(reading, low, width, at, data):
    """The coder with its range above 2^24 again, some bytes further on. Bytes that have no room are counted only."""
    while width < TOP:
        width <<= 8
        if reading:
            # Damaged data can lie above the range and would grow beyond all bounds.
            low = ((low << 8) | (np.int64(data[at]) if at < len(data) else 0)) & WORD
        else:
            if at < len(data):
                data[at] = low >> 24
            low = (low << 8) & WORD
        at += 1
    return low, width, at


@njit(cache=True, nogil=True)
def _carried(low, data, at):
    """`low` within 32 bits: an overflow adds one to what has been written."""
    if low > WORD:
        place = min(at, len(data)) - 1
        while place >= 0 and data[place] == 255:
            data[place] = 0
            place -= 1
        if place >= 0:
            data[place] += 1
    return low & WORD


@njit(cache=True, nogil=True, inline="always")
def _learn(model, context, bit):
    counter = np.int64(model[context])
    chance, seen = counter >> 10, counter & 1023
    chance += ((((1 << 22) - 1) * bit - chance) * RATES[seen]) >> 16
    model[context] = (chance << 10) | min(seen + 1, LIMIT)
