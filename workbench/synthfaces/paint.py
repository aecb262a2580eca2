"""Skin: the albedo and gloss of every texel of the atlas, painted from where on the mean head it lies."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import Anatomy, anatomy
from workbench.synthfaces.person import Person
from workbench.synthfaces.raster import compiled
from workbench.synthfaces.shade import noise, smoothstep


@dataclass(frozen=True)
class Look:
    """How a person's skin looks on a day.

    Attributes:
        age: years. tan: -0.1..0.2, towards darker.
        lipstick: (3,) colour and, separately, its strength 0..1; eyeshadow, blush: 0..1.
        beard: 0 shaved .. 1 full. moustache, chin, cheeks: 0..1 where it grows.
        hair: (3,) colour of the day. cover: 0..1 how much of the scalp's hair is painted on the skin.
        hairline: (91,) height of the hairline on the mean head every two degrees from the front to the back.
    """

    age: float
    tan: float
    lipstick: NDArray[np.float64]
    lipstick_strength: float
    eyeshadow: float
    blush: float
    beard: float
    moustache: float
    chin: float
    cheeks: float
    hair: NDArray[np.float64]
    cover: float
    hairline: NDArray[np.float32]


def paint(
    head: Anatomy, who: Person, look: Look
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(rows, columns, 3) albedo in linear light, and (rows, columns) gloss."""
    skin = who.skin * (1 - 0.9 * look.tan)
    old = float(np.clip((look.age - 30) / 50, 0, 1))
    numbers = np.array(
        [
            *skin,  # 0
            who.redness * (1 - 0.7 * who.tone),  # 3
            who.freckles,  # 4
            old,  # 5
            *(who.lips * (1 - 0.25 * who.tone)),  # 6
            *look.lipstick,  # 9
            look.lipstick_strength,  # 12
            look.eyeshadow,  # 13
            look.blush,  # 14
            look.beard,  # 15
            look.moustache,  # 16
            look.chin,  # 17
            look.cheeks,  # 18
            *look.hair,  # 19
            look.cover,  # 22
            *who.brow,  # 23
            *(who.hair * 0.75 if who.hair.mean() < 0.1 else who.hair * 0.45),  # 29
            who.tone,  # 32
        ],
        dtype=np.float64,
    )
    albedo = np.empty((*head.atlas_lips.shape, 3), dtype=np.float32)
    gloss = np.empty(head.atlas_lips.shape, dtype=np.float32)
    offset = np.array([who.pattern % 1024, who.pattern // 1024], dtype=np.float64)
    _paint(
        head.atlas_place,
        head.atlas_lips,
        head.atlas_lids,
        _pores(),
        numbers,
        offset,
        who.moles,
        look.hairline,
        albedo,
        gloss,
    )
    return albedo, gloss


@functools.cache
def _pores() -> NDArray[np.float32]:
    """(rows, columns) -0.5..0.5, the finest grain of everybody's skin."""
    place = anatomy().atlas_place
    pores = np.zeros(place.shape[:2], dtype=np.float32)
    _fill(place, pores)
    return pores


@compiled
def _fill(place: NDArray[np.float32], pores: NDArray[np.float32]) -> None:
    for row in range(pores.shape[0]):
        for column in range(pores.shape[1]):
            x, y, z = place[row, column, 0], place[row, column, 1], place[row, column, 2]
            if np.isfinite(x):
                pores[row, column] = noise(x * 38, y * 38, z * 38) - 0.5


@compiled
def hairline_at(hairline: NDArray[np.float32], x: float, z: float) -> float:
    """Height of the hairline in the direction of (x, z) around the middle of the skull."""
    at = abs(math.atan2(x, z + 0.7)) * 28.647889
    step = min(int(at), 89)
    return float(hairline[step] + (hairline[step + 1] - hairline[step]) * (at - step))


@compiled
def _line(x: float, y: float, x0: float, y0: float, x1: float, y1: float) -> float:
    """Distance from a point to a straight piece."""
    dx, dy = x1 - x0, y1 - y0
    t = min(max(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0.0), 1.0)
    return math.sqrt((x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2)


@compiled
def _bump(x: float, y: float, wide: float, high: float) -> float:
    return math.exp(-((x / wide) ** 2) - (y / high) ** 2)


@compiled
def _folds(x: float, y: float, old: float, rough: float, phase: float) -> float:
    """Depth of wrinkles: beside nose and mouth from youth on; with age on the forehead, between the brows, around the eyes."""
    ax = abs(x)
    fold = (
        0.55
        * (0.30 + 0.7 * old)
        * (1 - smoothstep(0.0, 0.035, _line(ax, y, 0.20, -0.36, 0.345, -0.68)))
    )
    if old <= 0.05:
        return fold
    wave = 0.02 * math.sin(x * 7 + phase) + 0.05 * math.cos(x * 3.0)
    for i in range(3):
        across = 1 - smoothstep(0.0, 0.022, abs(y - 0.60 - 0.10 * i - wave))
        fold += old * 0.55 * across * smoothstep(0.5, 0.3, ax) * (1.0 + 0.8 * rough)
        fold += (
            old
            * 0.5
            * (
                1
                - smoothstep(0.0, 0.016, _line(ax, y, 0.47, 0.02 - 0.03 * i, 0.62, 0.10 - 0.10 * i))
            )
        )
    fold += (
        old
        * 0.7
        * (1 - smoothstep(0.0, 0.02, abs(ax - 0.055 - 0.02 * y)))
        * _bump(0.0, y - 0.42, 1.0, 0.12)
    )
    fold += old * 0.6 * (1 - smoothstep(0.0, 0.02, _line(ax, y, 0.18, -0.18, 0.38, -0.22)))
    return fold + old * 0.4 * (1 - smoothstep(0.0, 0.03, _line(ax, y, 0.27, -0.78, 0.31, -0.98)))


@compiled
def _brow(x: float, y: float, form: NDArray[np.float64], rough: float) -> float:
    """Share of a place that the brow's hairs cover: an arched band that thins outwards."""
    ax = abs(x)
    along = (ax - 0.115) / (0.43 * (1 + 0.10 * form[3]))
    if not (-0.15 < along < 1.2 and 0.15 < y < 0.75):
        return 0.0
    arch = (
        0.245 + 0.04 * form[0] + (0.055 + 0.03 * form[1]) * along + 0.022 * form[4] * (along - 0.3)
    )
    arch -= (0.20 + 0.06 * form[1]) * max(along - 0.58, 0.0) ** 1.3
    thick = (0.046 + 0.016 * form[2]) * (1 - 0.60 * max(along, 0.0) ** 1.5)
    hairs = 0.55 + 0.75 * noise(x * 45 + y * 34, y * 10 - ax * 22, 4.0)
    inside = smoothstep(thick * 1.25, thick * 0.45, abs(y - arch + 0.012 * rough)) * smoothstep(
        -0.14, 0.06, along
    )
    return float(min(inside * smoothstep(1.16, 0.9, along) * hairs * (0.95 + 0.2 * form[5]), 0.95))


@compiled
def _beard(x: float, y: float, z: float, growth: NDArray[np.float64]) -> float:
    """Share of a place that a beard covers. `growth`: its length, and where it grows: moustache, chin, cheeks."""
    if growth[0] < 0.01 or y > 0.1 or z < -0.95:
        return 0.0
    ax = abs(x)
    moustache = (
        smoothstep(0.30, 0.22, ax)
        * smoothstep(-0.40, -0.47, y)
        * smoothstep(-0.66, -0.61, y)
        * growth[1]
    )
    chin = (
        smoothstep(0.30, 0.22, ax)
        * smoothstep(-0.76, -0.83, y)
        * smoothstep(-1.32, -1.20, y)
        * growth[2]
    )
    edge = -0.42 - 0.30 * smoothstep(0.62, 0.30, ax) + 0.75 * smoothstep(-0.20, -0.55, z)
    jaw = (
        smoothstep(edge + 0.08, edge - 0.10, y)
        * smoothstep(0.20, 0.30, ax)
        * smoothstep(-1.32, -1.15, y)
        * growth[3]
    )
    where = min(max(moustache, chin, jaw * smoothstep(-0.95, -0.75, z)), 1.0)
    hairs = noise(x * 60, y * 42, z * 60) * 0.6 + noise(x * 25, y * 18, z * 25) * 0.4
    return float(
        where
        * min(min(growth[0] * 1.5, 1.0) * (0.30 + 0.9 * hairs), 0.92)
        * smoothstep(0.0, 0.5, growth[0] + 0.25)
    )


@compiled
def _paint(
    place: NDArray[np.float32],
    lips: NDArray[np.float32],
    lids: NDArray[np.float32],
    pored: NDArray[np.float32],
    p: NDArray[np.float64],
    offset: NDArray[np.float64],
    moles: NDArray[np.float32],
    hairline: NDArray[np.float32],
    albedo: NDArray[np.float32],
    gloss: NDArray[np.float32],
) -> None:
    rows, columns = lips.shape
    for row in range(rows):
        for column in range(columns):
            x, y, z = place[row, column, 0], place[row, column, 1], place[row, column, 2]
            if not np.isfinite(x):
                albedo[row, column, 0], albedo[row, column, 1], albedo[row, column, 2] = (
                    p[0],
                    p[1],
                    p[2],
                )
                gloss[row, column] = 0.1
                continue
            ax = abs(x)
            front = smoothstep(-0.6, -0.1, z)
            if z < -1.0 or y < -1.5:  # back of the head and neck: hardly ever seen
                inside = smoothstep(-0.045, 0.06, y - hairline_at(hairline, x, z)) * p[22]
                for channel in range(3):
                    albedo[row, column, channel] = (
                        p[channel] * (1 - inside) + p[19 + channel] * inside
                    )
                gloss[row, column] = 0.1 * (1 - inside)
                continue
            # Two sizes of blotches, and pores.
            big = noise(x * 2.2 + offset[0], y * 2.2 + offset[1], z * 2.2) - 0.5
            small = noise(x * 9 + offset[0], y * 9, z * 9 + offset[1]) - 0.5
            pores = pored[row, column]
            shade = 1 + 0.14 * big + 0.08 * small + 0.05 * pores
            rosy = (
                p[3]
                * (
                    0.55 * _bump(ax - 0.42, y + 0.42, 0.26, 0.24)
                    + 0.6 * _bump(x, y + 0.42, 0.16, 0.16)
                    + 0.35 * _bump(x, y + 1.02, 0.28, 0.16)
                    + 0.6
                    * smoothstep(0.62, 0.72, ax)
                    * smoothstep(-1.1, -0.75, -z)
                    * smoothstep(-0.6, -0.4, y)
                    + 0.25 * (big + 0.2)
                )
                * front
                + 0.5 * p[14] * _bump(ax - 0.46, y + 0.40, 0.20, 0.16) * front
            )
            red = p[0] * shade * (1 + 0.10 * rosy)
            green = p[1] * shade * (1 - 0.26 * rosy)
            blue = p[2] * shade * (1 - 0.22 * rosy)
            shine = (
                0.13
                + 0.08 * _bump(x, y - 0.55, 0.4, 0.3)
                + 0.11 * _bump(x, y + 0.35, 0.12, 0.3)
                + 0.08 * pores
            )
            shine *= front

            # Thinner skin under the eyes; lids; the crease of the upper lid.
            under = _bump(ax - 0.27, y + 0.17, 0.15, 0.055) * front * (0.30 + 0.5 * p[5])
            red, green, blue = (
                red * (1 - 0.22 * under),
                green * (1 - 0.30 * under),
                blue * (1 - 0.24 * under),
            )
            lid = lids[row, column] * front
            red, green, blue = (
                red * (1 - 0.10 * lid),
                green * (1 - 0.18 * lid),
                blue * (1 - 0.16 * lid),
            )
            shadow = p[13] * _bump(ax - 0.31, y - 0.12, 0.19, 0.09) * front
            red, green, blue = (
                red * (1 - 0.45 * shadow),
                green * (1 - 0.60 * shadow),
                blue * (1 - 0.50 * shadow),
            )

            # Lips: a tint of the skin, or lipstick.
            lip = lips[row, column] * (1 - 0.25 * small)
            tint = lip * (0.9 - 0.35 * p[32])
            red = red * (1 - lip + lip * p[6]) * (1 - 0.10 * lip)
            green = green * (1 - tint + tint * p[7])
            blue = blue * (1 - tint + tint * p[8])
            stick = lip * p[12]
            red, green, blue = (
                red * (1 - stick) + p[9] * stick,
                green * (1 - stick) + p[10] * stick,
                blue * (1 - stick) + p[11] * stick,
            )
            shine += 0.06 * lip

            # Freckles and moles stay with the person, age spots come with the years.
            if p[4] > 0.02:
                spot = noise(x * 26 + offset[1], y * 26 + offset[0], z * 26)
                freckle = (
                    smoothstep(0.93 - 0.25 * p[4], 0.98 - 0.2 * p[4], spot)
                    * _bump(ax - 0.25, y + 0.28, 0.5, 0.42)
                    * front
                )
                red, green, blue = (
                    red * (1 - 0.28 * freckle),
                    green * (1 - 0.42 * freckle),
                    blue * (1 - 0.5 * freckle),
                )
            if p[5] > 0.3:
                spot = noise(x * 12 + offset[0] + 50, y * 12 + offset[1], z * 12)
                age_spot = smoothstep(0.82, 0.9, spot) * (p[5] - 0.3)
                red, green, blue = (
                    red * (1 - 0.22 * age_spot),
                    green * (1 - 0.3 * age_spot),
                    blue * (1 - 0.36 * age_spot),
                )
            if z > -0.4:
                for i in range(len(moles)):
                    away = math.sqrt((x - moles[i, 0]) ** 2 + (y - moles[i, 1]) ** 2)
                    mole = moles[i, 3] * (
                        1 - smoothstep(moles[i, 2] * 0.6, moles[i, 2] * 1.4, away)
                    )
                    red, green, blue = (
                        red * (1 - 0.6 * mole),
                        green * (1 - 0.75 * mole),
                        blue * (1 - 0.8 * mole),
                    )

            if front > 0:
                fold = min(_folds(x, y, p[5], small, offset[0]), 1.0) * front
                red, green, blue = (
                    red * (1 - 0.24 * fold),
                    green * (1 - 0.33 * fold),
                    blue * (1 - 0.36 * fold),
                )

            brow = _brow(x, y, p[23:29], small) if front > 0.2 else 0.0
            grey = 0.5 * p[5]
            red = red * (1 - brow) + (p[29] * (1 - grey) + 0.28 * grey) * brow
            green = green * (1 - brow) + (p[30] * (1 - grey) + 0.27 * grey) * brow
            blue = blue * (1 - brow) + (p[31] * (1 - grey) + 0.26 * grey) * brow

            beard = _beard(x, y, z, p[15:19]) * (1 - min(lips[row, column] * 1.5, 1.0))
            red = red * (1 - beard) + (0.12 * red + 0.75 * p[19]) * beard
            green = green * (1 - beard) + (0.12 * green + 0.75 * p[20]) * beard
            blue = blue * (1 - beard) + (0.14 * blue + 0.75 * p[21]) * beard
            shine *= (1 - 0.8 * brow) * (1 - 0.8 * beard)

            # Scalp: roots of the hair, thinning out towards the hairline.
            if p[22] > 0.01:
                hairs = noise(x * 40, y * 16, z * 40) * 0.5 + noise(x * 14, y * 9, z * 14) * 0.5
                inside = y - hairline_at(hairline, x, z) + 0.07 * (hairs - 0.5)
                scalp = p[22] * smoothstep(-0.045, 0.06, inside) * (0.88 + 0.12 * hairs)
                red, green, blue = (
                    red * (1 - scalp) + p[19] * scalp,
                    green * (1 - scalp) + p[20] * scalp,
                    blue * (1 - scalp) + p[21] * scalp,
                )
                shine *= 1 - 0.9 * scalp

            albedo[row, column, 0], albedo[row, column, 1], albedo[row, column, 2] = (
                max(red, 0.002),
                max(green, 0.002),
                max(blue, 0.002),
            )
            gloss[row, column] = max(shine, 0.0)
