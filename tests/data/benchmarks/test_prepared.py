"""`aligned:` and `cropped:` benchmarks: the same pairs after detection, which is done once."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_face import photo
from helpers import Complaint
from numpy.typing import NDArray
from PIL import Image

from workbench import data, faces, images
from workbench.data import Benchmark
from workbench.data.benchmarks import prepared
from workbench.data.dataset import Picked


@pytest.fixture(autouse=True)
def _own_cache(cache: Path) -> None:
    """Gives each test an empty cache."""


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Four people with two photos each, with faces at different places.

    The second photo of the last person shows no face.
    """
    root = tmp_path / "people"
    for person in range(4):
        (root / f"p{person}").mkdir(parents=True)
        for number in range(2):
            face = (100 + 10 * person, 20 + 40 * number, 10 + 20 * person)
            has_face = (person, number) != (3, 1)
            shown = photo(face, turn=12 * number) if has_face else photo()
            Image.fromarray(shown).save(root / f"p{person}" / f"{number}.png")
    return root


@pytest.fixture
def detections(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets an entry for each image on which faces are detected."""
    seen: list[int] = []
    real = faces.detect

    def detect(image: NDArray[np.uint8], **options: Any) -> list[faces.Face]:
        seen.append(1)
        return real(image, **options)

    monkeypatch.setattr(faces, "detect", detect)
    return seen


def opened(spec: str) -> Benchmark:
    bench = data.benchmark(spec)
    assert isinstance(bench, Benchmark)
    return bench


def test_the_pairs_are_the_same_and_the_images_aligned(people: Path) -> None:
    plain, aligned = opened(f"folder:{people}"), opened(f"aligned:folder:{people}")
    assert aligned.fingerprint() == plain.fingerprint()
    assert np.array_equal(aligned.pairs, plain.pairs)
    assert np.array_equal(aligned.folds, plain.folds)
    assert aligned.name == "people-aligned"
    assert len(aligned.images) == len(plain.images) == 8
    for number in range(7):
        (expected,) = faces.align(plain.images[number], threads=1)
        assert np.array_equal(aligned.images[number], expected.image)


def test_cropped_is_the_box_not_rotated(people: Path) -> None:
    plain, cropped = opened(f"folder:{people}"), opened(f"cropped:folder:{people}")
    assert cropped.name == "people-cropped"
    (face,) = faces.detect(plain.images[1], threads=1)
    assert np.array_equal(
        cropped.images[1], faces.crop(plain.images[1], face, 112, prepared.MARGIN)
    )


def test_an_image_without_a_face_is_fitted_and_the_note_says_so(people: Path) -> None:
    aligned = opened(f"aligned:folder:{people}")
    assert np.array_equal(
        aligned.images[7], images.fit(images.read(people / "p3" / "1.png"), (112, 112))
    )
    assert "no face found on 1 of 8 images" in aligned.note
    assert aligned.note.startswith("2 folds with disjoint identities")


def test_faces_are_detected_once(people: Path, detections: list[int]) -> None:
    first = opened(f"aligned:folder:{people}")
    assert len(detections) == 8
    again, cropped = opened(f"aligned:folder:{people}"), opened(f"cropped:folder:{people}")
    assert len(detections) == 8
    assert np.array_equal(again.images[3], first.images[3])
    assert not np.array_equal(cropped.images[3], first.images[3])


def test_faces_are_detected_again_if_an_image_changes(people: Path, detections: list[int]) -> None:
    opened(f"aligned:folder:{people}")
    Image.fromarray(photo((150, 0, 0))).save(people / "p0" / "0.png")
    (face,) = faces.detect(images.read(people / "p0" / "0.png"), threads=1)
    detections.clear()
    aligned = opened(f"aligned:folder:{people}")
    assert len(detections) == 8
    assert np.array_equal(
        aligned.images[0], faces.warp(images.read(people / "p0" / "0.png"), face.landmarks)
    )


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_a_damaged_cache_is_made_again(
    people: Path, detections: list[int], cache: Path, damage: bytes
) -> None:
    first = opened(f"aligned:folder:{people}")
    (kept,) = (cache / "faces").glob("*.npz")
    kept.write_bytes(damage)
    again = opened(f"aligned:folder:{people}")
    assert len(detections) == 16
    assert np.array_equal(again.images[3], first.images[3])
    assert len(kept.read_bytes()) > 100


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((7, 16)), np.zeros((8, 15)), np.full((8, 16), np.nan), np.zeros((8, 16), dtype="U1")],
)
def test_a_cache_of_something_else_is_made_again(
    people: Path, detections: list[int], cache: Path, wrong: NDArray[Any]
) -> None:
    opened(f"aligned:folder:{people}")
    (kept,) = (cache / "faces").glob("*.npz")
    np.savez(kept, faces=wrong)
    assert "no face found on 1 of 8" in opened(f"aligned:folder:{people}").note
    assert len(detections) == 16


def test_a_cache_that_cannot_be_written_is_an_error(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file"))
    with complaint("cannot be written", "WORKBENCH_CACHE"):
        opened(f"aligned:folder:{people}")


def test_worker_processes_find_the_same(people: Path, cache: Path) -> None:
    plain = opened(f"folder:{people}")
    one = prepared.prepare(plain, workers=0, progress=False)
    for file in (cache / "faces").iterdir():
        file.unlink()
    two = prepared.prepare(plain, workers=2, progress=False)
    assert all(np.array_equal(one.images[number], two.images[number]) for number in range(8))


def test_a_benchmark_may_hold_pixels(people: Path, detections: list[int]) -> None:
    plain = opened(f"folder:{people}")
    pixels = [plain.images[number] for number in range(8)]
    held = Benchmark("held", pixels, plain.pairs, plain.same, plain.folds)
    aligned = prepared.prepare(held, size=64, progress=False)
    assert aligned.images[0].shape == (64, 64, 3)
    prepared.prepare(held, "cropped", progress=False)
    assert len(detections) == 8
    prepared.prepare(held, which="largest", progress=False)
    assert len(detections) == 16


def test_in_large_benchmarks_faces_are_detected_only_on_pairs(
    people: Path, detections: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "MOST_IMAGES", 4)
    plain = opened(f"folder:{people}")
    used = np.unique(plain.pairs[:2])
    few = Benchmark("few", plain.images, plain.pairs[:2], plain.same[:2], plain.folds[:2])
    aligned = prepared.prepare(few, progress=False)
    assert len(detections) == len(used) < 8
    for number in used:
        assert np.array_equal(
            aligned.images[number], faces.align(plain.images[number], threads=1)[0].image
        )


def test_readers_can_be_sent_to_loader_processes(people: Path) -> None:
    aligned = opened(f"aligned:folder:{people}")
    assert np.array_equal(pickle.loads(pickle.dumps(aligned.images))[2], aligned.images[2])


def test_the_note_says_that_no_image_has_a_face(tmp_path: Path) -> None:
    for person in "abcd":
        (tmp_path / "walls" / person).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(photo(size=(30, 40))).save(
                tmp_path / "walls" / person / f"{number}.png"
            )
    assert "no face found on any image" in opened(f"aligned:folder:{tmp_path}/walls").note


@pytest.mark.parametrize(
    ("spec", "messages"),
    [
        ("aligned:", ("needs a benchmark after the colon",)),
        ("cropped", ("cropped: needs a benchmark",)),
        ("aligned:folders:x", ("folders", "did you mean")),
        ("aligned:folder:/no/such", ("no such folder",)),
        ("aligned:fashion-mnist", ("benchmarks of pairs", "ClosedSet")),
    ],
)
def test_a_benchmark_that_cannot_be_prepared_is_an_error(
    spec: str, messages: tuple[str, ...], complaint: Complaint, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = data.ClosedSet(data.Dataset("classes", [photo()] * 2, np.arange(2), ["a", "b"]))
    real = prepared.benchmark
    monkeypatch.setattr(
        prepared, "benchmark", lambda path: closed if path == "fashion-mnist" else real(path)
    )
    with complaint(*messages):
        data.benchmark(spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "turned"}, "expected cropped or aligned"),
        ({"which": "all"}, "expected central or largest"),
        ({"size": (1, 2, 3)}, "size"),
        ({"detector": "retinafaces"}, "retinafaces"),
    ],
    ids=lambda value: str(next(iter(value))),
)
def test_wrong_settings_are_errors(
    people: Path, options: dict[str, Any], message: str, complaint: Complaint
) -> None:
    with complaint(message):
        prepared.prepare(opened(f"folder:{people}"), **options)


def test_unprepared_removes_the_preparation() -> None:
    assert data.unprepared("aligned:pairs:a@b") == "pairs:a@b"
    assert data.unprepared("cropped:aligned:orl") == "orl"
    assert data.unprepared("folder:aligned") == "folder:aligned"
    assert data.unprepared("aligned") == ""


def test_a_prepared_benchmark_is_not_a_training_set(people: Path, complaint: Complaint) -> None:
    with complaint("which runs are evaluated on"):
        data.open(f"aligned:folder:{people}")


def test_photos_of_lfw(workbench_data: Path) -> None:
    lfw = workbench_data / "lfw"
    plain = opened(f"pairs:{lfw}/pairs_300.txt@{lfw}/lfw_250_300pairs.zip")
    genuine, impostor = np.flatnonzero(plain.same)[:10], np.flatnonzero(~plain.same)[:10]
    chosen = np.concatenate([genuine, impostor])
    used, pairs = np.unique(plain.pairs[chosen], return_inverse=True)
    some = Benchmark(
        "some",
        Picked(plain.images, used),
        pairs.reshape(-1, 2),
        plain.same[chosen],
        np.arange(20) % 2,
    )
    aligned = prepared.prepare(some, workers=0, progress=False)
    assert aligned.note == "faces found (detector: auto) and aligned"
    residuals = [
        faces.fit(face.landmarks, faces.template()).residual
        for face in map(aligned.images.detected.__getitem__, range(len(used)))
    ]
    assert np.median(residuals) < 4


def test_no_faces_are_detected_on_images_that_cannot_be_read(
    people: Path, detections: list[int], complaint: Complaint
) -> None:
    (people / "p1" / "0.png").write_bytes(b"GIF89a")
    with complaint("p1/0.png", "--broken skip"):
        opened(f"aligned:folder:{people}")
    detections.clear()
    whole = opened(f"folder:{people}")
    aligned = data.open_without(f"aligned:folder:{people}", [2])
    assert isinstance(aligned, Benchmark)
    assert len(detections) == 7
    assert not (aligned.pairs == 2).any()
    assert aligned.pairs.tolist() == [pair for pair in whole.pairs.tolist() if 2 not in pair]
    assert "no face found on 1 of 7 images" in aligned.note
