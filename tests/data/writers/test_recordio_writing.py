"""RecordIO as it is written: byte for byte as MXNet writes it, and read again."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workbench import data, images
from workbench.data.dataset import EncodedImages
from workbench.data.writers import recordio as recordio_writing
from workbench.data.writers.recordio import framed, write_recordio
from workbench.images import to_png

MAGIC = struct.pack("<I", 0xCED7230A)


class Held(EncodedImages):
    """Image files in memory."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def encoded(self, index: int) -> bytes:
        return self.files[index]

    def where(self, index: int) -> str:
        return f"held {index}"


def held(files: list[bytes], identities: list[int]) -> data.Dataset:
    return data.Dataset(
        "held", Held(files), np.array(identities), [f"p{i}" for i in range(max(identities) + 1)]
    )


def picture(number: int, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), number, dtype=np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("file", ["train.rec", "train.idx", "property"])
def test_the_files_are_those_of_mxnet(file: str, workbench_data: Path, tmp_path: Path) -> None:
    theirs = workbench_data / "recordio" / "faces_lfw40"
    written = write_recordio(data.open(f"recordio:{theirs}"), tmp_path / "ours", progress=False)
    assert (tmp_path / "ours" / file).read_bytes() == (theirs / file).read_bytes()
    assert (written.path, written.images, written.identities) == (tmp_path / "ours", 400, 40)
    assert written.bytes == sum(path.stat().st_size for path in (tmp_path / "ours").iterdir())


def test_what_is_written_is_read_again(identity_folder: Path, tmp_path: Path) -> None:
    dataset = data.open(f"folder:{identity_folder}")
    mixed = dataset.subset("mixed", np.array([5, 0, 2, 4, 1, 3]))
    write_recordio(mixed, tmp_path / "rec" / "train.rec", progress=False)
    again = data.open(f"recordio:{tmp_path / 'rec'}")
    assert again.identities.tolist() == [0, 0, 1, 1, 2, 2]
    for number, original in enumerate([0, 1, 2, 3, 5, 4]):
        assert np.array_equal(again.images[number], dataset.images[original])
    assert (tmp_path / "rec" / "property").read_text() == "3,10,12"
    assert again.identity_names == ["ann", "bob", "cid"]


def test_names_of_another_set_are_refused(
    identity_folder: Path, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    write_recordio(data.open(f"folder:{identity_folder}"), tmp_path / "rec", progress=False)
    (tmp_path / "rec" / "identities.txt").write_text("Ann\n")
    with complaint("identities.txt: 1 names", "label 1"):
        data.open(f"recordio:{tmp_path / 'rec'}")
    (tmp_path / "rec" / "identities.txt").unlink()
    assert data.open(f"recordio:{tmp_path / 'rec'}").identity_names == ["0", "1", "2"]


def test_magic_within_an_image_is_kept(tmp_path: Path) -> None:
    hidden = [
        picture(1) + bytes(-(24 + len(picture(1))) % 4 + shift) + MAGIC * 2 + b"end"
        for shift in range(4)
    ]
    write_recordio(held(hidden, [0, 0, 1, 1]), tmp_path / "rec", progress=False)
    again = data.open(f"recordio:{tmp_path / 'rec'}").images
    assert isinstance(again, EncodedImages)
    assert [again.encoded(number) for number in range(4)] == hidden
    assert (tmp_path / "rec" / "train.rec").read_bytes().count(
        MAGIC
    ) > 4 + 3 + 6  # some are cut at it, some not


@given(st.lists(st.one_of(st.binary(max_size=5), st.just(MAGIC)), max_size=8).map(b"".join))
def test_a_record_is_cut_at_aligned_words_that_are_the_magic(payload: bytes) -> None:
    coded, parts, at = framed(payload), [], 0
    while at < len(coded):
        magic, word = struct.unpack_from("<II", coded, at)
        assert magic == 0xCED7230A
        kind, length = word >> 29, word & (2**29 - 1)
        part = coded[at + 8 : at + 8 + length]
        assert all(part[i : i + 4] != MAGIC for i in range(0, len(part), 4))
        parts.append((kind, part))
        at += 8 + length + -length % 4
    assert MAGIC.join(part for _, part in parts) == payload
    kinds = [kind for kind, _ in parts]
    assert kinds == [0] or (kinds[0], kinds[-1], {*kinds[1:-1]} <= {2}) == (1, 3, True)


def test_images_that_others_cannot_read_are_written_as_png(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned
    files = [
        picture(1, "JPEG"),
        picture(2),
        picture(3, "WEBP"),
        picture(4, "JPEG", exif=exif),
        picture(5, "GIF"),
    ]
    write_recordio(held(files, [0] * 5), tmp_path / "rec", progress=False)
    again = data.open(f"recordio:{tmp_path / 'rec'}").images
    assert isinstance(again, EncodedImages)
    assert [again.encoded(0), again.encoded(1)] == files[:2]
    assert [again.encoded(number)[:4] for number in (2, 3, 4)] == [b"\x89PNG"] * 3
    for number, file in enumerate(files):
        assert np.array_equal(again[number], images.decode(file))


def test_pixels_are_written_as_png(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
    write_recordio(
        data.Dataset("a", pixels, np.array([1, 0, 1]), ["x", "y"]), tmp_path / "rec", progress=False
    )
    again = data.open(f"recordio:{tmp_path / 'rec'}")
    assert np.array_equal([again.images[number] for number in range(3)], pixels[[1, 0, 2]])


def test_where_float32_leaves_numbers_out_there_is_no_record_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordio_writing, "MOST_KEYS", 5)
    write_recordio(
        held([picture(1), picture(2), picture(3)], [0, 1, 1]), tmp_path / "rec", progress=False
    )
    again = data.open(f"recordio:{tmp_path / 'rec'}")
    assert again.identities.tolist() == [0, 1, 1]
    assert [int(again.images[number][0, 0, 0]) for number in range(3)] == [1, 2, 3]
    assert [
        line.split("\t")[0] for line in (tmp_path / "rec" / "train.idx").read_text().splitlines()
    ] == ["0", "1", "2"]


def test_a_broken_image_ends_it_and_leaves_nothing(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    broken = held([picture(1), picture(2)[:-20], b"", picture(4)], [0, 1, 1, 2])
    with complaint("held 1", "broken"):
        write_recordio(broken, tmp_path / "rec", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_broken_images_are_left_out_and_told_when_asked(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    broken = held([picture(1), picture(2)[:-20], b"", picture(4)], [0, 1, 1, 2])
    written = write_recordio(broken, tmp_path / "rec", broken="skip", progress=False)
    assert [where for where, _ in written.broken] == ["held 1", "held 2"]
    assert written.broken[1][1] == "empty (0 bytes), expected an image file"
    assert (written.images, written.identities) == (2, 2)
    again = data.open(f"recordio:{tmp_path / 'rec'}")
    assert again.identity_names == ["p0", "p2"]
    assert again.identities.tolist() == [
        0,
        1,
    ]  # numbered without a gap: label and property are what trainers go by
    assert (tmp_path / "rec" / "property").read_text() == "2,6,5"
    with complaint("none of the 2 images can be read", "held 1"):
        write_recordio(held([b"", b"x"], [0, 1]), tmp_path / "none", broken="skip", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["rec"]


def test_nothing_is_written_over(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    dataset = held([to_png(np.zeros((2, 2, 3), dtype=np.uint8))], [0])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for taken in ("full", "file"):
        with complaint(taken, "is there already"):
            write_recordio(dataset, tmp_path / taken, progress=False)
    with complaint("cannot be written"):
        write_recordio(dataset, tmp_path / "file" / "rec", progress=False)
    assert write_recordio(dataset, tmp_path / "empty", progress=False).images == 1
    with complaint("broken='maybe'"):
        write_recordio(dataset, tmp_path / "new", broken="maybe", progress=False)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]
