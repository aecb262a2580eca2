"""Hair and headwear.

Hair consists of shells over the scalp and, if it is long, of a curtain around the neck. The strands
are cut out of these surfaces when they are drawn. Lengths are in decimetres.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import SKIN, Anatomy, anatomy
from workbench.synthfaces.person import Person, stream
from workbench.synthfaces.raster import compiled, sample_range, vertex_normals
from workbench.synthfaces.shade import CLOTH, HAIR

MIDDLE = np.array([0.0, 0.2, -0.7], dtype=np.float32)
"""Centre of the skull, around which hairlines are measured."""
ANGLES = np.arange(91) * 2.0
"""Angles from the front in degrees, at which a hairline has a height."""
HAIRLINE = (
    (0, 0.70),
    (20, 0.70),
    (34, 0.67),
    (48, 0.54),
    (58, 0.34),
    (68, -0.02),
    (77, -0.20),
    (85, 0.10),
    (100, 0.16),
    (112, -0.2),
    (140, -0.5),
    (180, -0.56),
)
"""The mean hairline: pairs of an angle from the front in degrees and a height on the mean head."""


@dataclass(frozen=True)
class Piece:
    """A part of the scene in addition to the head.

    Attributes:
        vertices: (V, 3) float32 positions on the head of the person.
        rest: (V, 3) float32 positions on the mean head.
        triangles: (T, 3) int32 vertices of each triangle.
        uv: (T, 3, 2) float32 texture coordinates of each corner.
        cover: (V,) float32 share 0..1 of the strands that reach a vertex; 2 for cloth, which has no
            holes. A negative value places the edge of the hair between vertices.
        openness: (V,) float32 ambient occlusion.
        material: material of the whole piece.
    """

    vertices: NDArray[np.float32]
    rest: NDArray[np.float32]
    triangles: NDArray[np.int32]
    uv: NDArray[np.float32]
    cover: NDArray[np.float32]
    openness: NDArray[np.float32]
    material: int


@dataclass(frozen=True)
class Style:
    """A way to wear the hair.

    Attributes:
        name: key of `WOMEN` or `MEN`.
        top: thickness over the crown.
        side: thickness at the sides.
        layers: number of shells.
        length: height on the mean head down to which a curtain hangs; None for no curtain.
        tucked: whether the curtain lies behind the ears.
        fringe: how far the hair hangs over the forehead.
        parting: x of the parting; None for a whorl at the crown.
        rough: 0 for sleek hair to 1 for curls.
        hairline: (91,) float32 height of the hairline on the mean head at each of `ANGLES`.
    """

    name: str
    top: float
    side: float
    layers: int
    length: float | None
    tucked: bool
    fringe: float
    parting: float | None
    rough: float
    hairline: NDArray[np.float32]


# Names of styles and how often women and men wear them.
WOMEN = {"cropped": 0.07, "short": 0.16, "tied back": 0.22, "bob": 0.22, "long": 0.33}
MEN = {"shaved": 0.10, "cropped": 0.32, "short": 0.42, "bob": 0.05, "long": 0.05, "tied back": 0.06}
GROWN_OUT = {
    "shaved": 0.0,
    "cropped": 0.05,
    "short": 0.13,
    "tied back": 0.05,
    "bob": 0.12,
    "long": 0.11,
}
"""Mean thickness of each style over the crown."""


def hairline(who: Person, age: float) -> NDArray[np.float32]:
    """Returns the hairline of a person at an age.

    Args:
        who: the person.
        age: age in years.

    Returns:
        (91,) float32 heights on the mean head at each of `ANGLES`.
    """
    angles, heights = np.array(HAIRLINE).T
    line: NDArray[np.float64] = np.interp(ANGLES, angles, heights)
    front = np.clip((70 - ANGLES) / 25, 0, 1)
    line += front * (0.07 * who.hairline[0] - 0.03 * (1 - who.female))
    temples = np.exp(-(((ANGLES - 42) / 12) ** 2))
    line += 0.06 * (1 + who.hairline[1]) * temples * (0.4 if who.female else 1.0)
    line -= 0.05 * max(who.hairline[2], 0) * np.exp(-((ANGLES / 9) ** 2))
    bald = who.balding * np.clip((age - 26) / 45, 0, 1)
    receding_temples = 0.18 * np.exp(-(((ANGLES - 40) / 16) ** 2))
    receding_front = 0.7 * max(bald - 0.45, 0) * np.clip((85 - ANGLES) / 20, 0, 1)
    line += bald * (receding_temples + receding_front)
    return line.astype(np.float32)


def style_of_day(who: Person, age: float, draw: np.random.RandomState) -> Style:
    """Draws a hairstyle that a person wears on a day.

    The texture and the hairline of the hair are those of the person.

    Args:
        who: the person.
        age: age in years on that day.
        draw: random numbers of the day.

    Returns:
        The style.
    """
    odds = WOMEN if who.female else MEN
    names = list(odds)
    chances = np.array([odds[name] for name in names])
    name = names[int(draw.choice(len(names), p=chances / chances.sum()))]
    is_loose = name in ("short", "bob", "long")
    line = hairline(who, age)
    curly = max(who.texture - 1, 0) / 2
    parting: float | None = None
    if name in ("bob", "long") or draw.rand() < 0.5:
        parting = float(draw.choice([-0.22, 0.0, 0.22]))
    fringe = 0.0
    has_fringe, fringe_depth = draw.rand() < 0.35, float(draw.uniform(0.12, 0.30))
    if who.texture < 3 and is_loose and has_fringe and who.balding * age < 30:
        fringe, parting = fringe_depth, None
    volume = float(draw.uniform(0.75, 1.35))
    top = GROWN_OUT[name] * volume * (1 + 1.6 * curly * is_loose)
    has_short_sides = name == "short" and not who.female and draw.rand() < 0.6
    side = top * (0.35 if has_short_sides else 0.75)
    length = None
    if name == "bob":
        length = float(draw.uniform(-0.95, -0.45))
    if name == "long":
        length = float(draw.uniform(-2.2, -1.35))
    if who.texture == 3 and name in ("bob", "long") and draw.rand() < 0.6:
        # Coily hair forms a round shape instead of a curtain.
        length = None
        top, side = float(draw.uniform(0.28, 0.5)), float(draw.uniform(0.25, 0.45))
    if fringe:
        line = line - (fringe * np.exp(-((ANGLES / 38) ** 4))).astype(np.float32)
    if name == "tied back":
        parting = None
    layers = 3 if curly and top > 0.15 else 2
    if top < 0.06:
        layers = 1
    rough = 0.12 * (who.texture == 1) + 0.65 * (who.texture == 2) + 1.0 * (who.texture == 3)
    return Style(
        name=name,
        top=top,
        side=side,
        layers=layers,
        length=length,
        tucked=bool(draw.rand() < 0.4),
        fringe=fringe,
        parting=parting,
        rough=rough,
        hairline=line,
    )


@functools.cache
def _scalp() -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Where hair or a hat may be.

    As the mesh of the head is coarse there, each of its triangles becomes four, whose vertices are
    the midpoints of pairs of skin vertices. Returns the (V, 2) pairs, the (T, 3) triangles, and the
    (V,) angles of the vertices from the front in degrees.
    """
    head = anatomy()
    x, y, z = head.mean.T
    angle = np.degrees(np.abs(np.arctan2(x, z - MIDDLE[2])))
    low_angles = [0, 55, 68, 80, 110, 140, 180]
    low = np.interp(angle, low_angles, [0.2, 0.15, -0.3, -0.3, -0.55, -0.75, -0.8])
    # The ears are the vertices that move when the shape of the ears changes.
    reach = np.zeros(len(head.mean))
    for name in ("ear-scale", "ear-wing", "ear-rot", "ear-lobe"):
        for axis in head.axes("ears"):
            if name in axis:
                displacement = head.bank[head.number[axis + "+"]]
                reach = np.maximum(reach, np.linalg.norm(displacement, axis=1))
    ears = (reach > 0.01) & (y < 0.2) & (y > -0.5) & (np.abs(x) > 0.55) & (z > -1.1)
    usable = (y > low) & ~ears
    triangles = head.triangles[(head.part == SKIN) & usable[head.triangles].all(axis=1)]
    a, b, c = triangles.T
    corners = [np.stack(pair, axis=1) for pair in ((a, a), (b, b), (c, c), (a, b), (b, c), (c, a))]
    pairs, flat = np.unique(np.sort(np.concatenate(corners), axis=1), axis=0, return_inverse=True)
    a, b, c, ab, bc, ca = flat.reshape(6, -1)
    quarters = np.stack([[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]])
    quarters = quarters.transpose(2, 0, 1).reshape(-1, 3)
    rest = head.mean[pairs].mean(axis=1)
    angles = np.degrees(np.abs(np.arctan2(rest[:, 0], rest[:, 2] - MIDDLE[2])))
    return pairs.astype(np.int64), quarters.astype(np.int32), angles.astype(np.float32)


def _strand_coordinates(rest: NDArray[np.float32], style: Style) -> NDArray[np.float32]:
    """(V, 2) coordinates across and along the strands, which start at a whorl or at a parting."""
    x, y, z = (rest - MIDDLE).T
    if style.rough > 0.5:
        return np.stack([x * 16 + z * 7, y * 6 + z * 4], axis=1)
    if style.name == "tied back":
        return np.stack([np.arctan2(x, y + 0.3) * 26, (0.9 - z) / 1.8], axis=1)
    if style.parting is None:
        around = np.arctan2(x, z + 0.35)
        return np.stack([around * 14, np.hypot(x, z + 0.35)], axis=1)
    return np.stack([z * 16, np.abs(np.arctan2(x - style.parting, y + 0.2)) / 2], axis=1)


def hair_pieces(head: Anatomy, shaped: NDArray[np.float32], style: Style, seed: int) -> list[Piece]:
    """Makes the shells of a hairstyle and, for long hair, the curtain.

    Args:
        head: the mean head.
        shaped: (V, 3) float32 vertices of the head of the person.
        style: the style.
        seed: seed of the shape of the lumps and of the ends of the hair.

    Returns:
        The pieces from the inside to the outside; none for a shaved head.
    """
    if style.name == "shaved" or style.top <= 0.0:
        return []
    pairs, triangles, angle = _scalp()
    rest, skin = head.mean[pairs].mean(axis=1), shaped[pairs].mean(axis=1)
    above = rest[:, 1] - np.interp(angle, ANGLES, style.hairline)
    normals = vertex_normals(shaped, head.triangles[head.part == SKIN])[pairs].mean(axis=1)
    outward = skin - MIDDLE
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    normals = normals + 0.8 * outward
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    draw = stream(7, seed)
    thickness = _thickness(rest, style, draw)
    steepness = 0.6 if style.rough > 0.5 or style.fringe else 1.0
    rise = np.clip(above / (0.22 + 0.5 * style.top), 0, 1) ** steepness
    if style.fringe:
        rise = np.maximum(rise, 0.45 * (above > -0.03) * np.exp(-((angle / 40) ** 4)))
    visible = triangles[(above > -0.09)[triangles].any(axis=1)]
    # The strands of each day lie in another way.
    coordinates = _strand_coordinates(rest, style) + draw.uniform(0, 16, 2).astype(np.float32)
    pieces = []
    for layer in range(style.layers):
        height = (layer + 1) / style.layers
        density = 1.0 if layer == 0 else 1.0 - 0.45 * height * (0.4 + style.rough)
        # Not clipped at 0: between two vertices, the edge would then follow the coarse mesh.
        cover = np.clip(0.45 + above * 4.5, -2.0, 1.0) * density
        lift = thickness * rise * height + 0.008
        # Each layer of curls has other strands; those of sleek hair lie above each other.
        shift = 3.7 * layer if style.rough > 0.5 else 0.0
        pieces.append(
            Piece(
                vertices=(skin + normals * lift[:, None]).astype(np.float32),
                rest=rest,
                triangles=visible,
                uv=(coordinates + shift)[visible].astype(np.float32),
                cover=cover.astype(np.float32),
                openness=np.full(len(rest), 0.45 + 0.5 * height, dtype=np.float32),
                material=HAIR,
            )
        )
    if style.length is not None:
        width = float(np.abs(skin[:, 0]).max() / np.abs(rest[:, 0]).max())
        pieces += [_curtain(style, style.length, width, layer, draw) for layer in range(2)]
    return pieces


def _thickness(
    rest: NDArray[np.float32], style: Style, draw: np.random.RandomState
) -> NDArray[np.float64]:
    """(V,) thickness of the hair at places of the mean head, with random lumps."""
    crown = np.clip((rest[:, 1] - 0.1) / 0.7, 0, 1)
    thickness = style.side + (style.top - style.side) * crown
    phase = draw.uniform(0, 6.28, 6)
    waves = [
        np.sin(rest[:, axis] * (4.5 + 3 * octave) + phase[2 * octave + axis % 2])
        for octave in range(3)
        for axis in range(3)
    ]
    lumps = sum(waves) / 9
    return np.asarray(thickness * (1 + (0.25 + 0.9 * style.rough) * lumps))


def _curtain(
    style: Style, length: float, width: float, layer: int, draw: np.random.RandomState
) -> Piece:
    """Hanging hair: a half tube around the back of the head, from inside the shells to `length`.

    `width` is that of the head relative to the mean head.
    """
    first = 104.0 if style.tucked else 63.0
    around = np.radians(np.linspace(first, 360 - first, 49))
    down = np.linspace(0, 1, 14)
    angle, share = np.meshgrid(around, down)
    # The edge at the face swings: backwards at the temples, forwards over the cheeks.
    angle = np.pi + (angle - np.pi) * (
        0.90
        + 0.10 * np.sin(np.clip(share * 1.3, 0, 1) * np.pi)
        + 0.03 * np.sin(share * 7 + 2 * layer)
    )
    ragged = 0.10 * np.interp(around, np.linspace(0, 6.3, 40), draw.rand(40))
    height = 0.42 + (length + ragged[None] - 0.42) * share
    out = style.side * 0.75 + 0.03 * layer
    wave = (0.02 + 0.09 * min(style.rough, 0.7)) * np.sin(share * 9 + angle * 7 + layer) * share
    fall = np.clip(share * 1.5, 0, 1)
    tucked_in = 0.86 + 0.14 * np.clip((0.42 - height) / 0.3, 0, 1)
    over_ears = 0.10 * np.exp(-(((height + 0.15) / 0.35) ** 2))
    over_shoulders = 0.10 * fall * (height < -0.6) * np.clip(-0.6 - height, 0, 1)
    side = (0.74 + over_ears + over_shoulders) * width + out
    back = np.where(height > -0.3, 0.93, 0.93 - 0.28 * np.clip((-0.3 - height) / 0.5, 0, 1)) + out
    x = (side + wave) * tucked_in * np.sin(angle)
    z = MIDDLE[2] + (back + wave) * tucked_in * np.cos(angle)
    vertices = np.stack([x, height, z], axis=-1).reshape(-1, 3).astype(np.float32)
    rows, columns = angle.shape
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    triangles = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + columns], 1),
            np.stack([corner + 1, corner + columns + 1, corner + columns], 1),
        ]
    ).astype(np.int32)
    coordinates = np.stack([angle * 14 + 0.6 * wave * 10, share], axis=-1).reshape(-1, 2)
    edge = np.minimum(np.arange(49), np.arange(48, -1, -1))[None] * (around[1] - around[0])
    cover = np.clip((1.04 - share) * 4, 0, 1) * np.clip(0.55 + edge * 6, 0, 1) * (1 - 0.3 * layer)
    return Piece(
        vertices=vertices,
        rest=vertices,
        triangles=triangles,
        uv=coordinates[triangles].astype(np.float32),
        cover=cover.reshape(-1).astype(np.float32),
        openness=(0.8 - 0.35 * fall.reshape(-1) * (1 - layer)).astype(np.float32),
        material=HAIR,
    )


def beard_pieces(head: Anatomy, shaped: NDArray[np.float32], length: float) -> list[Piece]:
    """Makes the outline of a full beard: shells over jaw and chin.

    Args:
        head: the mean head.
        shaped: (V, 3) float32 vertices of the head of the person.
        length: thickness of the beard in decimetres.

    Returns:
        The pieces from the inside to the outside.
    """
    numbers, triangles = _jaw()
    rest = head.mean[numbers]
    ax, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    below_cheek, before_ear = np.clip((0.62 - ax) / 0.32, 0, 1), np.clip((-0.2 - z) / 0.35, 0, 1)
    edge = -0.50 - 0.28 * below_cheek + 0.75 * before_ear
    inside = np.clip((edge - y) / 0.16, 0, 1) * np.clip((z + 0.95) / 0.2, 0, 1)
    inside *= np.clip((y + 1.38) / 0.16, 0, 1)
    mouth = (np.hypot(ax / 0.31, (y + 0.68) / 0.19) > 1) * 1.0
    cover = np.clip(inside * 1.3, 0, 0.9) * mouth
    normals = vertex_normals(shaped, head.triangles[head.part == SKIN])[numbers]
    keep = (cover > 0.05)[triangles].any(axis=1)
    pieces = []
    for layer in range(2):
        lift = (length * (layer + 1) / 2 * np.clip(inside * 1.4, 0, 1))[:, None]
        down = np.array([0, -0.6, 0.1]) * lift
        coordinates = np.stack([rest[:, 0] * 13 + rest[:, 2] * 7, y * 4.0 + 2.3 * layer], axis=1)
        pieces.append(
            Piece(
                vertices=(shaped[numbers] + normals * lift + down).astype(np.float32),
                rest=rest,
                triangles=triangles[keep],
                uv=coordinates[triangles[keep]].astype(np.float32),
                cover=(cover * (0.95 - 0.3 * layer)).astype(np.float32),
                openness=np.full(len(numbers), 0.55 + 0.2 * layer, dtype=np.float32),
                material=HAIR,
            )
        )
    return pieces


@functools.cache
def _jaw() -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The vertices of the head on which a beard may grow, and the triangles between them."""
    head = anatomy()
    x, y, z = head.mean.T
    usable = (y < 0.0) & (y > -1.45) & (z > -1.0) & (np.abs(x) < 0.74)
    triangles = head.triangles[(head.part == SKIN) & usable[head.triangles].all(axis=1)]
    vertices, flat = np.unique(triangles, return_inverse=True)
    return vertices, flat.reshape(-1, 3).astype(np.int32)


def hat_piece(head: Anatomy, shaped: NDArray[np.float32], hair: Style, low: float) -> Piece:
    """Makes a knitted cap.

    Args:
        head: the mean head.
        shaped: (V, 3) float32 vertices of the head of the person.
        hair: the hairstyle under the cap.
        low: height on the forehead of the mean head down to which the cap reaches.

    Returns:
        The cap.
    """
    edge = np.interp(ANGLES, [0, 60, 90, 130, 180], [low, low - 0.05, low - 0.25, -0.1, -0.1])
    line = edge.astype(np.float32)
    cap = replace(
        hair,
        name="cap",
        top=max(hair.top, 0.1) + 0.06,
        side=max(hair.side * 0.6, 0.06) + 0.05,
        layers=1,
        length=None,
        fringe=0.3,
        parting=None,
        rough=0.0,
        hairline=line,
    )
    shell = hair_pieces(head, shaped, cap, seed=0)[0]
    angle = np.degrees(np.abs(np.arctan2(shell.rest[:, 0], shell.rest[:, 2] - MIDDLE[2])))
    above = shell.rest[:, 1] - np.interp(angle, ANGLES, line)
    cover = np.where(above > -0.02, 2.0, 0.0).astype(np.float32)
    keep = (cover > 1)[shell.triangles].all(axis=1)
    return replace(
        shell,
        cover=cover,
        openness=np.full(len(cover), 0.95, dtype=np.float32),
        triangles=shell.triangles[keep],
        uv=shell.uv[keep] * 0.1,
        material=CLOTH,
    )


@functools.cache
def strands(side: int = 256) -> NDArray[np.float32]:
    """Returns a tile that decides which strands are present for a given cover.

    Args:
        side: height and width of the tile.

    Returns:
        (side, side) float32 values, uniform in 0..1, that change little along the rows of a column.
    """
    draw = stream(8)
    spectrum = np.fft.rfft2(draw.randn(side, side))
    fy, fx = np.abs(np.fft.fftfreq(side))[:, None], np.fft.rfftfreq(side)[None]
    tile = np.fft.irfft2(spectrum * np.exp(-((fy / 0.02) ** 2) - (fx / 0.16) ** 2), s=(side, side))
    rank = np.empty(side * side)
    rank[np.argsort(tile.ravel())] = np.arange(side * side) / (side * side)
    return rank.reshape(side, side).astype(np.float32)


@compiled
def rasterise_strands(
    points: NDArray[np.float32],
    triangles: NDArray[np.int32],
    uv: NDArray[np.float32],
    cover: NDArray[np.float32],
    first: int,
    tile: NDArray[np.float32],
    nearness: NDArray[np.float32],
    seen: NDArray[np.int32],
) -> None:
    """As `rasterise`, with holes: a sample is drawn if the tile's value is below the cover.

    Args:
        points: (V, 3) column, row and nearness of each vertex.
        triangles: (T, 3) vertices of each triangle.
        uv: (T, 3, 2) coordinates of each corner across and along the strands.
        cover: (V,) share of the strands that are present.
        first: number that is written to `seen` for triangle 0.
        tile: the tile of `strands`.
        nearness: (H, W) nearness of what each sample sees, -inf for nothing.
        seen: (H, W) number of the triangle that each sample sees.
    """
    height, width = nearness.shape
    side = tile.shape[0]
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = points[a, 0], points[a, 1]
        bx, by = points[b, 0], points[b, 1]
        cx, cy = points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or not np.isfinite(area):
            continue
        left, right = sample_range(min(ax, bx, cx), max(ax, bx, cx), width)
        top, bottom = sample_range(min(ay, by, cy), max(ay, by, cy), height)
        inverse = np.float32(1.0) / area
        for row in range(top, bottom + 1):
            y = np.float32(row) + np.float32(0.5)
            for column in range(left, right + 1):
                x = np.float32(column) + np.float32(0.5)
                wb = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) * inverse
                wc = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) * inverse
                wa = np.float32(1.0) - wb - wc
                if not (wa >= 0 and wb >= 0 and wc >= 0):
                    continue
                near = wa * points[a, 2] + wb * points[b, 2] + wc * points[c, 2]
                if near > nearness[row, column]:
                    u = wa * uv[t, 0, 0] + wb * uv[t, 1, 0] + wc * uv[t, 2, 0]
                    v = wa * uv[t, 0, 1] + wb * uv[t, 1, 1] + wc * uv[t, 2, 1]
                    strand = tile[int(np.floor(v * 60.0)) % side, int(np.floor(u * 57.0)) % side]
                    if strand < wa * cover[a] + wb * cover[b] + wc * cover[c]:
                        nearness[row, column] = near
                        seen[row, column] = first + t
