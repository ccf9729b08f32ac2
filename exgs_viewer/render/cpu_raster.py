"""Kernels of the CPU renderer, second half: tile lists to pictures, and to significance.

A tile's five buffers are slices of one array, rows have the fixed trip count 16 and indices are unsigned; with that
LLVM turns the row loop into vector code. exp(-x) has a relative error below 8e-5.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from exgs_viewer.render.cpu_prefetch import ask_ahead
from exgs_viewer.render.cpu_project import (
    BLOCK,
    BLUE,
    CURVE,
    DEPTH,
    GREEN,
    INVERSE_C,
    OPACITY,
    RADIUS_X,
    RED,
    TALLEST,
    TAU,
    TILE,
    A,
    B,
    C,
    F,
    X,
    Y,
)

ALPHA_MIN, ALPHA_MAX, T_MIN = F(1 / 255.0), F(0.999), F(1e-4)
U = np.uint64
CHECK = 16
"""Splats after which a tile asks whether any of its pixels still lets light through."""
FAR = F(8)
"""exp(-FAR) < 1/255: beyond it alpha is 0 anyway, and denormal numbers would cost a hundred cycles each."""


@njit(inline="always")
def rows_of(splats, j, left, top, bottom):
    """First and last pixel row in [top, bottom] where splat j reaches the tile whose first column is `left`."""
    px, py, radius_x, tallest = splats[j, X], splats[j, Y], splats[j, RADIUS_X], splats[j, TALLEST]
    low = max(-radius_x, F(left) + F(0.5) - px)
    high = min(radius_x, F(left) + F(15.5) - px)
    slope, level, curve = -splats[j, B] * splats[j, INVERSE_C], splats[j, TAU] * splats[j, INVERSE_C], splats[j, CURVE]
    up, down = min(high, max(low, tallest)), min(high, max(low, -tallest))
    y_high = slope * up + math.sqrt(max(F(0), level - curve * up * up))
    y_low = slope * down - math.sqrt(max(F(0), level - curve * down * down))
    first = max(top, int(np.ceil(py + y_low - F(0.5))))
    last = min(bottom, int(np.floor(py + y_high - F(0.5))))
    return first, last


@njit(inline="always")
def conic_of(splats, j, left):
    """Splat j as a row loop wants it: a / 2, b, c, opacity, and what a column of the tile at `left` and a pixel row
    have to be added to, to give their distance from the splat's centre."""
    dx0, dy0 = F(left) + F(0.5) - splats[j, X], F(0.5) - splats[j, Y]
    return F(0.5) * splats[j, A], splats[j, B], splats[j, C], splats[j, OPACITY], dx0, dy0


@njit(inline="always")
def any_alive(buffer):
    """Whether any pixel of the tile still lets light through; a sum, since that is what LLVM vectorises."""
    alive = F(0)
    for i in range(256):
        alive += F(1) if buffer[i] > F(0) else F(0)
    return alive > F(0)


@njit(inline="always")
def exp_minus(x):
    """exp(-x) for 0 <= x <= 8: the whole powers of two by their exponent bits, the rest by a minimax cubic of 2^-f."""
    y = x * F(1.4426950408889634)
    whole = np.int32(y)
    f = y - F(whole)
    rest = F(0.9999252) + f * (F(-0.69102065) + f * (F(0.23007012) + f * F(-0.03901205)))
    return np.int32(np.float32(rest).view(np.int32) - np.int32(whole << 23)).view(np.float32)


@njit(inline="always")
def write_row(buffer, o, y, left, columns, color, alpha, depth):
    """Copy a row of the tile into the pictures; where `columns` is a constant this is vector code."""
    for step in range(columns):
        i, x = o + U(step), left + U(step)
        alpha[y, x], depth[y, x] = buffer[i], buffer[i + U(1024)]
    for step in range(columns):
        i, x = o + U(step), left + U(step)
        color[y, x, 0], color[y, x, 1] = buffer[i + U(256)], buffer[i + U(512)]
        color[y, x, 2] = buffer[i + U(768)]


@njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def draw(splats, offsets, lists, workers, tiles_x, background, brightest, color, alpha, depth):
    """Composite every tile front to back into color [H, W, 3] (at most `brightest`), alpha [H, W], depth [H, W].

    A pixel that is finished keeps its transmittance as a negative number: its further weights are then never positive.
    """
    height, width = alpha.shape
    tiles = offsets.shape[0] - 1
    for worker in prange(workers):
        buffer = np.empty(5 * 256, np.float32)  # transmittance, red, green, blue, depth
        for tile in range(worker, tiles, workers):
            top, left = tile // tiles_x * TILE, tile % tiles_x * TILE
            bottom = min(height, top + TILE) - 1
            buffer[:256] = F(1)
            buffer[256:] = F(0)
            for begin in range(offsets[tile], offsets[tile + 1], CHECK):
                for k in range(begin, min(offsets[tile + 1], begin + CHECK)):
                    ask_ahead(splats, lists, k)
                    j = lists[k]
                    first, last = rows_of(splats, j, left, top, bottom)
                    half_a, b, c, opacity, dx0, dy0 = conic_of(splats, j, left)
                    red, green, blue, z = splats[j, RED], splats[j, GREEN], splats[j, BLUE], splats[j, DEPTH]
                    for y in range(first, last + 1):
                        dy = F(y) + dy0
                        linear, constant = b * dy, F(0.5) * c * dy * dy
                        o = U((y - top) * 16)
                        for step in range(16):
                            i = o + U(step)
                            dx = F(step) + dx0
                            x = min(FAR, (half_a * dx + linear) * dx + constant)
                            al = min(ALPHA_MAX, opacity * exp_minus(x))
                            al = al if al >= ALPHA_MIN else F(0)
                            t = buffer[i]
                            weight = al * t
                            rest = t - weight
                            live = rest > T_MIN
                            weight = weight if live else F(0)
                            buffer[i] = rest if live else -abs(t)
                            buffer[i + U(256)] += weight * red
                            buffer[i + U(512)] += weight * green
                            buffer[i + U(768)] += weight * blue
                            buffer[i + U(1024)] += weight * z
                if not any_alive(buffer):
                    break
            for step in range(256):
                i = U(step)
                t = abs(buffer[i])
                cover = F(1) - t
                buffer[i] = cover
                buffer[i + U(256)] = min(brightest, buffer[i + U(256)] + t * background[0])
                buffer[i + U(512)] = min(brightest, buffer[i + U(512)] + t * background[1])
                buffer[i + U(768)] = min(brightest, buffer[i + U(768)] + t * background[2])
                buffer[i + U(1024)] = buffer[i + U(1024)] / cover if cover > F(0) else F(0)
            for y in range(top, bottom + 1):
                if left + TILE <= width:
                    write_row(buffer, U((y - top) * 16), U(y), U(left), 16, color, alpha, depth)
                else:
                    write_row(buffer, U((y - top) * 16), U(y), U(left), width - left, color, alpha, depth)


@njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def measure(splats, offsets, lists, workers, tiles_x, width, height, seen):
    """What each (tile, splat) pair gives: seen [pairs, 5]: sums of opacity * T and of weights, peak weight,
    sum of alphas, number of pixels; all where the ray has not ended."""
    tiles = offsets.shape[0] - 1
    for worker in prange(workers):
        buffer = np.empty(4 * 256, np.float32)  # transmittance; the splat at hand: weights, T before it, alphas
        for tile in range(worker, tiles, workers):
            top, left = tile // tiles_x * TILE, tile % tiles_x * TILE
            bottom, columns = min(height, top + TILE) - 1, min(width - left, TILE)
            buffer[:256] = F(0)
            for y in range(bottom - top + 1):
                buffer[16 * y : 16 * y + columns] = F(1)
            seen[offsets[tile] : offsets[tile + 1]] = F(0)
            for begin in range(offsets[tile], offsets[tile + 1], CHECK):
                for k in range(begin, min(offsets[tile + 1], begin + CHECK)):
                    ask_ahead(splats, lists, k)
                    j = lists[k]
                    first, last = rows_of(splats, j, left, top, bottom)
                    half_a, b, c, opacity, dx0, dy0 = conic_of(splats, j, left)
                    for y in range(first, last + 1):
                        dy = F(y) + dy0
                        linear, constant = b * dy, F(0.5) * c * dy * dy
                        o = U((y - top) * 16)
                        for step in range(16):
                            i = o + U(step)
                            dx = F(step) + dx0
                            x = min(FAR, (half_a * dx + linear) * dx + constant)
                            al = min(ALPHA_MAX, opacity * exp_minus(x))
                            al = al if al >= ALPHA_MIN else F(0)
                            t = buffer[i]
                            weight = al * t
                            rest = t - weight
                            live = rest > T_MIN
                            weight = weight if live else F(0)
                            buffer[i] = rest if live else -abs(t)
                            buffer[i + U(256)] = weight
                            buffer[i + U(512)] = t
                            buffer[i + U(768)] = al
                    through, total, peak, cover, pixels = F(0), F(0), F(0), F(0), F(0)
                    o = U((first - top) * 16)
                    for step in range((last + 1 - first) * 16):
                        i = o + U(step)
                        weight = buffer[i + U(256)]
                        # Asked here: above it would keep LLVM from vectorising the rows, at twice the time.
                        through += buffer[i + U(512)] if weight > F(0) else F(0)
                        total += weight
                        peak = weight if weight > peak else peak
                        cover += buffer[i + U(768)] if weight > F(0) else F(0)
                        pixels += F(1) if weight > F(0) else F(0)
                    seen[k, 0], seen[k, 1], seen[k, 2] = opacity * through, total, peak
                    seen[k, 3], seen[k, 4] = cover, pixels
                if not any_alive(buffer):
                    break


@njit(parallel=True, cache=True, nogil=True)
def collect(seen, lists, pairs, ids, total, workers):
    """Add what the pairs gave to their Gaussians' rows of total [N, 5] float64; of the peaks the largest counts.

    Every worker reads all pairs and adds those of its own blocks of splats: no two meet at a Gaussian, and the order
    of additions is the same for any number of workers.
    """
    turns = np.arange(len(ids) // BLOCK + 1) % workers  # Looked up: a division for each pair takes a third of the time.
    for worker in prange(workers):
        for k in range(pairs):
            row = lists[k]
            if turns[row // BLOCK] != worker:
                continue
            i = ids[row]
            total[i, 0] += seen[k, 0]
            total[i, 1] += seen[k, 1]
            total[i, 2] = max(total[i, 2], seen[k, 2])
            total[i, 3] += seen[k, 3]
            total[i, 4] += seen[k, 4]
