"""Rasterisation: which triangle each sample of an image sees, by a z-buffer compiled with numba.

The code uses neither fast-math nor threads, so that the images are the same on every machine and
with any number of worker processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compiles a function when it is first called, and caches the result next to its file.

    numba compiles again when that file changes, but not when a function in another file does.
    After a change to a shared function such as `noise`, delete the folder `__pycache__`.
    """
    return cast(Function, numba.njit(cache=True, error_model="numpy", nogil=True)(function))


def inlined(function: Function) -> Function:
    """As `compiled`, for a function that becomes a part of the compiled functions that call it.

    Without this, numba counts references to each array of a tuple at every call.
    """
    compile_inlined = numba.njit(cache=True, error_model="numpy", nogil=True, forceinline=True)
    return cast(Function, compile_inlined(function))


@inlined
def sample_range(low: float, high: float, count: int) -> tuple[int, int]:
    """Returns the first and the last sample whose centre lies between two coordinates.

    The coordinates are limited before they become integers, since they may be too large for those.
    If there is no such sample, the first one is larger than the last one.

    Args:
        low: lower coordinate in samples; the centre of sample N is at N + 0.5.
        high: upper coordinate.
        count: number of samples.
    """
    first = int(min(max(np.ceil(low - 0.5), 0), count))
    last = int(max(min(np.floor(high - 0.5), count - 1), -1))
    return first, last


@compiled
def rasterise(
    points: NDArray[np.float32],
    triangles: NDArray[np.int32],
    first: int,
    one_sided: bool,
    nearness: NDArray[np.float32],
    seen: NDArray[np.int32],
) -> None:
    """Draws opaque triangles into a z-buffer, in place.

    Args:
        points: (V, 3) column, row and nearness of each vertex. The nearness must be linear on the
            screen, such as 1/z or -z.
        triangles: (T, 3) vertices of each triangle.
        first: number that is written to `seen` for triangle 0.
        one_sided: whether to leave out triangles that are seen from behind.
        nearness: (H, W) nearness of what each sample sees, -inf for nothing. The larger value wins.
        seen: (H, W) number of the triangle that each sample sees.
    """
    height, width = nearness.shape
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = points[a, 0], points[a, 1]
        bx, by = points[b, 0], points[b, 1]
        cx, cy = points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (one_sided and area > 0.0) or not np.isfinite(area):
            continue
        left, right = sample_range(min(ax, bx, cx), max(ax, bx, cx), width)
        top, bottom = sample_range(min(ay, by, cy), max(ay, by, cy), height)
        inverse = np.float32(1.0) / area
        za, zb, zc = points[a, 2], points[b, 2], points[c, 2]
        # Barycentric coordinates are linear: from one column to the next they change by a constant.
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
    """Returns the (V, 3) unit normals of vertices: means over triangles, weighted by their areas.

    Args:
        vertices: (V, 3) positions.
        triangles: (T, 3) vertices of each triangle. A vertex without a triangle has the normal 0.
    """
    normals = np.zeros_like(vertices)
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux = vertices[b, 0] - vertices[a, 0]
        uy = vertices[b, 1] - vertices[a, 1]
        uz = vertices[b, 2] - vertices[a, 2]
        vx = vertices[c, 0] - vertices[a, 0]
        vy = vertices[c, 1] - vertices[a, 1]
        vz = vertices[c, 2] - vertices[a, 2]
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
    """Returns the ambient occlusion of vertices: the share of the sky that each one sees.

    Args:
        vertices: (V, 3) positions.
        triangles: (T, 3) vertices of each triangle.
        directions: number of directions from which the mesh is rendered.
        side: side of each rendered image in samples.

    Returns:
        (V,) float32 shares 0..1, weighted by the cosine to the normal of the vertex.
    """
    normals = vertex_normals(vertices, triangles)
    step = np.arange(directions) + 0.5
    polar, around = np.arccos(1 - 2 * step / directions), np.pi * (1 + 5**0.5) * step
    towards = np.stack(
        [np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)], axis=1
    )
    open_sky, sky = np.zeros(len(vertices)), np.zeros(len(vertices))
    span = float(np.linalg.norm(vertices, axis=1).max())
    for direction in towards:
        other_axis = [0.0, 0.0, 1.0] if abs(direction[2]) < 0.9 else [1.0, 0.0, 0.0]
        across = np.cross(direction, other_axis)
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
