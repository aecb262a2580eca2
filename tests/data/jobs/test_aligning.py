"""Finding and aligning the faces of a whole set: files, report, being stopped and called again, odd
names.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_face import photo
from filelock import FileLock
from helpers import Complaint, RunCommand
from numpy.typing import NDArray
from PIL import Image

from workbench import data, faces, images
from workbench.data import Alignment
from workbench.data.dataset import Dataset
from workbench.data.jobs import aligning


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """ann with two photos, one of them turned and in a folder of its own; bob with nobody on it.

    Cid with two people.
    """
    root = tmp_path / "photos"
    save(root / "ann" / "a.png", photo((120, 60, 40)))
    save(root / "ann" / "trip" / "b.bmp", photo((140, 40, 60), turn=15))
    save(root / "bob" / "wall.png", photo())
    save(root / "cid" / "two.png", photo((80, 90, 90), (110, 140, 0)))
    return root


def align(source: Path | str | Dataset, out: Path, **options: Any) -> Alignment:
    spec = f"folder:{source}" if isinstance(source, Path) else source
    return data.align(spec, out, **{"workers": 0, "progress": False, **options})


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "alignment.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.glob("*/**/*")
        if path.is_file()
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_faces_are_aligned_into_folders_of_the_same_names(photos: Path, out: Path) -> None:
    done = align(photos, out)
    opened = data.open(f"folder:{out}")
    assert list(opened.attributes["file"]) == ["ann/a.jpg", "ann/trip/b.jpg", "cid/two.jpg"]
    assert list(opened.identity_names) == ["ann", "cid"]
    assert {image.shape for image in (opened.images[number] for number in range(3))} == {
        (112, 112, 3)
    }
    assert done.outcomes == {"aligned": 3, "cropped": 0, "missed": 1, "broken": 0}
    assert (done.misses, done.lost, done.profiles, done.several) == (
        ["bob/wall.png"],
        ["bob"],
        0,
        1,
    )


def test_the_pixels_are_those_of_the_library(photos: Path, out: Path) -> None:
    align(photos, out, format="png", size=(112, 96))
    (expected,) = faces.align(images.read(photos / "ann" / "trip" / "b.bmp"), size=(112, 96))
    assert np.array_equal(images.read(out / "ann" / "trip" / "b.png"), expected.image)


def test_jpegs_are_nearly_as_good(photos: Path, out: Path) -> None:
    align(photos, out)
    (expected,) = faces.align(images.read(photos / "ann" / "a.png"))
    difference = np.abs(images.read(out / "ann" / "a.jpg").astype(int) - expected.image)
    assert difference.mean() < 1.5


def test_the_table_has_a_row_an_image(photos: Path, out: Path) -> None:
    align(photos, out)
    table = {row["photo"]: row for row in rows(out)}
    assert {
        name: (row["file"], row["identity"], row["outcome"], row["found"])
        for name, row in table.items()
    } == {
        "ann/a.png": ("ann/a.jpg", "ann", "aligned", "1"),
        "ann/trip/b.bmp": ("ann/trip/b.jpg", "ann", "aligned", "1"),
        "bob/wall.png": ("", "bob", "missed", "0"),
        "cid/two.png": ("cid/two.jpg", "cid", "aligned", "2"),
    }
    (face,) = faces.detect(images.read(photos / "ann" / "a.png"))
    row = table["ann/a.png"]
    assert [float(row[key]) for key in ("x0", "y0", "x1", "y1")] == pytest.approx(
        face.box.tolist(), abs=0.01
    )
    assert [float(row[key]) for key in ("nose_x", "mouth_right_y")] == pytest.approx(
        face.landmarks[[2, 4], [0, 1]].tolist(), abs=0.01
    )
    assert float(row["score"]) == pytest.approx(face.score, abs=1e-3)
    assert row["profile"] == "False"
    assert 0 < float(row["residual"]) < 6
    assert float(row["eyes"]) > 30
    assert table["bob/wall.png"]["score"] == ""


@pytest.mark.parametrize(("which", "side"), [("largest", 110), ("central", 80)])
def test_of_several_faces_one_is_taken(photos: Path, out: Path, which: str, side: int) -> None:
    align(photos, out, which=which)
    row = next(row for row in rows(out) if row["identity"] == "cid")
    assert float(row["x1"]) - float(row["x0"]) == pytest.approx(0.65 * side, rel=0.15)


def test_where_no_face_is_found_the_middle_can_be_taken(photos: Path, out: Path) -> None:
    done = align(photos, out, miss="crop", format="png")
    assert done.outcomes == {"aligned": 3, "cropped": 1, "missed": 0, "broken": 0}
    assert (done.misses, done.lost) == (["bob/wall.png"], [])
    expected = images.fit(images.read(photos / "bob" / "wall.png"), (112, 112))
    assert np.array_equal(images.read(out / "bob" / "wall.png"), expected)


def test_broken_images_are_reported_and_looked_at_again(photos: Path, out: Path) -> None:
    (photos / "ann" / "c.png").write_bytes(b"not a picture")
    done = align(photos, out)
    assert done.outcomes == {"aligned": 3, "cropped": 0, "missed": 1, "broken": 1}
    assert [name for name, _ in done.broken] == ["ann/c.png"]
    (row,) = (row for row in rows(out) if row["outcome"] == "broken")
    assert (row["photo"], row["file"]) == ("ann/c.png", "")
    assert "not an image" in row["reason"]
    save(photos / "ann" / "c.png", photo((100, 10, 10)))
    again = align(photos, out)
    assert again.outcomes == {"aligned": 4, "cropped": 0, "missed": 1, "broken": 0}
    assert (out / "ann" / "c.jpg").is_file()


def test_broken_images_can_end_it(photos: Path, out: Path, complaint: Complaint) -> None:
    (photos / "bob" / "z.png").write_bytes(b"not a picture")
    with complaint("z.png", "not an image"):
        align(photos, out, broken="stop")
    shutil.rmtree(photos / "bob")


def test_the_summary_says_what_happened(photos: Path, out: Path) -> None:
    (photos / "dan").mkdir()
    (photos / "dan" / "d.png").write_bytes(b"")
    for number in range(12):
        save(photos / "bob" / f"{number:02d}.png", photo(size=(40, 40)))
    said = str(align(photos, out)).splitlines()
    assert said[0] == f"{out}: 3 of 17 images aligned, 0 of them profiles; 1 shows several faces"
    assert said[1] == "no face found in 13, left out:"
    assert said[2:12] == [f"  bob/{number:02d}.png" for number in range(10)]
    assert said[12] == "  ... and 3 more, see alignment.csv"
    assert said[13] == "cannot be read, left out: 1:"
    assert "d.png: empty" in said[14]
    assert said[15:] == ["identities of which no image remains: 2: bob, dan"]


def test_the_summary_of_one_image_is_in_the_singular(out: Path) -> None:
    done = Alignment(out, 1, {"aligned": 1, "cropped": 0, "missed": 0, "broken": 0}, 1, 0)
    assert str(done) == f"{out}: 1 of 1 image aligned, 1 of them a profile; 0 show several faces"


def test_photos_without_files_are_called_as_their_reader_does(out: Path) -> None:
    align(Dataset("plain", Faces(2), np.array([0, 1]), ["ann", "bob"]), out)
    assert [(row["photo"], row["file"]) for row in rows(out)] == [
        ("image 0", "ann/000001.jpg"),
        ("image 1", "bob/000001.jpg"),
    ]


@pytest.fixture
def done_images(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were worked on."""
    seen: list[str] = []
    real = aligning.Aligner._one

    def one(self: aligning.Aligner, number: int, name: str) -> dict[str, Any]:
        seen.append(name)
        return real(self, number, name)

    monkeypatch.setattr(aligning.Aligner, "_one", one)
    return seen


def test_what_is_there_is_not_done_again(photos: Path, out: Path, done_images: list[str]) -> None:
    first = align(photos, out)
    before = files(out)
    done_images.clear()
    assert align(photos, out) == first
    assert done_images == []
    assert files(out) == before


@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_a_file_that_is_gone_is_made_again(
    photos: Path, out: Path, done_images: list[str], damage: str
) -> None:
    align(photos, out)
    before = files(out)
    done_images.clear()
    if damage == "gone":
        (out / "ann" / "a.jpg").unlink()
    else:
        (out / "ann" / "a.jpg").write_bytes(b"\xff\xd8")
    align(photos, out)
    assert done_images == ["ann/a.jpg"]
    assert files(out) == before
    assert len(rows(out)) == 4


def test_ctrl_c_keeps_what_is_finished(
    photos: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done_images: list[str]
) -> None:
    align(photos, tmp_path / "whole")
    real = faces.detect
    monkeypatch.setattr(aligning, "CHUNK", 1)

    def interrupted(image: NDArray[np.uint8], **options: Any) -> list[faces.Face]:
        if len(done_images) > 2:
            raise KeyboardInterrupt
        return real(image, **options)

    done_images.clear()
    monkeypatch.setattr(faces, "detect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        align(photos, out)
    assert (out / "alignment.jsonl").read_text().count('"outcome"') == 2
    monkeypatch.setattr(faces, "detect", real)
    done_images.clear()
    align(photos, out)
    assert len(done_images) == 2
    assert files(out) == files(tmp_path / "whole")
    assert rows(out) == rows(tmp_path / "whole")


KILLED = """
import sys, time
from workbench import data, faces
from workbench.data.jobs import aligning
aligning.CHUNK = 1
real = faces.detect
def slow(image, **options):
    time.sleep(0.4)
    return real(image, **options)
faces.detect = slow
data.align(sys.argv[1], sys.argv[2], workers=0, progress=False)
"""


def test_a_kill_keeps_what_is_finished(
    photos: Path, out: Path, tmp_path: Path, done_images: list[str]
) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, f"folder:{photos}", str(out)])
    log, end = out / "alignment.jsonl", time.monotonic() + 60
    while not (log.is_file() and log.read_text().count('"outcome"') >= 2):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    align(photos, out)
    assert 1 <= len(done_images) <= 2
    align(photos, tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")
    assert rows(out) == rows(tmp_path / "whole")
    assert not (out / aligning.UNFINISHED).exists()


def test_a_line_that_was_cut_off_is_done_again(
    photos: Path, out: Path, done_images: list[str]
) -> None:
    align(photos, out)
    log = out / "alignment.jsonl"
    log.write_bytes(log.read_bytes()[:-9])
    done_images.clear()
    align(photos, out)
    assert done_images == ["cid/two.jpg"]
    align(photos, out)
    assert done_images == ["cid/two.jpg"]
    assert all(isinstance(json.loads(line), dict) for line in log.read_text().splitlines()[-1:])


def test_worker_processes_make_the_same(photos: Path, out: Path, tmp_path: Path) -> None:
    for number in range(20):  # more than one piece of work
        save(photos / "bob" / f"{number}.png", photo(size=(40, 40)))
    one = align(photos, out)
    two = align(photos, tmp_path / "two", workers=2)
    assert files(out) == files(tmp_path / "two")
    assert rows(out) == rows(tmp_path / "two")
    assert two.outcomes == one.outcomes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": 64}, ("size", "112x112", "64x64")),
        ({"which": "central"}, ("which largest, not central",)),
        ({"miss": "crop"}, ("miss skip, not crop",)),
        ({"format": "png"}, ("format jpg, not png",)),
        ({"detector": "retinaface"}, ("detector auto, not retinaface",)),
    ],
    ids=lambda value: str(next(iter(value))),
)
def test_other_settings_need_another_folder(
    photos: Path, out: Path, options: dict[str, Any], told: tuple[str, ...], complaint: Complaint
) -> None:
    align(photos, out)
    with complaint(out, "was begun with", *told, "name another folder"):
        align(photos, out, **options)


def test_another_source_needs_another_folder(photos: Path, out: Path, complaint: Complaint) -> None:
    align(photos, out)
    with complaint("was begun with photos, not with other"):
        align(Path(shutil.copytree(photos, photos.parent / "other")), out)
    elsewhere = photos.parent / "elsewhere" / "photos"
    save(elsewhere / "eva" / "x.png", photo((100, 10, 10)))
    before = files(out)
    with complaint("none of its 4 photos", "ann, ann/a.png", "name another folder"):
        align(elsewhere, out)
    assert files(out) == before


def test_a_folder_of_an_earlier_version_is_refused(
    photos: Path, out: Path, complaint: Complaint
) -> None:
    align(photos, out)
    (out / "alignment.jsonl").write_text('{"source": "photos", "fingerprint": "0"}\n')
    with complaint("earlier version", "name another folder"):
        align(photos, out)


def test_whether_centerface_is_there_counts_as_a_setting(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    align(photos, out)
    now = faces.CenterFace.lacks()
    monkeypatch.setattr(faces.CenterFace, "lacks", staticmethod(lambda: not now))
    with complaint("was begun with centerface", "installed", "name another folder"):
        align(photos, out)


# Photos that changed between two calls


def age(*paths: Path) -> None:
    """As if the files were written an hour ago, so that their time of change says something."""
    for path in paths:
        os.utime(path, (time.time() - 3600,) * 2)


def crop_of(path: Path) -> NDArray[np.uint8]:
    (face,) = faces.align(images.read(path))
    return face.image


def near(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    return float(np.abs(one.astype(int) - other).mean()) < 2


def counts(done: Alignment) -> tuple[int, int, int, int, int]:
    changes = done.changes
    return changes.kept, changes.new, changes.replaced, changes.again, changes.dropped


def test_a_first_call_says_nothing_of_changes(photos: Path, out: Path) -> None:
    done = align(photos, out)
    assert counts(done) == (0, 4, 0, 0, 0)
    assert "since the last call" not in str(done)


@pytest.mark.parametrize("aged", [True, False])
def test_a_photo_that_was_replaced_is_done_anew(
    photos: Path, out: Path, done_images: list[str], aged: bool
) -> None:
    if aged:
        age(*photos.rglob("*.png"), *photos.rglob("*.bmp"))
    align(photos, out)
    save(
        photos / "ann" / "trip" / "b.bmp", photo((90, 80, 30))
    )  # of the same size, as a BMP has no compression
    done_images.clear()
    done = align(photos, out)
    assert done_images == ["ann/trip/b.jpg"]
    assert counts(done) == (3, 0, 1, 0, 0)
    assert "since the last call: 3 kept, 0 new, 1 replaced, 0 processed again, 0 removed" in str(
        done
    )
    assert near(
        images.read(out / "ann" / "trip" / "b.jpg"), crop_of(photos / "ann" / "trip" / "b.bmp")
    )


def test_a_photo_replaced_by_one_of_the_same_time_and_size_a_moment_later(
    photos: Path, out: Path, done_images: list[str]
) -> None:
    file = photos / "ann" / "trip" / "b.bmp"
    now = file.stat()
    align(photos, out)
    save(file, photo((90, 80, 30)))
    os.utime(file, ns=(now.st_atime_ns, now.st_mtime_ns))
    assert file.stat().st_size == now.st_size
    done_images.clear()
    assert counts(align(photos, out)) == (3, 0, 1, 0, 0)
    assert done_images == ["ann/trip/b.jpg"]


def test_a_photo_with_another_time_and_the_same_contents_is_kept(
    photos: Path, out: Path, done_images: list[str]
) -> None:
    age(*photos.rglob("*.png"))
    align(photos, out)
    for file in photos.rglob("*.png"):
        file.touch()
    done_images.clear()
    assert counts(
        align(Path(shutil.copytree(photos, photos.parent / "moved" / "photos")), out)
    ) == (4, 0, 0, 0, 0)
    assert done_images == []


def test_a_photo_replaced_by_one_without_a_face_loses_its_crop(photos: Path, out: Path) -> None:
    align(photos, out)
    save(photos / "ann" / "a.png", photo())
    done = align(photos, out)
    assert counts(done) == (3, 0, 1, 0, 0)
    assert done.outcomes == {"aligned": 2, "cropped": 0, "missed": 2, "broken": 0}
    assert sorted(files(out)) == ["ann/trip/b.jpg", "cid/two.jpg"]
    (photos / "cid" / "two.png").write_bytes(b"not a picture")
    done = align(photos, out)
    assert (counts(done), done.outcomes["broken"], done.lost) == (
        (3, 0, 1, 0, 0),
        1,
        ["bob", "cid"],
    )
    assert sorted(files(out)) == ["ann/trip/b.jpg"]


def test_photos_and_people_that_were_added_are_done_and_the_others_keep_their_names(
    photos: Path, out: Path, done_images: list[str]
) -> None:
    align(photos, out)
    before = files(out)
    save(
        photos / "ann" / "a.bmp", photo((100, 10, 10))
    )  # its crop would be a.jpg, and it comes first
    save(
        photos / "Ann" / "a.png", photo((100, 10, 40))
    )  # its folder would be the first of that name
    done_images.clear()
    done = align(photos, out)
    assert sorted(done_images) == ["Ann-2/a.jpg", "ann/a-2.jpg"]
    assert counts(done) == (4, 2, 0, 0, 0)
    now = files(out)
    assert before.items() <= now.items()
    assert near(images.read(out / "ann" / "a-2.jpg"), crop_of(photos / "ann" / "a.bmp"))
    assert len(rows(out)) == 6
    assert counts(align(photos, out)) == (6, 0, 0, 0, 0)


def test_the_crop_of_a_photo_that_is_gone_is_dropped_and_comes_back(
    photos: Path, out: Path
) -> None:
    align(photos, out)
    before = files(out)
    (photos / "ann" / "trip" / "b.bmp").rename(photos.parent / "kept.bmp")
    done = align(photos, out)
    assert counts(done) == (3, 0, 0, 0, 1)
    assert "1 removed because their photos are gone" in str(done)
    assert sorted(files(out)) == ["ann/a.jpg", "cid/two.jpg"]
    assert not (out / "ann" / "trip").exists()
    assert len(rows(out)) == 3
    assert counts(align(photos, out)) == (3, 0, 0, 0, 0)
    (photos / "ann" / "trip").mkdir(exist_ok=True)
    (photos.parent / "kept.bmp").rename(photos / "ann" / "trip" / "b.bmp")
    assert counts(align(photos, out)) == (3, 1, 0, 0, 0)
    assert files(out) == before


def test_what_somebody_else_wrote_is_neither_removed_nor_written_over(
    photos: Path, out: Path
) -> None:
    align(photos, out)
    retouched, mine = photo(size=(112, 112)), photo(size=(50, 60))
    for name in ("ann/a.jpg", "ann/trip/b.jpg", "cid/two.jpg"):
        save(out / name, retouched)
    save(out / "ann" / "new.jpg", mine)
    kept = files(out)
    (photos / "ann" / "trip" / "b.bmp").unlink()  # gone
    save(photos / "cid" / "two.png", photo((90, 80, 30)))  # replaced
    save(photos / "ann" / "new.png", photo((100, 10, 10)))  # added, where a file of that name is
    done = align(photos, out)
    assert counts(done) == (2, 1, 1, 0, 1)
    assert sorted(done.changes.left) == ["ann/a.jpg", "ann/trip/b.jpg", "cid/two.jpg"]
    assert "kept because they were changed after they were written: ann/a.jpg" in str(done)
    now = files(out)
    assert kept.items() <= now.items()
    assert sorted(now.keys() - kept.keys()) == ["ann/new-2.jpg", "cid/two-2.jpg"]
    assert near(images.read(out / "cid" / "two-2.jpg"), crop_of(photos / "cid" / "two.png"))
    again = align(photos, out)
    assert counts(again) == (4, 0, 0, 0, 0)
    assert files(out) == now


def test_a_kill_amid_a_change_leaves_nothing_of_the_photo_before(
    photos: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    align(photos, out)
    save(photos / "ann" / "a.png", photo((90, 80, 30)))
    save(photos / "ann" / "b.png", photo((90, 20, 30)))
    real = aligning.Aligner._one

    def killed(self: aligning.Aligner, number: int, name: str) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(aligning.Aligner, "_one", killed)
    with pytest.raises(KeyboardInterrupt):
        align(photos, out)
    assert not (out / "ann" / "a.jpg").exists()
    monkeypatch.setattr(aligning.Aligner, "_one", real)
    align(photos, out)
    align(photos, tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")
    assert rows(out) == rows(tmp_path / "whole")


def test_images_of_one_file_are_told_by_their_contents(
    photos: Path, out: Path, tmp_path: Path, done_images: list[str]
) -> None:
    opened = data.open(f"folder:{photos}")
    pixels = [opened.images[number] for number in range(4)]
    align(Dataset("held", pixels, opened.identities, opened.identity_names), out)
    done_images.clear()
    pixels[0] = photo((90, 80, 30))
    done = align(Dataset("held", pixels, opened.identities, opened.identity_names), out)
    assert done_images == ["ann/000001.jpg"]
    assert counts(done) == (3, 0, 1, 0, 0)


def test_what_the_source_leaves_out_is_said(photos: Path, out: Path) -> None:
    (photos / "ann" / "clip.mov").write_bytes(b"x")
    (photos / "dan").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = align(photos, out)
    assert "note: left out: 1 .mov; folders without an image that can be read: dan" in str(done)


@pytest.mark.parametrize("log", [b"", b"[", b"\xff\n", b"{}\n"])
def test_a_damaged_log_is_said(photos: Path, out: Path, log: bytes, complaint: Complaint) -> None:
    align(photos, out)
    (out / "alignment.jsonl").write_bytes(log)
    with complaint("alignment.jsonl is damaged"):
        align(photos, out)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"which": "all"}, ("which face", "largest or central", "all")),
        ({"miss": "drop"}, ("miss: expected skip or crop",)),
        ({"broken": "ignore"}, ("broken: expected skip or stop",)),
        ({"format": "gif"}, ("format: expected jpg or png",)),
        ({"size": 0}, ("size",)),
        ({"detector": "retinafaces"}, ("retinafaces", "did you mean")),
        ({"detector": "yunet:nope"}, ("yunet:nope: there is no such file",)),
        ({"workers": -1}, ("workers must be 0 or more",)),
    ],
    ids=lambda value: str(next(iter(value))),
)
def test_wrong_settings_are_one_line(
    photos: Path, out: Path, options: dict[str, Any], told: tuple[str, ...], complaint: Complaint
) -> None:
    with complaint(*told):
        align(photos, out, **options)
    assert not out.exists()


def test_a_call_that_finished_nothing_does_not_bind_the_next(
    photos: Path, out: Path, complaint: Complaint
) -> None:
    (photos / "ann" / "a.png").write_bytes(b"not a picture")
    with complaint("a.png"):
        align(photos, out, broken="stop")
    assert align(photos, out, size=64, format="png").outcomes["aligned"] == 2
    with complaint("was begun with size 64x64"):
        align(photos, out)


def test_a_folder_of_something_else_is_left_alone(
    photos: Path, out: Path, complaint: Complaint
) -> None:
    save(out / "mine.png", photo(size=(8, 8)))
    with complaint("is not empty", "mine.png"):
        align(photos, out)
    with complaint("mine.png: is a file; expected a folder for the faces"):
        align(photos, out / "mine.png")
    with complaint("cannot be written"):
        align(photos, out / "mine.png" / "deeper")


def test_two_at_once_are_refused(photos: Path, out: Path, complaint: Complaint) -> None:
    out.mkdir()
    with FileLock(out / ".lock"), complaint("another process is aligning into it"):
        align(photos, out)


@dataclass(frozen=True)
class Faces:
    """The same photo many times."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return photo((120, 60, 40))


@pytest.fixture
def odd() -> Dataset:
    names = ["../up", "a/b", "a_b", ".hidden", "", "nul\0", "x" * 300, "Å sa", "a:b", "dot."]
    return Dataset("odd", Faces(len(names)), np.arange(len(names)), names)


def test_odd_names_stay_inside_and_apart(odd: Dataset, out: Path) -> None:
    assert align(odd, out, format="png").outcomes["aligned"] == len(odd)
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert made == sorted(f"{'x' * 200 if name == 'x' else name}/000001.png" for name in (
        "__up", "a_b", "a_b-2", "_hidden", "_", "nul_", "x", "Å sa", "a_b-3", "dot"
    ))  # fmt: skip
    assert {path.name for path in out.parent.iterdir()} == {"out"}
    assert data.open(f"folder:{out}").num_identities == len(odd)


def test_odd_file_names_stay_inside_and_apart(out: Path) -> None:
    called = [
        "ann/a.jpg",
        "ann/a.png",
        "../../etc/passwd.jpg",
        "/abs/x.jpg",
        "ann/..",
        "ann\\b.jpg",
        "ann/.c.jpg",
        "ann/a-2.gif",
    ]
    dataset = Dataset("odd", Faces(8), np.zeros(8, dtype=np.int64), ["ann"], {"file": called})
    names = aligning.file_names(dataset, "jpg")
    assert names[:2] == ["ann/a.jpg", "ann/a-2.jpg"]
    assert names[5] == "ann/b.jpg"
    assert len(set(names)) == 8
    for name in names:
        assert name.startswith("ann/")
        assert not any(part.startswith(".") or not part for part in name.split("/"))


def test_names_that_differ_in_capitals_alone_are_kept_apart() -> None:
    dataset = Dataset(
        "capitals",
        Faces(3),
        np.array([0, 1, 0]),
        ["Ann", "ann"],
        {"file": ["Ann/a.jpg", "ann/a.jpg", "Ann/A.jpg"]},
    )
    assert aligning.file_names(dataset, "jpg") == ["Ann/a.jpg", "ann-2/a.jpg", "Ann/A-2.jpg"]


def test_sources_without_files_are_numbered_by_person() -> None:
    dataset = Dataset("plain", Faces(4), np.array([0, 1, 0, 1]), ["ann", "bob"])
    assert aligning.file_names(dataset, "png") == [
        "ann/000001.png",
        "bob/000001.png",
        "ann/000002.png",
        "bob/000002.png",
    ]


def test_files_elsewhere_than_in_the_persons_folder_are_put_there() -> None:
    dataset = Dataset(
        "chips",
        Faces(2),
        np.array([0, 1]),
        ["m", "f"],
        {"file": ["20_0.jpg.chip.jpg", "part1/30_1.jpg"]},
    )
    assert aligning.file_names(dataset, "jpg") == ["m/20_0.jpg.chip.jpg", "f/part1/30_1.jpg"]


def test_the_command(photos: Path, out: Path, run_command: RunCommand) -> None:
    command = partial(run_command, "data", "align")
    options = ("--size", "112x96", "--format", "png", "--workers", 0)
    done = command(f"folder:{photos}", out, *options)
    assert done.code == 0
    assert f"{out}: 3 of 4 images aligned" in done.out
    assert f"workbench data info folder:{out}" in done.out
    assert "aligning" in done.err
    assert images.read(out / "ann" / "a.png").shape == (112, 96, 3)
    done = command(f"folder:{photos}", out, "--workers", 0)
    assert done.code == 2
    assert "was begun with size 112x96" in done.err
    done = command(f"folder:{photos}", out, "--size", "big")
    assert done.code == 2
    assert "--size 'big'" in done.err


def test_photos_of_lfw(workbench_data: Path, out: Path, tmp_path: Path) -> None:
    """Untouched photos: all are found, few are profiles, and aligning again finds next to nothing
    to turn.
    """
    from zipfile import ZipFile

    with ZipFile(workbench_data / "lfw" / "lfw_250_300pairs.zip") as archive:
        wanted = [name for name in archive.namelist() if name.endswith(".jpg")][:40]
        archive.extractall(tmp_path / "raw", wanted)
    (root,) = (tmp_path / "raw").iterdir()
    done = align(root, out)
    assert done.outcomes["aligned"] == 40
    assert done.profiles <= 4
    opened = data.open(f"folder:{out}")
    turned = []
    for number in range(40):
        padded = np.pad(opened.images[number], ((40, 40), (40, 40), (0, 0)))
        if found := faces.choose(faces.detect(padded, threads=1), padded.shape, "central"):
            turned.append(abs(faces.fit(found[0].landmarks - 40, faces.template()).angle))
    assert len(turned) >= 36
    assert np.median(turned) < 3
