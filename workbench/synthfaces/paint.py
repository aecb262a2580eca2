"""Skin: the albedo and the gloss of every texel of the atlas.

Each texel is painted according to its place on the mean head, in decimetres.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import Anatomy, anatomy
from workbench.synthfaces.person import Person
from workbench.synthfaces.raster import compiled, inlined
from workbench.synthfaces.shade import Colour, SkinTexture, noise, smoothstep


@dataclass(frozen=True)
class Look:
    """How the skin of a person looks on a day. Colours are linear light, 0..1.

    Attributes:
        age: age in years.
        tan: change of the skin tone, -0.1..0.2; positive values are darker.
        lipstick: (3,) colour of the lipstick.
        lipstick_strength: how much the lipstick covers, 0..1.
        eyeshadow: strength of the eyeshadow, 0..1.
        blush: strength of the blush, 0..1.
        beard: length of the beard, from 0 (shaved) to 1 (full).
        moustache: density of the beard above the mouth, 0..1.
        chin: density of the beard on the chin, 0..1.
        cheeks: density of the beard on the cheeks, 0..1.
        hair: (3,) colour of the roots of the hair.
        cover: how much of the scalp is painted as hair, 0..1.
        hairline: (91,) float32 height of the hairline on the mean head, every two degrees from the
            front to the back.
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


class Brow(NamedTuple):
    """Shape of the brows; each number is about -1..1."""

    height: float
    arch: float
    thickness: float
    length: float
    tilt: float
    density: float


class Beard(NamedTuple):
    """Length of the beard and its density on each part of the face, each 0..1."""

    length: float
    moustache: float
    chin: float
    cheeks: float


class Makeup(NamedTuple):
    """Colour of the lipstick, and the strength of each kind of make-up, 0..1."""

    lipstick: Colour
    lipstick_strength: float
    eyeshadow: float
    blush: float


class Complexion(NamedTuple):
    """All that `_paint` needs to know of a person and a look.

    Attributes:
        skin: mean albedo.
        tone: skin tone, from 0 (light) to 1 (dark).
        redness: redness of cheeks, nose and ears.
        freckles: density of the freckles.
        ageing: share 0..1 of the signs of age, from 30 to 80 years.
        lips: factors that turn the colour of the skin into that of the lips.
        makeup: the make-up.
        brow: shape of the brows.
        brow_colour: colour of the brows before they turn grey.
        beard: the beard.
        hair: colour of the roots of the hair and of the beard.
        cover: how much of the scalp is painted as hair, 0..1.
        pattern_x: offset of the person's blotches and freckles in the noise.
        pattern_y: second offset.
    """

    skin: Colour
    tone: float
    redness: float
    freckles: float
    ageing: float
    lips: Colour
    makeup: Makeup
    brow: Brow
    brow_colour: Colour
    beard: Beard
    hair: Colour
    cover: float
    pattern_x: float
    pattern_y: float


def _complexion(who: Person, look: Look) -> Complexion:
    """The numbers of a person and a look. All are floats: numba compiles again for other types."""
    brow_factor = 0.75 if who.hair.mean() < 0.1 else 0.45
    return Complexion(
        skin=_colour(who.skin * (1 - 0.9 * look.tan)),
        tone=float(who.tone),
        redness=float(who.redness * (1 - 0.7 * who.tone)),
        freckles=float(who.freckles),
        ageing=float(np.clip((look.age - 30) / 50, 0, 1)),
        lips=_colour(who.lips * (1 - 0.25 * who.tone)),
        makeup=Makeup(
            lipstick=_colour(look.lipstick),
            lipstick_strength=float(look.lipstick_strength),
            eyeshadow=float(look.eyeshadow),
            blush=float(look.blush),
        ),
        brow=Brow(*(float(value) for value in who.brow)),
        brow_colour=_colour(who.hair * brow_factor),
        beard=Beard(
            length=float(look.beard),
            moustache=float(look.moustache),
            chin=float(look.chin),
            cheeks=float(look.cheeks),
        ),
        hair=_colour(look.hair),
        cover=float(look.cover),
        pattern_x=float(who.pattern % 1024),
        pattern_y=float(who.pattern // 1024),
    )


def _colour(values: Iterable[float]) -> Colour:
    """Three numbers as a colour."""
    red, green, blue = values
    return Colour(float(red), float(green), float(blue))


def paint(head: Anatomy, who: Person, look: Look) -> SkinTexture:
    """Paints the skin of a person.

    Args:
        head: the mean head, with the places and masks of the atlas.
        who: the person.
        look: make-up, beard, hair and age of the day.

    Returns:
        The (rows, columns, 3) albedo in linear light, and the (rows, columns) gloss.
    """
    albedo = np.empty((*head.atlas_lips.shape, 3), dtype=np.float32)
    gloss = np.empty(head.atlas_lips.shape, dtype=np.float32)
    _paint(
        head.atlas_place,
        head.atlas_lips,
        head.atlas_lids,
        _pores(),
        _complexion(who, look),
        who.moles,
        look.hairline,
        albedo,
        gloss,
    )
    return SkinTexture(albedo, gloss)


@functools.cache
def _pores() -> NDArray[np.float32]:
    """(rows, columns) texture of the pores, -0.5..0.5, which all people share."""
    place = anatomy().atlas_place
    pores = np.zeros(place.shape[:2], dtype=np.float32)
    _fill_pores(place, pores)
    return pores


@compiled
def _fill_pores(place: NDArray[np.float32], pores: NDArray[np.float32]) -> None:
    """Computes the pores of each texel, in place."""
    for row in range(pores.shape[0]):
        for column in range(pores.shape[1]):
            x, y, z = place[row, column, 0], place[row, column, 1], place[row, column, 2]
            if np.isfinite(x):
                pores[row, column] = noise(x * 38, y * 38, z * 38) - 0.5


@compiled
def hairline_at(hairline: NDArray[np.float32], x: float, z: float) -> float:
    """Returns the height of the hairline in a direction around the middle of the skull.

    Args:
        hairline: (91,) heights, every two degrees from the front to the back.
        x: coordinate of a place to the left of the person.
        z: coordinate of that place out of the face.
    """
    angle = abs(math.atan2(x, z + 0.7)) * 28.647889  # In units of two degrees.
    step = min(int(angle), 89)
    return float(hairline[step] + (hairline[step + 1] - hairline[step]) * (angle - step))


@compiled
def _segment_distance(x: float, y: float, x0: float, y0: float, x1: float, y1: float) -> float:
    """Distance of a point from the line segment between two points."""
    dx, dy = x1 - x0, y1 - y0
    t = min(max(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0.0), 1.0)
    return math.sqrt((x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2)


@compiled
def _bump(x: float, y: float, wide: float, high: float) -> float:
    """A Gaussian bump with the given widths: 1 at the origin."""
    return math.exp(-((x / wide) ** 2) - (y / high) ** 2)


@inlined
def _darkened(colour: Colour, share: float, red: float, green: float, blue: float) -> Colour:
    """Reduces each channel of a colour by a fraction, times `share`."""
    return Colour(
        colour.red * (1 - red * share),
        colour.green * (1 - green * share),
        colour.blue * (1 - blue * share),
    )


@inlined
def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """Mixes two colours; `share` is that of the second one."""
    return Colour(
        colour.red * (1 - share) + other.red * share,
        colour.green * (1 - share) + other.green * share,
        colour.blue * (1 - share) + other.blue * share,
    )


@compiled
def _folds(x: float, y: float, ageing: float, rough: float, phase: float) -> float:
    """Depth of the wrinkles at a place.

    Everybody has folds from the nose to the mouth. Age adds wrinkles on the forehead, between the
    brows, around the eyes and below the mouth.
    """
    ax = abs(x)
    nose_to_mouth = 1 - smoothstep(0.0, 0.035, _segment_distance(ax, y, 0.20, -0.36, 0.345, -0.68))
    fold = 0.55 * (0.30 + 0.7 * ageing) * nose_to_mouth
    if ageing <= 0.05:
        return fold
    wave = 0.02 * math.sin(x * 7 + phase) + 0.05 * math.cos(x * 3.0)
    for i in range(3):
        forehead = 1 - smoothstep(0.0, 0.022, abs(y - 0.60 - 0.10 * i - wave))
        fold += ageing * 0.55 * forehead * smoothstep(0.5, 0.3, ax) * (1.0 + 0.8 * rough)
        distance = _segment_distance(ax, y, 0.47, 0.02 - 0.03 * i, 0.62, 0.10 - 0.10 * i)
        beside_eye = 1 - smoothstep(0.0, 0.016, distance)
        fold += ageing * 0.5 * beside_eye
    between_brows = 1 - smoothstep(0.0, 0.02, abs(ax - 0.055 - 0.02 * y))
    fold += ageing * 0.7 * between_brows * _bump(0.0, y - 0.42, 1.0, 0.12)
    below_eye = 1 - smoothstep(0.0, 0.02, _segment_distance(ax, y, 0.18, -0.18, 0.38, -0.22))
    fold += ageing * 0.6 * below_eye
    below_mouth = 1 - smoothstep(0.0, 0.03, _segment_distance(ax, y, 0.27, -0.78, 0.31, -0.98))
    return fold + ageing * 0.4 * below_mouth


@compiled
def _brow_cover(x: float, y: float, brow: Brow, rough: float) -> float:
    """Share of a place that the hairs of the brows cover: an arched band, thinner outwards."""
    ax = abs(x)
    along = (ax - 0.115) / (0.43 * (1 + 0.10 * brow.length))
    if not (-0.15 < along < 1.2 and 0.15 < y < 0.75):
        return 0.0
    rise = (0.035 + 0.03 * brow.arch) * along
    middle = 0.265 + 0.04 * brow.height + rise + 0.022 * brow.tilt * (along - 0.3)
    middle -= (0.20 + 0.06 * brow.arch) * max(along - 0.58, 0.0) ** 1.3
    thickness = (0.042 + 0.016 * brow.thickness) * (1 - 0.60 * max(along, 0.0) ** 1.5)
    hairs = 0.55 + 0.75 * noise(x * 45 + y * 34, y * 10 - ax * 22, 4.0)
    across = smoothstep(thickness * 1.45, thickness * 0.25, abs(y - middle + 0.012 * rough))
    inside = across * smoothstep(-0.14, 0.06, along)
    density = 0.90 + 0.2 * brow.density
    return float(min(inside * smoothstep(1.16, 0.85, along) * hairs * density, 0.90))


@compiled
def _beard_cover(x: float, y: float, z: float, beard: Beard) -> float:
    """Share of a place that the beard covers."""
    if beard.length < 0.01 or y > 0.1 or z < -0.95:
        return 0.0
    ax = abs(x)
    moustache = smoothstep(0.30, 0.22, ax) * smoothstep(-0.40, -0.47, y)
    moustache *= smoothstep(-0.66, -0.61, y)
    moustache *= beard.moustache
    chin = smoothstep(0.30, 0.22, ax) * smoothstep(-0.76, -0.83, y) * smoothstep(-1.32, -1.20, y)
    chin *= beard.chin
    edge = -0.42 - 0.30 * smoothstep(0.62, 0.30, ax) + 0.75 * smoothstep(-0.20, -0.55, z)
    jaw = smoothstep(edge + 0.08, edge - 0.10, y) * smoothstep(0.20, 0.30, ax)
    jaw *= smoothstep(-1.32, -1.15, y)
    jaw *= beard.cheeks
    where = min(max(moustache, chin, jaw * smoothstep(-0.95, -0.75, z)), 1.0)
    hairs = noise(x * 60, y * 42, z * 60) * 0.6 + noise(x * 25, y * 18, z * 25) * 0.4
    density = min(min(beard.length * 1.5, 1.0) * (0.30 + 0.9 * hairs), 0.92)
    return float(where * density * smoothstep(0.0, 0.5, beard.length + 0.25))


@inlined
def _rosiness(x: float, y: float, z: float, front: float, big: float, who: Complexion) -> float:
    """How much redder than the mean skin a place is: cheeks, nose, chin, ears, and blush."""
    ax = abs(x)
    cheeks = 0.55 * _bump(ax - 0.42, y + 0.42, 0.26, 0.24)
    nose = 0.6 * _bump(x, y + 0.42, 0.16, 0.16)
    chin = 0.35 * _bump(x, y + 1.02, 0.28, 0.16)
    ears = 0.6 * smoothstep(0.62, 0.72, ax) * smoothstep(-1.1, -0.75, -z)
    ears *= smoothstep(-0.6, -0.4, y)
    natural = cheeks + nose + chin + ears + 0.25 * (big + 0.2)
    blush = _bump(ax - 0.46, y + 0.40, 0.20, 0.16)
    return who.redness * natural * front + 0.5 * who.makeup.blush * blush * front


@inlined
def _with_lips(colour: Colour, lip: float, who: Complexion) -> Colour:
    """The colour of the skin with the tint of the lips and lipstick. `lip`: share of the lips."""
    tint = lip * (0.9 - 0.35 * who.tone)
    lips = Colour(
        colour.red * (1 - lip + lip * who.lips.red) * (1 - 0.10 * lip),
        colour.green * (1 - tint + tint * who.lips.green),
        colour.blue * (1 - tint + tint * who.lips.blue),
    )
    return _mixed(lips, who.makeup.lipstick, lip * who.makeup.lipstick_strength)


@inlined
def _with_spots(
    colour: Colour,
    x: float,
    y: float,
    z: float,
    front: float,
    who: Complexion,
    moles: NDArray[np.float32],
) -> Colour:
    """The colour of the skin with freckles, age spots and moles."""
    if who.freckles > 0.02:
        spot = noise(x * 26 + who.pattern_y, y * 26 + who.pattern_x, z * 26)
        freckle = smoothstep(0.93 - 0.25 * who.freckles, 0.98 - 0.2 * who.freckles, spot)
        freckle = freckle * _bump(abs(x) - 0.25, y + 0.28, 0.5, 0.42) * front
        colour = _darkened(colour, freckle, 0.16, 0.27, 0.34)
    if who.ageing > 0.3:
        spot = noise(x * 12 + who.pattern_x + 50, y * 12 + who.pattern_y, z * 12)
        age_spot = smoothstep(0.82, 0.9, spot) * (who.ageing - 0.3)
        colour = _darkened(colour, age_spot, 0.16, 0.23, 0.28)
    if z > -0.4:
        for i in range(len(moles)):
            radius, darkness = moles[i, 2], moles[i, 3]
            distance = math.sqrt((x - moles[i, 0]) ** 2 + (y - moles[i, 1]) ** 2)
            mole = darkness * (1 - smoothstep(radius * 0.5, radius * 1.5, distance))
            colour = _darkened(colour, mole, 0.5, 0.65, 0.7)
    return colour


@inlined
def _texel(
    x: float,
    y: float,
    z: float,
    lip_mask: float,
    lid_mask: float,
    pores: float,
    who: Complexion,
    moles: NDArray[np.float32],
    hairline: NDArray[np.float32],
) -> tuple[Colour, float]:
    """Albedo and gloss at a place of the face."""
    ax = abs(x)
    front = smoothstep(-0.6, -0.1, z)
    # Blotches of two sizes.
    big = noise(x * 2.2 + who.pattern_x, y * 2.2 + who.pattern_y, z * 2.2) - 0.5
    small = noise(x * 9 + who.pattern_x, y * 9, z * 9 + who.pattern_y) - 0.5
    fine = noise(x * 19 + who.pattern_y, y * 19, z * 19 + who.pattern_x) - 0.5
    brightness = 1 + 0.18 * big + 0.15 * small + (0.13 + 0.05 * who.ageing) * fine + 0.10 * pores
    rosy = _rosiness(x, y, z, front, big, who) + 0.20 * small
    colour = Colour(
        who.skin.red * brightness * (1 + 0.10 * rosy),
        who.skin.green * brightness * (1 - 0.26 * rosy),
        who.skin.blue * brightness * (1 - 0.22 * rosy),
    )
    forehead, nose = _bump(x, y - 0.55, 0.4, 0.3), _bump(x, y + 0.35, 0.12, 0.3)
    gloss = 0.16 + 0.14 * forehead + 0.15 * nose + 0.10 * pores + 0.12 * fine + 0.05 * small
    gloss *= front

    # The thin skin below the eyes, the lids, and eyeshadow.
    under_eyes = _bump(ax - 0.27, y + 0.17, 0.15, 0.055) * front * (0.30 + 0.5 * who.ageing)
    colour = _darkened(colour, under_eyes, 0.28, 0.36, 0.30)
    colour = _darkened(colour, lid_mask * front, 0.10, 0.18, 0.16)
    eyeshadow = who.makeup.eyeshadow * _bump(ax - 0.31, y - 0.12, 0.19, 0.09) * front
    colour = _darkened(colour, eyeshadow, 0.45, 0.60, 0.50)

    lip = lip_mask * (1 - 0.25 * small)
    colour = _with_lips(colour, lip, who)
    gloss += 0.06 * lip
    colour = _with_spots(colour, x, y, z, front, who, moles)
    if front > 0:
        fold = min(_folds(x, y, who.ageing, small, who.pattern_x), 1.0) * front
        colour = _darkened(colour, fold, 0.28, 0.37, 0.40)

    brow = 0.0
    if front > 0.2:
        brow = _brow_cover(x, y, who.brow, small)
    grey = 0.5 * who.ageing
    colour = _mixed(colour, _mixed(who.brow_colour, Colour(0.28, 0.27, 0.26), grey), brow)

    beard = _beard_cover(x, y, z, who.beard) * (1 - min(lip_mask * 1.5, 1.0))
    stubble = Colour(
        0.12 * colour.red + 0.75 * who.hair.red,
        0.12 * colour.green + 0.75 * who.hair.green,
        0.14 * colour.blue + 0.75 * who.hair.blue,
    )
    colour = _mixed(colour, stubble, beard)
    gloss *= (1 - 0.8 * brow) * (1 - 0.8 * beard)

    # The roots of the hair become sparse towards the hairline.
    if who.cover > 0.01:
        hairs = noise(x * 40, y * 16, z * 40) * 0.5 + noise(x * 14, y * 9, z * 14) * 0.5
        above = y - hairline_at(hairline, x, z) + 0.03 * (hairs - 0.5)
        scalp = who.cover * smoothstep(-0.075, 0.065, above) * (0.80 + 0.20 * hairs)
        colour = _mixed(colour, who.hair, scalp)
        gloss *= 1 - 0.9 * scalp
    return colour, gloss


@compiled
def _paint(
    place: NDArray[np.float32],
    lips: NDArray[np.float32],
    lids: NDArray[np.float32],
    pores: NDArray[np.float32],
    who: Complexion,
    moles: NDArray[np.float32],
    hairline: NDArray[np.float32],
    albedo: NDArray[np.float32],
    gloss: NDArray[np.float32],
) -> None:
    """Computes `albedo` and `gloss` of all texels, in place."""
    rows, columns = lips.shape
    for row in range(rows):
        for column in range(columns):
            x, y, z = place[row, column, 0], place[row, column, 1], place[row, column, 2]
            colour, shine = who.skin, 0.1
            if not np.isfinite(x):  # The texel belongs to no part of the skin.
                pass
            elif z < -1.0 or y < -1.5:  # The back of the head and the neck are hardly ever seen.
                inside = smoothstep(-0.045, 0.06, y - hairline_at(hairline, x, z)) * who.cover
                colour = _mixed(who.skin, who.hair, inside)
                shine = 0.1 * (1 - inside)
            else:
                colour, shine = _texel(
                    x,
                    y,
                    z,
                    lips[row, column],
                    lids[row, column],
                    pores[row, column],
                    who,
                    moles,
                    hairline,
                )
                colour = Colour(
                    max(colour.red, 0.002), max(colour.green, 0.002), max(colour.blue, 0.002)
                )
                shine = max(shine, 0.0)
            albedo[row, column, 0] = colour.red
            albedo[row, column, 1] = colour.green
            albedo[row, column, 2] = colour.blue
            gloss[row, column] = shine
