"""Kernels of the CPU renderer, backwards: from a picture's cotangent to sums over each Gaussian, and to its parameters.

A tile is walked front to back once more, as in cpu_raster.draw. The row loop writes what each pixel has to say into
slices of the tile's buffer; sums are taken in a loop of their own, since a sum inside would keep LLVM from vectorising
the rows. What lies behind a splat enters only through its product with the cotangent, one number for each pixel.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from exgs_viewer.render.cpu_prefetch import ask_ahead
from exgs_viewer.render.cpu_project import (
    BLOCK,
    BLUE,
    DEPTH,
    GREEN,
    OPACITY,
    RED,
    TILE,
    A,
    B,
    C,
    F,
)
from exgs_viewer.render.cpu_raster import (
    ALPHA_MAX,
    ALPHA_MIN,
    CHECK,
    FAR,
    T_MIN,
    U,
    any_alive,
    conic_of,
    exp_minus,
    rows_of,
)

SUMS = 12
"""Columns of what is summed for a (tile, splat) pair: the cotangent's red, green, blue and 1, each times the weight;
the weight times the squared cotangent; the slope of log alpha (h), h dx, h dy, h dx^2, h dx dy, h dy^2; and, unused by
the pairs, one more to fill the row."""
PARAMETERS = 14
"""Columns of the gradients: mean 3, scale 3, quaternion 4, opacity, colour 3."""


@njit(inline="always")
def open_tile(buffer, cotangent, left, top, bottom, columns):
    """Fill the slices 0 transmittance, 3-5 cotangent, 6 its square, all 0 outside."""
    buffer[: 7 * 256] = F(0)
    for y in range(bottom - top + 1):
        for x in range(columns):
            i = 16 * y + x
            r, g, b = cotangent[top + y, left + x, 0], cotangent[top + y, left + x, 1], cotangent[top + y, left + x, 2]
            buffer[i] = F(1)
            buffer[768 + i], buffer[1024 + i], buffer[1280 + i] = r, g, b
            buffer[1536 + i] = r * r + g * g + b * b


@njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def there_and_back(splats, offsets, lists, workers, tiles_x, width, height, longest, wanted, sums):
    """sums [pairs, 4]: for each (tile, splat) pair the picture and 1, each times the blending weight.

    Each tile is drawn, and its weights, still at hand, carry it back. `longest` is the length of the longest tile's
    list. Instead of the picture what it lacks is carried back where wanted is [H, W, 3] and not [0, 0, 3].
    """
    tiles = offsets.shape[0] - 1
    for worker in prange(workers):
        buffer = np.empty(4 * 256, np.float32)  # transmittance, red, green, blue
        weights = np.empty(longest * 256, np.float32)
        rows = np.empty((longest, 2), np.int64)
        for tile in range(worker, tiles, workers):
            top, left = tile // tiles_x * TILE, tile % tiles_x * TILE
            bottom, columns = min(height, top + TILE) - 1, min(width - left, TILE)
            buffer[:] = F(0)
            for y in range(bottom - top + 1):
                buffer[16 * y : 16 * y + columns] = F(1)
            start, drawn = offsets[tile], 0
            sums[start : offsets[tile + 1]] = F(0)
            for begin in range(start, offsets[tile + 1], CHECK):
                for k in range(begin, min(offsets[tile + 1], begin + CHECK)):
                    ask_ahead(splats, lists, k)
                    j = lists[k]
                    first, last = rows_of(splats, j, left, top, bottom)
                    rows[drawn, 0], rows[drawn, 1] = first - top, last + 1 - top
                    half_a, b, c, opacity, dx0, dy0 = conic_of(splats, j, left)
                    red, green, blue = splats[j, RED], splats[j, GREEN], splats[j, BLUE]
                    own = U(drawn * 256)
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
                            weights[own + i] = weight
                    drawn += 1
                if not any_alive(buffer):
                    break
            if len(wanted):
                for y in range(bottom - top + 1):
                    for x in range(columns):
                        i = 16 * y + x
                        for channel in range(3):
                            at = i + 256 * (1 + channel)
                            buffer[at] = wanted[top + y, left + x, channel] - min(F(1), buffer[at])
            for k in range(drawn):
                red, green, blue, total = F(0), F(0), F(0), F(0)
                o, own = U(rows[k, 0] * 16), U(k * 256)
                for step in range((rows[k, 1] - rows[k, 0]) * 16):
                    i = o + U(step)
                    weight = weights[own + i]
                    red += weight * buffer[i + U(256)]
                    green += weight * buffer[i + U(512)]
                    blue += weight * buffer[i + U(768)]
                    total += weight
                sums[start + k, 0], sums[start + k, 1], sums[start + k, 2], sums[start + k, 3] = red, green, blue, total


@njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def back_to_splats(splats, offsets, lists, workers, tiles_x, picture, cotangent, sums):
    """sums [pairs, SUMS] for each (tile, splat) pair; picture [H, W, 3] is what was drawn, over black."""
    height, width = cotangent.shape[:2]
    tiles = offsets.shape[0] - 1
    for worker in prange(workers):
        # Slices: 0 transmittance, 1 weight, 2 slope h, 3-5 cotangent, 6 its square, 7 what lies behind times cotangent.
        buffer = np.empty(8 * 256, np.float32)
        for tile in range(worker, tiles, workers):
            top, left = tile // tiles_x * TILE, tile % tiles_x * TILE
            bottom, columns = min(height, top + TILE) - 1, min(width - left, TILE)
            open_tile(buffer, cotangent, left, top, bottom, columns)
            buffer[1792:] = F(0)
            for y in range(bottom - top + 1):
                for x in range(columns):
                    i = 16 * y + x
                    for channel in range(3):
                        buffer[1792 + i] += picture[top + y, left + x, channel] * cotangent[top + y, left + x, channel]
            sums[offsets[tile] : offsets[tile + 1]] = F(0)
            for begin in range(offsets[tile], offsets[tile + 1], CHECK):
                for k in range(begin, min(offsets[tile + 1], begin + CHECK)):
                    ask_ahead(splats, lists, k)
                    j = lists[k]
                    first, last = rows_of(splats, j, left, top, bottom)
                    half_a, b, c, opacity, dx0, dy0 = conic_of(splats, j, left)
                    red, green, blue = splats[j, RED], splats[j, GREEN], splats[j, BLUE]
                    for y in range(first, last + 1):
                        dy = F(y) + dy0
                        linear, constant = b * dy, F(0.5) * c * dy * dy
                        o = U((y - top) * 16)
                        for step in range(16):
                            i = o + U(step)
                            dx = F(step) + dx0
                            x = min(FAR, (half_a * dx + linear) * dx + constant)
                            free = opacity * exp_minus(x)
                            al = min(ALPHA_MAX, free)
                            al = al if al >= ALPHA_MIN else F(0)
                            t = buffer[i]
                            weight = al * t
                            rest = t - weight
                            live = rest > T_MIN
                            weight = weight if live else F(0)
                            al = al if live else F(0)
                            own = weight * (
                                red * buffer[i + U(768)] + green * buffer[i + U(1024)] + blue * buffer[i + U(1280)]
                            )
                            behind = buffer[i + U(1792)] - own
                            # dL/dlog(alpha) = w c.r - alpha / (1 - alpha) * behind.r; a capped alpha has no slope.
                            slope = own - al / (F(1) - al) * behind
                            buffer[i] = rest if live else -abs(t)
                            buffer[i + U(256)] = weight
                            buffer[i + U(512)] = slope if free <= ALPHA_MAX else F(0)
                            buffer[i + U(1792)] = behind
                    s0, s1, s2, s3, s4 = F(0), F(0), F(0), F(0), F(0)
                    o = U((first - top) * 16)
                    for step in range((last + 1 - first) * 16):
                        i = o + U(step)
                        weight = buffer[i + U(256)]
                        s0 += weight * buffer[i + U(768)]
                        s1 += weight * buffer[i + U(1024)]
                        s2 += weight * buffer[i + U(1280)]
                        s3 += weight
                        s4 += weight * buffer[i + U(1536)]
                    h, hx, hxx, hy, hxy, hyy = F(0), F(0), F(0), F(0), F(0), F(0)
                    for y in range(first, last + 1):
                        o = U((y - top) * 16)
                        row, row_x, row_xx = F(0), F(0), F(0)
                        for step in range(16):
                            slope, dx = buffer[o + U(step) + U(512)], F(step) + dx0
                            row += slope
                            row_x += slope * dx
                            row_xx += slope * dx * dx
                        dy = F(y) + dy0
                        h += row
                        hx += row_x
                        hxx += row_xx
                        hy += dy * row
                        hxy += dy * row_x
                        hyy += dy * dy * row
                    sums[k, 0], sums[k, 1], sums[k, 2], sums[k, 3], sums[k, 4] = s0, s1, s2, s3, s4
                    sums[k, 5], sums[k, 6], sums[k, 7] = h, hx, hy
                    sums[k, 8], sums[k, 9], sums[k, 10], sums[k, 11] = hxx, hxy, hyy, F(0)
                if not any_alive(buffer):
                    break


@njit(cache=True, nogil=True)
def gather(sums, lists, total):
    """Add the rows of all pairs to their splats' rows of total [staging rows, columns]."""
    for k in range(sums.shape[0]):
        ask_ahead(total, lists, k)
        for column in range(sums.shape[1]):
            total[lists[k], column] += sums[k, column]


@njit(parallel=True, cache=True, nogil=True)
def clear(counts, total):
    """Zero the staging rows of total that projection has filled."""
    for block in prange(counts.shape[0]):
        total[block * BLOCK : block * BLOCK + counts[block]] = F(0)


@njit(parallel=True, cache=True, nogil=True)
def recolor(counts, places, colors, splats):
    """Give every splat the colour of its Gaussian in colors [N, 3]."""
    for block in prange(counts.shape[0]):
        for row in range(block * BLOCK, block * BLOCK + counts[block]):
            for channel in range(3):
                splats[row, RED + channel] = colors[places[row], channel]


@njit(parallel=True, cache=True, nogil=True)
def scatter(counts, places, total, out):
    """Copy the splats' rows of total to the rows of their Gaussians in out [N, columns]."""
    for block in prange(counts.shape[0]):
        for row in range(block * BLOCK, block * BLOCK + counts[block]):
            for column in range(out.shape[1]):
                out[places[row], column] = total[row, column]


@njit(parallel=True, fastmath=True, cache=True, nogil=True, error_model="numpy")
def back_to_gaussians(counts, places, splats, total, means, scales, quats, view, out):
    """From sums over pixels [staging rows, SUMS] to gradients out [N, PARAMETERS]; view as cpu_project.project has it.

    With Q the conic, v = Q d: dL/dmean2d = sum h v, dL/dcovariance2d = 1/2 sum h v v^T; from there by the chain rule
    through covariance2d = flat flat^T, flat = focal / z (axes_xy - slope axes_z), axes = view rotation * R * scale.
    """
    focal, lim_x, lim_y = view[12], view[15], view[16]
    for block in prange(counts.shape[0]):
        turned, axes, d_axes = np.empty((3, 3), np.float32), np.empty((3, 3), np.float32), np.empty((3, 3), np.float32)
        rotation, d_rotation = np.empty((3, 3), np.float32), np.empty((3, 3), np.float32)
        flat, d_flat = np.empty((2, 3), np.float32), np.empty((2, 3), np.float32)
        for row in range(block * BLOCK, block * BLOCK + counts[block]):
            i = places[row]
            a, b, c, iz = splats[row, A], splats[row, B], splats[row, C], F(1) / splats[row, DEPTH]
            h, hx, hy = total[row, 5], total[row, 6], total[row, 7]
            hxx, hxy, hyy = total[row, 8], total[row, 9], total[row, 10]
            out[i, 10] = h / splats[row, OPACITY]
            for channel in range(3):
                # Black that is clamped does not answer; projection wrote exactly 0 there.
                out[i, 11 + channel] = total[row, channel] if splats[row, RED + channel] > F(0) else F(0)
            d_px, d_py = a * hx + b * hy, b * hx + c * hy
            g00 = F(0.5) * (a * a * hxx + F(2) * a * b * hxy + b * b * hyy)
            g01 = F(0.5) * (a * b * hxx + (a * c + b * b) * hxy + b * c * hyy)
            g11 = F(0.5) * (b * b * hxx + F(2) * b * c * hxy + c * c * hyy)
            w, x, y, z = quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]
            rotation[0, 0], rotation[0, 1] = F(1) - F(2) * (y * y + z * z), F(2) * (x * y - w * z)
            rotation[0, 2], rotation[1, 0] = F(2) * (x * z + w * y), F(2) * (x * y + w * z)
            rotation[1, 1], rotation[1, 2] = F(1) - F(2) * (x * x + z * z), F(2) * (y * z - w * x)
            rotation[2, 0], rotation[2, 1] = F(2) * (x * z - w * y), F(2) * (y * z + w * x)
            rotation[2, 2] = F(1) - F(2) * (x * x + y * y)
            cam_x = view[0] * means[i, 0] + view[1] * means[i, 1] + view[2] * means[i, 2] + view[9]
            cam_y = view[3] * means[i, 0] + view[4] * means[i, 1] + view[5] * means[i, 2] + view[10]
            slope_x, slope_y = cam_x * iz, cam_y * iz
            free_x, free_y = abs(slope_x) <= lim_x, abs(slope_y) <= lim_y
            tilt_x, tilt_y = min(lim_x, max(-lim_x, slope_x)), min(lim_y, max(-lim_y, slope_y))
            f = focal * iz
            d_iz, d_tilt_x, d_tilt_y = F(0), F(0), F(0)
            for k in range(3):
                for r in range(3):
                    turned[r, k] = view[3 * r] * rotation[0, k]
                    turned[r, k] += view[3 * r + 1] * rotation[1, k] + view[3 * r + 2] * rotation[2, k]
                    axes[r, k] = turned[r, k] * scales[i, k]
                flat[0, k], flat[1, k] = f * (axes[0, k] - tilt_x * axes[2, k]), f * (axes[1, k] - tilt_y * axes[2, k])
                d_flat[0, k] = F(2) * (g00 * flat[0, k] + g01 * flat[1, k])
                d_flat[1, k] = F(2) * (g01 * flat[0, k] + g11 * flat[1, k])
                d_iz += (d_flat[0, k] * flat[0, k] + d_flat[1, k] * flat[1, k]) / iz
                d_tilt_x -= f * d_flat[0, k] * axes[2, k]
                d_tilt_y -= f * d_flat[1, k] * axes[2, k]
                d_axes[0, k], d_axes[1, k] = f * d_flat[0, k], f * d_flat[1, k]
                d_axes[2, k] = -f * (tilt_x * d_flat[0, k] + tilt_y * d_flat[1, k])
                out[i, 3 + k] = d_axes[0, k] * turned[0, k] + d_axes[1, k] * turned[1, k] + d_axes[2, k] * turned[2, k]
            d_x, d_y = d_px * f, d_py * f
            d_iz += d_px * focal * cam_x + d_py * focal * cam_y
            if free_x:
                d_x += d_tilt_x * iz
                d_iz += d_tilt_x * cam_x
            if free_y:
                d_y += d_tilt_y * iz
                d_iz += d_tilt_y * cam_y
            d_z = -d_iz * iz * iz
            for k in range(3):
                out[i, k] = view[k] * d_x + view[3 + k] * d_y + view[6 + k] * d_z
                for r in range(3):
                    d_rotation[r, k] = view[r] * d_axes[0, k] + view[3 + r] * d_axes[1, k] + view[6 + r] * d_axes[2, k]
                    d_rotation[r, k] *= scales[i, k]
            d = d_rotation
            q_w = F(2) * (x * (d[2, 1] - d[1, 2]) + y * (d[0, 2] - d[2, 0]) + z * (d[1, 0] - d[0, 1]))
            q_x = F(2) * (w * (d[2, 1] - d[1, 2]) + y * (d[0, 1] + d[1, 0]) + z * (d[0, 2] + d[2, 0]))
            q_x -= F(4) * x * (d[1, 1] + d[2, 2])
            q_y = F(2) * (w * (d[0, 2] - d[2, 0]) + x * (d[0, 1] + d[1, 0]) + z * (d[1, 2] + d[2, 1]))
            q_y -= F(4) * y * (d[0, 0] + d[2, 2])
            q_z = F(2) * (w * (d[1, 0] - d[0, 1]) + x * (d[0, 2] + d[2, 0]) + y * (d[1, 2] + d[2, 1]))
            q_z -= F(4) * z * (d[0, 0] + d[1, 1])
            along = q_w * w + q_x * x + q_y * y + q_z * z
            out[i, 6], out[i, 7] = q_w - along * w, q_x - along * x
            out[i, 8], out[i, 9] = q_y - along * y, q_z - along * z
