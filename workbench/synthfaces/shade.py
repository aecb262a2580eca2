"""Shading: the colour of each sample of an image, under a key light with shadows, fill light, sky.

Everything is computed in linear light. The arguments of the compiled functions are named tuples of
arrays and numbers, which numba passes without a cost.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import (
    CAVITY,
    EYE_LEFT,
    EYE_RIGHT,
    LASHES,
    SKIN,
    TEETH,
    TONGUE,
    TORSO,
)
from workbench.synthfaces.raster import compiled, inlined

HAIR, FRAME, CLOTH, CLOTHES = range(LASHES + 1, LASHES + 5)
"""Materials in addition to the parts of the anatomy. CLOTH covers the face, CLOTHES is worn below
the collar."""


class Colour(NamedTuple):
    """A colour, in linear light unless stated otherwise."""

    red: float
    green: float
    blue: float


class Palette(NamedTuple):
    """How each material looks. Row N of an array belongs to material N.

    Attributes:
        colour: (13, 3) float32 albedo.
        highlight: (13,) float32 strength of the highlight.
        sharpness: (13,) float32 exponent of the highlight (Blinn-Phong).
        occlusion: (13,) float32 factor of the ambient occlusion.
        hair_tips: colour of the hair at the ends of its strands.
    """

    colour: NDArray[np.float32]
    highlight: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    occlusion: NDArray[np.float32]
    hair_tips: Colour


def _palette() -> Palette:
    """The materials without the colours of a person and of clothes."""
    table = np.array(
        [
            # red, green, blue, highlight, sharpness, occlusion
            (0.0, 0.0, 0.0, 0.0, 18.0, 1.0),  # SKIN, whose colour comes from the atlas
            (0.16, 0.050, 0.045, 0.0, 1.0, 0.6),  # CAVITY, the inside of the mouth
            (0.30, 0.13, 0.11, 0.0, 1.0, 0.6),  # SOCKET
            (0.0, 0.0, 0.0, 0.1, 18.0, 1.0),  # TORSO, the skin of shoulders and hands
            (0.0, 0.0, 0.0, 0.14, 420.0, 1.0),  # EYE_LEFT, whose colour comes from `Eyes`
            (0.0, 0.0, 0.0, 0.14, 420.0, 1.0),  # EYE_RIGHT
            (0.66, 0.585, 0.47, 0.1, 40.0, 0.9),  # TEETH
            (0.28, 0.08, 0.08, 0.1, 18.0, 0.8),  # TONGUE
            (0.0, 0.0, 0.0, 0.0, 1.0, 1.0),  # LASHES
            (0.0, 0.0, 0.0, 0.22, 16.0, 1.0),  # HAIR
            (0.0, 0.0, 0.0, 0.4, 60.0, 1.0),  # FRAME
            (0.0, 0.0, 0.0, 0.03, 18.0, 1.0),  # CLOTH
            (0.0, 0.0, 0.0, 0.02, 18.0, 1.0),  # CLOTHES
        ],
        dtype=np.float32,
    )
    highlight, sharpness, occlusion = table[:, 3:].T.copy()
    return Palette(table[:, :3].copy(), highlight, sharpness, occlusion, Colour(0.0, 0.0, 0.0))


PALETTE = _palette()
"""The palette that every person starts from."""


class Surface(NamedTuple):
    """The triangles of a scene and their vertices.

    Attributes:
        points: (V, 3) float32 column, row and nearness (1/z) of each vertex, as for `rasterise`.
        vertices: (V, 3) float32 positions in the scene.
        rest: (V, 3) float32 positions on the mean head.
        normals: (V, 3) float32 unit normals.
        triangles: (T, 3) int32 vertices of each triangle.
        material: (T,) uint8 material of each triangle.
        uv: (T, 3, 2) float32 position of each corner in the atlas; for hair, across and along the
            strands.
        openness: (V,) float32 share of the sky that each vertex sees (ambient occlusion).
    """

    points: NDArray[np.float32]
    vertices: NDArray[np.float32]
    rest: NDArray[np.float32]
    normals: NDArray[np.float32]
    triangles: NDArray[np.int32]
    material: NDArray[np.uint8]
    uv: NDArray[np.float32]
    openness: NDArray[np.float32]


class SkinTexture(NamedTuple):
    """The painted skin of a person on a day.

    Attributes:
        albedo: (rows, columns, 3) float32 colour of each texel of the atlas.
        gloss: (rows, columns) float32 strength of the highlight.
    """

    albedo: NDArray[np.float32]
    gloss: NDArray[np.float32]


class Eyes(NamedTuple):
    """Both eyeballs of a person.

    Attributes:
        centre: (2, 3) float32 centres of the left and the right eye on the mean head.
        gaze: (3,) float32 unit direction in which both eyes look.
        pupil: cosine of the angle between the gaze and the edge of the pupil.
        iris: cosine of the angle between the gaze and the edge of the iris.
        sclera: colour of the white of the eye.
        iris_colour: colour of the iris.
        rim_colour: colour of the outer edge of the iris.
    """

    centre: NDArray[np.float32]
    gaze: NDArray[np.float32]
    pupil: float
    iris: float
    sclera: Colour
    iris_colour: Colour
    rim_colour: Colour


class Collar(NamedTuple):
    """The neckline of the clothes, in decimetres.

    Attributes:
        height: how far below the default the clothes begin.
        depth: depth of the neckline at the front.
        width: width of the neckline.
    """

    height: float
    depth: float
    width: float


class ShadowMap(NamedTuple):
    """What the key light sees.

    Attributes:
        depth: (S, S) float32 position along the light of the closest surface; -inf for nothing.
        axes: (3, 3) float32, whose columns are the directions across, down and towards the light.
        centre: column and row of the origin of the scene.
        scale: samples per decimetre.
    """

    depth: NDArray[np.float32]
    axes: NDArray[np.float32]
    centre: float
    scale: float


class Lighting(NamedTuple):
    """All the light of a scene.

    Attributes:
        direction: (L, 3) float32 unit directions towards the lights.
        colour: (L, 3) float32 colours of the lights.
        casts_shadow: (L,) bool, whether the shadow map applies to a light.
        sky: (2, 3) float32 colour of the light from below and from above.
        shadow: shadow map of the key light.
    """

    direction: NDArray[np.float32]
    colour: NDArray[np.float32]
    casts_shadow: NDArray[np.bool_]
    sky: NDArray[np.float32]
    shadow: ShadowMap


@compiled
def _hash(x: int, y: int, z: int) -> float:
    """A pseudo-random number in 0..1 from three integers."""
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
    """Value noise in 0..1: pseudo-random at whole numbers, and smooth between them."""
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
    """Rises smoothly from 0 at `low` to 1 at `high`, and is constant outside."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@inlined
def lit_share(shadow: ShadowMap, x: float, y: float, z: float, bias: float) -> float:
    """Returns which share of the light reaches a point.

    The light is a small area, whose shadows have soft edges: the share is the mean over a square
    of the shadow map that is three samples wide. Points outside the map are lit.

    Args:
        shadow: the shadow map.
        x: position of the point in the scene, to the person's left.
        y: position of the point, upwards.
        z: position of the point, out of the face.
        bias: distance in decimetres by which a surface may be in front of the point without casting
            a shadow on it.
    """
    axes = shadow.axes
    side = shadow.depth.shape[0]
    u = (x * axes[0, 0] + y * axes[1, 0] + z * axes[2, 0]) * shadow.scale + shadow.centre - 0.5
    v = (x * axes[0, 1] + y * axes[1, 1] + z * axes[2, 1]) * shadow.scale + shadow.centre - 0.5
    near = x * axes[0, 2] + y * axes[1, 2] + z * axes[2, 2] + bias
    if u < 1 or v < 1 or u >= side - 2 or v >= side - 2:
        return 1.0
    column, row = int(u), int(v)
    u, v = u - column, v - row
    lit = 0.0
    for i in range(-1, 3):
        down = 1.0
        if i == -1:
            down = 1 - v
        elif i == 2:
            down = v
        for j in range(-1, 3):
            if shadow.depth[row + i, column + j] <= near:
                if j == -1:
                    lit += down * (1 - u)
                elif j == 2:
                    lit += down * u
                else:
                    lit += down
    return lit / 9


@inlined
def _skin_at(skin: SkinTexture, u: float, v: float) -> tuple[float, float, float, float]:
    """Albedo and gloss at a place of the atlas, interpolated between four texels."""
    albedo, gloss = skin.albedo, skin.gloss
    rows, columns = gloss.shape
    u, v = min(max(u, 0.0), columns - 1.001), min(max(v, 0.0), rows - 1.001)
    i, j = int(v), int(u)
    u, v = u - j, v - i
    a, b, c, d = (1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v
    return (
        a * albedo[i, j, 0]
        + b * albedo[i, j + 1, 0]
        + c * albedo[i + 1, j, 0]
        + d * albedo[i + 1, j + 1, 0],
        a * albedo[i, j, 1]
        + b * albedo[i, j + 1, 1]
        + c * albedo[i + 1, j, 1]
        + d * albedo[i + 1, j + 1, 1],
        a * albedo[i, j, 2]
        + b * albedo[i, j + 1, 2]
        + c * albedo[i + 1, j, 2]
        + d * albedo[i + 1, j + 1, 2],
        a * gloss[i, j] + b * gloss[i, j + 1] + c * gloss[i + 1, j] + d * gloss[i + 1, j + 1],
    )


@inlined
def _eye_at(
    eyes: Eyes, side: int, x: float, y: float, z: float
) -> tuple[float, float, float, float]:
    """Colour of an eyeball at a place of the mean head, and its ambient occlusion.

    Lids and lashes cause the occlusion. `side` is 0 for the left eye and 1 for the right one.
    """
    x, y, z = x - eyes.centre[side, 0], y - eyes.centre[side, 1], z - eyes.centre[side, 2]
    length = math.sqrt(x * x + y * y + z * z) + 1e-9
    along = (x * eyes.gaze[0] + y * eyes.gaze[1] + z * eyes.gaze[2]) / length
    iris = smoothstep(eyes.iris - 0.012, eyes.iris + 0.008, along)
    rim = smoothstep(eyes.iris + 0.03, eyes.iris - 0.005, along)
    pupil = smoothstep(eyes.pupil - 0.004, eyes.pupil + 0.004, along)
    fibre = 0.8 + 0.4 * noise(math.atan2(y, x) * 6.0, along * 20.0, 3.0)
    veins = smoothstep(0.93, 0.5, along)
    inner, outer, sclera = eyes.iris_colour, eyes.rim_colour, eyes.sclera
    red = sclera.red * (1 - iris) + (inner.red * (1 - rim) + outer.red * rim) * fibre * iris
    green = (
        sclera.green * (1 - 0.22 * veins) * (1 - iris)
        + (inner.green * (1 - rim) + outer.green * rim) * fibre * iris
    )
    blue = (
        sclera.blue * (1 - 0.25 * veins) * (1 - iris)
        + (inner.blue * (1 - rim) + outer.blue * rim) * fibre * iris
    )
    below_lid = smoothstep(0.10, -0.02, y) * 0.55 + 0.45
    between_corners = 0.50 + 0.50 * smoothstep(0.16, 0.04, abs(x))
    return (
        red * (1 - pupil) + 0.004 * pupil,
        green * (1 - pupil) + 0.004 * pupil,
        blue * (1 - pupil) + 0.004 * pupil,
        below_lid * between_corners,
    )


@inlined
def _below_collar(collar: Collar, x: float, y: float, z: float) -> bool:
    """Whether clothes cover a place of the mean head."""
    dip = 0.0
    if z > -1.0:
        dip = collar.depth * math.exp(-((x / collar.width) ** 2))
    return bool(y < -1.35 - collar.height * (0.2 - z * 0.1) - dip)


@compiled
def _is_uniform(
    seen: NDArray[np.int32], material: NDArray[np.uint8], row: int, column: int
) -> bool:
    """Whether all four samples of the pixel that a sample belongs to see skin, or all see hair."""
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


@inlined
def _weights(
    points: NDArray[np.float32], corners: tuple[int, int, int], row: int, column: int
) -> tuple[float, float, float]:
    """Barycentric coordinates of a sample in a triangle, corrected for perspective."""
    a, b, c = corners
    ax, ay = points[a, 0], points[a, 1]
    bx, by = points[b, 0], points[b, 1]
    cx, cy = points[c, 0], points[c, 1]
    px, py = column + np.float32(0.5), row + np.float32(0.5)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
    wc = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
    wa = (np.float32(1.0) - wb - wc) * points[a, 2]
    wb *= points[b, 2]
    wc *= points[c, 2]
    total = wa + wb + wc
    return wa / total, wb / total, wc / total


@inlined
def _interpolated(
    values: NDArray[np.float32],
    corners: tuple[int, int, int],
    weights: tuple[float, float, float],
) -> tuple[float, float, float]:
    """The vector at a place of a triangle, from the (V, 3) vectors of its corners."""
    a, b, c = corners
    wa, wb, wc = weights
    return (
        wa * values[a, 0] + wb * values[b, 0] + wc * values[c, 0],
        wa * values[a, 1] + wb * values[b, 1] + wc * values[c, 1],
        wa * values[a, 2] + wb * values[b, 2] + wc * values[c, 2],
    )


@inlined
def _unit(x: float, y: float, z: float, epsilon: float) -> tuple[float, float, float]:
    """A vector at length 1; `epsilon` avoids a division by zero."""
    length = math.sqrt(x * x + y * y + z * z) + epsilon
    return x / length, y / length, z / length


@inlined
def _colour_at(
    kind: int,
    rest: tuple[float, float, float],
    uv: tuple[float, float],
    openness: float,
    skin: SkinTexture,
    palette: Palette,
    eyes: Eyes,
) -> tuple[float, float, float, float, float]:
    """Albedo, strength of the highlight and ambient occlusion of a material at a place.

    `rest` is the place on the mean head and `uv` the place in the atlas.
    """
    x, y, z = rest
    u, v = uv
    red, green, blue = palette.colour[kind, 0], palette.colour[kind, 1], palette.colour[kind, 2]
    highlight = palette.highlight[kind]
    occlusion = openness * palette.occlusion[kind]
    if kind == SKIN:
        red, green, blue, highlight = _skin_at(skin, u, v)
    elif kind in (EYE_LEFT, EYE_RIGHT):
        red, green, blue, occlusion = _eye_at(eyes, kind - EYE_LEFT, x, y, z)
    elif kind == HAIR:
        tips = palette.hair_tips
        strand = noise(u, v * 1.6, 7.0) * 0.6 + noise(u * 3.1, v * 2.2, 3.0) * 0.4
        tip, bright = smoothstep(0.3, 1.0, v), 0.55 + 0.9 * strand
        red = (red * (1 - tip) + tips.red * tip) * bright
        green = (green * (1 - tip) + tips.green * tip) * bright
        blue = (blue * (1 - tip) + tips.blue * tip) * bright
        highlight *= strand * strand
    elif kind in (CLOTH, CLOTHES):
        folds = 0.85 + 0.3 * noise(x * 2.5, y * 2.5 + 9, z * 2.5)
        weave = folds * (0.92 + 0.16 * noise(u * 60.0, v * 60.0, 1.0))
        red, green, blue = red * weave, green * weave, blue * weave
    elif kind == TEETH:
        gap = 0.8 + 0.2 * abs(math.sin(x * 42.0))
        red, green, blue = red * gap, green * gap, blue * gap
        # The ambient occlusion of vertices is that of a closed mouth.
        occlusion = 0.9 * smoothstep(-0.30, 0.12, z)
    elif kind in (CAVITY, TONGUE):
        occlusion = 0.10 + 0.35 * smoothstep(-0.40, 0.20, z)
    return red, green, blue, highlight, occlusion


@inlined
def _skin_lobes(half: float, along: float) -> float:
    """Highlight of skin: a broad and a narrow lobe, stronger where light grazes the skin.

    The exponents are 8 and 32 (Blinn-Phong); the angle enters as in Schlick's approximation of
    Fresnel's equations for a refractive index of 1.4.

    Args:
        half: cosine of the angle between the normal and the half vector of light and view.
        along: cosine of the angle between the view and that half vector.
    """
    broad = half * half
    broad = broad * broad
    broad = broad * broad
    narrow = broad * broad
    narrow = narrow * narrow
    grazing = 1 - along
    squared = grazing * grazing
    fresnel = 1 + 34 * squared * squared * grazing
    return (0.55 * broad * 0.64 + 0.45 * narrow * 1.6) * fresnel


@inlined
def _light_at(
    kind: int,
    place: tuple[float, float, float],
    normal: tuple[float, float, float],
    view: tuple[float, float, float],
    occlusion: float,
    highlight: float,
    sharpness: float,
    lighting: Lighting,
) -> tuple[float, float, float, float, float, float]:
    """Diffuse light and highlight, each as red, green and blue, that leave a place to the camera.

    `view` is the unit direction towards the camera.
    """
    x, y, z = place
    nx, ny, nz = normal
    vx, vy, vz = view
    # Skin and hair scatter light beyond the edge of the shadow, skin mostly the red: wrapped
    # diffuse shading with a width for each channel.
    wrap0, wrap1, wrap2 = 0.0, 0.0, 0.0
    if kind == HAIR:
        wrap0, wrap1, wrap2 = 0.28, 0.28, 0.28
    elif kind in (SKIN, TORSO):
        wrap0, wrap1, wrap2 = 0.28, 0.12, 0.07
    sky = lighting.sky
    up, crevice = ny * 0.5 + 0.5, 0.35 + 0.65 * occlusion
    light0 = (sky[0, 0] * (1 - up) + sky[1, 0] * up) * occlusion
    light1 = (sky[0, 1] * (1 - up) + sky[1, 1] * up) * occlusion
    light2 = (sky[0, 2] * (1 - up) + sky[1, 2] * up) * occlusion
    spark0, spark1, spark2 = 0.0, 0.0, 0.0
    for i in range(len(lighting.direction)):
        lx, ly, lz = lighting.direction[i, 0], lighting.direction[i, 1], lighting.direction[i, 2]
        red, green, blue = lighting.colour[i, 0], lighting.colour[i, 1], lighting.colour[i, 2]
        facing = nx * lx + ny * ly + nz * lz
        if facing < -wrap0:
            continue
        lit = crevice
        if lighting.casts_shadow[i] and kind != TEETH:  # Light also passes through the lips.
            bias = 0.045 + 0.07 * (1 - abs(facing))
            lit *= lit_share(lighting.shadow, x + nx * 0.02, y + ny * 0.02, z + nz * 0.02, bias)
        light0 += red * max((facing + wrap0) / (1 + wrap0), 0.0) * lit
        light1 += green * max((facing + wrap1) / (1 + wrap1), 0.0) * lit
        light2 += blue * max((facing + wrap2) / (1 + wrap2), 0.0) * lit
        if facing > 0 and highlight > 0:
            hx, hy, hz = lx + vx, ly + vy, lz + vz
            length = math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
            half = max((nx * hx + ny * hy + nz * hz) / length, 0.0)
            if kind == SKIN:
                lobes = _skin_lobes(half, (vx * hx + vy * hy + vz * hz) / length)
            else:
                lobes = half**sharpness * (sharpness + 8) * 0.04
            spark = highlight * lobes * facing * lit
            spark0 += spark * red
            spark1 += spark * green
            spark2 += spark * blue
    return light0, light1, light2, spark0, spark1, spark2


@compiled
def shade(
    seen: NDArray[np.int32],
    surface: Surface,
    skin: SkinTexture,
    palette: Palette,
    eyes: Eyes,
    collar: Collar,
    lighting: Lighting,
    camera: float,
    image: NDArray[np.float32],
) -> None:
    """Colours the samples of an image, in place.

    Args:
        seen: (H, W) int32 triangle that each sample sees, -1 for none. H and W are even.
        surface: the triangles of the scene.
        skin: texture of the skin.
        palette: colours and highlights of the materials.
        eyes: the eyeballs.
        collar: the neckline of the clothes.
        lighting: the lights, the sky and the shadow map.
        camera: distance of the camera from the origin, along z, in decimetres.
        image: (H, W, 4) float32 output: linear red, green and blue, and 1 where a sample sees a
            triangle. Other samples are left unchanged.
    """
    height, width = seen.shape
    for row in range(height):
        for column in range(width):
            t = seen[row, column]
            if t < 0:
                continue
            # Within skin and within hair, two of the four samples of a pixel are enough.
            if (row + column) % 2 and _is_uniform(seen, surface.material, row, column):
                continue
            triangles, uv = surface.triangles, surface.uv
            corners = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            weights = _weights(surface.points, corners, row, column)
            x, y, z = _interpolated(surface.vertices, corners, weights)
            nx, ny, nz = _interpolated(surface.normals, corners, weights)
            rx, ry, rz = _interpolated(surface.rest, corners, weights)
            (a, b, c), (wa, wb, wc) = corners, weights
            u = wa * uv[t, 0, 0] + wb * uv[t, 1, 0] + wc * uv[t, 2, 0]
            v = wa * uv[t, 0, 1] + wb * uv[t, 1, 1] + wc * uv[t, 2, 1]
            openness = wa * surface.openness[a] + wb * surface.openness[b]
            openness += wc * surface.openness[c]

            vx, vy, vz = _unit(-x, -y, camera - z, 0.0)
            nx, ny, nz = _unit(nx, ny, nz, 1e-9)
            kind = int(surface.material[t])
            if kind >= HAIR and nx * vx + ny * vy + nz * vz < 0:
                nx, ny, nz = -nx, -ny, -nz  # Hair, frames and cloth have two sides.
            if kind in (SKIN, TORSO) and _below_collar(collar, rx, ry, rz):
                kind = CLOTHES
            red, green, blue, highlight, occlusion = _colour_at(
                kind, (rx, ry, rz), (u, v), openness, skin, palette, eyes
            )
            light0, light1, light2, spark0, spark1, spark2 = _light_at(
                kind,
                (x, y, z),
                (nx, ny, nz),
                (vx, vy, vz),
                occlusion,
                highlight,
                palette.sharpness[kind],
                lighting,
            )
            image[row, column, 0] = red * light0 + spark0
            image[row, column, 1] = green * light1 + spark1
            image[row, column, 2] = blue * light2 + spark2
            image[row, column, 3] = 1.0
    _fill_uniform(seen, surface.material, image)


@compiled
def _fill_uniform(
    seen: NDArray[np.int32], material: NDArray[np.uint8], image: NDArray[np.float32]
) -> None:
    """Fills the samples that `shade` skipped with the mean of two neighbours in their pixel."""
    height, width = seen.shape
    for row in range(height):
        for column in range(width):
            if (row + column) % 2 == 0 or seen[row, column] < 0:
                continue
            if _is_uniform(seen, material, row, column):
                for channel in range(4):
                    horizontal = image[row, column ^ 1, channel]
                    vertical = image[row ^ 1, column, channel]
                    image[row, column, channel] = (horizontal + vertical) * np.float32(0.5)
