"""Images of a person: poses and dresses the head, lights it and photographs it."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from workbench.geometry import ARCFACE, umeyama
from workbench.synthfaces.anatomy import EYE_LEFT, EYE_RIGHT, LASHES, SKIN, TORSO, Anatomy, anatomy
from workbench.synthfaces.hair import (
    Piece,
    beard_pieces,
    hair_pieces,
    hat_piece,
    rasterise_strands,
    strands,
)
from workbench.synthfaces.occluders import glasses_piece, hand_piece, mask_piece
from workbench.synthfaces.paint import paint
from workbench.synthfaces.person import Person, head_of, stream
from workbench.synthfaces.raster import compiled, rasterise, vertex_normals
from workbench.synthfaces.shade import (
    CLOTH,
    CLOTHES,
    FRAME,
    HAIR,
    PALETTE,
    Collar,
    Colour,
    Eyes,
    Lighting,
    Palette,
    ShadowMap,
    SkinTexture,
    Surface,
    shade,
)
from workbench.synthfaces.shot import Session, Shot

NECK = np.array([0.0, -0.75, -0.75], dtype=np.float32)
"""Centre of the rotation of the head, in decimetres."""
SHADOW_SIDE = 96
"""Side of the shadow map in samples."""
SHADOW_SPAN = 3.6
"""Width of the region that the shadow map shows, in decimetres."""
SUPERSAMPLING = 2
"""Samples per pixel in each direction."""
GRAIN_SIDE = 509
"""Side of the tile of noise in pixels."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Shares of red, green and blue in the luminance."""


@dataclass(frozen=True)
class Meshes:
    """The head and its pieces as one mesh, in the order in which they are drawn.

    The lashes are the last triangles of the head; the pieces follow.

    Attributes:
        rest: (V, 3) float32 positions on the mean head.
        triangles: (T, 3) int32 vertices of each triangle.
        material: (T,) uint8 material of each triangle.
        uv: (T, 3, 2) float32 texture coordinates of each corner.
        openness: (V,) float32 ambient occlusion.
        cover: (V,) float32 share of the strands that are present, as for `Piece`.
        bounds: number of the first triangle of each piece, and the number of all triangles.
        pieces: the pieces in addition to the head.
    """

    rest: NDArray[np.float32]
    triangles: NDArray[np.int32]
    material: NDArray[np.uint8]
    uv: NDArray[np.float32]
    openness: NDArray[np.float32]
    cover: NDArray[np.float32]
    bounds: list[int]
    pieces: list[Piece]


def assemble(head: Anatomy, pieces: list[Piece], lashes: float) -> Meshes:
    """Joins the head and pieces such as hair and glasses.

    Args:
        head: the mean head.
        pieces: the pieces in the order in which they are drawn.
        lashes: density of the eyelashes, 0..1.

    Returns:
        The joined mesh.
    """
    starts = np.cumsum([len(head.mean), *(len(piece.vertices) for piece in pieces)])
    bounds = np.cumsum([len(head.triangles), *(len(piece.triangles) for piece in pieces)])
    triangles = [piece.triangles + start for piece, start in zip(pieces, starts, strict=False)]
    materials = [np.full(len(piece.triangles), piece.material, np.uint8) for piece in pieces]
    lash_cover = np.full(len(head.mean), lashes, np.float32)
    return Meshes(
        rest=np.concatenate([head.mean, *(piece.rest for piece in pieces)]),
        triangles=np.concatenate([head.triangles, *triangles], dtype=np.int32),
        material=np.concatenate([head.part, *materials]),
        uv=np.concatenate([head.uv, *(piece.uv for piece in pieces)]),
        openness=np.concatenate([head.occlusion, *(piece.openness for piece in pieces)]),
        cover=np.concatenate([lash_cover, *(piece.cover for piece in pieces)]),
        bounds=bounds.tolist(),
        pieces=pieces,
    )


@dataclass(frozen=True)
class Dressed:
    """A person on a day, ready to be photographed.

    Attributes:
        who: the person.
        day: the day.
        vertices: (V, 3) float32 vertices of the head without expression.
        meshes: the head with hair and glasses.
        skin: the painted skin.
        palette: the materials with the colours of the person and of the clothes.
        eyes: the eyeballs, which look straight ahead.
        collar: the neckline of the clothes.
        eye_centres: (2, 3) float64 centres of the left and the right eyeball of this head.
    """

    who: Person
    day: Session
    vertices: NDArray[np.float32]
    meshes: Meshes
    skin: SkinTexture
    palette: Palette
    eyes: Eyes
    collar: Collar
    eye_centres: NDArray[np.float64]


def dress(who: Person, day: Session) -> Dressed:
    """Shapes and paints a person for a day.

    Args:
        who: the person.
        day: age, hair, make-up and clothes of the day.

    Returns:
        The person on that day, for `photograph`.
    """
    head = anatomy()
    vertices = head_of(head, who, day.age)
    eyeballs = [vertices[head.eye_vertices == eye].mean(axis=0) for eye in (1, 2)]
    eye_centres = np.stack(eyeballs).astype(np.float64)
    pieces = hair_pieces(head, vertices, day.style, seed=who.pattern + 7919 * day.number)
    if day.look.beard > 0.5 and day.look.chin * day.look.cheeks > 0.5:
        pieces += beard_pieces(head, vertices, 0.03 + 0.10 * (day.look.beard - 0.5))
    if day.glasses is not None:
        pieces.append(glasses_piece(eye_centres.astype(np.float32), day.glasses, dark=False))
    height, depth, width = _float32(day.collar)
    return Dressed(
        who=who,
        day=day,
        vertices=vertices,
        meshes=assemble(head, pieces, _lashes(who)),
        skin=paint(head, who, day.look),
        palette=_palette(who, day),
        eyes=_eyes(head, who, day.age),
        collar=Collar(height, depth, width),
        eye_centres=eye_centres,
    )


def _palette(who: Person, day: Session) -> Palette:
    """The materials with the colours of a person and of the clothes of a day."""
    colour = PALETTE.colour.copy()
    colour[TORSO] = who.skin * (1 - 0.9 * day.look.tan)
    colour[LASHES] = day.hair * 0.3
    colour[HAIR] = day.hair
    colour[FRAME] = day.frame
    colour[CLOTHES] = day.cloth
    return PALETTE._replace(colour=colour, hair_tips=_colour(day.tips))


def _eyes(head: Anatomy, who: Person, age: float) -> Eyes:
    """The eyeballs of a person at an age. Their white becomes yellowish with age."""
    old = np.clip((age - 40) / 40, 0, 1)
    white = np.array([0.46, 0.425, 0.395]) * (1 - 0.2 * who.tone)
    pupil, iris = _float32([0.982 - 0.012 * (who.pattern % 7) / 7, 0.905])
    return Eyes(
        centre=head.eye_centres,
        gaze=np.array([0.0, 0.0, 1.0], dtype=np.float32),
        pupil=pupil,
        iris=iris,
        sclera=_colour(white * [1, 1 - 0.05 * old, 1 - 0.14 * old]),
        iris_colour=_colour(who.iris),
        rim_colour=_colour(who.iris * 0.25),
    )


def _float32(values: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Numbers rounded to float32, as Python floats, so that numba compiles for one type."""
    rounded: list[float] = np.asarray(values, dtype=np.float32).tolist()
    return rounded


def _colour(values: NDArray[np.float64]) -> Colour:
    """Three numbers, rounded to float32, as a colour."""
    return Colour(*_float32(values))


def _lashes(who: Person) -> float:
    """Density of the eyelashes, 0..1."""
    return 0.5 if who.female else 0.3


@dataclass(frozen=True)
class Taken:
    """A finished image.

    Attributes:
        jpeg: content of the JPEG file.
        landmarks: (5, 2) float32 column and row in pixels, in ArcFace's order.
        covered: share 0..1 of the face that is hidden.
    """

    jpeg: bytes
    landmarks: NDArray[np.float32]
    covered: float


def photograph(dressed: Dressed, shot: Shot, size: int) -> Taken:
    """Takes one image.

    The true landmarks are aligned to ArcFace's template, apart from the roll, the shift and the
    zoom of the shot.

    Args:
        dressed: the person on a day.
        shot: pose, expression, light, camera and occluder.
        size: height and width of the image in pixels.

    Returns:
        The image with its landmarks.
    """
    head = anatomy()
    draw = stream(3, shot.backdrop)
    shaped = dressed.vertices
    if shot.units:
        units = {f"unit/{name}": strength for name, strength in shot.units.items()}
        shaped = shaped + head.displaced(units)
    occluders, palette = _occluders(head, dressed, shaped, shot, draw)
    meshes = dressed.meshes
    if occluders:
        kept = [piece for piece in meshes.pieces if not _is_replaced(piece, shot.occluder)]
        meshes = assemble(head, [*kept, *occluders], _lashes(dressed.who))

    parts = [shaped, *(piece.vertices for piece in meshes.pieces)]
    vertices = _pose(np.concatenate(parts), meshes.rest[:, 1], shot)
    anchors = _landmarks_on(head, dressed, shaped)
    anchors = _pose(anchors, anchors[:, 1], shot)
    middle = anchors.mean(axis=0)
    vertices, anchors = vertices - middle, anchors - middle
    points, landmarks = _project(vertices, anchors, shot, size)
    first_occluder = len(meshes.pieces) - len(occluders)
    seen, face, covered = _visible(head, meshes, points, first_occluder, size)

    image = np.zeros((*seen.shape, 4), dtype=np.float32)
    surface = Surface(
        points=points,
        vertices=vertices,
        rest=meshes.rest,
        normals=vertex_normals(vertices, meshes.triangles),
        triangles=meshes.triangles,
        material=meshes.material,
        uv=meshes.uv,
        openness=meshes.openness,
    )
    lighting = _lighting(shot, surface, len(head.triangles))
    eyes = dressed.eyes._replace(gaze=_gaze(shot))
    shade(
        seen,
        surface,
        dressed.skin,
        palette,
        eyes,
        dressed.collar,
        lighting,
        shot.distance,
        image,
    )
    panel = _panel(shot, face, draw) if shot.occluder == "panel" else None
    if panel is not None:
        covered = float((face & (panel[..., 3] > 0.5)).sum()) / max(float(face.sum()), 1.0)
    jpeg = _develop(image, panel, _brightness(image, face), shot, size, draw)
    return Taken(jpeg, landmarks.astype(np.float32), covered)


def _visible(
    head: Anatomy, meshes: Meshes, points: NDArray[np.float32], first_occluder: int, size: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_], float]:
    """Which triangle each sample sees, which samples see the face, and the hidden share of it.

    The pieces from number `first_occluder` on count as hiding the face.
    """
    side = size * SUPERSAMPLING
    nearness = np.full((side, side), -np.inf, dtype=np.float32)
    seen = np.full((side, side), -1, dtype=np.int32)
    lashes = int((head.part != LASHES).sum())  # Number of the first triangle of the lashes.
    rasterise(points, head.triangles[:lashes], 0, True, nearness, seen)
    rasterise_strands(
        points,
        head.triangles[lashes:],
        head.uv[lashes:],
        meshes.cover,
        lashes,
        strands(),
        nearness,
        seen,
    )
    samples_before = 0
    for number, piece in enumerate(meshes.pieces):
        if number == first_occluder:
            samples_before = int(_sees_face(seen).sum())
        first, end = meshes.bounds[number], meshes.bounds[number + 1]
        triangles = meshes.triangles[first:end]
        if piece.cover.min() > 1:
            rasterise(points, triangles, first, False, nearness, seen)
        else:
            rasterise_strands(
                points, triangles, piece.uv, meshes.cover, first, strands(), nearness, seen
            )
    face = _sees_face(seen)
    covered = 0.0
    if samples_before:
        covered = 1 - float(face.sum()) / samples_before
    return seen, face, covered


def _sees_face(seen: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which samples see the face; pieces and the background do not count."""
    is_face = _face_triangles()
    return np.asarray(is_face[np.where(seen < len(is_face), seen, -1)])


def _is_replaced(piece: Piece, occluder: str) -> bool:
    """Whether an occluder replaces a piece: dark glasses other glasses, and a cap the hair."""
    return (occluder == "dark glasses" and piece.material == FRAME) or (
        occluder == "cap" and bool(piece.rest[:, 1].max() > 0.95)
    )


@functools.cache
def _face_triangles() -> NDArray[np.bool_]:
    """(T + 1,) whether a triangle belongs to the face, from the forehead to the chin.

    The last entry is False and stands for everything that is not a triangle of the head.
    """
    head = anatomy()
    x, y, z = head.mean[head.triangles].mean(axis=1).T
    face = ((x / 0.68) ** 2 + ((y + 0.22) / 0.98) ** 2 < 1) & (z > -0.45)
    face &= (head.part == SKIN) | (head.part == EYE_LEFT) | (head.part == EYE_RIGHT)
    return np.append(face, False)


def _landmarks_on(
    head: Anatomy, dressed: Dressed, shaped: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(5, 3) landmarks in ArcFace's order: the eye on the left of the image is the right one."""
    left, right = dressed.eye_centres + np.array([0, 0, head.eye_radius[0]])
    nose, mouth_left, mouth_right = shaped[head.landmarks]
    return np.stack([right, left, nose, mouth_right, mouth_left]).astype(np.float32)


def _pose(
    vertices: NDArray[np.float32], height: NDArray[np.float32], shot: Shot
) -> NDArray[np.float32]:
    """Rotates the head on its neck. The shoulders follow about half of the way.

    `height` is that of each vertex on the mean head.
    """
    from_neck = vertices - NECK
    share = np.clip((height[:, None] + 2.0) / 0.85, 0, 1)
    share = share * share * (3 - 2 * share)
    head = from_neck @ _rotation(shot.yaw, shot.pitch).T
    shoulders = from_neck @ _rotation(shot.yaw * 0.55, 0.0).T
    return np.asarray(head * share + shoulders * (1 - share), dtype=np.float32)


def _rotation(yaw: float, pitch: float) -> NDArray[np.float32]:
    """(3, 3) matrix of a rotation by two angles in degrees."""
    a, b = np.radians(yaw), np.radians(pitch)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    return np.asarray(about_y @ about_x, dtype=np.float32)


def _project(
    vertices: NDArray[np.float32], anchors: NDArray[np.float32], shot: Shot, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(V, 3) points for the z-buffer, and (5, 2) landmarks in pixels of the finished image."""

    def camera(places: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Positions in the image plane, with y downwards, and depths."""
        depth = np.maximum(np.float32(shot.distance) - places[:, 2], np.float32(0.5))
        return (places[:, :2] * (np.array([shot.distance, -shot.distance]) / depth[:, None])), depth

    flat, _ = camera(anchors)
    similarity, offset = umeyama(flat, ARCFACE)
    roll = np.radians(shot.roll)
    lean = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]) * shot.zoom
    middle = ARCFACE.mean(axis=0)
    similarity, offset = lean @ similarity, lean @ (offset - middle) + middle + shot.shift
    screen, depth = camera(vertices)
    scale = size * SUPERSAMPLING / 112
    points = np.empty((len(vertices), 3), dtype=np.float32)
    points[:, :2] = (screen @ similarity.T + offset) * scale
    points[:, 2] = 1 / depth
    return points, (flat @ similarity.T + offset) * (size / 112)


def _lighting(shot: Shot, surface: Surface, head_triangles: int) -> Lighting:
    """Key light, fill light, sky and shadow map of a shot."""
    warm = np.array([1 + 0.17 * shot.warmth, 1.0, 1 - 0.25 * shot.warmth])
    key = 2.2 * shot.hardness * warm
    fill = 1.1 * shot.fill[2] * np.array([0.96, 1.0, 1.05])
    soft = (1 - shot.hardness) * (0.55 + 0.45 * (2 - warm))
    direction = np.stack([_direction(*shot.light), _direction(*shot.fill[:2])])
    return Lighting(
        direction=direction,
        colour=np.stack([key, fill]).astype(np.float32),
        casts_shadow=np.array([True, False]),
        sky=np.stack([0.45 * soft, 1.40 * soft]).astype(np.float32),
        shadow=_shadow(surface, head_triangles, direction[0]),
    )


def _direction(right: float, up: float) -> NDArray[np.float32]:
    """Unit vector in a direction given in degrees from the axis of the camera."""
    a, b = np.radians(right), np.radians(up)
    return np.array([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)]).astype(np.float32)


def _gaze(shot: Shot) -> NDArray[np.float32]:
    """Direction in which the eyes look; its length is close to 1."""
    right, up = np.radians(shot.gaze)
    gaze = np.array([np.sin(right), np.sin(up), np.cos(right) * np.cos(up)])
    return gaze.astype(np.float32)


def _shadow(surface: Surface, head_triangles: int, light: NDArray[np.float32]) -> ShadowMap:
    """What a light sees. The first `head_triangles` triangles are closed, the others are sheets."""
    across = np.cross([0.0, 1.0, 0.0], light)
    across /= np.linalg.norm(across) + 1e-9
    axes = np.stack([across, -np.cross(light, across), light], axis=1).astype(np.float32)
    centre, scale = SHADOW_SIDE / 2, SHADOW_SIDE / SHADOW_SPAN
    points = (surface.vertices @ axes).astype(np.float32)
    points[:, :2] = points[:, :2] * scale + centre
    depth = np.full((SHADOW_SIDE, SHADOW_SIDE), -np.inf, dtype=np.float32)
    unused = np.empty(depth.shape, dtype=np.int32)
    rasterise(points, surface.triangles[:head_triangles], 0, True, depth, unused)
    sheets = surface.triangles[head_triangles:]
    # The thin rims of glasses would cast crumbs.
    casting = sheets[surface.material[head_triangles:] != FRAME]
    rasterise(points, casting, 0, False, depth, unused)
    return ShadowMap(depth, axes, centre, scale)


def _occluders(
    head: Anatomy,
    dressed: Dressed,
    shaped: NDArray[np.float32],
    shot: Shot,
    draw: np.random.RandomState,
) -> tuple[list[Piece], Palette]:
    """The pieces in front of the face, and the palette with their colours."""
    cloth = (0.02 + 0.4 * draw.rand()) * np.clip(1 + 0.25 * draw.randn(3), 0.4, 1.6)
    colour = dressed.palette.colour.copy()
    pieces: list[Piece] = []
    if shot.occluder == "dark glasses":
        colour[FRAME] = 0.012
        eyes, form = dressed.eye_centres.astype(np.float32), draw.uniform(0.6, 1.0, 4)
        pieces = [glasses_piece(eyes, form, dark=True)]
    elif shot.occluder == "mask":
        colour[CLOTH] = np.array(
            [[0.65, 0.72, 0.78], [0.22, 0.45, 0.62], [0.04, 0.04, 0.045], [0.7, 0.7, 0.68]]
        )[draw.randint(4)]
        pieces = [mask_piece(head, shaped, float(draw.uniform(-0.2, -0.08)), -1.2, 0.05)]
    elif shot.occluder == "scarf":
        colour[CLOTH] = cloth
        pieces = [mask_piece(head, shaped, float(draw.uniform(-0.62, -0.35)), -1.9, 0.13)]
    elif shot.occluder == "cap":
        colour[CLOTH] = cloth
        pieces = [hat_piece(head, shaped, dressed.day.style, float(draw.uniform(0.26, 0.40)))]
    elif shot.occluder == "hand":
        side = float(draw.choice([-1, 1]))
        place = np.array([side * draw.uniform(0.1, 0.45), draw.uniform(-0.85, 0.1), 0.62])
        pieces = [hand_piece(place, side * draw.uniform(0.0, 0.9), draw)]
    return pieces, dressed.palette._replace(colour=colour)


def _brightness(image: NDArray[np.float32], face: NDArray[np.bool_]) -> float:
    """Mean luminance of the visible face, or of everything visible if hardly any face is."""
    samples = image[::2, ::2]
    mask = face[::2, ::2] if face.sum() > 50 else samples[..., 3] > 0
    if not mask.any():
        return 0.2
    return float((samples[mask][:, :3] @ LUMINANCE).mean())


def _panel(shot: Shot, face: NDArray[np.bool_], draw: np.random.RandomState) -> NDArray[np.float32]:
    """An unsharp panel in front of the face: (H, W, 4) linear red, green and blue, and alpha.

    It covers the share `shot.share` of the visible face, from the side `shot.angle`.
    """
    side = len(face)
    row, column = np.mgrid[:side, :side] / side - 0.5
    angle = np.radians(shot.angle)
    along = column * np.cos(angle) + row * np.sin(angle)
    across = column * np.sin(angle) - row * np.cos(angle)
    edge = float(np.quantile(along[face], 1 - shot.share)) if face.any() else 1.0
    alpha = np.clip((along - edge) / 0.03 + 0.5, 0, 1)
    colour = (0.03 + 0.5 * draw.rand()) * np.clip(1 + 0.25 * draw.randn(2, 3), 0.4, 1.6)
    stripes = 0.08 * np.sin(along * 30 + draw.uniform(0, 6))
    mix = np.clip(0.5 + across * 0.9 + stripes, 0, 1)[..., None]
    mixed = colour[0] * mix + colour[1] * (1 - mix)
    return np.concatenate([mixed, alpha[..., None]], axis=2).astype(np.float32)


BACKDROPS = {"wall": 0.35, "room": 0.25, "outdoors": 0.25, "lights": 0.15}
"""How common each kind of backdrop is."""
BACKDROP_SIDE = 48
"""Side of a backdrop before it is enlarged, in pixels."""


def _backdrop(size: int, draw: np.random.RandomState) -> NDArray[np.float32]:
    """(size, size, 3) linear light: an unsharp wall, room, landscape or lights behind the person.

    Everything is painted small, with square roots of linear light as pixels.
    """
    side = BACKDROP_SIDE
    kind = str(draw.choice(list(BACKDROPS), p=list(BACKDROPS.values())))
    base = np.exp(draw.uniform(np.log(0.010), np.log(0.35)))
    tint = _tint(draw)
    slope = draw.uniform(-1.6, 1.6, 2) @ (np.mgrid[:side, :side] / side - 0.5).reshape(2, -1)
    light = base * np.exp(slope.reshape(side, side) + draw.uniform(0.1, 0.8) * _clouds(draw))
    image = _as_picture(light[..., None] * tint)
    pen = ImageDraw.Draw(image)
    if kind == "room":
        for _ in range(draw.randint(3, 8)):
            left, top = draw.uniform(-10, side, 2)
            wide, high = draw.uniform(2, 22), draw.uniform(6, 50)
            pen.rectangle((left, top, left + wide, top + high), fill=_paint_of(base, draw))
    elif kind == "outdoors":
        horizon = draw.uniform(0.1, 0.9) * side
        pen.rectangle((0, 0, side, horizon), fill=_paint_of(3 * base, draw))
        for _ in range(draw.randint(6, 24)):
            column, row, radius = *draw.uniform(-4, side + 4, 2), draw.uniform(2, 10)
            box = (column - radius, row - radius, column + radius, row + radius)
            pen.ellipse(box, fill=_paint_of(0.7 * base, draw))
    elif kind == "lights":
        for _ in range(draw.randint(5, 20)):
            column, row, radius = *draw.uniform(-4, side + 4, 2), draw.uniform(1, 5)
            box = (column - radius, row - radius, column + radius, row + radius)
            pen.ellipse(box, fill=_paint_of(2.5 * base, draw))
    blurred = image.filter(ImageFilter.GaussianBlur(float(np.exp(draw.uniform(-0.9, 1.1)))))
    large = blurred.resize((size, size), Image.Resampling.BICUBIC)
    roots = np.asarray(large, dtype=np.float32) * np.float32(1 / 255)
    return roots * roots


def _clouds(draw: np.random.RandomState) -> NDArray[np.float64]:
    """(side, side) sum of random grids of three sizes, about a standard normal distribution."""
    octaves = []
    for cells, weight in ((3, 0.8), (8, 0.5), (20, 0.35)):
        grid = Image.fromarray((weight * draw.randn(cells, cells)).astype(np.float32))
        octaves.append(grid.resize((BACKDROP_SIDE, BACKDROP_SIDE), Image.Resampling.BICUBIC))
    return np.asarray(np.sum([np.asarray(octave, dtype=np.float64) for octave in octaves], axis=0))


def _paint_of(light: float, draw: np.random.RandomState) -> tuple[int, int, int]:
    """A random colour around a brightness, for `_backdrop`."""
    colour = light * np.exp(0.9 * draw.randn()) * _tint(draw)
    red, green, blue = (np.sqrt(np.clip(colour, 0.002, 1)) * 255).astype(int).tolist()
    return red, green, blue


def _tint(draw: np.random.RandomState) -> NDArray[np.float64]:
    """(3,) a random tint: mostly between orange and blue, as that of light, and hardly purple."""
    warm, green = 0.08 + 0.30 * draw.randn(), 0.06 + 0.10 * draw.randn()
    return np.asarray(np.exp(np.array([warm, green, -warm])))


def _as_picture(light: NDArray[np.float64]) -> Image.Image:
    """Linear light as a picture of its square roots."""
    return Image.fromarray((np.sqrt(np.clip(light, 0.002, 1)) * 255).astype(np.uint8))


@functools.cache
def _grain() -> NDArray[np.float32]:
    """A tile of noise with unit standard deviation, of which each image uses a part.

    As in photos that were made smaller, neighbours are similar, and so are the three channels.
    """
    draw = stream(9)
    luminance = draw.standard_normal((GRAIN_SIDE, GRAIN_SIDE, 1))
    colour = draw.standard_normal((GRAIN_SIDE, GRAIN_SIDE, 3))
    noise = ndimage.gaussian_filter(luminance + 0.18 * colour, (0.55, 0.55, 0), mode="wrap")
    return np.asarray(noise / noise.std(), dtype=np.float32)


@compiled
def _expose(
    image: NDArray[np.float32],
    panel: NDArray[np.float32],
    backdrop: NDArray[np.float32],
    gain: float,
) -> NDArray[np.float32]:
    """Turns samples into (size, size, 3) pixels, in linear light.

    The samples of a pixel are averaged over the backdrop and behind the panel; a panel of one
    sample stands for none.
    """
    size = backdrop.shape[0]
    samples = image.shape[0] // size
    share = np.float32(1.0 / (samples * samples))
    out = np.empty((size, size, 3), dtype=np.float32)
    for row in range(size):
        for column in range(size):
            red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for i in range(samples):
                for j in range(samples):
                    y, x = row * samples + i, column * samples + j
                    if image[y, x, 3] > 0:
                        r = min(image[y, x, 0], 3.0) * gain
                        g = min(image[y, x, 1], 3.0) * gain
                        b = min(image[y, x, 2], 3.0) * gain
                    else:
                        r = backdrop[row, column, 0]
                        g = backdrop[row, column, 1]
                        b = backdrop[row, column, 2]
                    if panel.shape[0] > 1:
                        alpha = panel[y, x, 3]
                        r = r * (1 - alpha) + panel[y, x, 0] * alpha
                        g = g * (1 - alpha) + panel[y, x, 1] * alpha
                        b = b * (1 - alpha) + panel[y, x, 2] * alpha
                    red, green, blue = red + r * share, green + g * share, blue + b * share
            out[row, column, 0], out[row, column, 1], out[row, column, 2] = red, green, blue
    return out


@compiled
def _blurred(pixels: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convolves rows and columns of (H, W, 3) pixels with a symmetric kernel of odd length.

    Pixels beyond the edge are those at the edge.
    """
    height, width, _ = pixels.shape
    reach = len(kernel) // 2
    across = np.zeros_like(pixels)
    for row in range(height):
        for column in range(width):
            for k in range(-reach, reach + 1):
                weight, other = kernel[k + reach], min(max(column + k, 0), width - 1)
                for channel in range(3):
                    across[row, column, channel] += weight * pixels[row, other, channel]
    out = np.zeros_like(pixels)
    for row in range(height):
        for k in range(-reach, reach + 1):
            weight, other = kernel[k + reach], min(max(row + k, 0), height - 1)
            for column in range(width):
                for channel in range(3):
                    out[row, column, channel] += weight * across[other, column, channel]
    return out


class Film(NamedTuple):
    """How a camera turns light into the values of a file.

    Attributes:
        red: gain of red.
        blue: gain of blue.
        contrast: steepness of the tone curve, 0..0.5.
        saturation: factor of the distance of colours from grey; 0 for a black and white image.
    """

    red: float
    blue: float
    contrast: float
    saturation: float


@compiled
def _developed(
    pixels: NDArray[np.float32], grain: NDArray[np.float32], film: Film
) -> NDArray[np.uint8]:
    """Turns linear light into sRGB bytes.

    Bright values are compressed, as in cameras; then follow sRGB, the tone curve, the saturation
    and the noise.
    """
    height, width, _ = pixels.shape
    out = np.empty((height, width, 3), dtype=np.uint8)
    gains = (np.float32(film.red), np.float32(1.0), np.float32(film.blue))
    contrast, saturation = np.float32(film.contrast), np.float32(film.saturation)
    half, one = np.float32(0.5), np.float32(1.0)
    colour = np.empty(3, dtype=np.float32)
    for row in range(height):
        for column in range(width):
            for channel in range(3):
                value = max(pixels[row, column, channel], np.float32(0.0)) * gains[channel]
                if value > np.float32(0.6):
                    excess = (value - np.float32(0.6)) / np.float32(0.4)
                    value = np.float32(0.6) + np.float32(0.4) * (one - np.exp(-excess))
                if value <= np.float32(0.0031308):
                    value = np.float32(12.92) * value
                else:
                    root = value ** np.float32(1 / 2.4)
                    value = np.float32(1.055) * root - np.float32(0.055)
                bend = value * (one - value) * (value - half) * np.float32(4.0)
                colour[channel] = value + contrast * bend
            luma = np.float32(0.299) * colour[0] + np.float32(0.587) * colour[1]
            luma += np.float32(0.114) * colour[2]
            for channel in range(3):
                value = luma + saturation * (colour[channel] - luma)
                source = channel if film.saturation > 0 else 0
                value = value * np.float32(255.0) + grain[row, column, source] + half
                out[row, column, channel] = np.uint8(min(max(value, 0.0), 255.0))
    return out


def _develop(
    image: NDArray[np.float32],
    panel: NDArray[np.float32] | None,
    brightness: float,
    shot: Shot,
    size: int,
    draw: np.random.RandomState,
) -> bytes:
    """Exposes an image, adds blur and grain, and encodes it as JPEG.

    As in cameras, the exposure follows the brightness of the face, but not completely.
    """
    gain = shot.exposure * (0.245 / max(brightness, 0.01)) ** 0.65
    no_panel = np.zeros((1, 1, 4), dtype=np.float32)
    down, right = draw.randint(GRAIN_SIDE, size=2)
    rows, columns = (down + np.arange(size)) % GRAIN_SIDE, (right + np.arange(size)) % GRAIN_SIDE
    grain = np.float32(shot.grain) * _grain()[rows[:, None], columns]
    pixels = _expose(image, no_panel if panel is None else panel, _backdrop(size, draw), gain)
    pixels = _blurred(pixels, _kernel(np.hypot(shot.softness, shot.blur) * size / 112))
    red, blue = np.exp(np.array(shot.balance)).tolist()
    film = Film(red, blue, float(shot.contrast), 0.0 if shot.grey else float(shot.saturation))
    file = io.BytesIO()
    Image.fromarray(_developed(pixels, grain, film)).save(file, "JPEG", quality=shot.quality)
    return file.getvalue()


def _kernel(sigma: float) -> NDArray[np.float32]:
    """A Gaussian of a standard deviation in pixels, with the sum 1."""
    reach = max(int(np.ceil(2.5 * sigma)), 1)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (steps / max(sigma, 1e-3)) ** 2)
    return np.asarray(weights / weights.sum(), dtype=np.float32)
