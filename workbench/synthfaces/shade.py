"""What light does at each sample: skin, eyes, hair, cloth; key light with shadow map, fill lights, sky. Linear light throughout."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import EYE_LEFT, EYE_RIGHT, LASHES, SKIN, TEETH, TORSO
from workbench.synthfaces.raster import compiled

HAIR, FRAME, CLOTH, CLOTHES = range(LASHES + 1, LASHES + 5)
"""Materials beside the anatomy's parts; the last replaces skin below the collar."""

PALETTE = np.array(
    [
        (0.0, 0.0, 0.0, 0.0, 18.0, 1.0),  # skin: from the atlas
        (0.10, 0.025, 0.022, 0.0, 1.0, 0.6),  # the inside of the mouth
        (0.30, 0.13, 0.11, 0.0, 1.0, 0.6),  # sockets
        (0.0, 0.0, 0.0, 0.1, 18.0, 1.0),  # skin of shoulders and hands
        (0.0, 0.0, 0.0, 0.20, 320.0, 1.0),  # eyes: from extras
        (0.0, 0.0, 0.0, 0.20, 320.0, 1.0),
        (0.78, 0.72, 0.62, 0.1, 40.0, 0.9),  # teeth
        (0.28, 0.08, 0.08, 0.1, 18.0, 0.8),  # tongue
        (0.0, 0.0, 0.0, 0.0, 1.0, 1.0),  # lashes
        (0.0, 0.0, 0.0, 0.16, 14.0, 1.0),  # hair
        (0.0, 0.0, 0.0, 0.4, 60.0, 1.0),  # frames of glasses
        (0.0, 0.0, 0.0, 0.03, 18.0, 1.0),  # cloth before the face
        (0.0, 0.0, 0.0, 0.02, 18.0, 1.0),  # clothes
    ],
    dtype=np.float32,
)
"""Colour, strength and sharpness of the highlight, factor of the ambient occlusion; colours of people and clothes are filled in."""


@compiled
def _hash(x: int, y: int, z: int) -> float:
    """A number in 0..1 from three whole ones."""
    h = (
        np.uint32(x) * np.uint32(73856093)
        ^ np.uint32(y) * np.uint32(19349663)
        ^ np.uint32(z) * np.uint32(83492791)
    )
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(2246822519)
    return float((h ^ (h >> np.uint32(16))) & np.uint32(0xFFFFFF)) / 16777215.0


@compiled
def noise(x: float, y: float, z: float) -> float:
    """Smooth noise in 0..1, one bump a unit: value noise on the whole numbers' grid."""
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    ix, iy, iz = int(fx), int(fy), int(fz)
    tx, ty, tz = x - fx, y - fy, z - fz
    tx, ty, tz = tx * tx * (3 - 2 * tx), ty * ty * (3 - 2 * ty), tz * tz * (3 - 2 * tz)
    near = _hash(ix, iy, iz) * (1 - tx) + _hash(ix + 1, iy, iz) * tx
    far = _hash(ix, iy + 1, iz) * (1 - tx) + _hash(ix + 1, iy + 1, iz) * tx
    low = near * (1 - ty) + far * ty
    near = _hash(ix, iy, iz + 1) * (1 - tx) + _hash(ix + 1, iy, iz + 1) * tx
    far = _hash(ix, iy + 1, iz + 1) * (1 - tx) + _hash(ix + 1, iy + 1, iz + 1) * tx
    return low * (1 - tz) + (near * (1 - ty) + far * ty) * tz


@compiled
def smoothstep(low: float, high: float, x: float) -> float:
    """0 below `low`, 1 above `high`, smooth between."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@compiled
def lit_share(
    shadow: NDArray[np.float32],
    frame: NDArray[np.float32],
    x: float,
    y: float,
    z: float,
    bias: float,
) -> float:
    """Share of the shadow map's four samples around a point that see the light, weighted with their nearness to it.

    `frame` (4, 3): the axes across, down and towards the light as columns, then offsets and scale.
    """
    side = shadow.shape[0]
    u = (x * frame[0, 0] + y * frame[1, 0] + z * frame[2, 0]) * frame[3, 2] + frame[3, 0] - 0.5
    v = (x * frame[0, 1] + y * frame[1, 1] + z * frame[2, 1]) * frame[3, 2] + frame[3, 1] - 0.5
    near = x * frame[0, 2] + y * frame[1, 2] + z * frame[2, 2] + bias
    if u < 0 or v < 0 or u >= side - 1 or v >= side - 1:
        return 1.0
    column, row = int(u), int(v)
    u, v = u - column, v - row
    lit = 0.0
    if shadow[row, column] <= near:
        lit += (1 - u) * (1 - v)
    if shadow[row, column + 1] <= near:
        lit += u * (1 - v)
    if shadow[row + 1, column] <= near:
        lit += (1 - u) * v
    if shadow[row + 1, column + 1] <= near:
        lit += u * v
    return lit


@compiled
def _skin_at(
    atlas: NDArray[np.float32], gloss: NDArray[np.float32], u: float, v: float
) -> tuple[float, float, float, float]:
    """Albedo and gloss between the four texels around a place in the atlas."""
    rows, columns = gloss.shape
    u, v = min(max(u, 0.0), columns - 1.001), min(max(v, 0.0), rows - 1.001)
    i, j = int(v), int(u)
    u, v = u - j, v - i
    a, b, c, d = (1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v
    return (
        a * atlas[i, j, 0]
        + b * atlas[i, j + 1, 0]
        + c * atlas[i + 1, j, 0]
        + d * atlas[i + 1, j + 1, 0],
        a * atlas[i, j, 1]
        + b * atlas[i, j + 1, 1]
        + c * atlas[i + 1, j, 1]
        + d * atlas[i + 1, j + 1, 1],
        a * atlas[i, j, 2]
        + b * atlas[i, j + 1, 2]
        + c * atlas[i + 1, j, 2]
        + d * atlas[i + 1, j + 1, 2],
        a * gloss[i, j] + b * gloss[i, j + 1] + c * gloss[i + 1, j] + d * gloss[i + 1, j + 1],
    )


@compiled
def _eye_at(
    eye: NDArray[np.float32], colours: NDArray[np.float32], x: float, y: float, z: float
) -> tuple[float, float, float, float]:
    """Colour of the eyeball at a place of the mean head, and how much light lids and lashes let through to it."""
    x, y, z = x - eye[0], y - eye[1], z - eye[2]
    along = (x * eye[4] + y * eye[5] + z * eye[6]) / (math.sqrt(x * x + y * y + z * z) + 1e-9)
    iris = smoothstep(eye[8] - 0.012, eye[8] + 0.008, along)
    rim = smoothstep(eye[8] + 0.03, eye[8] - 0.005, along)
    pupil = smoothstep(eye[7] - 0.004, eye[7] + 0.004, along)
    fibre = 0.8 + 0.4 * noise(math.atan2(y, x) * 6.0, along * 20.0, 3.0)
    veins = smoothstep(0.93, 0.5, along)
    red = (
        colours[0, 0] * (1 - iris)
        + (colours[1, 0] * (1 - rim) + colours[2, 0] * rim) * fibre * iris
    )
    green = (
        colours[0, 1] * (1 - 0.22 * veins) * (1 - iris)
        + (colours[1, 1] * (1 - rim) + colours[2, 1] * rim) * fibre * iris
    )
    blue = (
        colours[0, 2] * (1 - 0.25 * veins) * (1 - iris)
        + (colours[1, 2] * (1 - rim) + colours[2, 2] * rim) * fibre * iris
    )
    open_to_sky = (smoothstep(0.11, 0.0, y) * 0.40 + 0.60) * (
        0.62 + 0.38 * smoothstep(0.16, 0.05, abs(x))
    )
    return (
        red * (1 - pupil) + 0.004 * pupil,
        green * (1 - pupil) + 0.004 * pupil,
        blue * (1 - pupil) + 0.004 * pupil,
        open_to_sky,
    )


@compiled
def _below_collar(collar: NDArray[np.float32], x: float, y: float, z: float) -> bool:
    """Is a place of the mean head clothed? `collar`: height at the sides, depth and width of the neckline."""
    dip = collar[1] * math.exp(-((x / collar[2]) ** 2)) if z > -1.0 else 0.0
    return bool(y < -1.35 - collar[0] * (0.2 - z * 0.1) - dip)


@compiled
def _smooth(seen: NDArray[np.int32], material: NDArray[np.uint8], row: int, column: int) -> bool:
    """Do all four samples of the pixel that a sample belongs to see skin, or all see hair?"""
    i, j = row - row % 2, column - column % 2
    if seen[i, j] < 0:
        return False
    kind = material[seen[i, j]]
    if kind not in (SKIN, HAIR):
        return False
    for k in range(1, 4):
        t = seen[i + k // 2, j + k % 2]
        if t < 0 or material[t] != kind:
            return False
    return True


@compiled
def shade(  # noqa: PLR0912 - one loop over samples, read from top to bottom
    seen: NDArray[np.int32],
    points: NDArray[np.float32],
    vertices: NDArray[np.float32],
    rest: NDArray[np.float32],
    normals: NDArray[np.float32],
    triangles: NDArray[np.int32],
    material: NDArray[np.uint8],
    uv: NDArray[np.float32],
    openness: NDArray[np.float32],
    atlas: NDArray[np.float32],
    gloss: NDArray[np.float32],
    palette: NDArray[np.float32],
    eyes: NDArray[np.float32],
    extras: NDArray[np.float32],
    lights: NDArray[np.float32],
    sky: NDArray[np.float32],
    shadow: NDArray[np.float32],
    shadow_frame: NDArray[np.float32],
    camera: float,
    picture: NDArray[np.float32],
) -> None:
    """Colour each sample of `picture` (H, W, 4: linear red, green, blue, and 1 where anything is), in place.

    Args:
        seen: (H, W) numbers of triangles, -1 for none.
        points: (V, 3) as for `rasterise`, in perspective (1/z).
        vertices: (V, 3) in the scene; rest: (V, 3) on the mean head; normals: (V, 3); openness: (V,) ambient occlusion.
        triangles: (T, 3). material: (T,). uv: (T, 3, 2) place in the atlas; for hair across and along the strands.
        atlas: (rows, columns, 3) albedo of the skin. gloss: (rows, columns) strength of its highlight.
        palette: (13, 6) of each material: colour, strength and sharpness of the highlight, factor of the ambient occlusion.
            The last row is clothing.
        eyes: (2, 9) left and right on the mean head: centre (0-2), radius (3), gaze (4-6), cosines of pupil and iris (7, 8).
        extras: (5, 3) colours of sclera, iris and its rim; tips of the hair; collar, as for `_below_collar`.
        lights: (L, 7) unit direction towards the light, colour, 1 for the light that casts shadows.
        sky: (2, 3) light from below and above.
        shadow, shadow_frame: depth map of the shadow-casting light and its frame, as for `lit_share`.
        camera: distance of the camera from the origin along z.
    """
    height, width = seen.shape
    for row in range(height):
        for column in range(width):
            t = seen[row, column]
            if t < 0:
                continue
            # Within skin and within hair, two samples of a pixel's four are enough.
            if (row + column) % 2 and _smooth(seen, material, row, column):
                continue
            # Shares of the triangle's corners, right in perspective.
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            ax, ay, bx, by, cx, cy = (
                points[a, 0],
                points[a, 1],
                points[b, 0],
                points[b, 1],
                points[c, 0],
                points[c, 1],
            )
            px, py = column + np.float32(0.5), row + np.float32(0.5)
            area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
            wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
            wc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
            wa = (np.float32(1.0) - wb - wc) * points[a, 2]
            wb *= points[b, 2]
            wc *= points[c, 2]
            total = wa + wb + wc
            wa, wb, wc = wa / total, wb / total, wc / total

            x = wa * vertices[a, 0] + wb * vertices[b, 0] + wc * vertices[c, 0]
            y = wa * vertices[a, 1] + wb * vertices[b, 1] + wc * vertices[c, 1]
            z = wa * vertices[a, 2] + wb * vertices[b, 2] + wc * vertices[c, 2]
            nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
            ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
            nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
            rx = wa * rest[a, 0] + wb * rest[b, 0] + wc * rest[c, 0]
            ry = wa * rest[a, 1] + wb * rest[b, 1] + wc * rest[c, 1]
            rz = wa * rest[a, 2] + wb * rest[b, 2] + wc * rest[c, 2]
            u = wa * uv[t, 0, 0] + wb * uv[t, 1, 0] + wc * uv[t, 2, 0]
            v = wa * uv[t, 0, 1] + wb * uv[t, 1, 1] + wc * uv[t, 2, 1]

            vx, vy, vz = -x, -y, camera - z
            length = math.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx / length, vy / length, vz / length
            length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length

            kind = material[t]
            if kind >= HAIR and nx * vx + ny * vy + nz * vz < 0:
                nx, ny, nz = -nx, -ny, -nz  # shells, frames and cloth have two sides
            if kind in (SKIN, TORSO) and _below_collar(extras[4], rx, ry, rz):
                kind = CLOTHES
            red, green, blue = palette[kind, 0], palette[kind, 1], palette[kind, 2]
            shine, sharp = palette[kind, 3], palette[kind, 4]
            ao = (wa * openness[a] + wb * openness[b] + wc * openness[c]) * palette[kind, 5]
            if kind == SKIN:
                red, green, blue, shine = _skin_at(atlas, gloss, u, v)
            elif kind in (EYE_LEFT, EYE_RIGHT):
                red, green, blue, ao = _eye_at(eyes[kind - EYE_LEFT], extras, rx, ry, rz)
            elif kind == HAIR:
                strand = noise(u, v * 1.6, 7.0) * 0.6 + noise(u * 3.1, v * 2.2, 3.0) * 0.4
                tip, bright = smoothstep(0.3, 1.0, v), 0.55 + 0.9 * strand
                red = (red * (1 - tip) + extras[3, 0] * tip) * bright
                green = (green * (1 - tip) + extras[3, 1] * tip) * bright
                blue = (blue * (1 - tip) + extras[3, 2] * tip) * bright
                shine *= strand * strand
            elif kind in (CLOTH, CLOTHES):
                weave = (0.85 + 0.3 * noise(rx * 2.5, ry * 2.5 + 9, rz * 2.5)) * (
                    0.92 + 0.16 * noise(u * 60.0, v * 60.0, 1.0)
                )
                red, green, blue = red * weave, green * weave, blue * weave
            elif kind == TEETH:
                gap = 0.8 + 0.2 * abs(math.sin(rx * 42.0))
                red, green, blue = red * gap, green * gap, blue * gap

            # Skin lets light through: red reaches round the edge of the shadow, blue hardly (wrapped diffuse per channel).
            wrap0, wrap1, wrap2 = 0.28, 0.12, 0.07
            if kind == HAIR:
                wrap1 = wrap2 = 0.28
            elif kind not in (SKIN, TORSO):
                wrap0 = wrap1 = wrap2 = 0.0
            up, crevice = ny * 0.5 + 0.5, 0.35 + 0.65 * ao
            light0 = (sky[0, 0] * (1 - up) + sky[1, 0] * up) * ao
            light1 = (sky[0, 1] * (1 - up) + sky[1, 1] * up) * ao
            light2 = (sky[0, 2] * (1 - up) + sky[1, 2] * up) * ao
            spark0, spark1, spark2 = 0.0, 0.0, 0.0
            for i in range(len(lights)):
                lx, ly, lz = lights[i, 0], lights[i, 1], lights[i, 2]
                facing = nx * lx + ny * ly + nz * lz
                if facing < -wrap0:
                    continue
                lit = crevice
                if lights[i, 6] > 0:
                    bias = 0.035 + 0.05 * (1 - abs(facing))
                    lit *= lit_share(
                        shadow, shadow_frame, x + nx * 0.02, y + ny * 0.02, z + nz * 0.02, bias
                    )
                light0 += lights[i, 3] * max((facing + wrap0) / (1 + wrap0), 0.0) * lit
                light1 += lights[i, 4] * max((facing + wrap1) / (1 + wrap1), 0.0) * lit
                light2 += lights[i, 5] * max((facing + wrap2) / (1 + wrap2), 0.0) * lit
                if facing > 0 and shine > 0:
                    hx, hy, hz = lx + vx, ly + vy, lz + vz
                    half = max(
                        (nx * hx + ny * hy + nz * hz)
                        / (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9),
                        0.0,
                    )
                    spark = shine * half**sharp * (sharp + 8) * 0.04 * facing * lit
                    spark0 += spark * lights[i, 3]
                    spark1 += spark * lights[i, 4]
                    spark2 += spark * lights[i, 5]
            picture[row, column, 0] = red * light0 + spark0
            picture[row, column, 1] = green * light1 + spark1
            picture[row, column, 2] = blue * light2 + spark2
            picture[row, column, 3] = 1.0
    for row in range(height):
        for column in range(width):
            if (
                (row + column) % 2
                and seen[row, column] >= 0
                and _smooth(seen, material, row, column)
            ):
                for channel in range(4):
                    beside, above = (
                        picture[row, column ^ 1, channel],
                        picture[row ^ 1, column, channel],
                    )
                    picture[row, column, channel] = (beside + above) * np.float32(0.5)
