"""What is likely in a compact block: the contexts in which the range coder sees its positions, shapes and colours.

Half of a block is noise that nobody can predict (the lower bits of positions and rotations) and is written as it is.
The other half leans on what is known already: how many Gaussians share a cell of space, what the two nearest of the
Gaussians before look like, the sizes of the same Gaussian. The order of things is specified in `EXGS.md`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from exgs_viewer.scene.range_coder import (
    SIGNED,
    code_bit,
    code_bits,
    code_even,
    code_signed,
    code_tree,
    code_tree_of_two,
    fresh,
)

AXES = 21
"""Bits of a position along each axis."""
DEPTH = 3 * AXES
LONG, MIDDLE, SHORT, NORMAL_U, NORMAL_V, ANGLE, OPACITY, LUMA, ORANGE, GREEN, COLUMNS = range(11)
"""Columns of a block's values: three sizes, the way its flat side faces, the turn in it, opacity, colour."""
BEFORE = 24
"""Gaussians before the present one among which the two nearest are sought."""
LEAST_BITS, MOST_BITS = 3, 13
"""Of each rotation number; the turn may have none."""
THIN_BITS = 6
"""Of the thinnest axis at most: parts of the middle one that are counted."""
DIMMEST = -32
"""Eighths of an octave of opacity below which nothing gets coarser any more."""
HALF_STEPS = np.array([round(2.0 ** (20 - half / 2)) for half in range(33)], np.int64)
"""2^(-half / 2) in units of 2^-20: the steps of opacity and colour."""


@njit(cache=True, nogil=True)
def code_positions(state, data, keys):
    """Sorted Morton keys [n] uint64, halving space along the longest common beginnings (in place when reading)."""
    split, side, share = fresh(16 * 64), fresh(64 * 64), fresh(32 * 64)
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
            lower = _lower_half(keys, first, count, left)
            if code_bit(state, data, split, 64 * size + left, np.int64(0 < lower < count)):
                lower = _code_share(state, data, share, count, size, lower)
                stack[height, 0], stack[height, 1], stack[height, 2] = first + lower, count - lower, left
                beginnings[height] = 2 * beginning + 1
                height += 1
                count, beginning = lower, 2 * beginning
            else:
                upper = code_bit(state, data, side, 64 * (2 * size + left % 3 // 2) + left, np.int64(lower == 0))
                beginning = 2 * beginning + upper
        if left > 0:
            beginning = (beginning << left) | code_bits(state, data, left, np.int64(keys[first]) & ((1 << left) - 1))
        for place in range(first, first + count):
            keys[place] = beginning


@njit(cache=True, nogil=True)
def code_values(state, data, keys, values, form):
    """What the Gaussians at sorted `keys` [n] look like: values [n, COLUMNS] int32, filled in when reading.

    `form` [len(FORM)] int64.
    """
    spots = places(keys)
    seen = np.zeros((len(keys), SEEN), np.int64)
    nobody = np.zeros(COLUMNS, np.int32)
    sizes, middles, shorts = fresh(129 << 8), fresh(256 << 8), fresh(80 << THIN_BITS)
    sides, turns, opacities = fresh(65 << 6), fresh(72 << 3), fresh((17 * 17) << 9)
    colours = fresh(3 * 64 * SIGNED)
    for i in range(len(keys)):
        a, b = _nearest_two(spots, i)
        # The first Gaussian has none before it and leans on zeros.
        row, first, second, mine = values[i], values[a] if i else nobody, values[b] if i else nobody, seen[i]
        _code_sizes(state, data, sizes, middles, shorts, row, first, second, form)
        _code_opacity(state, data, opacities, row, mine, seen[a], seen[b], opacity_half(row, form))
        flat_bits, turn_bits, share, _ = precision(row, form)
        _code_rotation(state, data, sides, turns, row, mine, seen[a], flat_bits, turn_bits)
        for channel in range(3):
            half = half_steps(form[FOR_LUMA if channel == 0 else FOR_CHROMA], share, 20)
            _code_channel(state, data, colours, row, mine, seen[a], seen[b], channel, half)


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
    "harmonics_size",
    "harmonics_dim",
)
"""The numbers of a compact file that its integers depend on, see `compact.Form`."""
UNIT, WIDTH, THIN, SIZE, DIM, FLAT, FLAT_SLIM, FLAT_THIN, FLAT_SIZE, FLAT_DIM = range(10)
TURN, TURN_FIRST, TURN_SLIM, TURN_SIZE, TURN_DIM = range(10, 15)
FOR_OPACITY, OPACITY_SIZE, FOR_LUMA, FOR_CHROMA, COLOUR_SIZE, COLOUR_DIM, HARMONICS_SIZE, HARMONICS_DIM = range(15, 23)
"""Places in it."""
SIDE, HALF_TURN, LEVEL, MISSED, SEEN = 0, 1, 2, 6, 7
"""Columns of what is remembered of each Gaussian: upper bits of its rotation, opacity and colour in units of 2^-20,
how far off the last guess was."""


@njit(cache=True, nogil=True, forceinline=True)
def larger(row, form):
    """By how much a Gaussian is larger than the typical one, counted as its longest axis is."""
    return (np.int64(row[LONG]) + 2 * np.int64(row[MIDDLE])) // 2 - form[SIZE]


@njit(cache=True, nogil=True, forceinline=True)
def opacity_half(row, form):
    """Half octaves of the steps of the opacity's root: more for large Gaussians."""
    return half_steps(form[FOR_OPACITY], form[OPACITY_SIZE] * larger(row, form) // (8 * form[UNIT]), 16)


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
    """What the shape and opacity of a Gaussian want, in eighths of 1 / unit: bits of the two numbers for its flat side,
    bits of the turn in it, half octaves added to the steps of its colour and of its higher harmonics.

    A turn shows the more the longer a Gaussian is, and everything shows more of large and opaque ones.
    """
    unit = form[UNIT]
    slim, size = max(np.int64(row[LONG]) - 2 * np.int64(row[MIDDLE]), 0), larger(row, form)
    thin = unit * ((1 << form[THIN]) - 1 - np.int64(row[SHORT])) >> form[THIN]
    dim = unit * (octave(row, form) - form[DIM]) >> 3
    flat = form[FLAT_SLIM] * slim + form[FLAT_THIN] * thin + form[FLAT_SIZE] * size + form[FLAT_DIM] * dim
    turn = form[TURN_FIRST] * min(slim, unit) + form[TURN_SLIM] * slim + form[TURN_SIZE] * size + form[TURN_DIM] * dim
    colour = form[COLOUR_SIZE] * size + form[COLOUR_DIM] * dim
    return flat, turn, colour, form[HARMONICS_SIZE] * size + form[HARMONICS_DIM] * dim


@njit(cache=True, nogil=True, forceinline=True)
def precision(row, form):
    """Bits of the two numbers for the flat side, bits of the turn in it, half octaves added to the steps of colour and
    of the higher harmonics."""
    flat, turn, colour, harmonics = demand(row, form)
    parts = 8 * form[UNIT]
    flat_bits = min(max((flat + form[FLAT]) // parts, LEAST_BITS), MOST_BITS)
    turn_bits = min(max((turn + form[TURN]) // parts, 0), MOST_BITS)
    return flat_bits, turn_bits, colour // parts, harmonics // parts


@njit(cache=True, nogil=True)
def demands(values, form):
    """[n, 3] int64: `octave` and the first two numbers of `demand`, of each row of `values`."""
    found = np.empty((len(values), 3), np.int64)
    for i in range(len(values)):
        found[i, 0] = octave(values[i], form)
        found[i, 1], found[i, 2], _, _ = demand(values[i], form)
    return found


@njit(cache=True, nogil=True)
def precisions(values, form):
    """[n, 4] int64: `precision` of each row of `values`."""
    found = np.empty((len(values), 4), np.int64)
    for i in range(len(values)):
        found[i, 0], found[i, 1], found[i, 2], found[i, 3] = precision(values[i], form)
    return found


@njit(cache=True, nogil=True)
def opacity_halves(values, form):
    """[n] int64: `opacity_half` of each row of `values`."""
    found = np.empty(len(values), np.int64)
    for i in range(len(values)):
        found[i] = opacity_half(values[i], form)
    return found


@njit(cache=True, nogil=True)
def code_harmonics(state, data, values):
    """The SH coefficients of one degree [n, C] int32, luma, orange, green each: small where the one before it and that
    of the Gaussian before are small. Filled in when reading."""
    model = fresh(3 * 8 * SIGNED)
    for i in range(len(values)):
        for column in range(values.shape[1]):
            before = abs(values[i, column - 3]) if column >= 3 else 0
            near = abs(values[i - 1, column]) if i > 0 else 0
            context = column % 3 * 8 + _magnitude(np.int64(before) + near)
            values[i, column] = code_signed(state, data, model, context * SIGNED, np.int64(values[i, column]))


@njit(cache=True, nogil=True, forceinline=True)
def half_steps(base, share, most):
    """The step for a Gaussian is 2^(-half / 2)."""
    return min(max(base + share, 2), most)


@njit(cache=True, nogil=True, forceinline=True)
def _code_sizes(state, data, sizes, middles, shorts, row, first, second, form):
    # The lowest bits are as good as noise: learning them would cost time and gain next to nothing.
    width, thin = form[WIDTH], form[THIN]
    number, near = np.int64(row[LONG]), (first[LONG] + second[LONG]) >> 4
    long = code_tree_of_two(state, data, sizes, (near & 127) << 8, 128 << 8, width - 2, number >> 2)
    long = long << 2 | code_bits(state, data, 2, number & 3)
    number, near = np.int64(row[MIDDLE]), 128 + (((first[MIDDLE] + second[MIDDLE]) >> 3) & 127)
    middle = code_tree_of_two(state, data, middles, (long >> 3) << 8, near << 8, width - 2, number >> 1)
    middle = middle << 1 | code_bits(state, data, 1, number & 1)
    rest = max(thin - 3, 0)
    near = (first[SHORT] >> rest << 3 | second[SHORT] >> rest) & 63
    slim = 64 + min(max(2 * (long - 2 * middle) // form[UNIT], 0), 15)
    number = np.int64(row[SHORT])
    row[SHORT] = code_tree_of_two(state, data, shorts, near << THIN_BITS, slim << THIN_BITS, thin, number)
    row[LONG], row[MIDDLE] = long, middle


@njit(cache=True, nogil=True, forceinline=True)
def _code_rotation(state, data, sides, turns, row, mine, near, flat_bits, turn_bits):
    rest = flat_bits - 3
    u, v = np.int64(row[NORMAL_U]), np.int64(row[NORMAL_V])
    side = code_tree_of_two(state, data, sides, near[SIDE] << 6, 64 << 6, 6, (u >> rest) << 3 | v >> rest)
    noise = code_bits(state, data, 2 * rest, (u & ((1 << rest) - 1)) << rest | (v & ((1 << rest) - 1)))
    row[NORMAL_U] = (side >> 3) << rest | noise >> rest
    row[NORMAL_V] = (side & 7) << rest | (noise & ((1 << rest) - 1))
    width = min(turn_bits, 3)
    rest, number = turn_bits - width, np.int64(row[ANGLE])
    half_turn = code_tree_of_two(state, data, turns, side << 3, (64 + near[HALF_TURN]) << 3, width, number >> rest)
    row[ANGLE] = half_turn << rest | code_bits(state, data, rest, number & ((1 << rest) - 1))
    mine[SIDE], mine[HALF_TURN] = side, half_turn << (3 - width)


@njit(cache=True, nogil=True, forceinline=True)
def _code_opacity(state, data, opacities, row, mine, first, second, half):
    near = min((first[LEVEL] + second[LEVEL]) >> 17, 15)
    context = 17 * half
    number = np.int64(row[OPACITY])
    bits = half // 2 + 1
    number = code_tree_of_two(state, data, opacities, (context + near) << 9, (context + 16) << 9, bits, number)
    row[OPACITY], mine[LEVEL] = number, number * HALF_STEPS[half]


@njit(cache=True, nogil=True, forceinline=True)
def _code_channel(state, data, colours, row, mine, first, second, channel, half):
    step = HALF_STEPS[half]
    one, other = first[LEVEL + 1 + channel], second[LEVEL + 1 + channel]
    guess = (one + other + step) // (2 * step)
    spread = _magnitude(2 * abs(one - other) // step)
    missed = mine[MISSED] if channel > 0 else 0
    context = (channel * 64 + spread * 8 + missed) * SIGNED
    off = code_signed(state, data, colours, context, row[LUMA + channel] - guess)
    row[LUMA + channel] = guess + off
    mine[LEVEL + 1 + channel], mine[MISSED] = (guess + off) * step, _magnitude(2 * abs(off))


@njit(cache=True, nogil=True, forceinline=True)
def _magnitude(number):
    """0 to 7: bits of a number >= 0."""
    bits = 0
    while bits < 7 and number >> bits:
        bits += 1
    return bits


@njit(cache=True, nogil=True, forceinline=True)
def _nearest_two(places, i):
    """The two nearest of the Gaussians before the i-th, distances added along the axes; of equal ones the later."""
    first, second = max(i - 1, 0), max(i - 2, 0)
    least, next_least = np.int32(1 << 30), np.int32(1 << 30)
    x, y, z = places[0, i], places[1, i], places[2, i]
    for j in range(i - 1, max(i - BEFORE, 0) - 1, -1):
        distance = abs(places[0, j] - x) + abs(places[1, j] - y) + abs(places[2, j] - z)
        if distance < least:
            second, next_least = first, least
            first, least = j, distance
        elif distance < next_least:
            second, next_least = j, distance
    return first, second


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
def _code_share(state, data, share, count, size, lower):
    """How many of `count` lie in the lower half, 1 to count - 1: sixteen parts learned, evenly likely within."""
    choices = count - 1
    if choices <= 8:
        width = 0
        while (1 << width) < choices:
            width += 1
        return min(code_tree(state, data, share, 64 * size, width, lower - 1), choices - 1) + 1
    part = code_tree(state, data, share, 64 * size, 4, (lower - 1) * 16 // choices)
    start, end = (part * choices + 15) // 16, ((part + 1) * choices + 15) // 16
    return min(start + code_even(state, data, max(end - start, 1), lower - 1 - start), choices - 1) + 1
