"""What a source reads from a folder, what it leaves out, and how it reports that."""

from __future__ import annotations

import io
import os
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from helpers import Complaint, RunCommand
from PIL import Image

from workbench import data, images
from workbench.data.io.not_listed import NotListed, pictures_below


def put(path: Path, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), "red").save(path, format=kind)
    return path


def opened(root: Path) -> data.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", data.LeftOutWarning)
        return data.open(f"folder:{root}")


def warned(root: Path) -> str:
    with pytest.warns(data.LeftOutWarning) as caught:
        data.open(f"folder:{root}")
    (one,) = caught
    return str(one.message)


def test_every_type_that_is_read_is_found_in_any_case(tmp_path: Path) -> None:
    names = ["a.jfif", "b.JPE", "c.avif", "d.MPO", "e.jp2", "f.PNM", "g.apng", "h.Heic"]
    for name in names:
        put(tmp_path / "ann" / name)
    for name in ("a.txt", "b.MPO"):
        put(tmp_path / "bob" / name)
    dataset = opened(tmp_path)
    assert [name for name in dataset.attributes["file"] if name.startswith("ann/")] == [
        f"ann/{name}" for name in names
    ]
    assert dataset.identity_names == ["ann", "bob"]
    assert all(dataset.images[number].shape == (6, 8, 3) for number in range(len(dataset)))


def test_folders_that_look_the_same_are_named(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        put(tmp_path / unicodedata.normalize(form, "Zoë") / "a.png")  # type: ignore[arg-type]
    put(tmp_path / "bob" / "a.png")
    assert "different Unicode normalisations and count as different people: Zoë" in warned(tmp_path)


def test_what_is_left_out_is_counted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        images, "find_spec", lambda name: None
    )  # as if pillow-heif were not installed
    put(tmp_path / "ann" / "a.png")
    for number in range(3):
        put(tmp_path / "ann" / f"{number}.HEIC")
    for name in (
        "ann/clip.mov",
        "ann/clip.MOV",
        "ann/noname",
        "bob/1.heic",
        "README.md",
        "loose.jpg",
    ):
        put(tmp_path / name)
    (tmp_path / "cid").mkdir()
    message = warned(tmp_path)
    assert message == (
        f"folder:{tmp_path}: left out: 4 .heic "
        "(pip install 'margin-workbench[heic]' reads them), 2 .mov, 1 without extension; "
        "1 image directly in the folder belongs to no identity and is left out; "
        "folders without an image that can be read: bob, cid"
    )
    assert (
        opened(tmp_path).note
        == message.partition(": ")[2] + "; left out directly in the folder: 1 .md"
    )


def test_many_kinds_and_people_are_summed_up(tmp_path: Path) -> None:
    put(tmp_path / "ann" / "a.png")
    for number in range(30):
        put(tmp_path / "ann" / f"a.x{number:02d}")
        (tmp_path / f"nobody{number:02d}").mkdir()
    message = warned(tmp_path)
    assert "1 .x07, 22 with 22 other extensions" in message
    assert "nobody09 and 20 more" in message
    assert len(message) < 600


def test_there_is_no_warning_if_nothing_is_left_out(identity_folder: Path) -> None:
    put(identity_folder / "ann" / ".hidden.png")
    (identity_folder / "list.csv").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = data.open(f"folder:{identity_folder}")
    assert (
        dataset.note
        == "left out directly in the folder: 1 .csv; hidden or system files left out: 1"
    )


def test_previews_and_trash_of_storage_systems_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / "ann" / "a.jpg")
    put(tmp_path / "ann" / "@eaDir" / "a.jpg" / "SYNOPHOTO_THUMB_XL.jpg")
    put(tmp_path / "#recycle" / "ann" / "b.jpg")
    for name in (
        "._a.jpg",
        ".@__thumb/a.jpg",
        ".thumbnails/a.jpg",
        "__MACOSX/a.jpg",
        "Thumbs.db",
        "Lost+Found/1.jpg",
    ):
        put(tmp_path / "ann" / name)
    dataset = opened(tmp_path)
    assert list(dataset.attributes["file"]) == ["ann/a.jpg"]
    assert (
        dataset.note
        == "hidden or system files left out: 8 (#recycle, @eaDir, Lost+Found, Thumbs.db, __MACOSX)"
    )


def test_folders_behind_links_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "album" / "deep" / "1.png")
    put(tmp_path / "all" / "ann" / "a.png")
    os.symlink(tmp_path / "elsewhere", tmp_path / "all" / "ann" / "more")
    os.symlink(tmp_path / "elsewhere" / "album", tmp_path / "all" / "bob")
    dataset = opened(tmp_path / "all")
    assert list(dataset.attributes["file"]) == ["ann/a.png", "ann/more/album/deep/1.png"]
    assert dataset.note == "links to folders that were already searched are not followed: bob"
    os.unlink(tmp_path / "all" / "ann" / "more")
    assert list(opened(tmp_path / "all").attributes["file"]) == ["ann/a.png", "bob/deep/1.png"]


def test_circles_of_links_are_followed_once(tmp_path: Path) -> None:
    root = tmp_path / "world" / "set"
    put(root / "ann" / "a.png")
    put(root / "bob" / "b.png")
    put(tmp_path / "world" / "other" / "c.png")
    os.symlink(root, root / "ann" / "up")
    os.symlink(root / "bob", root / "ann" / "friend")
    os.symlink(root / "ann", root / "twin")
    os.symlink(tmp_path / "world", root / "world")
    os.symlink(root / "nowhere.png", root / "ann" / "b.png")
    dataset = opened(root)
    assert list(dataset.attributes["file"]) == ["ann/a.png", "bob/b.png", "world/other/c.png"]
    assert "links that lead nowhere: ann/b.png" in dataset.note
    assert "not followed: ann/friend, ann/up, twin, world/set" in dataset.note


def test_people_one_level_down_in_a_single_folder(tmp_path: Path) -> None:
    for person in ("ann", "bob", "cid"):
        put(tmp_path / "images" / person / "1.png")
    message = warned(tmp_path)
    assert "3 of the 3 images count as one person, images, and lie in 3 folders in it" in message
    assert f"if these are the people, open folder:{tmp_path}/images" in message
    assert data.open(f"folder:{tmp_path}/images").identity_names == ["ann", "bob", "cid"]


def test_people_one_level_down_beside_others(tmp_path: Path) -> None:
    for number in range(6):
        put(tmp_path / "more" / f"p{number}" / "1.png")
        put(tmp_path / "ann" / f"{number}.png") if number < 4 else None
    assert "6 of the 10 images count as one person, more, and lie in 6 folders in it" in warned(
        tmp_path
    )


def test_people_in_several_folders(tmp_path: Path) -> None:
    for part in ("a", "b"):
        for number in range(4):
            put(tmp_path / part / f"{part}{number}" / "1.png")
    message = warned(tmp_path)
    assert "the folders of the 2 people, which hold 8 folders of different names" in message
    spec = message.rpartition("open ")[2]
    assert spec == f"folder:{tmp_path}/a+folder:{tmp_path}/b"
    assert data.open(spec).num_identities == 8


def test_folders_of_a_person_are_not_identities(tmp_path: Path) -> None:
    for person in ("ann", "bob", "cid"):
        for album in ("S001", "S002", "S003", "S004"):
            put(tmp_path / person / album / "1.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data.open(f"folder:{tmp_path}").num_identities == 3


def test_a_folder_without_a_picture_says_what_it_has(tmp_path: Path, complaint: Complaint) -> None:
    put(tmp_path / "ann" / "a.cr2")
    put(tmp_path / "bob" / "clip.mov")
    with complaint("expected images in DIR/IDENTITY/, found none", "left out: 1 .cr2, 1 .mov"):
        data.open(f"folder:{tmp_path}")


def test_the_note_stays_with_parts_and_joins(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / "ann" / f"{number}.png")
        put(tmp_path / "bob" / f"{number}.png")
    put(tmp_path / "bob" / "clip.mov")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", data.LeftOutWarning)
        part = data.open(f"folder:{tmp_path}@1x2")
        both = data.open(f"folder:{tmp_path}+folder:{tmp_path}@1x1")
    assert part.note == "left out: 1 .mov"
    assert both.note.count("left out: 1 .mov") == 2


def test_a_zip_is_filtered_in_the_same_way(tmp_path: Path) -> None:
    not_listed = NotListed()
    names = ["ann/a.jpg", "ann/._a.jpg", "__MACOSX/ann/a.jpg", "ann/clip.mov", "notes.txt"]
    assert [name for name in names if not_listed.takes(name)] == ["ann/a.jpg"]
    assert str(not_listed) == (
        "left out: 1 .mov; left out directly in the folder: 1 .txt; "
        "hidden or system files left out: 2 (__MACOSX)"
    )


def test_distractors_are_filtered_in_the_same_way(tmp_path: Path) -> None:
    for person in ("ann", "bob"):
        for number in range(2):
            put(tmp_path / "people" / person / f"{number}.png")
    put(tmp_path / "strangers" / "1.avif", "AVIF")
    put(tmp_path / "strangers" / "x" / "2.JPE", "JPEG")
    put(tmp_path / "strangers" / "@eaDir" / "3.jpg")
    put(tmp_path / "strangers" / "clip.mov")
    with pytest.warns(data.LeftOutWarning, match="left out: 1 .mov"):
        opened = data.benchmark(f"megaface:{tmp_path}/people@{tmp_path}/strangers")
    assert isinstance(opened, data.Identification)
    assert len(opened.distractors) == 2


def test_a_name_that_is_no_text_is_counted(tmp_path: Path) -> None:
    put(tmp_path / "ann" / "a.png")
    os.rename(put(tmp_path / "ann" / "b.x"), bytes(tmp_path) + b"/ann/b.\xe9")
    assert "left out: 1 ." in warned(tmp_path)
    assert sorted(pictures_below(tmp_path, NotListed())) == ["ann/a.png"]


@pytest.fixture
def workbench(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunCommand]:
    """Runs a command with the warning filters that Python has outside pytest."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # undone after the test
    with warnings.catch_warnings():
        warnings.resetwarnings()
        yield run_command


def test_the_commands_say_it(identity_folder: Path, tmp_path: Path, workbench: RunCommand) -> None:
    put(identity_folder / "ann" / "clip.mov")
    spec, said = f"folder:{identity_folder}", "left out: 1 .mov"
    code, out, err = workbench("data", "info", spec)
    assert (code, out.count(said), err.count(said)) == (0, 1, 0)
    assert f"note: {said}" in out.splitlines()
    code, out, err = workbench("data", "pack", spec, tmp_path / "packed")
    assert code == 0
    assert f"note: {spec}: {said}" in err.splitlines()
    code, out, err = workbench("data", "align", spec, tmp_path / "faces", "--workers", 0)
    assert f"note: {said}" in out.splitlines()
    assert said not in err


def test_training_says_it(
    identity_folder: Path,
    tmp_path: Path,
    workbench: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(identity_folder / "ann" / "clip.mov")
    code, _, err = workbench(
        "train", "--data", f"folder:{identity_folder}", "--epochs", 1, "--batch-size", 3,
        "--image-size", 32, "--backbone", "smallresnet", "--runs-dir", tmp_path / "runs",
        "--device", "cpu", "--set", "workers=0",
    )  # fmt: skip
    assert code == 0
    assert f"note: folder:{identity_folder}: left out: 1 .mov" in err


def test_a_picture_in_a_zip_is_read_as_one_in_a_folder(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(buffer, format="AVIF")
    with ZipFile(tmp_path / "utk.zip", "w") as archive:
        archive.writestr("20_0_1_1.AVIF", buffer.getvalue())
        archive.writestr("30_1_1_1.avif", buffer.getvalue())
    assert data.open(f"utkface:{tmp_path / 'utk.zip'}").images[1].shape == (6, 8, 3)
