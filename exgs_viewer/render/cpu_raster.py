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
    BLUE,
    DEPTH,
    GREEN,
    OPACITY,
    RADIUS_X,
    RADIUS_Y,
    RED,
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
SHARE = 16
"""Splats between two looks at whether the whole tile is opaque already."""


@njit(inline="always")
def rows_of(splats, j, left, top, bottom):
    """First and last pixel row in [top, bottom] where splat j reaches the tile whose first column is `left`."""
    px, py = splats[j, X], splats[j, Y]
    a, b, c, tau = splats[j, A], splats[j, B], splats[j, C], splats[j, TAU]
    radius_x, inverse_c = splats[j, RADIUS_X], F(1) / c
    low = max(-radius_x, F(left) + F(0.5) - px)
    high = min(radius_x, F(left) + F(15.5) - px)
    tallest = -b / a * splats[j, RADIUS_Y]
    slope, level, curve = -b * inverse_c, tau * inverse_c, (a * c - b * b) * inverse_c * inverse_c
    up, down = min(high, max(low, tallest)), min(high, max(low, -tallest))
    y_high = slope * up + math.sqrt(max(F(0), level - curve * up * up))
    y_low = slope * down - math.sqrt(max(F(0), level - curve * down * down))
    first = max(top, math.ceil(py + y_low - F(0.5)))
    last = min(bottom, math.floor(py + y_high - F(0.5)))
    return first, last


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
def draw(splats, offsets, lists, workers, tiles_x, background, color, alpha, depth):
    """Composite every tile front to back into color [H, W, 3], alpha [H, W], depth [H, W].

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
            looked = 0
            for k in range(offsets[tile], offsets[tile + 1]):
                j = lists[k]
                first, last = rows_of(splats, j, left, top, bottom)
                a, b, c, opacity = splats[j, A], splats[j, B], splats[j, C], splats[j, OPACITY]
                red, green, blue, z = splats[j, RED], splats[j, GREEN], splats[j, BLUE], splats[j, DEPTH]
                dx0 = F(left) + F(0.5) - splats[j, X]
                half_a, dy0 = F(0.5) * a, F(0.5) - splats[j, Y]
                for y in range(first, last + 1):
                    dy = F(y) + dy0
                    linear, constant = b * dy, F(0.5) * c * dy * dy
                    o = U((y - top) * 16)
                    for step in range(16):
                        i = o + U(step)
                        dx = F(step) + dx0
                        x = (half_a * dx + linear) * dx + constant
                        al = min(ALPHA_MAX, opacity * exp_minus(x))
                        al = al if (al >= ALPHA_MIN and x < F(8)) else F(0)
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
                looked += 1
                if looked % SHARE == 0:
                    most = F(0)
                    for i in range(256):
                        most = max(most, buffer[i])
                    if most <= F(0):
                        break
            for y in range(top, bottom + 1):
                for x in range(left, min(width, left + TILE)):
                    i = (y - top) * 16 + x - left
                    t = abs(buffer[i])
                    cover = F(1) - t
                    color[y, x, 0] = min(F(1), buffer[256 + i] + t * background[0])
                    color[y, x, 1] = min(F(1), buffer[512 + i] + t * background[1])
                    color[y, x, 2] = min(F(1), buffer[768 + i] + t * background[2])
                    alpha[y, x] = cover
                    depth[y, x] = buffer[1024 + i] / cover if cover > F(0) else F(0)


@njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def measure(splats, offsets, lists, workers, tiles_x, width, height, seen):
    """What each (tile, splat) pair gives: seen [pairs, 3] = sum of hits * opacity * T, sum of weights, peak weight."""
    tiles = offsets.shape[0] - 1
    for worker in prange(workers):
        buffer = np.empty(256, np.float32)
        for tile in range(worker, tiles, workers):
            top, left = tile // tiles_x * TILE, tile % tiles_x * TILE
            bottom, columns = min(height, top + TILE) - 1, min(width - left, TILE)
            buffer[:] = F(1)
            for k in range(offsets[tile], offsets[tile + 1]):
                j = lists[k]
                first, last = rows_of(splats, j, left, top, bottom)
                a, b, c, opacity = splats[j, A], splats[j, B], splats[j, C], splats[j, OPACITY]
                dx0 = F(left) + F(0.5) - splats[j, X]
                half_a, dy0 = F(0.5) * a, F(0.5) - splats[j, Y]
                through, total, peak = F(0), F(0), F(0)
                for y in range(first, last + 1):
                    dy = F(y) + dy0
                    linear, constant = b * dy, F(0.5) * c * dy * dy
                    o = U((y - top) * 16)
                    for step in range(16):
                        i = o + U(step)
                        dx = F(step) + dx0
                        x = (half_a * dx + linear) * dx + constant
                        al = min(ALPHA_MAX, opacity * exp_minus(x))
                        al = al if (al >= ALPHA_MIN and x < F(8) and step < columns) else F(0)
                        t = buffer[i]
                        weight = al * t
                        rest = t - weight
                        live = rest > T_MIN
                        weight = weight if live else F(0)
                        buffer[i] = rest if live else -abs(t)
                        through += t if weight > F(0) else F(0)
                        total += weight
                        peak = max(peak, weight)
                seen[k, 0], seen[k, 1], seen[k, 2] = opacity * through, total, peak


@njit(cache=True, nogil=True)
def collect(seen, lists, pairs, ids, hits, weight, peak):
    """Add the pairs' contributions to their Gaussians' float64 sums [N] and peaks [N]."""
    for k in range(pairs):
        i = ids[lists[k]]
        hits[i] += seen[k, 0]
        weight[i] += seen[k, 1]
        peak[i] = max(peak[i], seen[k, 2])
