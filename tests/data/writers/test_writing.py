"""Data sets as folders, and every format read again with the images and people it was
written from.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Complaint
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workbench import data
from workbench.data.dataset import encoded_image
from workbench.data.writers import WRITERS, format_of, write
from workbench.data.writers.folder import folder_names, write_folder

OPENERS = {"pack": "pack", "rec": "recordio", "tar": "webdataset", "folder": "folder"}


@pytest.fixture
def people(identity_folder: Path) -> data.Dataset:
    """Two pictures of each of three, of which two are JPEGs.

    In an order of their own, and with a column.
    """
    for name in ("ann/0", "bob/1"):
        with Image.open(identity_folder / f"{name}.png") as image:
            image.save(identity_folder / f"{name}.jpg")
        (identity_folder / f"{name}.png").unlink()
    return data.open(f"folder:{identity_folder}").subset("people", np.array([4, 1, 0, 3, 2, 5]))


@pytest.mark.parametrize("kind", OPENERS)
@pytest.mark.parametrize("broken", ["stop", "skip"])
def test_every_format_gives_back_what_was_written(
    kind: str, broken: Any, people: data.Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "new" / ("out.tar" if kind == "tar" else "out")
    written = write(people, out, kind, broken=broken, progress=False)
    assert (written.images, written.identities, written.broken) == (6, 3, [])
    assert written.bytes >= sum(len(encoded_image(people.images, n)) for n in range(6))
    again = data.open(f"{OPENERS[kind]}:{written.path}")
    assert again.num_identities == 3
    assert list(again.identity_names) == ["ann", "bob", "cid"]
    pictures = [
        sorted(
            (int(who), encoded_image(held.images, number))
            for number, who in enumerate(held.identities)
        )
        for held in (people, again)
    ]
    assert pictures[0] == pictures[1]
    assert [path.name for path in (tmp_path / "new").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_stops_at_a_broken_image_or_leaves_it_out(
    kind: str, people: data.Dataset, identity_folder: Path, tmp_path: Path, complaint: Complaint
) -> None:
    if kind == "bin":  # pairs need four people
        people = data.join([people, people])
    (identity_folder / "cid" / "0.png").write_bytes(
        (identity_folder / "cid" / "0.png").read_bytes()[:-30]
    )
    out = tmp_path / "new" / "out"
    with complaint("cid/0.png"):
        write(people, out, kind, progress=False)
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []
    written = write(people, out, kind, broken="skip", progress=False)
    assert {where for where, _ in written.broken} == {str(identity_folder / "cid" / "0.png")}
    assert str(identity_folder) not in written.broken[0][1]
    if kind == "bin":
        assert written.identities == 4
    else:
        assert (written.images, written.identities) == (5, 3)
    with complaint("is there already"):
        write(people, out, kind, progress=False)


@pytest.mark.parametrize("kind", OPENERS)
def test_who_has_no_image_left_is_left_out(
    kind: str, people: data.Dataset, identity_folder: Path, tmp_path: Path
) -> None:
    for file in (identity_folder / "bob").iterdir():
        file.write_bytes(b"x")
    written = write(people, tmp_path / "out", kind, broken="skip", progress=False)
    assert (written.images, written.identities, len(written.broken)) == (4, 2, 2)
    assert data.open(f"{OPENERS[kind]}:{written.path}").num_identities == 2


def test_the_format_is_in_the_name(
    people: data.Dataset, tmp_path: Path, complaint: Complaint
) -> None:
    names = {
        "a.bin": "bin",
        "a/train.REC": "rec",
        "a.rec": "rec",
        "a.tar": "tar",
        "a": "pack",
        "a.b": "pack",
    }
    assert {name: format_of(Path(name)) for name in names} == names
    with complaint("a.zip", ".zip is not written"):
        format_of(Path("a.zip"))
    with complaint("unknown format 'zip'"):
        write(people, tmp_path / "a", "zip")
    with complaint("bench is a benchmark; only its pairs"):
        bench = data.Benchmark(
            "bench", people.images, np.array([[0, 1]]), np.array([True]), np.array([0])
        )
        write(bench, tmp_path / "a", "folder")
    assert list(tmp_path.glob("a*")) == []


# Folders


def test_files_are_called_as_those_of_lfw(people: data.Dataset, tmp_path: Path) -> None:
    write_folder(people, tmp_path / "out", progress=False)
    found = sorted(
        file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.*")
    )
    assert found == [
        "ann/ann_0001.png", "ann/ann_0002.jpg", "bob/"
        "bob_0001.jpg", "bob/bob_0002.png", "cid/cid_0001.png", "cid/cid_0002.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("JPEG", ".jpg"),
        ("PNG", ".png"),
        ("WEBP", ".webp"),
        ("GIF", ".gif"),
        ("BMP", ".bmp"),
        ("TIFF", ".tif"),
        ("PPM", ".ppm"),
    ],
)
def test_the_suffix_is_that_of_the_bytes(kind: str, suffix: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(buffer, kind)
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "b.png").write_bytes(buffer.getvalue())
    write_folder(data.open(f"folder:{tmp_path / 'in'}"), tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "a" / f"a_0001{suffix}").read_bytes() == buffer.getvalue()
    assert len(data.open(f"folder:{tmp_path / 'out'}")) == 1


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["Ann Lee", "Zoë", "李"], ["Ann Lee", "Zoë", "李"]),
        (
            ["../../etc", "/root", "..", ".", "", ".hidden", "a/b\\c"],
            ["_.._etc", "_root", "_", "_-2", "_-3", "hidden", "a_b_c"],
        ),
        (["ann", "Ann", "ANN", "ann-2"], ["ann", "Ann-2", "ANN-3", "ann-2-2"]),
        (["a:b", "a*b", "a\nb", "a\0b", "end. "], ["a_b", "a_b-2", "a_b-3", "a_b-4", "end"]),
        (["con", "NUL.txt", "com1", "console"], ["_con", "_NUL.txt", "_com1", "console"]),
        (["x" * 300, "x" * 301, "ä" * 80], ["x" * 100, "x" * 100 + "-2", "ä" * 50]),
    ],
)
def test_names_become_names_of_folders(names: list[str], folders: list[str]) -> None:
    assert folder_names(names) == folders


@given(st.lists(st.text(max_size=12), max_size=8))
def test_no_name_leads_elsewhere_or_is_given_twice(names: list[str]) -> None:
    folders = folder_names(names)
    assert len({folder.casefold() for folder in folders}) == len(names)
    for folder in folders:
        assert folder not in ("", ".", "..")
        assert not folder.startswith(".")
        assert "/" not in folder
        assert "\0" not in folder
        assert len(folder.encode("utf-8")) <= 110


def test_names_that_lead_elsewhere_are_written_below_the_folder(tmp_path: Path) -> None:
    pixels = np.zeros((3, 2, 2, 3), dtype=np.uint8)
    dataset = data.Dataset("a", pixels, np.arange(3), ["../up", "/abs", "A/../../b"])
    write_folder(dataset, tmp_path / "in" / "out", progress=False)
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["out"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert data.open(f"folder:{tmp_path / 'in' / 'out'}").num_identities == 3
