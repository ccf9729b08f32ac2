"""An adaptive binary range coder: numbers <-> bytes, each bit at the price of how likely it was.

A model is a table of counters, one for each context in which a bit is seen; a counter holds how often the bit was 1 and
how sure that is. Every function here works in both directions: it is given the number (whatever it is when decoding)
and returns it, so that what is written and what is read cannot disagree. All arithmetic is on integers.
Part of the file format written down in `EXGS.md`.

A coder is the pair `state` (int64 [5]: DIRECTION, LOW, RANGE, AT, END) and `data` (uint8). Reading behind the end
yields zeros: damaged data give wrong numbers, never an access outside of `data`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

DIRECTION, LOW, RANGE, AT, END = range(5)
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
def open_writer(data):
    """The state for writing into `data` from its start."""
    state = np.zeros(5, np.int64)
    state[DIRECTION], state[RANGE], state[END] = 1, WORD, len(data)
    return state


@njit(cache=True, nogil=True)
def open_reader(data):
    """The state for reading `data` from its start."""
    state = np.zeros(5, np.int64)
    state[RANGE], state[END] = WORD, len(data)
    for _ in range(4):
        _read_byte(state, data)
    return state


@njit(cache=True, nogil=True)
def close_writer(state, data):
    """Write what is still held back; the number of bytes, or -1 where `data` was too short."""
    for _ in range(4):
        _write_byte(state, data)
    return np.int64(state[AT]) if state[AT] <= state[END] else np.int64(-1)


@njit(cache=True, nogil=True)
def read_whole(state):
    """Whether a reader found all the bytes it wanted."""
    return state[AT] <= state[END]


@njit(cache=True, nogil=True)
def fresh(size):
    """A model of `size` counters that know nothing."""
    return np.full(size, HALF, np.uint32)


@njit(cache=True, nogil=True, inline="always")
def code_bit(state, data, model, context, bit):
    """One bit in one context."""
    chance = np.int64(model[context]) >> 10  # of a 1, of 2^22
    bit = _code(state, data, chance, bit)
    _learn(model, context, bit)
    return bit


@njit(cache=True, nogil=True, inline="always")
def code_bit_of_two(state, data, model, special, general, bit):
    """One bit that two contexts speak for; the special one counts four times as much once it has seen as many bits."""
    first, second = np.int64(model[special]), np.int64(model[general])
    usual = second >> 10
    chance = usual + ((((first >> 10) - usual) * TRUST[first & 1023]) >> 8)
    bit = _code(state, data, chance, bit)
    _learn(model, special, bit)
    _learn(model, general, bit)
    return bit


@njit(cache=True, nogil=True)
def code_even(state, data, choices, number):
    """A number in 0 .. choices - 1, each as likely; choices at most 2^16."""
    share = state[RANGE] // choices
    if state[DIRECTION]:
        state[LOW] += share * number
        _carry(state, data)
    else:
        number = min(state[LOW] // share, choices - 1)
        state[LOW] -= share * number
    state[RANGE] = share
    _settle(state, data)
    return np.int64(number)


@njit(cache=True, nogil=True)
def code_bits(state, data, width, number):
    """A number of `width` bits (up to 63), each as likely, upper bits first."""
    whole = np.int64(0)
    while width > 0:
        step = min(width, 16)
        width -= step
        part = code_even(state, data, 1 << step, (number >> width) & ((1 << step) - 1))
        whole = (whole << step) | part
    return whole


@njit(cache=True, nogil=True)
def code_tree(state, data, model, base, width, number):
    """A number of `width` bits with one counter for each beginning: `base` is the first of 2^width."""
    node = 1
    for place in range(width - 1, -1, -1):
        node = 2 * node + code_bit(state, data, model, base + node, (number >> place) & 1)
    return node - (1 << width)


@njit(cache=True, nogil=True)
def code_tree_of_two(state, data, model, special, general, width, number):
    """The same where the counters from `special` and those from `general` both speak for each bit."""
    node = 1
    for place in range(width - 1, -1, -1):
        bit = code_bit_of_two(state, data, model, special + node, general + node, (number >> place) & 1)
        node = 2 * node + bit
    return node - (1 << width)


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
    magnitude, width = abs(number), 1
    while width < LONGEST:
        if not code_bit(state, data, model, base + 1 + width, np.int64(magnitude >> width != 0)):
            break
        width += 1
    # The highest bit is known. Two more are learned, the rest is noise.
    value, left = np.int64(1), width - 1
    for depth in range(min(left, 2)):
        left -= 1
        context = base + 26 + 3 * width + (0 if depth == 0 else 1 + (value & 1))
        value = 2 * value + code_bit(state, data, model, context, (magnitude >> left) & 1)
    if left > 0:
        value = (value << left) | code_bits(state, data, left, magnitude & ((1 << left) - 1))
    return -value if negative else value


@njit(cache=True, nogil=True, inline="always")
def _code(state, data, chance, bit):
    """One bit of which a 1 has `chance` of 2^22; chances stay 2^-12 away from certainty."""
    chance = min(max(chance >> 6, 16), 65520)
    bound = (state[RANGE] * chance) >> 16
    if state[DIRECTION]:
        if bit:
            state[RANGE] = bound
        else:
            state[LOW] += bound
            state[RANGE] -= bound
            _carry(state, data)
    else:
        bit = np.int64(state[LOW] < bound)
        if bit:
            state[RANGE] = bound
        else:
            state[LOW] -= bound
            state[RANGE] -= bound
    _settle(state, data)
    return np.int64(bit)


@njit(cache=True, nogil=True, inline="always")
def _learn(model, context, bit):
    counter = np.int64(model[context])
    chance, seen = counter >> 10, counter & 1023
    chance += ((((1 << 22) - 1) * bit - chance) * RATES[seen]) >> 16
    model[context] = (chance << 10) | min(seen + 1, LIMIT)


@njit(cache=True, nogil=True, inline="always")
def _settle(state, data):
    """Keep the range above 2^24 by moving on byte by byte."""
    while state[RANGE] < TOP:
        state[RANGE] <<= 8
        if state[DIRECTION]:
            _write_byte(state, data)
        else:
            _read_byte(state, data)


@njit(cache=True, nogil=True)
def _carry(state, data):
    """An overflow of LOW adds one to what has been written."""
    if state[LOW] > WORD:
        state[LOW] &= WORD
        place = np.int64(min(state[AT], state[END])) - 1
        while place >= 0 and data[place] == 255:
            data[place] = 0
            place -= 1
        if place >= 0:
            data[place] += 1


@njit(cache=True, nogil=True)
def _write_byte(state, data):
    if state[AT] < state[END]:
        data[np.int64(state[AT])] = state[LOW] >> 24
    state[AT] += 1
    state[LOW] = (state[LOW] << 8) & WORD


@njit(cache=True, nogil=True, inline="always")
def _read_byte(state, data):
    byte = data[np.int64(state[AT])] if state[AT] < state[END] else 0
    state[AT] += 1
    state[LOW] = ((state[LOW] << 8) | byte) & WORD
