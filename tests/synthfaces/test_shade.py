"""Shading of plates and balls, whose colours can be calculated, and the noise of all textures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import CAVITY, LASHES, SKIN, SOCKET, TEETH, TONGUE, TORSO
from workbench.synthfaces.raster import rasterise, vertex_normals
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
    ShadowMap,
    SkinTexture,
    Surface,
    lit_share,
    noise,
    shade,
    smoothstep,
)

quick = settings(max_examples=100, deadline=None)
place = st.floats(-5000, 5000)

SIDE = 32
CAMERA = 10.0
ALBEDO = np.array([0.6, 0.4, 0.2])
LIGHT = np.array([0.9, 0.8, 0.7])
SKY = np.array([[0.05, 0.06, 0.07], [0.25, 0.26, 0.27]])
WRAP = np.array([0.28, 0.12, 0.07])
"""Width of the wrapped diffuse shading of skin in each channel; other materials have none."""

Arrays = tuple[NDArray[np.float64], NDArray[np.int32]]


@quick
@given(place, place, place)
def test_noise_is_in_0_to_1_and_deterministic(x: float, y: float, z: float) -> None:
    assert 0 <= noise(x, y, z) <= 1
    assert noise(x, y, z) == noise(x, y, z)


@quick
@given(place, place, place, st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1)]))
def test_noise_has_no_jumps(x: float, y: float, z: float, way: tuple[int, int, int]) -> None:
    # The slope of the noise is at most 1.5, also at whole numbers.
    step = 1e-3
    for start in ((x, y, z), (round(x), round(y), round(z))):
        before, after = (
            noise(*(np.array(start) + step * sign * np.array(way))) for sign in (-0.5, 0.5)
        )
        assert abs(after - before) <= 1.6 * step


def test_noise_on_the_grid_is_uniform_and_uncorrelated() -> None:
    values = np.array(
        [[[noise(x, y, z) for x in range(-8, 8)] for y in range(-8, 8)] for z in range(-8, 8)],
        dtype=np.float64,
    )
    counts = np.histogram(values, bins=8, range=(0, 1))[0]
    assert counts.min() > 0.8 * values.size / 8
    for axis in range(3):
        assert (
            abs(
                np.corrcoef(
                    np.take(values, range(15), axis).ravel(),
                    np.take(values, range(1, 16), axis).ravel(),
                )[0, 1]
            )
            < 0.08
        )


@quick
@given(
    st.floats(-10, 10),
    st.floats(-10, 10).filter(lambda gap: abs(gap) > 1e-3),
    st.floats(-30, 30),
    st.floats(0, 5),
)
def test_smoothstep_rises_from_low_to_high(low: float, gap: float, x: float, more: float) -> None:
    high = low + gap
    value = smoothstep(low, high, x)
    assert 0 <= value <= 1
    assert smoothstep(low, high, low) == 0
    assert smoothstep(low, high, high) == 1
    assert smoothstep(low, high, (low + high) / 2) == pytest.approx(0.5)
    assert smoothstep(low, high, x + np.sign(gap) * more) >= value  # with low > high it falls
    assert smoothstep(high, low, x) == pytest.approx(1 - value)


def test_every_material_has_a_row_in_the_palette() -> None:
    materials_after_the_lashes = [HAIR, FRAME, CLOTH, CLOTHES]
    assert materials_after_the_lashes == list(range(LASHES + 1, LASHES + 5))
    materials = CLOTHES + 1
    assert PALETTE.colour.shape == (materials, 3)
    for values in (PALETTE.highlight, PALETTE.sharpness, PALETTE.occlusion):
        assert values.shape == (materials,)
        assert values.dtype == np.float32


def _shadow_map(depth: NDArray[Any], scale: float) -> ShadowMap:
    """The shadow map of a light that shines along -z: x points across and -y down."""
    axes = np.diag([1, -1, 1]).astype(np.float32)
    return ShadowMap(depth.astype(np.float32), axes, depth.shape[0] / 2, scale)


def test_lit_share_of_a_made_up_map() -> None:
    depth = np.full((8, 8), -np.inf)
    depth[:, 4:] = 2.0  # a surface at z = 2 over the right half
    shadow = _shadow_map(depth, 4.0)
    assert lit_share(shadow, -0.5, 0.0, 0.0, 0.1) == 1
    assert lit_share(shadow, 0.5, 0.0, 0.0, 0.1) == 0
    assert lit_share(shadow, 0.5, 0.0, 2.5, 0.1) == 1  # nearer to the light
    assert lit_share(shadow, 0.5, 0.0, 1.95, 0.1) == 1  # within the bias
    assert lit_share(shadow, 0.5, 0.0, 1.85, 0.1) == 0
    # The edge between samples 3 and 4 is three samples wide, which are 0.75 decimetres.
    places = np.linspace(-0.375, 0.375, 13)
    shares = [lit_share(shadow, x, 0.1, 0.0, 0.1) for x in places]
    assert shares == pytest.approx(np.linspace(1, 0, 13).tolist())


@pytest.mark.parametrize("far", [(9, 0), (-9, 0), (0, 9), (0, -9)])
def test_nothing_outside_the_map_is_in_shadow(far: tuple[float, float]) -> None:
    assert lit_share(_shadow_map(np.full((8, 8), np.inf), 4.0), *far, 0.0, 0.0) == 1


def _shaded(
    mesh: Arrays, kinds: int | NDArray[np.uint8] = FRAME, **changes: Any
) -> NDArray[np.float64]:
    """(SIDE, SIDE, 4) image of a mesh within -1..1.

    By default, LIGHT shines from the camera, and SKY from below and above.
    """
    vertices, triangles = mesh[0].astype(np.float32), mesh[1]
    options = {
        "light": (0.0, 0.0, 1.0),
        "colour": LIGHT,
        "openness": 1.0,
        "gloss": 0.0,
        "sky": SKY,
        "shadow": _shadow_map(np.full((4, 4), -np.inf), 1.0),
        "collar": (99.0, 0.0, 1.0),
        "normals": vertex_normals(vertices, triangles),
        "rest": vertices,
    } | changes
    depth = CAMERA - vertices[:, 2]
    screen = vertices[:, :2] * [CAMERA, -CAMERA] / depth[:, None] * SIDE / 2.2 + SIDE / 2
    points = np.column_stack([screen, 1 / depth]).astype(np.float32)
    nearness = np.full((SIDE, SIDE), -np.inf, dtype=np.float32)
    seen = np.full((SIDE, SIDE), -1, dtype=np.int32)
    rasterise(points, triangles, 0, False, nearness, seen)
    image = np.zeros((SIDE, SIDE, 4), dtype=np.float32)
    black = Colour(0.0, 0.0, 0.0)
    shade(
        seen,
        Surface(
            points=points,
            vertices=vertices,
            rest=options["rest"].astype(np.float32),
            normals=options["normals"].astype(np.float32),
            triangles=triangles,
            material=np.broadcast_to(np.asarray(kinds, dtype=np.uint8), len(triangles)).copy(),
            uv=np.zeros((len(triangles), 3, 2), dtype=np.float32),
            openness=np.full(len(vertices), options["openness"], dtype=np.float32),
        ),
        SkinTexture(
            albedo=np.tile(ALBEDO.astype(np.float32), (4, 4, 1)),
            gloss=np.full((4, 4), options["gloss"], dtype=np.float32),
        ),
        PALETTE._replace(
            colour=np.tile(ALBEDO.astype(np.float32), (CLOTHES + 1, 1)),
            highlight=np.full(CLOTHES + 1, options["gloss"], dtype=np.float32),
            sharpness=np.full(CLOTHES + 1, 10.0, dtype=np.float32),
            occlusion=np.ones(CLOTHES + 1, dtype=np.float32),
        ),
        Eyes(
            centre=np.zeros((2, 3), dtype=np.float32),
            gaze=np.zeros(3, dtype=np.float32),
            pupil=0.0,
            iris=0.0,
            sclera=black,
            iris_colour=black,
            rim_colour=black,
        ),
        Collar(*options["collar"]),
        Lighting(
            direction=np.array([options["light"]], dtype=np.float32),
            colour=np.array([options["colour"]], dtype=np.float32),
            casts_shadow=np.array([True]),
            sky=options["sky"].astype(np.float32),
            shadow=options["shadow"],
        ),
        CAMERA,
        image,
    )
    return image.astype(np.float64)


def _plate(z: float = 0.0, half: float = 0.9, side: int = 2) -> Arrays:
    """A square that faces the camera."""
    x, y = np.meshgrid(np.linspace(-half, half, side), np.linspace(half, -half, side))
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    below = corner + side
    triangles = np.concatenate(
        [np.stack([corner, below, corner + 1], 1), np.stack([corner + 1, below, below + 1], 1)]
    )
    return np.stack([x, y, np.full_like(x, z)], axis=-1).reshape(-1, 3), triangles.astype(np.int32)


@pytest.mark.parametrize("kind", [FRAME, SOCKET, SKIN, TORSO])
def test_a_plate_before_the_light(kind: int) -> None:
    image = _shaded(_plate(), kind)
    drawn = image[..., 3] == 1
    assert 0.5 < drawn.mean() < 0.8
    assert np.allclose(image[drawn][:, :3], ALBEDO * (LIGHT + SKY.mean(axis=0)), atol=1e-5)
    assert (image[~drawn] == 0).all()


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 89, 95, 130, 180])
@pytest.mark.parametrize(("kind", "wrap"), [(FRAME, 0 * WRAP), (SKIN, WRAP)])
def test_a_plate_turned_from_the_light(
    kind: int, wrap: NDArray[np.float64], degrees: float
) -> None:
    angle = np.radians(degrees)
    image = _shaded(_plate(), kind, light=(np.sin(angle), 0.0, np.cos(angle)))
    share = np.maximum((np.cos(angle) + wrap) / (1 + wrap), 0)
    assert np.allclose(image[16, 16, :3], ALBEDO * (LIGHT * share + SKY.mean(axis=0)), atol=1e-5)


def test_a_plate_lit_from_behind_has_only_the_sky() -> None:
    image = _shaded(_plate(), light=(0.0, 0.0, -1.0))
    assert np.allclose(image[16, 16, :3], ALBEDO * SKY.mean(axis=0), atol=1e-6)
    assert np.allclose(_shaded(_plate(), light=(0.0, 0.0, -1.0), sky=0 * SKY)[16, 16, :3], 0)


def test_a_surface_that_faces_up_is_lit_by_the_upper_sky() -> None:
    for up, colour in ((1.0, SKY[1]), (-1.0, SKY[0])):
        normals = np.tile([0.0, up, 0.0], (4, 1))
        assert np.allclose(
            _shaded(_plate(), SOCKET, normals=normals, colour=0 * LIGHT)[16, 16, :3],
            ALBEDO * colour,
            atol=1e-5,
        )


@pytest.mark.parametrize("kind", [CAVITY, TEETH, TONGUE])
def test_light_reaches_the_front_of_an_open_mouth(kind: int) -> None:
    # The ambient occlusion of the mesh is that of a closed mouth, into which no light falls.
    plate = _plate()

    def brightness(depth: float) -> float:
        rest = plate[0] * [0.01, 0.01, 0] + [0, -0.65, depth]
        return float(_shaded(plate, kind, openness=0.0, rest=rest)[16, 16, :3].sum())

    assert 0 < brightness(-0.5) < brightness(0.0) < brightness(0.2)
    assert brightness(0.2) < (ALBEDO * (LIGHT + SKY.mean(axis=0))).sum()


def test_no_lips_cast_shadows_on_teeth() -> None:
    dark = {"shadow": _shadow_map(np.full((32, 32), np.inf), 4.0), "sky": 0 * SKY}
    assert _shaded(_plate(), SOCKET, **dark)[16, 16, :3].max() == 0
    assert _shaded(_plate(), TEETH, **dark)[16, 16, :3].min() > 0


def test_crevices_are_darker() -> None:
    open_plate, half = _shaded(_plate())[16, 16, :3], _shaded(_plate(), openness=0.5)[16, 16, :3]
    assert (half < 0.9 * open_plate).all()
    assert np.allclose(
        _shaded(_plate(), openness=0.5, colour=0 * LIGHT)[16, 16, :3],
        0.5 * ALBEDO * SKY.mean(axis=0),
        atol=1e-6,
    )


def _ball(radius: float) -> Arrays:
    across, around = np.linspace(0, np.pi, 25), np.linspace(0, 2 * np.pi, 48, endpoint=False)
    a, b = np.meshgrid(across, around, indexing="ij")
    points = radius * np.stack(
        [np.sin(a) * np.sin(b), np.cos(a), np.sin(a) * np.cos(b)], axis=-1
    ).reshape(-1, 3)
    corner = np.arange(24)[:, None] * 48 + np.arange(48)
    right = np.arange(24)[:, None] * 48 + (np.arange(48) + 1) % 48
    halves = [
        np.stack([corner, corner + 48, right], -1),
        np.stack([right, corner + 48, right + 48], -1),
    ]
    return points, np.concatenate([half.reshape(-1, 3) for half in halves]).astype(np.int32)


def _places_on_a_ball(radius: float) -> NDArray[np.float64]:
    """(SIDE, SIDE, 3) unit normals at which the rays of the camera hit the ball, NaN elsewhere."""
    row, column = np.mgrid[:SIDE, :SIDE] + 0.5
    ray = np.stack(
        [
            (column - SIDE / 2) * 2.2 / SIDE / CAMERA,
            -(row - SIDE / 2) * 2.2 / SIDE / CAMERA,
            -np.ones((SIDE, SIDE)),
        ],
        -1,
    )
    a, b, c = (ray**2).sum(-1), 2 * CAMERA * ray[..., 2], CAMERA**2 - radius**2
    with np.errstate(invalid="ignore"):
        t = (-b - np.sqrt(b * b - 4 * a * c)) / (2 * a)
    return np.asarray((ray * t[..., None] + [0, 0, CAMERA]) / radius)


# Two of four samples of skin are interpolated, so the tolerance is the step between two samples.
@pytest.mark.parametrize(
    ("kind", "wrap", "tolerance"), [(FRAME, 0 * WRAP, 0.015), (SKIN, WRAP, 0.05)]
)
def test_a_ball_shows_lamberts_law(kind: int, wrap: NDArray[np.float64], tolerance: float) -> None:
    radius = 0.9
    ball = _ball(radius)
    light = np.array([0.6, 0.48, 0.64])
    image = _shaded(ball, kind, light=light, normals=ball[0] / radius)
    normals = _places_on_a_ball(radius)
    within = normals[..., 2] > 0.35  # the outermost samples see triangles at a small angle
    share = np.maximum((normals @ light)[..., None] + wrap, 0) / (1 + wrap)
    up = normals[..., 1:2] * 0.5 + 0.5
    expected = ALBEDO * (LIGHT * share + SKY[0] * (1 - up) + SKY[1] * up)
    assert np.abs(image[..., :3] - expected)[within].max() < tolerance


def test_a_highlight_lies_between_light_and_camera() -> None:
    radius = 0.9
    ball = _ball(radius)
    light = np.array([np.sin(1.0), 0.0, np.cos(1.0)])
    options = {"light": light, "normals": ball[0] / radius}
    spark = (_shaded(ball, gloss=0.5, **options) - _shaded(ball, **options))[..., 1]
    assert spark.min() >= 0
    row, column = np.unravel_index(spark.argmax(), spark.shape)
    normal = _places_on_a_ball(radius)[row, column]
    halfway = light + np.array([0.0, 0.0, 1.0])
    halfway /= np.linalg.norm(halfway)
    assert normal @ halfway > np.cos(np.radians(8))


def test_a_plate_darkens_what_is_behind_it() -> None:
    near, far = _plate(0.6, half=0.4), _plate(-0.2)
    both = np.concatenate([near[0], far[0]]), np.concatenate([near[1], far[1] + 4])
    # The light comes from the right: the near plate's shadow falls to the left of it.
    light = np.array([0.6, 0.0, 0.8])
    across = np.array([0.8, 0.0, -0.6])
    axes = np.stack([across, [0, -1, 0], light], axis=1).astype(np.float32)
    points = (both[0] @ axes).astype(np.float32)
    points[:, :2] = points[:, :2] * 28 + 48
    depth = np.full((96, 96), -np.inf, dtype=np.float32)
    rasterise(points, both[1], 0, False, depth, np.empty((96, 96), dtype=np.int32))
    image = _shaded(both, light=light, shadow=ShadowMap(depth, axes, 48.0, 28.0))
    lit = ALBEDO * (LIGHT * 0.8 + SKY.mean(axis=0))
    dark = ALBEDO * SKY.mean(axis=0)

    def at(x: float, y: float, z: float) -> NDArray[np.float64]:
        column, row = np.array([x, -y]) * CAMERA / (CAMERA - z) * SIDE / 2.2 + SIDE / 2
        return image[int(row), int(column), :3]

    assert np.allclose(at(0.0, 0.0, 0.6), lit, atol=1e-4)  # casts no shadow on itself
    for x in np.linspace(-0.88, 0.88, 17):
        for y in (-0.7, -0.2, 0.2, 0.7):
            hidden = max(abs(x), abs(y)) < 0.46
            # A ray from (x, y, -0.2) towards the light is at z = 0.6 when it has moved by 0.6.
            off, away = max(abs(x + 0.6), abs(y)), max(abs(x + 0.6), abs(y)) - 0.4
            if not hidden and abs(away) > 0.08:
                assert np.allclose(at(x, y, -0.2), dark if off < 0.4 else lit, atol=1e-3), (x, y)


def test_sheets_have_two_sides_and_bodies_one() -> None:
    points, triangles = _plate()
    turned = points, triangles[:, ::-1].copy()
    assert np.allclose(
        _shaded(turned, FRAME)[16, 16, :3], ALBEDO * (LIGHT + SKY.mean(axis=0)), atol=1e-5
    )
    assert np.allclose(_shaded(turned, SOCKET)[16, 16, :3], ALBEDO * SKY.mean(axis=0), atol=1e-5)


def test_skin_below_the_collar_is_clothed() -> None:
    plate = _plate()
    low = {"rest": plate[0] - [0, 2.5, 0], "collar": (0.1, 0.2, 0.4)}
    bare = ALBEDO * (LIGHT + SKY.mean(axis=0))
    assert np.allclose(_shaded(plate, SOCKET, **low)[16, 16, :3], bare, atol=1e-5)
    for kind in (SKIN, TORSO):
        clothed = _shaded(plate, kind, **low)
        assert clothed[clothed[..., 3] == 1][:, :3].std(axis=0).min() > 1e-4  # a weave
        assert np.allclose(_shaded(plate, kind, collar=low["collar"])[16, 16, :3], bare, atol=1e-5)
