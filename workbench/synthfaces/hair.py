"""Hair and headwear: shells over the scalp and, where hair is long, a curtain around the neck. Strands are cut out when drawn."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import SKIN, Anatomy, anatomy
from workbench.synthfaces.person import Person, stream
from workbench.synthfaces.raster import compiled, vertex_normals
from workbench.synthfaces.shade import CLOTH, HAIR

MIDDLE = np.array([0.0, 0.2, -0.7], dtype=np.float32)
"""Of the skull, around which hairlines are measured."""
ANGLES = np.arange(91) * 2.0
HAIRLINE = (
    *(
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
    ),
    *((140, -0.5), (180, -0.56)),
)
"""Angle from the front in degrees, and height on the mean head."""


@dataclass(frozen=True)
class Piece:
    """A part of the scene beside the head itself.

    Attributes:
        vertices, rest: (V, 3) on this head and on the mean head. triangles: (T, 3). uv: (T, 3, 2).
        cover: (V,) 0..1, how many of the strands reach there; 2 for cloth, which has no holes.
        openness: (V,) ambient occlusion. material: of the whole piece.
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
        name: key of WOMEN or MEN. top, side: thickness over the crown and at the sides, dm. layers: shells drawn.
        length: height on the mean head down to which a curtain hangs; None without. tucked: behind the ears.
        fringe: how far hair hangs over the forehead, dm. parting: x of the parting line, None for a whorl.
        rough: 0 sleek .. 1 curls. hairline: (91,) height at which it begins.
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
"""Thickness over the crown, dm."""


def hairline(who: Person, age: float) -> NDArray[np.float32]:
    """(91,) height of the person's hairline on the mean head, every two degrees from front to back."""
    angles, heights = np.array(HAIRLINE).T
    line: NDArray[np.float64] = np.interp(ANGLES, angles, heights)
    front = np.clip((70 - ANGLES) / 25, 0, 1)
    line += front * (0.07 * who.hairline[0] - 0.03 * (1 - who.female))
    line += (
        0.06
        * (1 + who.hairline[1])
        * np.exp(-(((ANGLES - 42) / 12) ** 2))
        * (0.4 if who.female else 1.0)
    )
    line -= 0.05 * max(who.hairline[2], 0) * np.exp(-((ANGLES / 9) ** 2))
    bald = who.balding * np.clip((age - 26) / 45, 0, 1)
    line += bald * (
        0.18 * np.exp(-(((ANGLES - 40) / 16) ** 2))
        + 0.7 * max(bald - 0.45, 0) * np.clip((85 - ANGLES) / 20, 0, 1)
    )
    return line.astype(np.float32)


def style_of_day(who: Person, age: float, draw: np.random.RandomState) -> Style:
    """Hair as somebody might wear it on a day: what a person keeps is its texture, colour and hairline."""
    odds = WOMEN if who.female else MEN
    names = list(odds)
    chances = np.array([odds[name] for name in names])
    name = names[int(draw.choice(len(names), p=chances / chances.sum()))]
    line = hairline(who, age)
    curly = max(who.texture - 1, 0) / 2
    parting: float | None = (
        float(draw.choice([-0.22, 0.0, 0.22]))
        if name in ("bob", "long") or draw.rand() < 0.5
        else None
    )
    fringe = 0.0
    wanted, depth = draw.rand() < 0.35, float(draw.uniform(0.12, 0.30))
    if who.texture < 3 and name in ("short", "bob", "long") and wanted and who.balding * age < 30:
        fringe, parting = depth, None
    volume = float(draw.uniform(0.75, 1.35))
    top = GROWN_OUT[name] * volume * (1 + 1.6 * curly * (name in ("short", "bob", "long")))
    side = top * (0.35 if name == "short" and not who.female and draw.rand() < 0.6 else 0.75)
    length = None
    if name == "bob":
        length = float(draw.uniform(-0.95, -0.45))
    if name == "long":
        length = float(draw.uniform(-2.2, -1.35))
    if who.texture == 3 and name in ("bob", "long") and draw.rand() < 0.6:
        length, top, side = (
            None,
            float(draw.uniform(0.28, 0.5)),
            float(draw.uniform(0.25, 0.45)),
        )  # worn out, as a round shape
    if fringe:
        line = line - (fringe * np.exp(-((ANGLES / 38) ** 4))).astype(np.float32)
    if name == "tied back":
        parting = None
    layers = 1 if top < 0.06 else 3 if curly and top > 0.15 else 2
    rough = 0.12 * (who.texture == 1) + 0.65 * (who.texture == 2) + 1.0 * (who.texture == 3)
    return Style(
        name, top, side, layers, length, bool(draw.rand() < 0.4), fringe, parting, rough, line
    )


@functools.cache
def _scalp() -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Where hair or a hat may be: pairs of skin vertices whose middles are the shell's vertices (as the mesh is coarse up
    there), triangles between them, and their angles from the front in degrees."""
    head = anatomy()
    x, y, z = head.mean.T
    angle = np.degrees(np.abs(np.arctan2(x, z - MIDDLE[2])))
    low = np.interp(
        angle, [0, 55, 68, 80, 110, 140, 180], [0.2, 0.15, -0.3, -0.3, -0.55, -0.75, -0.8]
    )
    reach = np.zeros(len(head.mean))
    for name in ("ear-scale", "ear-wing", "ear-rot", "ear-lobe"):
        for axis in head.axes("ears"):
            if name in axis:
                reach = np.maximum(
                    reach, np.linalg.norm(head.bank[head.number[axis + "+"]], axis=1)
                )
    ears = (reach > 0.01) & (y < 0.2) & (y > -0.5) & (np.abs(x) > 0.55) & (z > -1.1)
    usable = (y > low) & ~ears
    triangles = head.triangles[(head.part == SKIN) & usable[head.triangles].all(axis=1)]
    a, b, c = triangles.T
    corners = [np.stack(pair, axis=1) for pair in ((a, a), (b, b), (c, c), (a, b), (b, c), (c, a))]
    pairs, flat = np.unique(np.sort(np.concatenate(corners), axis=1), axis=0, return_inverse=True)
    a, b, c, ab, bc, ca = flat.reshape(6, -1)
    quarters = (
        np.stack([[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]])
        .transpose(2, 0, 1)
        .reshape(-1, 3)
    )
    rest = head.mean[pairs].mean(axis=1)
    angles = np.degrees(np.abs(np.arctan2(rest[:, 0], rest[:, 2] - MIDDLE[2])))
    return pairs.astype(np.int64), quarters.astype(np.int32), angles.astype(np.float32)


def _strand_coordinates(rest: NDArray[np.float32], style: Style) -> NDArray[np.float32]:
    """(V, 2) across and along the strands, from a whorl at the crown or from a parting."""
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
    """Shells and curtain on a head with vertices `shaped`."""
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
    crown = np.clip((rest[:, 1] - 0.1) / 0.7, 0, 1)
    thickness = style.side + (style.top - style.side) * crown
    draw = stream(7, seed)
    phase = draw.uniform(0, 6.28, 6)
    lumps = (
        sum(
            np.sin(rest[:, i] * (4.5 + 3 * k) + phase[2 * k + i % 2])
            for k in range(3)
            for i in range(3)
        )
        / 9
    )
    thickness = thickness * (1 + (0.25 + 0.9 * style.rough) * lumps)
    rise = np.clip(above / (0.22 + 0.5 * style.top), 0, 1) ** (
        0.6 if style.rough > 0.5 or style.fringe else 1.0
    )
    if style.fringe:
        rise = np.maximum(rise, 0.45 * (above > -0.03) * np.exp(-((angle / 40) ** 4)))
    keep = (above > -0.09)[triangles].any(axis=1)
    coordinates = _strand_coordinates(rest, style)
    pieces = []
    for layer in range(style.layers):
        height = (layer + 1) / style.layers
        cover = np.clip(0.5 + above * 6.0, 0, 1.0) * (
            1.0 if layer == 0 else 1.0 - 0.45 * height * (0.4 + style.rough)
        )
        pieces.append(
            Piece(
                vertices=(skin + normals * (thickness * rise * height + 0.008)[:, None]).astype(
                    np.float32
                ),
                rest=rest,
                triangles=triangles[keep],
                uv=(coordinates + 3.7 * layer)[triangles[keep]].astype(np.float32)
                if style.rough > 0.5
                else coordinates[triangles[keep]].astype(np.float32),
                cover=cover.astype(np.float32),
                openness=np.full(len(rest), 0.45 + 0.5 * height, dtype=np.float32),
                material=HAIR,
            )
        )
    if style.length is not None:
        width = float(np.abs(skin[:, 0]).max() / np.abs(rest[:, 0]).max())
        pieces += [_curtain(style, width, layer, draw) for layer in range(2)]
    return pieces


def _curtain(style: Style, width: float, layer: int, draw: np.random.RandomState) -> Piece:
    """Hair that hangs: a half tube around the back of the head, from inside the shells down to its length."""
    assert style.length is not None
    first = 104.0 if style.tucked else 63.0
    around = np.radians(np.linspace(first, 360 - first, 49))
    down = np.linspace(0, 1, 14)
    angle, share = np.meshgrid(around, down)
    # The edge towards the face swings: back at the temples, forward over the cheeks.
    angle = np.pi + (angle - np.pi) * (
        0.90
        + 0.10 * np.sin(np.clip(share * 1.3, 0, 1) * np.pi)
        + 0.03 * np.sin(share * 7 + 2 * layer)
    )
    ragged = 0.10 * np.interp(around, np.linspace(0, 6.3, 40), draw.rand(40))
    height = 0.42 + (style.length + ragged[None] - 0.42) * share
    out = style.side * 0.75 + 0.03 * layer
    wave = (0.02 + 0.09 * min(style.rough, 0.7)) * np.sin(share * 9 + angle * 7 + layer) * share
    fall = np.clip(share * 1.5, 0, 1)
    tucked_in = 0.86 + 0.14 * np.clip((0.42 - height) / 0.3, 0, 1)
    side = (
        0.74
        + 0.10 * np.exp(-(((height + 0.15) / 0.35) ** 2))
        + 0.10 * fall * (height < -0.6) * np.clip(-0.6 - height, 0, 1)
    ) * width + out
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
    """A full beard's outline: one shell over jaw and chin, dm thick."""
    numbers, triangles = _jaw()
    rest = head.mean[numbers]
    ax, y, z = np.abs(rest[:, 0]), rest[:, 1], rest[:, 2]
    edge = (
        -0.50 - 0.28 * np.clip((0.62 - ax) / 0.32, 0, 1) + 0.75 * np.clip((-0.2 - z) / 0.35, 0, 1)
    )
    inside = (
        np.clip((edge - y) / 0.16, 0, 1)
        * np.clip((z + 0.95) / 0.2, 0, 1)
        * np.clip((y + 1.38) / 0.16, 0, 1)
    )
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
    head = anatomy()
    x, y, z = head.mean.T
    usable = (y < 0.0) & (y > -1.45) & (z > -1.0) & (np.abs(x) < 0.74)
    triangles = head.triangles[(head.part == SKIN) & usable[head.triangles].all(axis=1)]
    vertices, flat = np.unique(triangles, return_inverse=True)
    return vertices, flat.reshape(-1, 3).astype(np.int32)


def hat_piece(head: Anatomy, shaped: NDArray[np.float32], hair: Style, low: float) -> Piece:
    """A knitted cap down to height `low` on the forehead."""
    line = np.interp(
        ANGLES, [0, 60, 90, 130, 180], [low, low - 0.05, low - 0.25, -0.1, -0.1]
    ).astype(np.float32)
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
    above = shell.rest[:, 1] - np.interp(
        np.degrees(np.abs(np.arctan2(shell.rest[:, 0], shell.rest[:, 2] - MIDDLE[2]))), ANGLES, line
    )
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
    """(side, side) tile of values spread evenly over 0..1, long along the columns: which strands are there."""
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
    """As `rasterise`, with holes: a sample is drawn where the tile's value is below the cover there."""
    height, width = nearness.shape
    side = tile.shape[0]
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = (
            points[a, 0],
            points[a, 1],
            points[b, 0],
            points[b, 1],
            points[c, 0],
            points[c, 1],
        )
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or not np.isfinite(area):
            continue
        # Bounded before they become whole numbers, as far-off ones are beyond those.
        left = int(min(max(np.ceil(min(ax, bx, cx) - 0.5), 0), width))
        right = int(max(min(np.floor(max(ax, bx, cx) - 0.5), width - 1), -1))
        top = int(min(max(np.ceil(min(ay, by, cy) - 0.5), 0), height))
        bottom = int(max(min(np.floor(max(ay, by, cy) - 0.5), height - 1), -1))
        inverse = np.float32(1.0) / area
        for row in range(top, bottom + 1):
            y = np.float32(row) + np.float32(0.5)
            for column in range(left, right + 1):
                x = np.float32(column) + np.float32(0.5)
                wb = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) * inverse
                wc = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) * inverse
                wa = np.float32(1.0) - wb - wc
                if wa >= 0 and wb >= 0 and wc >= 0:
                    near = wa * points[a, 2] + wb * points[b, 2] + wc * points[c, 2]
                    if near > nearness[row, column]:
                        u = wa * uv[t, 0, 0] + wb * uv[t, 1, 0] + wc * uv[t, 2, 0]
                        v = wa * uv[t, 0, 1] + wb * uv[t, 1, 1] + wc * uv[t, 2, 1]
                        value = tile[int(np.floor(v * 60.0)) % side, int(np.floor(u * 14.0)) % side]
                        if value < wa * cover[a] + wb * cover[b] + wc * cover[c]:
                            nearness[row, column] = near
                            seen[row, column] = first + t
