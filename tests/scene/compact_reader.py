"""A second reader of compact .exgs files, written from EXGS.md in plain Python: slow, and nobody's twin."""

from __future__ import annotations

import math
import struct

import numpy as np

FORM = (
    *("smallest", "unit", "width", "thin", "harmonics", "opacity", "luma", "chroma", "size", "dim", "flat", "turn"),
    *("flat_slim", "flat_thin", "flat_size", "flat_dim", "turn_first", "turn_slim", "turn_size", "turn_dim"),
    *("opacity_size", "colour_size", "colour_dim", "harmonics_size", "harmonics_dim"),
)
TABLE = [round(2 ** (20 - half / 2)) for half in range(33)]


class Coder:
    """The range coder, reading."""

    def __init__(self, data: bytes):
        self.data, self.at, self.range, self.low = data, 4, 2**32 - 1, int.from_bytes(data[:4].ljust(4, b"\0"), "big")
        self.counters: dict = {}
        self.rows: dict = {}
        self.noise_bits, self.taken = int.from_bytes(data, "big"), 0

    def take(self, start, stop):
        self.low, self.range = self.low - start, stop - start
        while self.range < 2**24:
            byte = self.data[self.at] if self.at < len(self.data) else 0
            self.range, self.low, self.at = self.range << 8, self.low << 8 | byte, self.at + 1

    def learn(self, *name):
        chance, seen = self.counters.get(name, (2**21, 0))
        bound = self.range * min(max(chance >> 6, 16), 65520) >> 16
        bit = int(self.low < bound)
        self.take(*((0, bound) if bit else (bound, self.range)))
        chance += ((2**22 - 1) * bit - chance) * (131072 // (2 * seen + 3)) >> 16
        self.counters[name] = (chance, min(seen + 1, 255))
        return bit

    def even(self, choices):
        share = self.range // choices
        number = min(self.low // share, choices - 1)
        self.take(share * number, share * number + share)
        return number

    def noise(self, width):
        """The bytes from the end on are one great number, whose lowest bits come first."""
        number = self.noise_bits >> self.taken & (1 << width) - 1
        self.taken += width
        return number

    def row(self, name, m):
        return self.rows.setdefault(name, ([2**22 * min(k, m) // m for k in range(16)], [0]))

    def pick(self, chances):
        share = self.range >> 16
        starts = [0, *(share * (((chances[k] >> 7) * 65408 >> 15) + 8 * k) for k in range(1, 16)), self.range]
        symbol = max(k for k in range(16) if starts[k] <= self.low)
        self.take(starts[symbol], starts[symbol + 1])
        return symbol

    def teach(self, row, symbol):
        chances, seen = row
        for k in range(1, 16):
            chances[k] += ((2**22 if k > symbol else 0) - chances[k] >> 6) * (16384 // (seen[0] + 2)) >> 8
        seen[0] = min(seen[0] + 1, 63)

    def symbol(self, m, *name):
        row = self.row(name, m)
        symbol = self.pick(row[0])
        self.teach(row, symbol)
        return symbol

    def symbol2(self, m, special, general):
        one, other = self.row(special, m), self.row(general, m)
        trust = 256 * one[1][0] // (one[1][0] + 32)
        symbol = self.pick([s + ((r - s) * trust >> 8) for r, s in zip(one[0], other[0], strict=True)])
        self.teach(one, symbol)
        self.teach(other, symbol)
        return symbol

    def number2(self, width, special, general):
        if width <= 4:
            return min(self.symbol2(1 << width, special, general), (1 << width) - 1)
        lower = width // 2
        upper = min(self.symbol2(1 << (width - lower), special, general), (1 << (width - lower)) - 1)
        rest = self.symbol2(1 << lower, (*special, "under", upper), (*general, "under", upper))
        return upper << lower | min(rest, (1 << lower) - 1)

    def signed2(self, special, general):
        kind = self.symbol2(16, special, general)
        if kind == 0:
            return 0
        first, further = (kind, 0) if kind < 4 else (192, 24) if kind == 15 else (None, (kind >> 1) - 1)
        if first is None:
            first = 3 * 2 ** ((kind - 1) // 2 - 1) if kind % 2 else 2 ** (kind // 2)
        noise = self.noise(further + 1)
        return -(first + noise // 2) if noise % 2 else first + noise // 2


def read_plainly(data: bytes) -> dict[str, np.ndarray]:
    """means, scales, quats, opacities, sh of a compact file, float64, in the file's order."""
    flags, _, n_tiers, index = struct.unpack_from("<IQII", data, 12)
    frame, degree = struct.unpack_from("<4d", data, 32), flags >> 4
    assert flags & 15 == 1
    at, form = 80, None
    while at < index:
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"Form":
            form = dict(zip(FORM, struct.unpack_from("<25h", data, at + 8), strict=True))
        at += 8 + size
    start, gaussians, kinds = index + 32 * n_tiers + 4, [], {0: [], 1: [], 2: [], 3: []}
    for number in range(n_tiers):
        kind, _, size, _, _, _ = struct.unpack_from("<IIQQII", data, index + 32 * number)
        kinds[kind].append(data[start : start + size])
        start += size
    for tier, payload in enumerate(kinds[0]):
        higher = [blocks_of(kinds[kind][tier]) for kind in range(1, degree + 1)]
        for place, (count, block) in enumerate(blocks_of(payload)):
            found = read_block(Coder(block), count, form)
            colours = [[] for _ in range(count)]
            for kind, table in enumerate(higher, 1):
                for mine, more in zip(colours, read_harmonics(Coder(table[place][1]), count, kind), strict=True):
                    mine += more
            gaussians += [gaussian(numbers, more, form, frame) for numbers, more in zip(found, colours, strict=True)]
    return {name: np.array([each[name] for each in gaussians]) for name in gaussians[0]}


def blocks_of(payload: bytes) -> list[tuple[int, bytes]]:
    count = struct.unpack_from("<I", payload)[0]
    at, found = 4 + 8 * count, []
    for number in range(count):
        gaussians, size = struct.unpack_from("<II", payload, 4 + 8 * number)
        found.append((gaussians, payload[at : at + size]))
        at += size
    return found


def read_keys(coder: Coder, n: int) -> list[int]:
    def size_class(count):
        return count - 2 if count <= 9 else min(15, max(8, count.bit_length() + 4))

    keys, stack = [], [(0, n, 63)]
    while stack:
        beginning, count, left = stack.pop()
        while count > 1 and left > 0:
            left -= 1
            k, f = size_class(count), count - 1
            if coder.learn("split", k, left):
                if f == 1:
                    lower = 1
                elif f <= 8:
                    lower = 1 + min(coder.symbol(f, "share", k), f - 1)
                else:
                    part = coder.symbol(16, "share", k)
                    first, last = (part * f + 15) // 16, ((part + 1) * f + 15) // 16
                    lower = 1 + min(first + coder.even(max(last - first, 1)), f - 1)
                stack.append((2 * beginning + 1, count - lower, left))
                beginning, count = 2 * beginning, lower
            else:
                beginning = 2 * beginning + coder.learn("upper", k, left)
        while left > 0:
            bits = min(left, 32)
            beginning, left = beginning << bits | coder.noise(bits), left - bits
        keys += [beginning] * count
    return keys


def larger(numbers, form):
    return 4 * (numbers["L"] + 2 * numbers["M"]) - form["size"]


def granted(form, base, more, least, most):
    return min(max(((form["unit"] * form[base] >> 3) + more) // (8 * form["unit"]), least), most)


def opacity_half(numbers, form):
    return granted(form, "opacity", form["opacity_size"] * larger(numbers, form), 2, 16)


def precision(numbers, form):
    unit, z, s = form["unit"], larger(numbers, form), 8 * max(numbers["L"] - 2 * numbers["M"], 0)
    t = unit * (form["thin"] - 1 - numbers["S"]) // form["thin"]
    x = numbers["o"] * TABLE[opacity_half(numbers, form)]
    v = x * x >> 20
    j = max(21 - v.bit_length(), 0)
    k = 0 if j == 0 else -32 if v < 2**17 else (v * 2**j - 2**20 >> 17) - 8 * j
    d = unit * (k - form["dim"]) >> 3
    flat = form["flat_slim"] * s + form["flat_thin"] * t + form["flat_size"] * z + form["flat_dim"] * d
    turn = form["turn_first"] * min(s, unit) + form["turn_slim"] * s + form["turn_size"] * z + form["turn_dim"] * d
    e, f = (form[f"{name}_size"] * z + form[f"{name}_dim"] * d for name in ("colour", "harmonics"))
    colours = granted(form, "luma", e, 2, 20), granted(form, "chroma", e, 2, 20), granted(form, "harmonics", f, 2, 20)
    return granted(form, "flat", flat, 3, 13), granted(form, "turn", turn, 0, 13), *colours


def bits_of(number):
    return min(number.bit_length(), 7)


def read_block(coder: Coder, n: int, form) -> list[dict]:
    nobody = dict.fromkeys(("L", "M", "S", "side", "half", "xo", "x0", "x1", "x2"), 0)
    found, width, table = [], form["width"], TABLE
    for key in read_keys(coder, n):
        cells = [int("".join(f"{key:063b}"[axis::3]), 2) for axis in range(3)]
        before = found[-24:][::-1]
        near = sorted(before, key=lambda other: sum(abs(i - j) for i, j in zip(other["cells"], cells, strict=True)))
        a, b, c, d = (*near, *before[:1] * 3)[:4] if near else [nobody] * 4
        mine, near = {"cells": cells}, (a["M"] + b["M"]) >> 3 & 127
        upper = coder.number2(width - 2, ("L", (a["L"] + b["L"]) >> 4 & 127), ("L near", near))
        mine["L"] = upper << 2 | coder.noise(2)
        upper = coder.number2(width - 2, ("M", mine["L"] >> 3), ("M near", near))
        mine["M"] = upper << 1 | coder.noise(1)
        thin = (form["thin"] - 1).bit_length()
        less, slim = max(thin - 3, 0), 16 * (mine["L"] - 2 * mine["M"]) // form["unit"]
        near = ((a["S"] >> less) << 3 | b["S"] >> less) & 63
        shape = (min(max(slim, 0), 15), 4 * (mine["L"] + 2 * mine["M"]) // form["unit"] & 15)
        mine["S"] = min(coder.number2(thin, ("S", near), ("S shape", *shape)), form["thin"] - 1)
        h = opacity_half(mine, form)
        near, w = min((a["xo"] + b["xo"]) >> 17, 15), h // 2 + 1
        upper = coder.number2(min(w, 8), ("o", h, near), ("o all", h))
        mine["o"] = upper << max(w - 8, 0) | coder.noise(max(w - 8, 0))
        mine["xo"], missed = mine["o"] * table[h], 0
        flat, turn, luma, chroma, _ = precision(mine, form)
        mine["side"] = coder.number2(6, ("side", a["side"]), ("side all",))
        w, rest = min(turn, 3), flat - 3
        upper = coder.number2(w, ("half", w, mine["side"]), ("half near", w, a["half"])) if w else 0
        noise = coder.noise(2 * rest + turn - w)
        mine["half"], mine["r"] = upper << (3 - w), upper << (turn - w) | noise & (1 << (turn - w)) - 1
        noise >>= turn - w
        mine["u"] = (mine["side"] >> 3) << rest | noise >> rest
        mine["v"] = (mine["side"] & 7) << rest | noise & (1 << rest) - 1
        for channel, h in enumerate((luma, chroma, chroma)):
            name = f"x{channel}"
            low, *middle, high = sorted(each[name] for each in (a, b, c, d))
            guess = (sum(middle) + table[h]) // (2 * table[h])
            spread = bits_of(2 * (high - low) // table[h])
            level = min(max(guess * table[h] + 2**20 >> 18, 0), 7)
            special, general = (missed, missed) if channel else (level, spread)
            off = coder.signed2(("colour", channel, spread, special), ("colours", channel, general))
            mine[channel], missed = guess + off, bits_of(2 * abs(off))
            mine[name] = mine[channel] * table[h]
        found.append(mine)
    return found


def read_harmonics(coder: Coder, n: int, degree: int) -> list[list[list[int]]]:
    found = []
    for i in range(n):
        mine = []
        for k in range(2 * degree + 1):
            mine.append([])
            for channel in range(3):
                before = abs(mine[k - 1][channel]) if k else 0
                near = abs(found[i - 1][k][channel]) if i else 0
                mine[k].append(coder.signed2((channel, bits_of(before + near)), ("all", channel)))
        found.append(mine)
    return found


def rgb(steps, y, co, cg):
    y, co, cg = y * steps[0], co * steps[1], cg * steps[1]
    return [y + co / 2 - cg / 2, y + cg / 2, y - co / 2 - cg / 2]


def gaussian(numbers, harmonics, form, frame) -> dict[str, list[float]]:
    smallest, unit, thin = form["smallest"], form["unit"] / 8, numbers["S"] + 0.5
    a, b, *halves = precision(numbers, form)
    luma, chroma, *higher = (2 ** (-half / 2) for half in (*halves, max(halves[-1] - 2, 2)))

    def coordinate(cell, origin):
        k = cell - 2**20 if cell >= 2**20 else 2**20 - 1 - cell
        octave = max(k // 65536 - 1, 0)
        distance = (k + 0.5 - 65536 * octave) * 2**octave * frame[3]
        return origin + (distance if cell >= 2**20 else -distance)

    s, t = ((numbers[name] + 0.5) / 2**a * 2 - 1 for name in "uv")
    x, y = (s + t) / 2, (s - t) / 2
    z = 1 - abs(x) - abs(y)
    length = math.hypot(x, y, z)
    x, y, z = x / length, y / length, z / length
    turn = (numbers["r"] + 0.5) / 2**b * math.pi / 2
    q, (cos, sin) = np.array([1 + z, -y, x]) / math.sqrt(2 + 2 * z), (math.cos(turn), math.sin(turn))
    constant = rgb((luma, chroma), numbers[0], numbers[1], numbers[2])
    long, middle = (2 ** ((part + smallest) / unit) for part in (numbers["L"], 2 * numbers["M"]))
    short = middle * (thin if numbers["S"] else thin / 2) / form["thin"]
    return {
        "means": [coordinate(cell, origin) for cell, origin in zip(numbers["cells"], frame[:3], strict=True)],
        "scales": [long, middle, short],
        "quats": [q[0] * cos, q[1] * cos + q[2] * sin, q[2] * cos - q[1] * sin, q[0] * sin],
        "opacities": min((numbers["o"] * 2 ** (-opacity_half(numbers, form) / 2)) ** 2, 0.999),
        "sh": [[part / 0.28209479177387814 for part in constant], *(rgb(higher, *each) for each in harmonics)],
    }
