"""A picture of a person: pose the head, dress it, light it, photograph it."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

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
from workbench.synthfaces.shade import CLOTH, CLOTHES, FRAME, HAIR, PALETTE, shade
from workbench.synthfaces.shot import Session, Shot

NECK = np.array([0.0, -0.75, -0.75], dtype=np.float32)
SHADOW_SIDE = 144
SUPERSAMPLING = 2
GRAIN_SIDE = 509


@dataclass(frozen=True)
class Meshes:
    """Head and pieces as one mesh, in the order in which they are drawn: lashes and pieces after the head.

    Attributes:
        rest: (V, 3) on the mean head. triangles: (T, 3). material: (T,). uv: (T, 3, 2). openness: (V,). cover: (V,).
        bounds: (pieces + 1) first triangle of each piece, and the end.
        pieces: what the mesh was made of, beside the head.
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
    """Join the head and the pieces. `lashes`: 0..1, how dense the eyelashes are."""
    starts = np.cumsum([len(head.mean), *(len(piece.vertices) for piece in pieces)])
    bounds = np.cumsum([len(head.triangles), *(len(piece.triangles) for piece in pieces)])
    return Meshes(
        rest=np.concatenate([head.mean, *(piece.rest for piece in pieces)]),
        triangles=np.concatenate(
            [
                head.triangles,
                *(piece.triangles + start for piece, start in zip(pieces, starts, strict=False)),
            ],
            dtype=np.int32,
        ),
        material=np.concatenate(
            [
                head.part,
                *(np.full(len(piece.triangles), piece.material, np.uint8) for piece in pieces),
            ]
        ),
        uv=np.concatenate([head.uv, *(piece.uv for piece in pieces)]),
        openness=np.concatenate([head.occlusion, *(piece.openness for piece in pieces)]),
        cover=np.concatenate(
            [np.full(len(head.mean), lashes, np.float32), *(piece.cover for piece in pieces)]
        ),
        bounds=bounds.tolist(),
        pieces=pieces,
    )


@dataclass(frozen=True)
class Dressed:
    """A person on a day, ready to be photographed.

    Attributes:
        vertices: (V, 3) of the head without expression. meshes: the head with hair and glasses.
        atlas, gloss: painted skin. palette, extras, eyes: as for `shade`. eye_middles: (2, 3) left and right eyeball.
    """

    who: Person
    day: Session
    vertices: NDArray[np.float32]
    meshes: Meshes
    atlas: NDArray[np.float32]
    gloss: NDArray[np.float32]
    palette: NDArray[np.float32]
    extras: NDArray[np.float32]
    eyes: NDArray[np.float32]
    eye_middles: NDArray[np.float64]


def dress(who: Person, day: Session) -> Dressed:
    """Shape and paint a person for a day."""
    head = anatomy()
    vertices = head_of(head, who, day.age)
    atlas, gloss = paint(head, who, day.look)
    middles = np.stack([vertices[head.eye_vertices == eye].mean(axis=0) for eye in (1, 2)]).astype(
        np.float64
    )
    pieces = hair_pieces(head, vertices, day.style, seed=who.pattern)
    if day.look.beard > 0.5 and day.look.chin * day.look.cheeks > 0.5:
        pieces += beard_pieces(head, vertices, 0.03 + 0.10 * (day.look.beard - 0.5))
    if day.glasses is not None:
        pieces.append(glasses_piece(middles.astype(np.float32), day.glasses, dark=False))
    palette = PALETTE.copy()
    for material, colour in {
        TORSO: who.skin * (1 - 0.9 * day.look.tan),
        LASHES: day.hair * 0.3,
        HAIR: day.hair,
        FRAME: day.frame,
        CLOTHES: day.cloth,
    }.items():
        palette[material, :3] = colour
    old = np.clip((day.age - 40) / 40, 0, 1)
    sclera = (
        np.array([0.72, 0.69, 0.66]) * (1 - 0.25 * who.tone) * [1, 1 - 0.05 * old, 1 - 0.14 * old]
    )
    extras = np.array([sclera, who.iris, who.iris * 0.25, day.tips, day.collar], dtype=np.float32)
    eyes = np.zeros((2, 9), dtype=np.float32)
    eyes[:, :3], eyes[:, 3] = head.eye_centres, head.eye_radius
    eyes[:, 7], eyes[:, 8] = 0.982 - 0.012 * (who.pattern % 7) / 7, 0.905
    return Dressed(
        who,
        day,
        vertices,
        assemble(head, pieces, _lashes(who)),
        atlas,
        gloss,
        palette,
        extras,
        eyes,
        middles,
    )


def _lashes(who: Person) -> float:
    return 0.5 if who.female else 0.3


@dataclass(frozen=True)
class Taken:
    """A finished picture.

    Attributes:
        jpeg: the file. landmarks: (5, 2) column and row in pixels, in ArcFace's order.
        covered: share 0..1 of the face that is hidden.
    """

    jpeg: bytes
    landmarks: NDArray[np.float32]
    covered: float


def photograph(dressed: Dressed, shot: Shot, size: int) -> Taken:
    """Take one picture of `size` x `size` pixels, aligned to ArcFace's template by the true landmarks, with the shot's jitter."""
    head = anatomy()
    draw = stream(3, shot.backdrop)
    palette = dressed.palette.copy()
    shaped = dressed.vertices
    if shot.units:
        shaped = shaped + head.displaced(
            {f"unit/{name}": value for name, value in shot.units.items()}
        )
    in_front = _occluders(head, dressed, shaped, shot, draw, palette)
    meshes = dressed.meshes
    if in_front:
        replaced = [piece for piece in meshes.pieces if not _gives_way(piece, shot.occluder)]
        meshes = assemble(head, [*replaced, *in_front], _lashes(dressed.who))

    vertices = _pose(
        np.concatenate([shaped, *(piece.vertices for piece in meshes.pieces)]),
        meshes.rest[:, 1],
        shot,
    )
    anchors = _landmarks_on(head, dressed, shaped)
    anchors = _pose(anchors, anchors[:, 1], shot)
    middle = anchors.mean(axis=0)
    vertices, anchors = vertices - middle, anchors - middle
    points, landmarks = _project(vertices, anchors, shot, size)
    seen, face, covered = _visible(head, meshes, points, len(meshes.pieces) - len(in_front), size)

    lights, sky = _lights(shot)
    shadow, frame = _shadow(
        vertices, meshes.triangles, meshes.material, len(head.triangles), lights[0, :3]
    )
    eyes = dressed.eyes.copy()
    right, up = np.radians(shot.gaze)
    eyes[:, 4:7] = np.array([np.sin(right), np.sin(up), np.cos(right) * np.cos(up)])
    picture = np.zeros((*seen.shape, 4), dtype=np.float32)
    shade(
        seen,
        points,
        vertices,
        meshes.rest,
        vertex_normals(vertices, meshes.triangles),
        meshes.triangles,
        meshes.material,
        meshes.uv,
        meshes.openness,
        dressed.atlas,
        dressed.gloss,
        palette,
        eyes,
        dressed.extras,
        lights,
        sky,
        shadow,
        frame,
        shot.distance,
        picture,
    )
    panel = _panel(shot, face, draw) if shot.occluder == "panel" else None
    if panel is not None:
        covered = float((face & (panel[..., 3] > 0.5)).sum()) / max(float(face.sum()), 1.0)
    jpeg = _develop(picture, panel, _brightness(picture, face), shot, size, draw)
    return Taken(jpeg, landmarks.astype(np.float32), covered)


def _visible(
    head: Anatomy, meshes: Meshes, points: NDArray[np.float32], before: int, size: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_], float]:
    """What each sample sees, which samples show the face, and the share of the face that pieces from number `before` on hide."""
    side = size * SUPERSAMPLING
    nearness = np.full((side, side), -np.inf, dtype=np.float32)
    seen = np.full((side, side), -1, dtype=np.int32)
    lashes = int((head.part != LASHES).sum())  # they are the last of the head's triangles
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
    whole = 0
    for number, piece in enumerate(meshes.pieces):
        if number == before:
            whole = int(_face(seen).sum())
        first, end = meshes.bounds[number], meshes.bounds[number + 1]
        own = meshes.triangles[first:end]
        if piece.cover.min() > 1:
            rasterise(points, own, first, False, nearness, seen)
        else:
            rasterise_strands(points, own, piece.uv, meshes.cover, first, strands(), nearness, seen)
    face = _face(seen)
    return seen, face, 1 - float(face.sum()) / whole if whole else 0.0


def _face(seen: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Samples that see the face; -1, and any triangle of hair or cloth, stand for something else."""
    of_face = _face_triangles()
    return np.asarray(of_face[np.where(seen < len(of_face), seen, -1)])


def _gives_way(piece: Piece, occluder: str) -> bool:
    """A cap presses the hair down, dark glasses take the place of others."""
    return (occluder == "dark glasses" and piece.material == FRAME) or (
        occluder == "cap" and bool(piece.rest[:, 1].max() > 0.95)
    )


@functools.cache
def _face_triangles() -> NDArray[np.bool_]:
    """(T + 1,) triangles of the face proper, forehead to chin; the last entry stands for everything else."""
    head = anatomy()
    x, y, z = head.mean[head.triangles].mean(axis=1).T
    face = ((x / 0.68) ** 2 + ((y + 0.22) / 0.98) ** 2 < 1) & (z > -0.45)
    face &= (head.part == SKIN) | (head.part == EYE_LEFT) | (head.part == EYE_RIGHT)
    return np.append(face, False)


def _landmarks_on(
    head: Anatomy, dressed: Dressed, shaped: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(5, 3) landmarks in ArcFace's order: the eye on the image's left is the person's right one."""
    left, right = dressed.eye_middles + np.array([0, 0, dressed.eyes[0, 3]])
    nose, mouth_left, mouth_right = shaped[head.landmarks]
    return np.stack([right, left, nose, mouth_right, mouth_left]).astype(np.float32)


def _pose(
    vertices: NDArray[np.float32], height: NDArray[np.float32], shot: Shot
) -> NDArray[np.float32]:
    """Turn the head on its neck; the shoulders, low on the mean head, follow half the way."""
    head = vertices - NECK
    share = np.clip((height[:, None] + 2.0) / 0.85, 0, 1)
    share = share * share * (3 - 2 * share)
    turned = head @ _turn(shot.yaw, shot.pitch).T
    return np.asarray(
        turned * share + head @ _turn(shot.yaw * 0.55, 0.0).T * (1 - share), dtype=np.float32
    )


def _turn(yaw: float, pitch: float) -> NDArray[np.float32]:
    a, b = np.radians(yaw), np.radians(pitch)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    return np.asarray(about_y @ about_x, dtype=np.float32)


def _project(
    vertices: NDArray[np.float32], anchors: NDArray[np.float32], shot: Shot, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Points for the z-buffer, and the landmarks' (5, 2) columns and rows at the final size."""

    def camera(places: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
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


def _lights(shot: Shot) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    warm = np.array([1 + 0.22 * shot.warmth, 1.0, 1 - 0.30 * shot.warmth])
    lights = np.zeros((2, 7), dtype=np.float32)
    lights[0, :3], lights[1, :3] = _direction(*shot.light), _direction(*shot.fill[:2])
    lights[0, 3:6] = 2.2 * shot.hardness * warm
    lights[1, 3:6] = 1.1 * shot.fill[2] * np.array([0.96, 1.0, 1.05])
    lights[0, 6] = 1.0
    soft = (1 - shot.hardness) * (0.55 + 0.45 * (2 - warm))
    sky = np.stack([0.55 * soft, 1.25 * soft]).astype(np.float32)
    return lights, sky


def _direction(right: float, up: float) -> NDArray[np.float64]:
    a, b = np.radians(right), np.radians(up)
    return np.array([np.sin(a) * np.cos(b), np.sin(b), np.cos(a) * np.cos(b)])


def _shadow(
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    material: NDArray[np.uint8],
    head: int,
    light: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depth map seen from the light, and its frame for `lit_share`. The first `head` triangles are closed, others are sheets."""
    across = np.cross([0.0, 1.0, 0.0], light)
    across /= np.linalg.norm(across) + 1e-9
    frame = np.zeros((4, 3), dtype=np.float32)
    frame[:3] = np.stack([across, -np.cross(light, across), light], axis=1)
    frame[3] = (SHADOW_SIDE / 2, SHADOW_SIDE / 2, SHADOW_SIDE / 3.6)
    points = (vertices @ frame[:3]).astype(np.float32)
    points[:, :2] = points[:, :2] * frame[3, 2] + frame[3, :2]
    shadow = np.full((SHADOW_SIDE, SHADOW_SIDE), -np.inf, dtype=np.float32)
    unused = np.empty(shadow.shape, dtype=np.int32)
    rasterise(points, triangles[:head], 0, True, shadow, unused)
    rasterise(
        points, triangles[head:][material[head:] != FRAME], 0, False, shadow, unused
    )  # thin rims would cast crumbs
    return shadow, frame


def _occluders(
    head: Anatomy,
    dressed: Dressed,
    shaped: NDArray[np.float32],
    shot: Shot,
    draw: np.random.RandomState,
    palette: NDArray[np.float32],
) -> list[Piece]:
    colour = (0.02 + 0.4 * draw.rand()) * np.clip(1 + 0.4 * draw.randn(3), 0.3, 1.8)
    if shot.occluder == "dark glasses":
        palette[FRAME, :3] = 0.012
        return [
            glasses_piece(
                dressed.eye_middles.astype(np.float32), draw.uniform(0.6, 1.0, 4), dark=True
            )
        ]
    if shot.occluder == "mask":
        palette[CLOTH, :3] = np.array(
            [[0.65, 0.72, 0.78], [0.22, 0.45, 0.62], [0.04, 0.04, 0.045], [0.7, 0.7, 0.68]]
        )[draw.randint(4)]
        return [mask_piece(head, shaped, float(draw.uniform(-0.2, -0.08)), -1.2, 0.05)]
    if shot.occluder == "scarf":
        palette[CLOTH, :3] = colour
        return [mask_piece(head, shaped, float(draw.uniform(-0.62, -0.35)), -1.9, 0.13)]
    if shot.occluder == "cap":
        palette[CLOTH, :3] = colour
        return [hat_piece(head, shaped, dressed.day.style, float(draw.uniform(0.26, 0.40)))]
    if shot.occluder == "hand":
        side = float(draw.choice([-1, 1]))
        place = np.array([side * draw.uniform(0.1, 0.45), draw.uniform(-0.85, 0.1), 0.62])
        return [hand_piece(place, side * draw.uniform(0.0, 0.9), draw)]
    return []


def _brightness(picture: NDArray[np.float32], face: NDArray[np.bool_]) -> float:
    """Mean luminance of the visible face, else of everything visible."""
    some = picture[::2, ::2]
    mask = face[::2, ::2] if face.sum() > 50 else some[..., 3] > 0
    return (
        float((some[mask][:, :3] @ np.array([0.2126, 0.7152, 0.0722])).mean())
        if mask.any()
        else 0.2
    )


def _panel(shot: Shot, face: NDArray[np.bool_], draw: np.random.RandomState) -> NDArray[np.float32]:
    """Something unsharp between camera and face, that covers `share` of the face from the side `angle`: (H, W, 4)."""
    side = len(face)
    row, column = np.mgrid[:side, :side] / side - 0.5
    angle = np.radians(shot.angle)
    along = column * np.cos(angle) + row * np.sin(angle)
    edge = float(np.quantile(along[face], 1 - shot.share)) if face.any() else 1.0
    alpha = np.clip((along - edge) / 0.03 + 0.5, 0, 1)
    colour = (0.03 + 0.5 * draw.rand()) * np.clip(1 + 0.25 * draw.randn(2, 3), 0.4, 1.6)
    mix = np.clip(
        0.5
        + (column * np.sin(angle) - row * np.cos(angle)) * 0.9
        + 0.08 * np.sin(along * 30 + draw.uniform(0, 6)),
        0,
        1,
    )
    return np.concatenate(
        [colour[0] * mix[..., None] + colour[1] * (1 - mix[..., None]), alpha[..., None]], axis=2
    ).astype(np.float32)


def _backdrop(size: int, draw: np.random.RandomState) -> NDArray[np.float32]:
    """(size, size, 3) linear light: out-of-focus blobs of a few colours, from a plain wall to a busy street."""
    coarse = int(draw.choice([2, 3, 4, 6]))
    base, spread = np.exp(draw.uniform(np.log(0.03), np.log(0.7))), draw.uniform(0.1, 0.6)
    tint = np.clip(1 + draw.uniform(0.0, 0.22) * draw.randn(3), 0.5, 1.5)
    grid = (
        np.clip(
            base
            * (
                1
                + spread * draw.randn(coarse, coarse, 1)
                + 0.15 * spread * draw.randn(coarse, coarse, 3)
            ),
            0.01,
            1,
        )
        * tint
    )
    image = Image.fromarray((np.clip(grid, 0, 1) * 255).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return np.asarray(image, dtype=np.float32) * np.float32(1 / 255)


@functools.cache
def _grain() -> NDArray[np.float32]:
    """A tile of noise, of which each picture takes a part from somewhere."""
    return stream(9).standard_normal((GRAIN_SIDE, GRAIN_SIDE, 3)).astype(np.float32)


@compiled
def _expose(
    picture: NDArray[np.float32],
    panel: NDArray[np.float32],
    backdrop: NDArray[np.float32],
    gain: float,
    grain: NDArray[np.float32],
    grey: bool,
) -> NDArray[np.float32]:
    """Average the samples of a pixel over the backdrop, expose, compress the highlights, and encode as sRGB 0..255."""
    size = backdrop.shape[0]
    samples = picture.shape[0] // size
    share = np.float32(1.0 / (samples * samples))
    out = np.empty((size, size, 3), dtype=np.float32)
    for row in range(size):
        for column in range(size):
            red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for i in range(samples):
                for j in range(samples):
                    y, x = row * samples + i, column * samples + j
                    if picture[y, x, 3] > 0:
                        r, g, b = (
                            min(picture[y, x, 0], 3.0) * gain,
                            min(picture[y, x, 1], 3.0) * gain,
                            min(picture[y, x, 2], 3.0) * gain,
                        )
                    else:
                        r, g, b = (
                            backdrop[row, column, 0],
                            backdrop[row, column, 1],
                            backdrop[row, column, 2],
                        )
                    if panel.shape[0] > 1:
                        alpha = panel[y, x, 3]
                        r = r * (1 - alpha) + panel[y, x, 0] * alpha
                        g = g * (1 - alpha) + panel[y, x, 1] * alpha
                        b = b * (1 - alpha) + panel[y, x, 2] * alpha
                    red, green, blue = red + r * share, green + g * share, blue + b * share
            if grey:
                red = green = blue = 0.2126 * red + 0.7152 * green + 0.0722 * blue
            for channel in range(3):
                value = red if channel == 0 else green if channel == 1 else blue
                if value > 0.6:
                    value = 0.6 + 0.4 * (1 - np.exp(-(value - 0.6) / 0.4))
                value = (
                    12.92 * value
                    if value <= 0.0031308
                    else 1.055 * value ** np.float32(1 / 2.4) - 0.055
                )
                out[row, column, channel] = value * 255 + grain[row, column, 0 if grey else channel]
    return out


def _develop(
    picture: NDArray[np.float32],
    panel: NDArray[np.float32] | None,
    brightness: float,
    shot: Shot,
    size: int,
    draw: np.random.RandomState,
) -> bytes:
    """Exposure, which follows the face three quarters of the way as cameras do; blur, grain, JPEG."""
    gain = shot.exposure * (0.25 / max(brightness, 0.01)) ** 0.75
    no_panel = np.zeros((1, 1, 4), dtype=np.float32)
    down, right = draw.randint(GRAIN_SIDE, size=2)
    rows, columns = (down + np.arange(size)) % GRAIN_SIDE, (right + np.arange(size)) % GRAIN_SIDE
    grain = np.float32(shot.grain) * _grain()[rows[:, None], columns]
    none = np.zeros_like(grain) if shot.blur else grain
    out = _expose(
        picture, no_panel if panel is None else panel, _backdrop(size, draw), gain, none, shot.grey
    )
    if shot.blur:
        soft = Image.fromarray(np.clip(out, 0, 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(shot.blur * size / 112)
        )
        out = np.asarray(soft, dtype=np.float32) + (grain[..., :1] if shot.grey else grain)
    file = io.BytesIO()
    Image.fromarray(np.clip(out + 0.5, 0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=shot.quality
    )
    return file.getvalue()
