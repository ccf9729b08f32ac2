"""Kernels of the CPU renderer, first half: from Gaussians to depth-sorted splats in tile lists.

Written for numba: scalars are float32 throughout (a Python float literal would promote to float64 and halve the
vector width), loops over splats run in parallel over fixed chunks, and every result goes into scratch memory that
the caller keeps between frames. np.ceil and np.floor are one instruction each, where math's call a function.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from exgs_viewer.render.cpu_prefetch import AHEAD, prefetch

F = np.float32
TILE = 16
"""Edge of a tile in pixels."""
BLOCK = 2048
"""Gaussians that one task projects; their survivors lie together in the staging rows of the block."""
FIELDS = 16
"""float32 values of a splat: exactly one cache line, since rows are read one by one, in depth order."""

X, Y, A, B, C, OPACITY, RED, GREEN, BLUE, DEPTH, TAU, RADIUS_X, RADIUS_Y, INVERSE_C, CURVE, TALLEST = range(FIELDS)
"""Columns of a splat: centre (px), conic a b c of a dx^2 + 2 b dx dy + c dy^2, opacity, colour, depth (world units),
tau = 2 ln(255 opacity) beyond which alpha < 1/255, half extents of that ellipse (px); 1 / c, (a c - b^2) / c^2 and the
dx at which dy is largest, which cutting the ellipse with a tile needs (px)."""

ROW = np.uint64(0xFFFFFFFF)
"""The lower half of a key: which staging row it stands for."""
DILATION = F(0.3)


@njit(inline="always")
def sh_basis(x, y, z, degree, basis):
    """Real spherical harmonics up to `degree` (0-3) for a unit direction, as in Kerbl et al. 2023; basis [16]."""
    basis[0] = F(0.28209479177387814)
    if degree > 0:
        basis[1], basis[2], basis[3] = F(-0.4886025119029199) * y, F(0.4886025119029199) * z, F(-0.4886025119029199) * x
    if degree > 1:
        xx, yy, zz = x * x, y * y, z * z
        basis[4] = F(1.0925484305920792) * x * y
        basis[5] = F(-1.0925484305920792) * y * z
        basis[6] = F(0.31539156525252005) * (zz + zz - xx - yy)
        basis[7] = F(-1.0925484305920792) * x * z
        basis[8] = F(0.5462742152960396) * (xx - yy)
        if degree > 2:
            basis[9] = F(-0.5900435899266435) * y * (F(3) * xx - yy)
            basis[10] = F(2.890611442640554) * x * y * z
            basis[11] = F(-0.4570457994644658) * y * (F(4) * zz - xx - yy)
            basis[12] = F(0.3731763325901154) * z * (F(2) * zz - F(3) * xx - F(3) * yy)
            basis[13] = F(-0.4570457994644658) * x * (F(4) * zz - xx - yy)
            basis[14] = F(1.445305721320277) * z * (xx - yy)
            basis[15] = F(-0.5900435899266435) * x * (xx - F(3) * yy)


@njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def project(
    means, scales, quats, opacities, sh, degree, antialiased, view, width, height, staging, places, boxes, keys, counts
):
    """Project every Gaussian; survivors of culling go to their block's staging rows.

    Antialiased, a Gaussian covers as much after its dilation as before (Yu et al. 2023, eq. 9).

    view [21]: world-to-camera rotation (9, rows), translation (3), focal, cx, cy, limit x, limit y, near, camera
    position (3). staging [N, FIELDS], places [N] which Gaussian a staging row is, boxes [N] tiles in its bounding box,
    keys [N] uint64 (depth bits, staging row), counts [blocks] survivors.
    """
    r00, r01, r02, r10, r11, r12 = view[0], view[1], view[2], view[3], view[4], view[5]
    r20, r21, r22, t0, t1, t2 = view[6], view[7], view[8], view[9], view[10], view[11]
    focal, cx, cy, lim_x, lim_y, near = view[12], view[13], view[14], view[15], view[16], view[17]
    p0, p1, p2 = view[18], view[19], view[20]
    n = means.shape[0]
    # No projected variance exceeds (focal / z)^2 (1 + lim^2) * scale^2 + dilation: what fails with that is far outside.
    slack_x, slack_y = focal * math.sqrt(F(1) + lim_x * lim_x), focal * math.sqrt(F(1) + lim_y * lim_y)
    w, h = F(width), F(height)
    for block in prange(counts.shape[0]):
        basis = np.empty(16, np.float32)
        kept = 0
        first = block * BLOCK
        for i in range(first, min(n, first + BLOCK)):
            m0, m1, m2 = means[i, 0], means[i, 1], means[i, 2]
            z = r20 * m0 + r21 * m1 + r22 * m2 + t2
            opacity = opacities[i]
            if z < near or opacity < F(1 / 255.0):
                continue
            x = r00 * m0 + r01 * m1 + r02 * m2 + t0
            y = r10 * m0 + r11 * m1 + r12 * m2 + t1
            iz = F(1) / z
            px, py = focal * x * iz + cx, focal * y * iz + cy
            s0, s1, s2 = scales[i, 0], scales[i, 1], scales[i, 2]
            reach = F(3.33) * max(s0, max(s1, s2)) * iz
            bound_x, bound_y = slack_x * reach + F(2), slack_y * reach + F(2)
            if px + bound_x < F(0) or px - bound_x > w or py + bound_y < F(0) or py - bound_y > h:
                continue
            qw, qx, qy, qz = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
            tx, ty = min(lim_x, max(-lim_x, x * iz)), min(lim_y, max(-lim_y, y * iz))
            f = focal * iz
            # Rows of the Jacobian times the view rotation: how world axes move on the screen.
            a0, a1, a2 = f * (r00 - tx * r20), f * (r01 - tx * r21), f * (r02 - tx * r22)
            b0, b1, b2 = f * (r10 - ty * r20), f * (r11 - ty * r21), f * (r12 - ty * r22)
            q00, q01, q02 = F(1) - F(2) * (qy * qy + qz * qz), F(2) * (qx * qy - qw * qz), F(2) * (qx * qz + qw * qy)
            q10, q11, q12 = F(2) * (qx * qy + qw * qz), F(1) - F(2) * (qx * qx + qz * qz), F(2) * (qy * qz - qw * qx)
            q20, q21, q22 = F(2) * (qx * qz - qw * qy), F(2) * (qy * qz + qw * qx), F(1) - F(2) * (qx * qx + qy * qy)
            u0, u1 = (a0 * q00 + a1 * q10 + a2 * q20) * s0, (a0 * q01 + a1 * q11 + a2 * q21) * s1
            u2 = (a0 * q02 + a1 * q12 + a2 * q22) * s2
            v0, v1 = (b0 * q00 + b1 * q10 + b2 * q20) * s0, (b0 * q01 + b1 * q11 + b2 * q21) * s1
            v2 = (b0 * q02 + b1 * q12 + b2 * q22) * s2
            xx = u0 * u0 + u1 * u1 + u2 * u2 + DILATION
            xy = u0 * v0 + u1 * v1 + u2 * v2
            yy = v0 * v0 + v1 * v1 + v2 * v2 + DILATION
            det = xx * yy - xy * xy
            if not det > F(0):
                continue
            if antialiased:
                # The determinant before the dilation, as a cross product: exact for the thinnest Gaussians too.
                c0, c1, c2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
                opacity *= math.sqrt((c0 * c0 + c1 * c1 + c2 * c2) / det)
                if opacity < F(1 / 255.0):
                    continue
            tau = F(2) * math.log(F(255) * opacity)
            radius_x, radius_y = math.sqrt(tau * xx), math.sqrt(tau * yy)
            # Pixel centres lie at +0.5, so the extent must reach one of them.
            left, right = np.ceil(px - radius_x - F(0.5)), np.floor(px + radius_x - F(0.5))
            top, bottom = np.ceil(py - radius_y - F(0.5)), np.floor(py + radius_y - F(0.5))
            if left > right or top > bottom or right < F(0) or bottom < F(0) or left >= w or top >= h:
                continue
            row = first + kept
            inverse = F(1) / det
            staging[row, X], staging[row, Y] = px, py
            staging[row, A], staging[row, B], staging[row, C] = yy * inverse, -xy * inverse, xx * inverse
            staging[row, OPACITY], staging[row, DEPTH], staging[row, TAU] = opacity, z, tau
            staging[row, RADIUS_X], staging[row, RADIUS_Y] = radius_x, radius_y
            inverse_xx = F(1) / xx
            staging[row, INVERSE_C], staging[row, CURVE] = det * inverse_xx, det * inverse_xx * inverse_xx
            staging[row, TALLEST] = xy / yy * radius_y
            d0, d1, d2 = m0 - p0, m1 - p1, m2 - p2
            norm = F(1) / math.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
            sh_basis(d0 * norm, d1 * norm, d2 * norm, degree, basis)
            red, green, blue = F(0.5), F(0.5), F(0.5)
            for k in range((degree + 1) * (degree + 1)):
                red += basis[k] * sh[i, 3 * k]
                green += basis[k] * sh[i, 3 * k + 1]
                blue += basis[k] * sh[i, 3 * k + 2]
            red, green, blue = max(red, F(0)), max(green, F(0)), max(blue, F(0))
            staging[row, RED], staging[row, GREEN], staging[row, BLUE] = red, green, blue
            places[row] = i
            across = min(width - 1, int(px + radius_x)) // TILE - max(0, int(px - radius_x)) // TILE + 1
            down = min(height - 1, int(py + radius_y)) // TILE - max(0, int(py - radius_y)) // TILE + 1
            boxes[row] = across * down
            # Positive floats sort like their bits.
            keys[row] = (np.uint64(np.float32(z).view(np.uint32)) << np.uint64(32)) | np.uint64(row)
            kept += 1
        counts[block] = kept


# Serial, like the two functions below: entering and leaving a parallel loop costs more than the loop itself where
# other programs, the window first of all, want the cores too.
@njit(cache=True, nogil=True)
def compact(keys, counts, packed):
    """Gather the blocks' keys into packed [visible]."""
    at = 0
    for block in range(counts.shape[0]):
        for j in range(counts[block]):
            packed[at] = keys[block * BLOCK + j]
            at += 1


@njit(cache=True, nogil=True)
def radix_sort(keys, other, count):
    """Stable sort of keys[:count] by their upper 32 bits, in three passes of 11 bits. The result ends in `other`."""
    histogram = np.empty(2048, np.int64)
    for turn in range(3):
        source, target = (keys, other) if turn % 2 == 0 else (other, keys)
        shift = np.uint64(32 + 11 * turn)
        histogram[:] = 0
        for i in range(count):
            histogram[(source[i] >> shift) & np.uint64(2047)] += 1
        total = 0
        for digit in range(2048):
            here = histogram[digit]
            histogram[digit] = total
            total += here
        for i in range(count):
            digit = (source[i] >> shift) & np.uint64(2047)
            target[histogram[digit]] = source[i]
            histogram[digit] += 1


@njit(cache=True, nogil=True)
def box_starts(boxes, keys, count, parts, starts):
    """Where each part's run of pairs begins (starts [parts]) if every splat filled its box; returns the sum of all."""
    size = (count + parts - 1) // parts
    total = 0
    for part in range(parts):
        starts[part] = total
        for k in range(part * size, min(count, part * size + size)):
            total += boxes[keys[k] & ROW]
    return total


@njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def emit_pairs(splats, keys, count, parts, tiles_x, width, height, starts, tiles, owners, totals, histogram):
    """List (tile, splat) pairs in depth order, one run per part: exactly the tiles with a pixel of alpha >= 1/255.

    starts [parts] where each part's run begins, totals [parts] its length, histogram [parts, tiles] pairs per tile.
    """
    size = (count + parts - 1) // parts
    for part in prange(parts):
        histogram[part, :] = 0
        at = starts[part]
        for k in range(part * size, min(count, part * size + size)):
            prefetch(splats, keys[min(k + AHEAD, count - 1)] & ROW)
            j = keys[k] & ROW
            px, py = splats[j, X], splats[j, Y]
            radius_x, radius_y = splats[j, RADIUS_X], splats[j, RADIUS_Y]
            a, b, c, tau = splats[j, A], splats[j, B], splats[j, C], splats[j, TAU]
            top = max(0, int(np.ceil(py - radius_y - F(0.5)))) // TILE
            bottom = min(height - 1, int(np.floor(py + radius_y - F(0.5)))) // TILE
            # Rounding must not lead out of the box for which box_starts made room.
            most_left = max(0, int(px - radius_x)) // TILE
            most_right = min(width - 1, int(px + radius_x)) // TILE
            # The ellipse is widest at dy = -+ b / c * radius_x; within a band the clamped dy gives its ends there.
            widest, inverse_a = -b / c * radius_x, F(1) / a
            curve, slope = (a * c - b * b) * inverse_a * inverse_a, -b * inverse_a
            level = tau * inverse_a
            for tile_y in range(top, bottom + 1):
                low = max(-radius_y, F(tile_y * TILE) + F(0.5) - py)
                high = min(radius_y, F(tile_y * TILE) + F(15.5) - py)
                up, down = min(high, max(low, widest)), min(high, max(low, -widest))
                x_high = slope * up + math.sqrt(max(F(0), level - curve * up * up))
                x_low = slope * down - math.sqrt(max(F(0), level - curve * down * down))
                left = max(most_left, max(0, int(np.ceil(px + x_low - F(0.5)))) // TILE)
                right = min(most_right, min(width - 1, int(np.floor(px + x_high - F(0.5)))) // TILE)
                for tile in range(tile_y * tiles_x + left, tile_y * tiles_x + right + 1):
                    tiles[at] = tile
                    owners[at] = j
                    at += 1
                    histogram[part, tile] += 1
        totals[part] = at - starts[part]


@njit(parallel=True, cache=True, nogil=True)
def scatter_pairs(parts, starts, totals, tiles, owners, offsets, histogram, lists):
    """Counting sort of the pairs by tile, stable, so every tile's list stays in depth order.

    Turns histogram into each part's write positions; offsets [tiles + 1] are the bounds of the tiles' lists.
    """
    total = 0
    for tile in range(histogram.shape[1]):
        offsets[tile] = total
        for part in range(parts):
            here = histogram[part, tile]
            histogram[part, tile] = total
            total += here
    offsets[histogram.shape[1]] = total
    for part in prange(parts):
        for k in range(starts[part], starts[part] + totals[part]):
            tile = tiles[k]
            lists[histogram[part, tile]] = owners[k]
            histogram[part, tile] += 1
