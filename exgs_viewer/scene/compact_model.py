"""What is likely in a compact block: the contexts in which the range coder sees its positions, shapes and colours.

Half of a block is noise that nobody can predict (the lower bits of positions and rotations) and is written as it is.
The other half leans on what is known already: how many Gaussians share a cell of space, what the nearest of the
Gaussians before look like, the sizes of the same Gaussian. The order of things is specified in `EXGS.md`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from exgs_viewer.scene.lanes import LANES, borrow
from exgs_viewer.scene.range_coder import (
    MOST_NOISE,
    close_coder,
    code_bit,
    code_even,
    code_lone_symbol,
    code_noise,
    code_signed,
    code_symbol,
    fresh_counters,
    fresh_rows,
    open_coder,
)

AXES = 21
"""Bits of a position along each axis."""
DEPTH = 3 * AXES
LONG, MIDDLE, SHORT, NORMAL_U, NORMAL_V, ANGLE, OPACITY, LUMA, ORANGE, GREEN, COLUMNS = range(11)
"""Columns of a block's values: three sizes, the way its flat side faces, the turn in it, opacity, colour."""
BEFORE = 24
"""Gaussians before the present one among which the four nearest are sought."""
LEAST_BITS, MOST_BITS = 3, 13
"""Of each rotation number; the turn may have none."""
MOST_THIN = 64
"""Parts of the middle axis that the thinnest one is counted in at most."""
FINEST_HALF = 20
"""Half octaves of the finest step of a colour."""
DIMMEST = -32
"""Eighths of an octave of opacity below which nothing gets coarser any more."""
HALF_STEPS = np.array([round(2.0 ** (20 - half / 2)) for half in range(33)], np.int64)
"""2^(-half / 2) in units of 2^-20: the steps of opacity and colour."""
LEARNT = 8
"""Bits of a number that are learnt at most; what is below them is noise."""
CLASSES = 16
"""Of how many Gaussians share a cell."""
SPLITS, SIDES, COUNTERS = 0, 64 * CLASSES, 2 * 64 * CLASSES
"""Where the counters of positions begin: do both halves of a cell hold some, and if not, which one."""
LONGS, MIDDLES, SHORTS, OPACITIES, FACES, TURNS = 256, 256, 64 + 256, 17 * 17, 65, 3 * 72
"""Contexts of the numbers, both those that speak the more the more they have seen and those that speak else."""
FIRST_LONG = CLASSES
FIRST_MIDDLE = FIRST_LONG + (1 + LANES) * LONGS
FIRST_SHORT = FIRST_MIDDLE + (1 + LANES) * MIDDLES
FIRST_OPACITY = FIRST_SHORT + (1 + LANES) * SHORTS
FIRST_FACE = FIRST_OPACITY + (1 + LANES) * OPACITIES
FIRST_TURN = FIRST_FACE + (1 + LANES) * FACES
FIRST_COLOUR = FIRST_TURN + TURNS
ROWS = FIRST_COLOUR + 3 * (64 + 8)
"""Rows of the table of a block: shares of a cell (from 0), then the numbers above, upper parts before lower ones."""


@njit(cache=True, nogil=True)
def code_base(reading, data, size, keys, values, form):
    """Sorted Morton keys [n] uint64 and values [n, COLUMNS] int32 of a block <-> `data` uint8, `size` bytes of it.

    `form` [len(FORM)] int64. While reading, the data have MARGIN zeros behind them, and keys and values are filled in.
    Returns what `close_coder` does.
    """
    counters, table = np.empty(COUNTERS, np.uint32), np.empty((ROWS, LANES), np.int32)
    fresh_counters(counters)
    _fresh_table(table, form)
    seen, nobody = np.zeros((len(keys), SEEN), np.int64), np.zeros(COLUMNS, np.int32)
    return _code_base(reading, data, size, keys, values, form, counters, table, seen, nobody)


@njit(cache=True, nogil=True)
def _code_base(reading, data, size, keys, values, form, counters, table, seen, nobody):
    """With all the memory handed in, of which pointers are made."""
    coder = open_coder(reading, borrow(data, 0), size)
    coder = _code_positions(coder, borrow(counters, 0), borrow(table, 0), keys)
    coder = _code_values(coder, borrow(table, 0), places(keys), values, borrow(form, 0), seen, borrow(nobody, 0))
    return close_coder(coder)


@njit(cache=True, nogil=True)
def _fresh_table(table, form):
    """Nothing is known, but how many bits a number has."""
    for size in range(CLASSES):
        fresh_rows(table, size, size + 1, size + 1 if size < 8 else LANES)
    _fresh_numbers(table, FIRST_LONG, LONGS, 0, LONGS, form[WIDTH] - 2)
    _fresh_numbers(table, FIRST_MIDDLE, MIDDLES, 0, MIDDLES, form[WIDTH] - 2)
    _fresh_numbers(table, FIRST_SHORT, SHORTS, 0, SHORTS, _bits_of(form[THIN] - 1))
    for half in range(17):
        _fresh_numbers(table, FIRST_OPACITY, OPACITIES, 17 * half, 17 * half + 17, min(half // 2 + 1, LEARNT))
    _fresh_numbers(table, FIRST_FACE, FACES, 0, FACES, 6)
    for bits in range(1, 4):
        fresh_rows(table, FIRST_TURN + 72 * bits - 72, FIRST_TURN + 72 * bits, 1 << bits)
    fresh_rows(table, FIRST_COLOUR, ROWS, LANES)


@njit(cache=True, nogil=True)
def _fresh_numbers(table, first, contexts, start, stop, bits):
    """The same for some contexts of `_code_number`."""
    lower = _lower_bits(bits)
    fresh_rows(table, first + start, first + stop, 1 << (bits - lower))
    start, stop = first + contexts + LANES * start, first + contexts + LANES * stop
    fresh_rows(table, start, stop, 1 << lower)


@njit(cache=True, nogil=True)
def _code_positions(coder, counters, table, keys):
    """Sorted Morton keys [n] uint64, halving space along the longest common beginnings (in place when reading)."""
    stack = np.empty((DEPTH + 1, 3), np.int64)  # first Gaussian, count, bits that are left
    beginnings = np.zeros(DEPTH + 1, np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, len(keys), DEPTH
    height = 1
    while height > 0:
        height -= 1
        first, count, left = stack[height, 0], stack[height, 1], stack[height, 2]
        beginning = beginnings[height]
        while left > 0 and count > 1:
            left -= 1
            size = _size_class(count)
            lower = np.int64(0) if coder.reading else _lower_half(keys, first, count, left)
            coder, both = code_bit(coder, counters, SPLITS + 64 * size + left, np.int64(0 < lower < count))
            if both:
                coder, lower = _code_share(coder, table, count, size, lower)
                stack[height, 0], stack[height, 1], stack[height, 2] = first + lower, count - lower, left
                beginnings[height] = 2 * beginning + 1
                height += 1
                count, beginning = lower, 2 * beginning
            else:
                coder, upper = code_bit(coder, counters, SIDES + 64 * size + left, np.int64(lower == 0))
                beginning = 2 * beginning + upper
        rest = np.int64(0) if coder.reading else np.int64(keys[first])
        while left > 0:
            bits = min(left, MOST_NOISE)
            left -= bits
            coder, part = code_noise(coder, bits, (rest >> left) & ((1 << bits) - 1))
            beginning = (beginning << bits) | part
        for place in range(first, first + count):
            keys[place] = beginning
    return coder


@njit(cache=True, nogil=True)
def _code_values(coder, table, spots, values, form, seen, nobody):
    """What the Gaussians at `spots` [3, n] look like: values [n, COLUMNS] int32, filled in when reading."""
    for i in range(len(values)):
        a, b, c, d = _nearest_four(spots, i)
        row, mine = borrow(values, COLUMNS * i), borrow(seen, SEEN * i)
        # The first Gaussian has none before it and leans on zeros.
        first, second = (borrow(values, COLUMNS * a), borrow(values, COLUMNS * b)) if i else (nobody, nobody)
        near, next_near = borrow(seen, SEEN * a), borrow(seen, SEEN * b)
        around = near, next_near, borrow(seen, SEEN * c), borrow(seen, SEEN * d)
        coder = _code_sizes(coder, table, row, first, second, form)
        coder = _code_opacity(coder, table, row, mine, near, next_near, opacity_half(row, form))
        flat_bits, turn_bits, luma, chroma, _ = precision(row, form)
        coder = _code_rotation(coder, table, row, mine, near, flat_bits, turn_bits)
        for channel in range(3):
            coder = _code_channel(coder, table, row, mine, around, channel, chroma if channel else luma)
    return coder


FORM = (
    "unit",
    "width",
    "thin",
    "size",
    "dim",
    "flat",
    "flat_slim",
    "flat_thin",
    "flat_size",
    "flat_dim",
    "turn",
    "turn_first",
    "turn_slim",
    "turn_size",
    "turn_dim",
    "opacity",
    "opacity_size",
    "luma",
    "chroma",
    "colour_size",
    "colour_dim",
    "harmonics",
    "harmonics_size",
    "harmonics_dim",
)
"""The numbers of a compact file that its integers depend on, see `compact.Form`."""
UNIT, WIDTH, THIN, SIZE, DIM, FLAT, FLAT_SLIM, FLAT_THIN, FLAT_SIZE, FLAT_DIM = range(10)
TURN, TURN_FIRST, TURN_SLIM, TURN_SIZE, TURN_DIM = range(10, 15)
FOR_OPACITY, OPACITY_SIZE, FOR_LUMA, FOR_CHROMA, COLOUR_SIZE, COLOUR_DIM = range(15, 21)
FOR_HARMONICS, HARMONICS_SIZE, HARMONICS_DIM = range(21, 24)
"""Places in it."""
SIDE, HALF_TURN, LEVEL, MISSED, SEEN = 0, 1, 2, 6, 7
"""Columns of what is remembered of each Gaussian: upper bits of its rotation, opacity and colour in units of 2^-20,
how far off the last guess was."""


@njit(cache=True, nogil=True, forceinline=True)
def larger(row, form):
    """By how much a Gaussian is larger than the typical one, in eighths of what its longest axis is counted in."""
    return 4 * (np.int64(row[LONG]) + 2 * np.int64(row[MIDDLE])) - form[SIZE]


@njit(cache=True, nogil=True, forceinline=True)
def opacity_half(row, form):
    """Half octaves of the steps of the opacity's root: more for large Gaussians."""
    return _granted(form[FOR_OPACITY], form[OPACITY_SIZE] * larger(row, form), form[UNIT], 2, 16)


@njit(cache=True, nogil=True, forceinline=True)
def octave(row, form):
    """The opacity's logarithm in eighths of an octave, DIMMEST ... 0, linear between the octaves."""
    level = np.int64(row[OPACITY]) * HALF_STEPS[opacity_half(row, form)]
    level = level * level >> 20
    if level >= 1 << 20:
        return 0
    found = 0
    while level < 1 << 20:
        level <<= 1
        found -= 8
        if found <= DIMMEST:
            return DIMMEST
    return found + ((level - (1 << 20)) >> 17)


@njit(cache=True, nogil=True, forceinline=True)
def demand(row, form):
    """What the shape and opacity of a Gaussian want, in parts of 8 unit: bits of the two numbers for its flat side,
    bits of the turn in it, half octaves added to the steps of its colour and of its higher harmonics.

    A turn shows the more the longer a Gaussian is, and everything shows more of large and opaque ones.
    """
    unit = form[UNIT]
    slim, size = 8 * max(np.int64(row[LONG]) - 2 * np.int64(row[MIDDLE]), 0), larger(row, form)
    thin = unit * (form[THIN] - 1 - np.int64(row[SHORT])) // form[THIN]
    dim = unit * (octave(row, form) - form[DIM]) >> 3
    flat = form[FLAT_SLIM] * slim + form[FLAT_THIN] * thin + form[FLAT_SIZE] * size + form[FLAT_DIM] * dim
    turn = form[TURN_FIRST] * min(slim, unit) + form[TURN_SLIM] * slim + form[TURN_SIZE] * size + form[TURN_DIM] * dim
    colour = form[COLOUR_SIZE] * size + form[COLOUR_DIM] * dim
    return flat, turn, colour, form[HARMONICS_SIZE] * size + form[HARMONICS_DIM] * dim


@njit(cache=True, nogil=True, forceinline=True)
def precision(row, form):
    """Bits of the two numbers for the flat side, bits of the turn in it, half octaves of the steps of luma, of chroma
    and of the luma of the higher harmonics."""
    flat, turn, colour, harmonics = demand(row, form)
    unit = form[UNIT]
    flat_bits = _granted(form[FLAT], flat, unit, LEAST_BITS, MOST_BITS)
    turn_bits = _granted(form[TURN], turn, unit, 0, MOST_BITS)
    luma = _granted(form[FOR_LUMA], colour, unit, 2, FINEST_HALF)
    chroma = _granted(form[FOR_CHROMA], colour, unit, 2, FINEST_HALF)
    return flat_bits, turn_bits, luma, chroma, _granted(form[FOR_HARMONICS], harmonics, unit, 2, FINEST_HALF)


@njit(cache=True, nogil=True, forceinline=True)
def _granted(typical, more, unit, least, most):
    """What the typical Gaussian has, in 64ths, and so much more, in parts of 8 unit, as a whole number."""
    return min(max(((unit * typical >> 3) + more) // (8 * unit), least), most)


@njit(cache=True, nogil=True)
def demands(values, form):
    """[n, 3] int64: `octave` and the first two numbers of `demand`, of each row of `values`."""
    found = np.empty((len(values), 3), np.int64)
    for i in range(len(values)):
        row = borrow(values, COLUMNS * i)
        found[i, 0] = octave(row, borrow(form, 0))
        found[i, 1], found[i, 2], _, _ = demand(row, borrow(form, 0))
    return found


@njit(cache=True, nogil=True)
def precisions(values, form):
    """[n, 5] int64: `precision` of each row of `values`."""
    found = np.empty((len(values), 5), np.int64)
    for i in range(len(values)):
        of_it = precision(borrow(values, COLUMNS * i), borrow(form, 0))
        found[i, 0], found[i, 1], found[i, 2], found[i, 3], found[i, 4] = of_it
    return found


@njit(cache=True, nogil=True)
def opacity_halves(values, form):
    """[n] int64: `opacity_half` of each row of `values`."""
    found = np.empty(len(values), np.int64)
    for i in range(len(values)):
        found[i] = opacity_half(borrow(values, COLUMNS * i), borrow(form, 0))
    return found


@njit(cache=True, nogil=True)
def code_harmonics(reading, data, size, values):
    """The SH coefficients of one degree [n, C] int32, luma, orange, green each: small where the one before it and that
    of the Gaussian before are small. Data and result as in `code_base`."""
    table = np.empty((3 * 9, LANES), np.int32)
    fresh_rows(table, 0, len(table), LANES)
    return _code_harmonics(reading, data, size, values, table)


@njit(cache=True, nogil=True)
def _code_harmonics(reading, data, size, values, table):
    coder, rows = open_coder(reading, borrow(data, 0), size), borrow(table, 0)
    for i in range(len(values)):
        for column in range(values.shape[1]):
            before = abs(values[i, column - 3]) if column >= 3 else 0
            near = abs(values[i - 1, column]) if i > 0 else 0
            special, general = 9 * (column % 3) + _bits_of(np.int64(before) + near), 9 * (column % 3) + 8
            coder, values[i, column] = code_signed(coder, rows, special, general, np.int64(values[i, column]))
    return close_coder(coder)


@njit(cache=True, nogil=True, forceinline=True)
def _lower_bits(bits):
    """Up to four bits are one symbol; of more the lower half is another."""
    return bits // 2 if bits > 4 else 0


@njit(cache=True, nogil=True, forceinline=True)
def _code_number(coder, table, first, contexts, special, general, bits, number):
    """A number of up to LEARNT bits in two contexts, of so many whose rows begin at `first`."""
    lower = _lower_bits(bits)
    coder, upper = code_symbol(coder, table, first + special, first + general, number >> lower)
    upper = min(upper, (1 << (bits - lower)) - 1)  # Damaged data.
    if lower == 0:
        return coder, upper
    start = first + contexts + upper
    rest = number & ((1 << lower) - 1)
    coder, rest = code_symbol(coder, table, start + LANES * special, start + LANES * general, rest)
    return coder, upper << lower | min(rest, (1 << lower) - 1)


@njit(cache=True, nogil=True, forceinline=True)
def _code_sizes(coder, table, row, first, second, form):
    # The lowest bits are as good as noise: learning them would cost time and gain next to nothing.
    width, thin = form[WIDTH], _bits_of(form[THIN] - 1)
    number, near = np.int64(row[LONG]), ((first[LONG] + second[LONG]) >> 4) & 127
    middles = 128 + (((first[MIDDLE] + second[MIDDLE]) >> 3) & 127)
    coder, long = _code_number(coder, table, FIRST_LONG, LONGS, near, middles, width - 2, number >> 2)
    coder, rest = code_noise(coder, 2, number & 3)
    long, number = long << 2 | rest, np.int64(row[MIDDLE])
    coder, middle = _code_number(coder, table, FIRST_MIDDLE, MIDDLES, long >> 3, middles, width - 2, number >> 1)
    coder, rest = code_noise(coder, 1, number & 1)
    middle = middle << 1 | rest
    rest = max(thin - 3, 0)
    near = (first[SHORT] >> rest << 3 | second[SHORT] >> rest) & 63
    slim, size = min(max(16 * (long - 2 * middle) // form[UNIT], 0), 15), 4 * (long + 2 * middle) // form[UNIT] & 15
    shape = 64 + 16 * slim + size
    coder, short = _code_number(coder, table, FIRST_SHORT, SHORTS, near, shape, thin, np.int64(row[SHORT]))
    row[LONG], row[MIDDLE], row[SHORT] = long, middle, min(short, form[THIN] - 1)  # Damaged data may say more.
    return coder


@njit(cache=True, nogil=True, forceinline=True)
def _code_rotation(coder, table, row, mine, near, flat_bits, turn_bits):
    rest, width = flat_bits - 3, min(turn_bits, 3)
    turn_rest, below = turn_bits - width, (1 << rest) - 1
    u, v, angle = np.int64(row[NORMAL_U]), np.int64(row[NORMAL_V]), np.int64(row[ANGLE])
    side = (u >> rest) << 3 | v >> rest
    coder, side = _code_number(coder, table, FIRST_FACE, FACES, near[SIDE], FACES - 1, 6, side)
    half_turn = np.int64(0)
    if width > 0:
        start = FIRST_TURN + 72 * width - 72
        coder, half_turn = code_symbol(coder, table, start + side, start + 64 + near[HALF_TURN], angle >> turn_rest)
        half_turn = min(half_turn, (1 << width) - 1)
    noise = ((u & below) << rest | v & below) << turn_rest | angle & ((1 << turn_rest) - 1)
    coder, noise = code_noise(coder, 2 * rest + turn_rest, noise)
    row[NORMAL_U] = (side >> 3) << rest | noise >> (rest + turn_rest)
    row[NORMAL_V] = (side & 7) << rest | (noise >> turn_rest) & below
    row[ANGLE] = half_turn << turn_rest | noise & ((1 << turn_rest) - 1)
    mine[SIDE], mine[HALF_TURN] = side, half_turn << (3 - width)
    return coder


@njit(cache=True, nogil=True, forceinline=True)
def _code_opacity(coder, table, row, mine, first, second, half):
    near = min((first[LEVEL] + second[LEVEL]) >> 17, 15)
    context, bits = 17 * half, half // 2 + 1
    rest, number = max(bits - LEARNT, 0), np.int64(row[OPACITY])
    coder, upper = _code_number(
        coder, table, FIRST_OPACITY, OPACITIES, context + near, context + 16, bits - rest, number >> rest
    )
    coder, noise = code_noise(coder, rest, number & ((1 << rest) - 1))
    number = upper << rest | noise
    row[OPACITY], mine[LEVEL] = number, number * HALF_STEPS[half]
    return coder


@njit(cache=True, nogil=True, forceinline=True)
def _code_channel(coder, table, row, mine, around, channel, half):
    step, level = HALF_STEPS[half], LEVEL + 1 + channel
    one, two, three, four = around[0][level], around[1][level], around[2][level], around[3][level]
    low, high = min(min(one, two), min(three, four)), max(max(one, two), max(three, four))
    guess = (one + two + three + four - low - high + step) // (2 * step)
    spread = _bits_of(2 * (high - low) // step)
    start = FIRST_COLOUR + 72 * channel
    if channel == 0:
        # Dark and bright, in quarters.
        special, general = min(max((guess * step + (1 << 20)) >> 18, 0), 7), spread
    else:
        special = general = mine[MISSED]
    coder, off = code_signed(
        coder, table, start + 8 * spread + special, start + 64 + general, row[LUMA + channel] - guess
    )
    row[LUMA + channel] = guess + off
    mine[level], mine[MISSED] = (guess + off) * step, _bits_of(2 * abs(off))
    return coder


@njit(cache=True, nogil=True, forceinline=True)
def _bits_of(number):
    """0 to 7: bits of a number >= 0, as far as they are told apart."""
    bits = 0
    while bits < 7 and number >> bits:
        bits += 1
    return bits


@njit(cache=True, nogil=True, forceinline=True)
def _nearest_four(places, i):
    """The nearest of the Gaussians before the i-th, distances added along the axes; of equal ones the later.

    The one just before stands for those that are missing.
    """
    first = second = third = fourth = max(i - 1, 0)
    least = second_least = third_least = fourth_least = np.int32(1 << 30)
    x, y, z = places[0, i], places[1, i], places[2, i]
    for j in range(i - 1, max(i - BEFORE, 0) - 1, -1):
        distance = abs(places[0, j] - x) + abs(places[1, j] - y) + abs(places[2, j] - z)
        if distance < fourth_least:
            if distance < second_least:
                fourth, fourth_least, third, third_least = third, third_least, second, second_least
                if distance < least:
                    first, least, second, second_least = j, distance, first, least
                else:
                    second, second_least = j, distance
            elif distance < third_least:
                third, third_least, fourth, fourth_least = j, distance, third, third_least
            else:
                fourth, fourth_least = j, distance
    return first, second, third, fourth


@njit(cache=True, nogil=True)
def places(keys):
    """[3, n] int32: the three coordinates woven into each key."""
    found = np.zeros((3, len(keys)), np.int32)
    for i in range(len(keys)):
        key = np.int64(keys[i])
        for axis in range(3):
            bits = (key >> (2 - axis)) & 0x1249249249249249
            bits = (bits ^ (bits >> 2)) & 0x10C30C30C30C30C3
            bits = (bits ^ (bits >> 4)) & 0x100F00F00F00F00F
            bits = (bits ^ (bits >> 8)) & 0x1F0000FF0000FF
            bits = (bits ^ (bits >> 16)) & 0x1F00000000FFFF
            found[axis, i] = (bits ^ (bits >> 32)) & 0x1FFFFF
    return found


@njit(cache=True, nogil=True, forceinline=True)
def _size_class(count):
    """2 3 4 ... exactly up to 9, then one for each doubling."""
    if count < 10:
        return count - 2
    size = 8
    while size < 15 and count >> (size - 4):
        size += 1
    return size


@njit(cache=True, nogil=True, forceinline=True)
def _lower_half(keys, first, count, bit):
    """How many of the `count` sorted keys from `first` have a 0 at `bit`."""
    low, high = first, first + count
    while low < high:
        middle = (low + high) // 2
        if (np.int64(keys[middle]) >> bit) & 1:
            high = middle
        else:
            low = middle + 1
    return low - first


@njit(cache=True, nogil=True, forceinline=True)
def _code_share(coder, table, count, size, lower):
    """How many of `count` lie in the lower half, 1 to count - 1: sixteen parts learned, evenly likely within."""
    choices = count - 1
    if choices == 1:
        return coder, np.int64(1)
    if choices <= 8:
        coder, part = code_lone_symbol(coder, table, size, lower - 1)
        return coder, min(part, choices - 1) + 1
    coder, part = code_lone_symbol(coder, table, size, (lower - 1) * 16 // choices)
    start, end = (part * choices + 15) // 16, ((part + 1) * choices + 15) // 16
    coder, place = code_even(coder, max(end - start, 1), lower - 1 - start)
    return coder, min(start + place, choices - 1) + 1
