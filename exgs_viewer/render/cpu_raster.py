"""Kernels of the CPU renderer, second half: tile lists to pictures, and to significance.

A tile's five buffers are slices of one array, rows have the fixed trip count 16 and indices are unsigned; with that
LLVM turns the row loop into vector code. exp(-x) is a cubic to the 64th power: relative error below 2e-4 for the
x <= ln 255 that matter.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from exgs_viewer.render.cpu_project import (
    BLOCK,
    BLUE,
    CURVE,
    DEPTH,
    FIELDS,
    GREEN,
    INVERSE_C,
    OPACITY,
    RADIUS_X,
    RED,
    SHARE,
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
    first = max(top, math.ceil(py + y_low - F(0.5)))
    last = min(bottom, math.floor(py + y_high - F(0.5)))
    return first, last


@njit(inline="always")
def fetch(splats, lists, begin, end, batch):
    """Copy the next splats of a tile side by side, so that their cache misses overlap instead of queueing."""
    for k in range(begin, end):
        j = lists[k]
        for field in range(FIELDS):
            batch[k - begin, field] = splats[j, field]
    return end - begin


@njit(inline="always")
def any_alive(buffer):
    """Whether any pixel of the tile still lets light through; a sum, since that is what LLVM vectorises."""
    alive = F(0)
    for i in range(256):
        alive += F(1) if buffer[i] > F(0) else F(0)
    return alive > F(0)


@njit(inline="always")
def exp_minus(x):
    """exp(-x) for 0 <= x <= 8."""
    q = x * F(1 / 64.0)
    e = F(1) - q * (F(1) - q * (F(0.5) - q * F(1 / 6.0)))
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    return e * e


@njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def draw(splats, offsets, lists, workers, tiles_x, background, brightest, color, alpha, depth):
    """Composite every tile front to back into color [H, W, 3] (at most `brightest`), alpha [H, W], depth [H, W].

    A pixel that is finished keeps its transmittance as a negative number: its further weights are then never positive.
    """
    height, width = alpha.shape
    tiles = offsets.shape[0] - 1
    for worker in prange(workers):
        buffer = np.empty(5 * 256, np.float32)  # transmittance, red, green, blue, depth
        batch = np.empty((SHARE, FIELDS), np.float32)
        for tile in range(worker, tiles, workers):
            top, left = tile // tiles_x * TILE, tile % tiles_x * TILE
            bottom = min(height, top + TILE) - 1
            buffer[:256] = F(1)
            buffer[256:] = F(0)
            for begin in range(offsets[tile], offsets[tile + 1], SHARE):
                shared = fetch(splats, lists, begin, min(offsets[tile + 1], begin + SHARE), batch)
                for j in range(shared):
                    first, last = rows_of(batch, j, left, top, bottom)
                    a, b, c, opacity = batch[j, A], batch[j, B], batch[j, C], batch[j, OPACITY]
                    red, green, blue, z = batch[j, RED], batch[j, GREEN], batch[j, BLUE], batch[j, DEPTH]
                    dx0 = F(left) + F(0.5) - batch[j, X]
                    half_a, dy0 = F(0.5) * a, F(0.5) - batch[j, Y]
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
            for y in range(top, bottom + 1):
                for x in range(left, min(width, left + TILE)):
                    i = (y - top) * 16 + x - left
                    t = abs(buffer[i])
                    cover = F(1) - t
                    color[y, x, 0] = min(brightest, buffer[256 + i] + t * background[0])
                    color[y, x, 1] = min(brightest, buffer[512 + i] + t * background[1])
                    color[y, x, 2] = min(brightest, buffer[768 + i] + t * background[2])
                    alpha[y, x] = cover
                    depth[y, x] = buffer[1024 + i] / cover if cover > F(0) else F(0)


@njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def measure(splats, offsets, lists, workers, tiles_x, width, height, seen):
    """What each (tile, splat) pair gives: seen [pairs, 5]: sums of opacity * T and of weights, peak weight,
    sum of alphas, number of pixels; all where the ray has not ended."""
    tiles = offsets.shape[0] - 1
    for worker in prange(workers):
        buffer = np.empty(4 * 256, np.float32)  # transmittance; the splat at hand: weights, T where it hits, alphas
        batch = np.empty((SHARE, FIELDS), np.float32)
        for tile in range(worker, tiles, workers):
            top, left = tile // tiles_x * TILE, tile % tiles_x * TILE
            bottom, columns = min(height, top + TILE) - 1, min(width - left, TILE)
            buffer[:256] = F(0)
            for y in range(bottom - top + 1):
                buffer[16 * y : 16 * y + columns] = F(1)
            seen[offsets[tile] : offsets[tile + 1]] = F(0)
            for begin in range(offsets[tile], offsets[tile + 1], SHARE):
                shared = fetch(splats, lists, begin, min(offsets[tile + 1], begin + SHARE), batch)
                for j in range(shared):
                    first, last = rows_of(batch, j, left, top, bottom)
                    a, b, c, opacity = batch[j, A], batch[j, B], batch[j, C], batch[j, OPACITY]
                    dx0 = F(left) + F(0.5) - batch[j, X]
                    half_a, dy0 = F(0.5) * a, F(0.5) - batch[j, Y]
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
                            buffer[i + U(512)] = t if weight > F(0) else F(0)
                            buffer[i + U(768)] = al if weight > F(0) else F(0)
                    through, total, peak, cover, pixels = F(0), F(0), F(0), F(0), F(0)
                    o = U((first - top) * 16)
                    for step in range((last + 1 - first) * 16):
                        i = o + U(step)
                        weight = buffer[i + U(256)]
                        through += buffer[i + U(512)]
                        total += weight
                        peak = weight if weight > peak else peak
                        cover += buffer[i + U(768)]
                        pixels += F(1) if weight > F(0) else F(0)
                    k = begin + j
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
    for worker in prange(workers):
        for k in range(pairs):
            row = lists[k]
            if row // BLOCK % workers != worker:
                continue
            i = ids[row]
            total[i, 0] += seen[k, 0]
            total[i, 1] += seen[k, 1]
            total[i, 2] = max(total[i, 2], seen[k, 2])
            total[i, 3] += seen[k, 3]
            total[i, 4] += seen[k, 4]
