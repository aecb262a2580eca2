"""Which triangle is seen at which pixel: a z-buffer, compiled by numba.

No fast-math and no threads, so that the same picture comes out on every machine and with any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile when first called; kept in a cache beside the file."""
    return cast(Function, numba.njit(cache=True, error_model="numpy", nogil=True)(function))


@compiled
def rasterise(
    points: NDArray[np.float32],
    triangles: NDArray[np.int32],
    first: int,
    one_sided: bool,
    nearness: NDArray[np.float32],
    seen: NDArray[np.int32],
) -> None:
    """Draw opaque triangles into a z-buffer, in place.

    Args:
        points: (V, 3) column, row and nearness of each vertex; nearness must be linear on the screen (1/z or -z).
        triangles: (T, 3).
        first: number under which triangle 0 is noted.
        one_sided: leave out triangles seen from behind.
        nearness: (H, W), -inf where nothing is; the larger value wins.
        seen: (H, W) number of the triangle that is seen.
    """
    height, width = nearness.shape
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
        if area == 0.0 or (one_sided and area > 0.0) or not np.isfinite(area):
            continue
        # Bounded before they become whole numbers, as far-off ones are beyond those.
        left = int(min(max(np.ceil(min(ax, bx, cx) - 0.5), 0), width))
        right = int(max(min(np.floor(max(ax, bx, cx) - 0.5), width - 1), -1))
        top = int(min(max(np.ceil(min(ay, by, cy) - 0.5), 0), height))
        bottom = int(max(min(np.floor(max(ay, by, cy) - 0.5), height - 1), -1))
        inverse = np.float32(1.0) / area
        za, zb, zc = points[a, 2], points[b, 2], points[c, 2]
        # Barycentric coordinates are linear: their changes from one column to the next.
        step_b, step_c = (cy - ay) * inverse, (ay - by) * inverse
        for row in range(top, bottom + 1):
            x, y = np.float32(left) + np.float32(0.5) - ax, np.float32(row) + np.float32(0.5) - ay
            start_b = (x * (cy - ay) - y * (cx - ax)) * inverse
            start_c = ((bx - ax) * y - (by - ay) * x) * inverse
            for column in range(left, right + 1):
                wb = start_b + np.float32(column - left) * step_b
                wc = start_c + np.float32(column - left) * step_c
                wa = np.float32(1.0) - wb - wc
                if wa >= 0 and wb >= 0 and wc >= 0:
                    near = wa * za + wb * zb + wc * zc
                    if near > nearness[row, column]:
                        nearness[row, column] = near
                        seen[row, column] = first + t


@compiled
def vertex_normals(
    vertices: NDArray[np.float32], triangles: NDArray[np.int32]
) -> NDArray[np.float32]:
    """(V, 3) unit normals, the triangles' weighted with their areas."""
    normals = np.zeros_like(vertices)
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for vertex in (a, b, c):
            normals[vertex, 0] += nx
            normals[vertex, 1] += ny
            normals[vertex, 2] += nz
    for i in range(len(normals)):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2)
        if length > 0:
            normals[i] /= length
    return normals


def visibility(
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    directions: int = 96,
    side: int = 320,
) -> NDArray[np.float32]:
    """(V,) share of the directions around a vertex's normal from which it is seen: ambient occlusion."""
    normals = vertex_normals(vertices, triangles)
    step = np.arange(directions) + 0.5
    polar, around = np.arccos(1 - 2 * step / directions), np.pi * (1 + 5**0.5) * step
    towards = np.stack(
        [np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)], axis=1
    )
    open_sky, sky = np.zeros(len(vertices)), np.zeros(len(vertices))
    span = float(np.linalg.norm(vertices, axis=1).max())
    for direction in towards:
        across = np.cross(
            direction, [0.0, 0.0, 1.0] if abs(direction[2]) < 0.9 else [1.0, 0.0, 0.0]
        )
        across /= np.linalg.norm(across)
        frame = np.stack([across, np.cross(direction, across), direction], axis=1)
        points = (vertices @ frame).astype(np.float32)
        points[:, :2] = (points[:, :2] / span + 1) * side / 2
        nearness = np.full((side, side), -np.inf, dtype=np.float32)
        rasterise(points, triangles, 0, False, nearness, np.empty((side, side), dtype=np.int32))
        column, row = np.clip(points[:, :2].astype(int), 0, side - 1).T
        facing = np.maximum(normals @ direction, 0)
        sky += facing
        open_sky += facing * (points[:, 2] > nearness[row, column] - 0.03)
    return (open_sky / np.maximum(sky, 1e-6)).astype(np.float32)
