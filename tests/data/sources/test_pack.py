"""Packs are read back byte for byte, and an unfinished or damaged pack is an error."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data
from workbench.data.dataset import Dataset, EncodedImages, encoded_image
from workbench.data.sources.pack import ABOUT, INDEX, PICTURES
from workbench.data.writers.pack import write_pack
from workbench.images import to_png


@pytest.fixture
def people(identity_folder: Path) -> Dataset:
    return data.open(f"folder:{identity_folder}")


def packed(dataset: Dataset, out: Path, **options: Any) -> Dataset:
    written = write_pack(dataset, out, progress=False, **options)
    made = data.open(f"pack:{out}")
    assert (written.path, written.images, written.identities) == (
        out,
        len(made),
        made.num_identities,
    )
    assert written.bytes == sum(path.stat().st_size for path in out.iterdir())
    return made


def test_what_was_packed_is_read_back(people: Dataset, tmp_path: Path) -> None:
    made = packed(people, tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [ABOUT, PICTURES, INDEX]
    assert made.name == "a"
    assert made.identity_names == people.identity_names
    assert np.array_equal(made.identities, people.identities)
    assert (
        made.fingerprint() == people.fingerprint()
    )  # so that a run can be resumed with a pack of its data
    assert list(made.attributes["file"]) == list(people.attributes["file"])
    for i in range(len(people)):
        assert encoded_image(made.images, i) == encoded_image(people.images, i)
        assert np.array_equal(made.images[i], people.images[i])
    assert np.array_equal(made.images[-1], people.images[5])
    with pytest.raises(IndexError):
        made.images[6]


def test_a_selection_is_packed_and_what_are_pixels_becomes_png(
    people: Dataset, tmp_path: Path
) -> None:
    chosen = people.subset("some", np.array([4, 1, 5]))
    made = packed(chosen, tmp_path / "a")
    assert made.identity_names == ["ann", "cid"]
    assert encoded_image(made.images, 1) == encoded_image(people.images, 1)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    made = packed(replace(chosen, images=pixels), tmp_path / "b")
    assert all(np.array_equal(made.images[i], pixels[i]) for i in range(3))
    assert encoded_image(made.images, 0) == to_png(pixels[0])


ATTRIBUTES: dict[str, Any] = {
    "age": [20.5, None, 3],
    "count": [1, 2, 3],
    "glasses": [True, False, True],
    "where/from": ["Köln", "", "\udcff"],
    "unknown": [None, None, None],
    "mixed": [1, "two", None],
    "ragged": [[1], [2, 3], []],
    "landmarks": np.arange(30, dtype=np.float32).reshape(3, 5, 2),
    "gender": np.array(["male", "female", "male"]),
    "session": np.array([3, 4, 5], dtype=np.int16),
}


def test_attributes_come_back_as_numbers_or_texts(people: Dataset, tmp_path: Path) -> None:
    chosen = replace(people.subset("some", np.array([0, 2, 4])), attributes=ATTRIBUTES)
    made = packed(chosen, tmp_path / "a").attributes
    assert list(made) == list(ATTRIBUTES)
    assert np.array_equal(made["age"], [20.5, np.nan, 3], equal_nan=True)
    assert np.isnan(made["unknown"]).all()
    assert [
        np.asarray(made[key]).dtype.kind for key in ("count", "glasses", "session", "landmarks")
    ] == ["i", "b", "i", "f"]
    assert np.asarray(made["session"]).dtype == np.int16
    assert np.array_equal(made["landmarks"], ATTRIBUTES["landmarks"])
    assert list(made["where/from"]) == ["Köln", "", "\udcff"]
    assert list(made["gender"]) == ["male", "female", "male"]
    assert list(made["mixed"]) == ["1", "two", ""]
    assert list(made["ragged"]) == ["[1]", "[2, 3]", "[]"]


def test_a_sample_has_its_attributes_and_readers_can_be_pickled(
    people: Dataset, tmp_path: Path
) -> None:
    made = packed(people, tmp_path / "a")
    image, identity, attributes = made[3]
    assert (image.shape, identity, attributes) == ((3, 10, 12), 1, {"file": "bob/1.png"})
    copy = pickle.loads(pickle.dumps(made))
    assert np.array_equal(copy.images[3], made.images[3])
    assert copy[3].attributes == attributes


def test_a_broken_image_stops_or_is_left_out_with_an_identity_without_others(
    identity_folder: Path, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    for broken in ("ann/0.png", "bob/0.png", "bob/1.png"):
        (identity_folder / broken).write_bytes(b"no picture")
    people = data.open(f"folder:{identity_folder}")
    with complaint("ann/0.png", "not an image"):
        write_pack(people, tmp_path / "a", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people"]
    with complaint("skip", "leave"):
        write_pack(people, tmp_path / "a", broken="leave", progress=False)  # type: ignore[arg-type]

    written = write_pack(people, tmp_path / "a", broken="skip", progress=False)
    assert [Path(where).name for where, _ in written.broken] == ["0.png", "0.png", "1.png"]
    assert all("not an image" in why for _, why in written.broken)
    made = data.open(f"pack:{tmp_path / 'a'}")
    assert made.identity_names == ["ann", "cid"]
    assert made.identities.tolist() == [0, 1, 1]
    assert list(made.attributes["file"]) == ["ann/1.png", "cid/0.png", "cid/1.png"]

    (identity_folder / "ann" / "1.png").write_bytes(b"")
    with complaint("none of the 2 images"):
        write_pack(
            people.subset("ann", np.arange(2)), tmp_path / "b", broken="skip", progress=False
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "people"]


def test_what_is_there_is_never_written_over(
    people: Dataset, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    (tmp_path / "empty").mkdir()
    packed(people, tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for name in ("empty", "full", "file"):
        with complaint(name, "there already"):
            write_pack(people, tmp_path / name, progress=False)
    with complaint("file", "cannot be written"):
        write_pack(people, tmp_path / "file" / "a", progress=False)
    assert len(data.open(f"pack:{tmp_path / 'empty'}")) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full", "people"]


def test_a_full_disk_leaves_nothing(
    people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with complaint("a", "No space left"):
        write_pack(people, tmp_path / "a", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people"]


def test_what_is_no_pack_is_refused(
    people: Dataset, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("nowhere", "no such folder"):
        data.open(f"pack:{tmp_path / 'nowhere'}")
    with complaint("not a pack", "workbench data pack"):
        data.open(f"pack:{tmp_path}")
    packed(people, tmp_path / "a")
    about = (tmp_path / "a" / ABOUT).read_text()
    (tmp_path / "a" / ABOUT).write_text(about.replace('"version": 1', '"version": 2'))
    with complaint("version 2"):
        data.open(f"pack:{tmp_path / 'a'}")
    (tmp_path / "a" / ABOUT).unlink()
    with complaint("not a pack", "not finished"):
        data.open(f"pack:{tmp_path / 'a'}")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (PICTURES, lambda data: data[:-1], "expected"),
        (PICTURES, lambda data: data + b"x", "expected"),
        (INDEX, lambda data: data[:-1], INDEX),
        (INDEX, lambda data: data[:700] + b"\x99" + data[701:], INDEX),
        (ABOUT, lambda data: data[:50], ABOUT),
        (ABOUT, lambda data: data.replace(b'"images": 6', b'"images": 7'), "belong together"),
        (ABOUT, lambda data: b"{}", "another set"),
    ],
)
def test_a_damaged_pack_is_an_error(
    name: str,
    change: Callable[[bytes], bytes],
    words: str,
    people: Dataset,
    tmp_path: Path,
    complaint: Callable[..., Any],
) -> None:
    packed(people, tmp_path / "a")
    path = tmp_path / "a" / name
    path.write_bytes(change(path.read_bytes()))
    with complaint(words):
        data.open(f"pack:{tmp_path / 'a'}")


def test_a_changed_byte_is_found_in_the_image_that_has_it(
    people: Dataset, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    made = packed(people, tmp_path / "a")
    path = tmp_path / "a" / PICTURES
    whole = bytearray(path.read_bytes())
    at = len(whole) // 2
    whole[at] ^= 4
    path.write_bytes(whole)
    where = int(np.searchsorted(made.images.offsets, at, side="right")) - 1  # type: ignore[attr-defined]
    with complaint(PICTURES, f"image {where}", "checksum", "again"):
        _ = made.images[where]
    assert made.images[0].shape == made.images[5].shape == (10, 12, 3)


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack that is shared by tests that restore it after changing it."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), dtype=np.uint8)
    dataset = Dataset(
        "noise",
        pixels,
        np.array([0, 0, 1, 1, 2, 2]),
        ["a", "b", "c"],
        {"age": [1, 2, 3, 4, 5, 6], "file": list("abcdef")},
    )
    folder = tmp_path_factory.mktemp("packs") / "common"
    write_pack(dataset, folder, progress=False)
    return folder


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), name=st.sampled_from([PICTURES, INDEX, ABOUT]))
def test_a_mutated_pack_is_read_as_it_was_or_a_readable_error(
    seed: int,
    name: str,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    common: Path,
) -> None:
    def seen() -> list[Any]:
        made = data.open(f"pack:{common}")
        pixels = [made.images[i].tobytes() for i in range(len(made))]
        return [
            pixels,
            made.identities.tolist(),
            made.identity_names,
            {key: list(of) for key, of in made.attributes.items()},
        ]

    expected, whole = seen(), (common / name).read_bytes()
    try:
        (common / name).write_bytes(mutate(whole, seed))
        with at_worst_complaint(""):
            assert seen() == expected
    finally:
        (common / name).write_bytes(whole)


class Large(EncodedImages):
    """Returns images of 100 kB, of which all but a few bytes follow the end of the image."""

    def __len__(self) -> int:
        return 200

    def encoded(self, index: int) -> bytes:
        return to_png(np.full((4, 4, 3), index, dtype=np.uint8)) + bytes(100_000)

    def where(self, index: int) -> str:
        return f"image {index}"


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    dataset = Dataset("large", Large(), np.arange(200) // 2, [str(i) for i in range(100)])
    packed(dataset.subset("one", np.array([0])), tmp_path / "first")
    tracemalloc.start()
    try:
        made = packed(dataset, tmp_path / "a")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "a" / PICTURES).stat().st_size > 20e6
    assert peak < 3e6
    assert made.images[150][0, 0, 0] == 150


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_files_are_opened_when_read_and_closed_with_their_set(
    people: Dataset, tmp_path: Path
) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    write_pack(people, tmp_path / "a", progress=False)
    before = count()
    opened = [data.open(f"pack:{tmp_path / 'a'}") for _ in range(20)]
    assert count() == before
    assert all(one.images[i].shape == (10, 12, 3) for one in opened for i in range(6))
    assert count() == before + 20
    opened.clear()
    assert count() == before
