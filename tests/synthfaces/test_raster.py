"""The z-buffer, compared with a slow one in double precision; normals and ambient occlusion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workbench.synthfaces.hair import rasterise_strands, strands
from workbench.synthfaces.raster import rasterise, vertex_normals, visibility

ROWS, COLUMNS = 11, 14
FIRST = 100
quick = settings(max_examples=150, deadline=None)

Scene = tuple[NDArray[np.float32], NDArray[np.int32]]


def _empty(
    rows: int = ROWS, columns: int = COLUMNS
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    return np.full((rows, columns), -np.inf, dtype=np.float32), np.full(
        (rows, columns), -1, dtype=np.int32
    )


def _rasterised(
    scene: Scene, one_sided: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    nearness, seen = _empty()
    rasterise(*scene, FIRST, one_sided, nearness, seen)
    return nearness, seen


def _slow(
    scene: Scene, one_sided: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
    """For each triangle and sample: the nearness, whether the triangle certainly covers the sample,
    whether it may do so, and the tolerance of the nearness."""
    points, triangles = scene
    column, row = np.meshgrid(np.arange(COLUMNS) + 0.5, np.arange(ROWS) + 0.5)
    near, sure, may, slack = [], [], [], []
    for corners in points.astype(np.float64)[triangles]:
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        nothing = not np.isfinite(corners).all() or area == 0 or (one_sided and area > 0)
        if nothing:
            corners, area = np.zeros((3, 3)), 1.0
        wb = ((column - ax) * (cy - ay) - (row - ay) * (cx - ax)) / area
        wc = ((bx - ax) * (row - ay) - (by - ay) * (column - ax)) / area
        weights = np.stack([1 - wb - wc, wb, wc])
        rounding = 2e-6 * max(1.0, float(np.abs(weights).max()))
        near.append(weights[0] * az + wb * bz + wc * cz)
        sure.append((weights.min(axis=0) > rounding) & (not nothing))
        may.append((weights.min(axis=0) >= -rounding) & (not nothing))
        slack.append(np.full((ROWS, COLUMNS), 10 * rounding))
    return np.array(near), np.array(sure), np.array(may), np.array(slack)


def _check(
    scene: Scene, one_sided: bool, nearness: NDArray[np.float32], seen: NDArray[np.int32]
) -> None:
    near, sure, may, slack = _slow(scene, one_sided)
    blank = seen == -1
    assert not (sure & blank).any()
    assert np.isneginf(nearness[blank]).all()
    drawn = np.argwhere(~blank)
    for i, j in drawn:
        t = seen[i, j] - FIRST
        assert may[t, i, j]
        assert nearness[i, j] == pytest.approx(near[t, i, j], abs=slack[t, i, j])
        others = sure[:, i, j]
        assert (nearness[i, j] >= (near - slack - slack[t])[others, i, j]).all()


# With quarters of a pixel, many edges pass through samples, many triangles have no area, and many
# lie off the screen.
quarter = st.integers(-30, 90).map(lambda number: number / 4)
broken = st.sampled_from([float("nan"), float("inf"), float("-inf")])


@st.composite
def some_scenes(draw: st.DrawFn, broken_ones: bool = False) -> Scene:
    count = draw(st.integers(3, 8))
    place = quarter | broken if broken_ones else quarter
    nearness = st.integers(1, 64).map(lambda number: number / 16)
    points = draw(st.lists(st.tuples(place, place, nearness), min_size=count, max_size=count))
    corner = st.integers(0, count - 1)
    triangles = draw(st.lists(st.tuples(corner, corner, corner), min_size=1, max_size=6))
    return np.array(points, dtype=np.float32), np.array(triangles, dtype=np.int32)


@quick
@given(some_scenes(), st.booleans())
def test_each_sample_sees_the_nearest_triangle(scene: Scene, one_sided: bool) -> None:
    _check(scene, one_sided, *_rasterised(scene, one_sided))


@quick
@given(some_scenes(broken_ones=True))
def test_broken_vertices_affect_only_their_own_triangles(scene: Scene) -> None:
    points, triangles = scene
    whole = np.isfinite(points).all(axis=1)
    intact = whole[triangles].all(axis=1)
    nearness, seen = _rasterised(scene)
    alone, alone_seen = _rasterised(
        (np.where(whole[:, None], points, 0).astype(np.float32), triangles[intact])
    )
    assert np.array_equal(nearness, alone)
    renumbered = (
        np.append(np.flatnonzero(intact), -1 - FIRST)[np.maximum(alone_seen - FIRST, -1)] + FIRST
    )
    assert np.array_equal(seen, renumbered)


@quick
@given(
    some_scenes(),
    st.lists(
        st.sampled_from([-1e38, -1e30, -1e19, -1e10, 1e5, 1e10, 1e19, 1e30, 1e38]),
        min_size=4,
        max_size=4,
    ),
)
def test_vertices_beyond_whole_numbers_take_no_time(scene: Scene, far: list[float]) -> None:
    points, triangles = scene
    points[:2, :2] = np.array(far).reshape(2, 2)
    nearness, seen = _rasterised((points, triangles))
    assert set(np.unique(seen)) <= {-1, *range(FIRST, FIRST + len(triangles))}
    assert (np.isneginf(nearness) == (seen == -1)).all()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_vertex_without_nearness_hides_nothing(at: int) -> None:
    points = np.array([[1, 1, 1], [9, 1, 1], [1, 9, 1]], dtype=np.float32)
    points[at, 2] = np.nan
    nearness, seen = _rasterised((points, np.array([[0, 1, 2]], dtype=np.int32)))
    assert np.isneginf(nearness).all()
    assert (seen == -1).all()


def test_a_surface_behind_another_is_not_drawn() -> None:
    square = np.array([[0, 0, 1], [14, 0, 1], [14, 11, 1], [0, 11, 1]], dtype=np.float32)
    halves = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    nearness, seen = _empty()
    rasterise(square, halves, 0, False, nearness, seen)
    rasterise(square - np.array([0, 0, 0.5], dtype=np.float32), halves, 10, False, nearness, seen)
    assert seen.max() < 10
    rasterise(square + np.array([0, 0, 0.5], dtype=np.float32), halves, 20, False, nearness, seen)
    assert seen.min() >= 20
    assert np.allclose(nearness, 1.5)


def test_one_sided_leaves_out_the_back() -> None:
    # Rows point down: these corners are counter-clockwise as seen from the front.
    points = np.array([[2, 9, 1], [12, 9, 1], [7, 1, 1]], dtype=np.float32)
    front, back = np.array([[0, 1, 2]], dtype=np.int32), np.array([[0, 2, 1]], dtype=np.int32)
    assert (_rasterised((points, front), one_sided=True)[1] == FIRST).any()
    assert (_rasterised((points, back), one_sided=True)[1] == -1).all()
    assert np.array_equal(_rasterised((points, back))[1], _rasterised((points, front))[1])


def test_a_crumpled_sheet_has_no_cracks() -> None:
    draw = np.random.RandomState(4)
    side = 15
    grid = np.stack(
        np.meshgrid(np.linspace(-2, COLUMNS + 2, side), np.linspace(-2, ROWS + 2, side)), axis=-1
    ).reshape(-1, 2)
    points = np.column_stack(
        [grid + draw.uniform(-0.3, 0.3, grid.shape), draw.uniform(1, 2, len(grid))]
    ).astype(np.float32)
    nearness, seen = _rasterised((points, _sheet(side)))
    assert (seen >= FIRST).all()
    assert nearness.min() >= 1
    assert nearness.max() <= 2


def _sheet(side: int) -> NDArray[np.int32]:
    """Triangles of side x side vertices; on a y-up plane they face z > 0 if rows go down."""
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    below = corner + side
    halves = [
        np.stack([corner, below, corner + 1], axis=1),
        np.stack([corner + 1, below, below + 1], axis=1),
    ]
    return np.concatenate(halves).astype(np.int32)


def _icosphere(times: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    golden = (1 + 5**0.5) / 2
    corners = [(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0)]
    vertices = [*corners, *((z, x, y) for x, y, z in corners), *((y, z, x) for x, y, z in corners)]
    points = [np.array(vertex) / np.linalg.norm(vertex) for vertex in vertices]
    length = min(np.linalg.norm(points[0] - other) for other in points[1:])
    triangles = [
        (a, b, c) if np.linalg.det([points[a], points[b], points[c]]) > 0 else (a, c, b)
        for a in range(12)
        for b in range(a)
        for c in range(b)
        if max(np.linalg.norm(points[i] - points[j]) for i, j in ((a, b), (b, c), (c, a)))
        < length * 1.01
    ]
    assert len(triangles) == 20
    for _ in range(times):
        middles: dict[tuple[int, int], int] = {}
        finer = []
        for a, b, c in triangles:
            for pair in ((a, b), (b, c), (c, a)):
                key = (min(pair), max(pair))
                if key not in middles:
                    middles[key] = len(points)
                    middle = points[pair[0]] + points[pair[1]]
                    points.append(middle / np.linalg.norm(middle))
            ab, bc, ca = (middles[min(pair), max(pair)] for pair in ((a, b), (b, c), (c, a)))
            finer += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        triangles = finer
    return np.array(points), np.array(triangles, dtype=np.int32)


def test_normals_of_a_sphere_are_its_radii() -> None:
    points, triangles = _icosphere(3)
    normals = vertex_normals((2.5 * points + [1, 2, 3]).astype(np.float32), triangles)
    assert np.abs(normals - points).max() < 0.02


@quick
@given(st.integers(0, 2**32 - 1))
def test_normals_are_sums_over_areas(seed: int) -> None:
    draw = np.random.RandomState(seed)
    points = draw.uniform(-1, 1, (9, 3)).astype(np.float32)
    triangles = draw.randint(0, 8, (12, 3)).astype(np.int32)
    a, b, c = points.astype(np.float64)[triangles].transpose(1, 0, 2)
    sums = np.zeros((9, 3))
    np.add.at(sums, triangles.ravel(), np.repeat(np.cross(b - a, c - a), 3, axis=0))
    lengths = np.linalg.norm(sums, axis=1)
    normals = vertex_normals(points, triangles)
    clear = lengths > 1e-2
    assert np.allclose(normals[clear], sums[clear] / lengths[clear, None], atol=1e-4)
    assert np.isfinite(normals).all()
    assert (normals[8] == 0).all()  # of no triangle


def test_a_plate_sees_the_whole_sky() -> None:
    side = 16
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(1, -1, side))
    plate = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3).astype(np.float32)
    assert np.allclose(vertex_normals(plate, _sheet(side)), [0, 0, 1])
    open_sky = visibility(plate, _sheet(side))
    assert open_sky.dtype == np.float32
    assert open_sky.min() > 0.95


@pytest.mark.parametrize("depth", [0.5, 1.0, 1.6])
def test_the_bottom_of_a_pit_sees_its_opening(depth: float) -> None:
    # A pit of radius r and depth d: from the middle of its bottom, the cosine-weighted share of the
    # sky is r^2 / (r^2 + d^2).
    around = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    rings = [
        (0.02, -depth),
        (0.25, -depth),
        (0.499, -depth),
        (0.5, -depth * 0.66),
        (0.5, -depth * 0.33),
        (0.5, 0.0),
        (1.2, 0.0),
    ]
    vertices = np.array(
        [(r * np.cos(a), r * np.sin(a), z) for r, z in rings for a in around] + [(0, 0, -depth)]
    )
    count, middle = len(around), len(vertices) - 1
    triangles = [[middle, i, (i + 1) % count] for i in range(count)]
    for ring in range(len(rings) - 1):
        for i in range(count):
            a, b = ring * count + i, ring * count + (i + 1) % count
            triangles += [[a, a + count, b], [b, a + count, b + count]]
    open_sky = visibility(
        vertices.astype(np.float32), np.array(triangles, dtype=np.int32), directions=400
    )
    assert open_sky[middle] == pytest.approx(0.25 / (0.25 + depth**2), abs=0.06)
    assert open_sky[6 * count : 7 * count].min() > 0.9
    assert 0 <= open_sky.min() <= open_sky.max() <= 1


@quick
@given(some_scenes(), st.sampled_from([0.0, 2.0]))
def test_strands_without_gaps_are_a_sheet_and_without_cover_nothing(
    scene: Scene, cover: float
) -> None:
    points, triangles = scene
    nearness, seen = _empty()
    uv = np.random.RandomState(0).uniform(-3, 3, (len(triangles), 3, 2)).astype(np.float32)
    rasterise_strands(
        points,
        triangles,
        uv,
        np.full(len(points), cover, np.float32),
        FIRST,
        strands(),
        nearness,
        seen,
    )
    if cover:
        _check(scene, False, nearness, seen)
    else:
        assert (seen == -1).all()
        assert np.isneginf(nearness).all()


@pytest.mark.parametrize("broken_vertex", [(np.nan, 1, 1), (1, np.inf, 1), (1, 1, np.nan)])
def test_strands_with_a_broken_vertex_hide_nothing(broken_vertex: Any) -> None:
    points = np.array([broken_vertex, [9, 1, 1], [1, 9, 1]], dtype=np.float32)
    nearness, seen = _empty()
    rasterise_strands(
        points,
        np.array([[0, 1, 2]], dtype=np.int32),
        np.zeros((1, 3, 2), dtype=np.float32),
        np.full(3, 2, dtype=np.float32),
        0,
        strands(),
        nearness,
        seen,
    )
    assert (seen == -1).all()


@pytest.mark.parametrize("cover", [0.2, 0.5, 0.8])
def test_strands_leave_the_share_of_holes_asked_for(cover: float) -> None:
    side = 200
    points = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]], dtype=np.float32)
    uv = points[_sheet(2)][:, :, :2] * np.array([1 / 14, 1 / 60], dtype=np.float32)
    nearness, seen = _empty(side, side)
    rasterise_strands(
        points, _sheet(2), uv, np.full(4, cover, np.float32), 0, strands(), nearness, seen
    )
    assert (seen >= 0).mean() == pytest.approx(cover, abs=0.08)


def test_the_tile_of_strands_is_even_and_repeats() -> None:
    tile = strands()
    assert tile.dtype == np.float32
    assert np.allclose(np.sort(tile.ravel()), np.arange(tile.size) / tile.size)
    steps_across, steps_along = (
        np.abs(np.diff(tile, axis=1)).mean(),
        np.abs(np.diff(tile, axis=0)).mean(),
    )
    assert steps_along < steps_across  # strands run down the rows
    assert np.abs(tile[0] - tile[-1]).mean() < 2 * steps_along  # no seam
    assert np.abs(tile[:, 0] - tile[:, -1]).mean() < 2 * steps_across
