"""Objects in front of a face: glasses, masks and hands, each a `Piece` of the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import SKIN, TORSO, Anatomy
from workbench.synthfaces.hair import Piece
from workbench.synthfaces.raster import vertex_normals
from workbench.synthfaces.shade import CLOTH, FRAME

CORNERS = 28
"""Number of corners of the outline of a lens."""


class _Sheets:
    """Triangles that are collected sheet by sheet."""

    def __init__(self) -> None:
        self.vertices: list[NDArray[np.float64]] = []
        self.triangles: list[list[int]] = []
        self.count = 0

    def add(self, *blocks: NDArray[np.float64]) -> int:
        """Adds blocks of vertices; returns the number of the first one."""
        first = self.count
        self.vertices.extend(blocks)
        self.count += sum(len(block) for block in blocks)
        return first

    def strip(self, one: NDArray[np.float64], other: NDArray[np.float64], closed: bool) -> None:
        """Connects two lines with as many points by a strip; a closed one returns to its start."""
        start, count = self.add(one, other), len(one)
        for i in range(count if closed else count - 1):
            a, b = start + i, start + (i + 1) % count
            self.triangles.extend([[a, b, a + count], [b, b + count, a + count]])

    def fan(self, outline: NDArray[np.float64], middle: NDArray[np.float64]) -> None:
        """Fills a closed outline with triangles around its middle."""
        start, count = self.add(np.concatenate([outline, middle[None]])), len(outline)
        self.triangles.extend(
            [start + i, start + (i + 1) % count, start + count] for i in range(count)
        )


def glasses_piece(eyes: NDArray[np.float32], form: NDArray[np.float64], dark: bool) -> Piece:
    """Makes glasses: the rims, the bridge and the arms, with or without lenses.

    Args:
        eyes: (2, 3) float32 centres of the left and the right eyeball.
        form: width, height, roundness and thickness of the rims, each 0..1.
        dark: whether the glasses have dark lenses.

    Returns:
        The glasses.
    """
    wide, high = 0.205 + 0.045 * form[0], 0.135 + 0.065 * form[1]
    power, rim = 2.2 + 3.0 * form[2], 0.014 + 0.022 * form[3]
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    outline = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outline = np.sign(outline) * np.abs(outline) ** (2 / power)
    front = float(eyes[:, 2].mean()) + 0.285
    sheets = _Sheets()

    def curved(flat: NDArray[np.float64], deeper: float = 0.0) -> NDArray[np.float64]:
        """Points x, y on the curved surface of the glasses."""
        return np.column_stack([flat, front - deeper - 0.16 * (flat[:, 0] / 0.6) ** 2])

    for eye in eyes:
        middle = np.array([eye[0] * 1.02, eye[1] - 0.02])
        inner, outer = middle + outline * [wide, high], middle + outline * [wide + rim, high + rim]
        sheets.strip(curved(inner), curved(outer), closed=True)
        sheets.strip(curved(outer), curved(outer, deeper=0.035), closed=True)
        if dark:
            sheets.fan(curved(inner, deeper=0.01), curved(middle[None])[0])
        side = np.sign(eye[0])
        hinge = middle[0] + side * (wide + rim)
        arm = np.array(
            [
                [hinge - side * rim, 0.05, 0.0],
                [max(abs(hinge) + 0.05, 0.69) * side, 0.05, -0.12],
                [0.765 * side, 0.05, -0.85],
                [0.775 * side, -0.02, -1.0],
            ]
        )
        arm[0, 2] = curved(np.array([[hinge, 0.05]]))[0, 2]
        arm[:, 1] += eye[1]
        sheets.strip(arm, arm + np.array([0, 0.02 + rim, 0]), closed=False)
    gap = np.linspace(-1, 1, 7) * (abs(eyes[:, 0]).mean() * 1.02 - wide - rim * 0.5)
    bow = float(eyes[:, 1].mean()) + 0.02 + 0.03 * (1 - (gap / max(abs(gap).max(), 1e-6)) ** 2)
    lower = np.column_stack([gap, bow])
    upper = lower + np.array([0, rim])
    sheets.strip(curved(lower, deeper=-0.01), curved(upper, deeper=-0.01), closed=False)
    return _piece(np.concatenate(sheets.vertices), np.array(sheets.triangles), FRAME)


def mask_piece(
    head: Anatomy, shaped: NDArray[np.float32], top: float, bottom: float, thickness: float
) -> Piece:
    """Makes cloth over the lower face: a surgical mask or a scarf.

    Args:
        head: the mean head.
        shaped: (V, 3) float32 vertices of the head of the person.
        top: upper edge, as a height on the mean head.
        bottom: lower edge, as a height on the mean head.
        thickness: distance of the cloth from the skin in decimetres.

    Returns:
        The cloth.
    """
    x, y, z = head.mean.T
    wide = 0.60 if bottom > -1.3 else 0.78
    upper_edge = top - 0.35 * np.clip(np.abs(x) - 0.1, 0, 0.5)
    possible = (z > -1.1) & (np.abs(x) < wide) & (y < top + 0.3) & (y > bottom - 0.3)
    inside = possible & (y < upper_edge) & (y > bottom)
    covered = possible[head.triangles].all(axis=1) & inside[head.triangles].any(axis=1)
    numbers, flat = np.unique(head.triangles[(head.part == SKIN) & covered], return_inverse=True)
    normals = vertex_normals(shaped, head.triangles[head.part == SKIN])[numbers]
    vertices = shaped[numbers] + normals * thickness
    # Vertices beyond an edge move onto it, so that edges do not follow the triangles of the mesh.
    vertices[:, 1] += (np.clip(y, bottom, upper_edge) - y)[numbers]
    # Cloth spans hollows: nothing lies behind a cylinder from the tip of the nose to the chin.
    rest = head.mean[numbers]
    tip = float(shaped[head.landmarks[0], 2])
    sideways = np.clip(1 - np.abs(rest[:, 0]) / 0.62, 0, 1) ** 0.6
    span = sideways * np.clip(1 - ((rest[:, 1] + 0.5) / 0.75) ** 2, 0, 1)
    vertices[:, 2] = np.maximum(vertices[:, 2], (tip + thickness) * span - 0.9 * (1 - span))
    triangles = flat.reshape(-1, 3)
    piece = _piece(vertices, triangles, CLOTH)
    uv = rest[:, :2][triangles] * 0.6
    return replace(piece, uv=uv.astype(np.float32))


def hand_piece(place: NDArray[np.float64], turn: float, draw: RandomState) -> Piece:
    """Makes a hand in front of the face: four fingers, the thumb and the back of the hand.

    Args:
        place: (3,) position of the roots of the fingers.
        turn: rotation in the image plane in radians.
        draw: random numbers for the spread of the fingers.

    Returns:
        The hand.
    """
    blocks, triangles, start = [], [], 0
    # Each part is a capsule between two points, with a radius.
    capsules = []
    for number, length in enumerate((0.62, 0.74, 0.70, 0.54)):
        x = -0.24 + 0.16 * number
        tip = (x + draw.uniform(-0.03, 0.03), length, -0.02)
        capsules.append(((x, 0.0, 0.0), tip, 0.078))
    capsules += [
        ((0.30, -0.25, 0.02), (0.50, 0.15, 0.0), 0.085),
        ((-0.18, -0.55, 0.0), (-0.18, 0.02, 0.02), 0.14),
        ((0.16, -0.55, 0.0), (0.16, 0.02, 0.02), 0.15),
    ]
    for first, last, radius in capsules:
        block, faces = _capsule(np.array(first), np.array(last), radius)
        blocks.append(block)
        triangles.append(faces + start)
        start += len(block)
    vertices = np.concatenate(blocks)
    cosine, sine = np.cos(turn), np.sin(turn)
    vertices[:, :2] = vertices[:, :2] @ np.array([[cosine, sine], [-sine, cosine]])
    return _piece(vertices + place, np.concatenate(triangles), TORSO)


def _capsule(
    first: NDArray[np.float64], last: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The vertices and triangles of a cylinder with rounded ends between two points."""
    axis = (last - first) / np.linalg.norm(last - first)
    across = np.cross(axis, [0, 0, 1.0])
    across /= np.linalg.norm(across)
    across_both = np.cross(axis, across)
    rings, around = 9, np.linspace(0, 2 * np.pi, 10, endpoint=False)
    bend = np.linspace(-np.pi / 2, np.pi / 2, rings)
    centre = np.where(bend[:, None] < 0, first, last)
    circle = np.cos(around)[:, None] * across + np.sin(around)[:, None] * across_both
    points = centre[:, None] + radius * (
        np.sin(bend)[:, None, None] * axis + np.cos(bend)[:, None, None] * circle
    )
    corner = np.arange(rings - 1)[:, None] * 10 + np.arange(10)
    right = np.arange(rings - 1)[:, None] * 10 + (np.arange(10) + 1) % 10
    faces = np.concatenate(
        [
            np.stack([corner, right, corner + 10], -1).reshape(-1, 3),
            np.stack([right, right + 10, corner + 10], -1).reshape(-1, 3),
        ]
    )
    return points.reshape(-1, 3), faces


def _piece(vertices: NDArray[np.floating], triangles: NDArray[np.integer], material: int) -> Piece:
    """A piece without holes that has no place on the mean head."""
    count = len(vertices)
    return Piece(
        vertices=vertices.astype(np.float32),
        rest=np.zeros((count, 3), dtype=np.float32),
        triangles=triangles.astype(np.int32),
        uv=vertices[:, :2][triangles].astype(np.float32),
        cover=np.full(count, 2.0, dtype=np.float32),
        openness=np.full(count, 0.95, dtype=np.float32),
        material=material,
    )
