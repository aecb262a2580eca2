"""`folder:DIR,list=FILE`: lists in the shapes that sets come with, and what leads out of the folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data
from workbench.data.image_lists import read_list

LISTED = [("bob/1.png", "b"), ("ann/0.png", "a"), ("ann/1.png", "b")]


def opened(root: Path, text: str | bytes, name: str = "list.txt") -> data.Dataset:
    (root.parent / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return data.open(f"folder:{root},list={root.parent / name}")


def check(dataset: data.Dataset) -> None:
    """Those of LISTED, in that order."""
    assert list(dataset.attributes["file"]) == [path for path, _ in LISTED]
    assert [dataset.identity_names[i] for i in dataset.identities] == [label for _, label in LISTED]
    assert dataset.images[0][0, 0].tolist() == [40, 100, 50]


@pytest.mark.parametrize(
    "text",
    [
        "bob/1.png b\nann/0.png a\nann/1.png b\n",
        "bob/1.png,b\r\nann/0.png,a\r\nann/1.png,b\r\n",
        "bob/1.png\tb\nann/0.png\ta\nann/1.png\tb",
        "\ufeffbob/1.png, b\n\nann/0.png, a\nann/1.png, b\n\n",
        '"bob/1.png","b"\n"ann/0.png","a"\n"ann/1.png","b"\n',
        "path,label\nbob/1.png,b\nann/0.png,a\nann/1.png,b\n",
        "Class_ID,Name,File\nb,Bob,bob/1.png\na,Ann,ann/0.png\nb,Bob,ann/1.png\n",
        "file,age,Label\nbob/1.png,30,b\nann/0.png,40,a\nann/1.png,50,b\n",
        "1\tbob/1.png\tb\n1\tann/0.png\ta\n1\tann/1.png\tb\n",
        "0\tb\tbob/1.png\n1\ta\tann/0.png\n2\tb\tann/1.png\n",
        "./bob/1.png b\nann/../ann/0.png a\nann//1.png b\n",
        "bob\\1.png b\nann\\0.png a\nann\\1.png b\n",
    ],
)
def test_lists_come_in_many_shapes(text: str, identity_folder: Path) -> None:
    check(opened(identity_folder, text))


def test_labels_that_are_numbers_are_in_their_order(identity_folder: Path) -> None:
    dataset = opened(identity_folder, "ann/0.png 10\nbob/0.png 9\ncid/0.png 10\n")
    assert dataset.identity_names == ["9", "10"]
    assert dataset.identities.tolist() == [1, 0, 1]
    assert opened(identity_folder, "ann/0.png 010\nbob/0.png 9\ncid/0.png 10\n").identity_names == ["010", "10", "9"]


def test_without_labels_the_folder_is_the_identity(identity_folder: Path, complaint: Callable[..., Any]) -> None:
    dataset = opened(identity_folder, "bob/1.png\nann/0.png\n")
    assert dataset.identity_names == ["ann", "bob"]
    assert dataset.identities.tolist() == [1, 0]
    (identity_folder / "x.png").write_bytes((identity_folder / "ann" / "0.png").read_bytes())
    with complaint("line 1", "no label", "no folder"):
        opened(identity_folder, "x.png\nann/0.png\n")


def test_paths_may_hold_spaces(identity_folder: Path) -> None:
    (identity_folder / "ann").rename(identity_folder / "ann b")
    dataset = opened(identity_folder, "ann b/0.png 3\nbob/1.png 4\n")
    assert list(dataset.attributes["file"]) == ["ann b/0.png", "bob/1.png"]
    assert list(opened(identity_folder, "5 ann b/0.png\n4 bob/1.png\n").attributes["file"]) == ["ann b/0.png", "bob/1.png"]


def test_a_list_may_lie_in_the_folder(identity_folder: Path, complaint: Callable[..., Any]) -> None:
    (identity_folder / "faces.lst").write_text("ann/0.png 1\nbob/0.png 2\n")
    assert len(data.open(f"folder:{identity_folder},list=faces.lst")) == 2
    with complaint("no such file"):
        data.open(f"folder:{identity_folder},list=other.lst")
    with complaint("did you mean 'list'"):
        data.open(f"folder:{identity_folder},lsit=faces.lst")


def test_what_leads_out_is_refused(identity_folder: Path, complaint: Callable[..., Any]) -> None:
    secret = identity_folder.parent / "secret.png"
    secret.write_bytes((identity_folder / "ann" / "0.png").read_bytes())
    (identity_folder / "ann" / "link.png").symlink_to(secret)
    (identity_folder / "up").symlink_to(identity_folder.parent)
    for path in ("../secret.png", str(secret), "ann/link.png", "up/secret.png", "ann/../../secret.png", "..\\secret.png"):
        with complaint("list.txt, line 2", "leads out of"):
            opened(identity_folder, f"ann/0.png 1\n{path} 2\n")


def test_what_stays_inside_is_not(identity_folder: Path) -> None:
    (identity_folder / "ann" / "link.png").symlink_to(identity_folder / "bob" / "1.png")
    other = identity_folder.parent / "elsewhere"
    other.symlink_to(identity_folder)
    text = f"{identity_folder}/ann/0.png 1\nann/link.png 2\n{other}/bob/0.png 3\n"
    for root in (identity_folder, other):
        dataset = opened(root, text)
        assert [dataset.images[i][0, 0].tolist() for i in range(3)] == [[0, 0, 50], [40, 100, 50], [40, 0, 50]]


def test_missing_images_are_counted(identity_folder: Path, complaint: Callable[..., Any]) -> None:
    with complaint("list.txt", "2 of its 3 images", "'no/0.png'"):
        opened(identity_folder, "ann/0.png 1\nno/0.png 1\nno/1.png 2\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("path,label\n", "line 1: expected"),
        ("Class_ID,Name\nn1,Ann\n", "no image in 'n1,Ann'"),
        ("ann/0.png 1\nbob/0.png\n", "line 2: expected path and label"),
        ("ann/0.png,1\nbob/0.png\n", "line 2: expected path and label"),
        ("ann/0.png,1\nbob/0.png,\n", "line 2: expected path and label"),
        ("ann/0.png,1\n,2\n", "line 2: expected path and label"),
        ('ann/0.png,1\n"bob,2\n', "list.txt"),
        ("ann/0.png,1\n" + "x" * 200_000 + ",2\n", "list.txt"),
        ("ann/0.png\tx\nb\0.png\tx\n", "line 2"),
        ("a" * 5000 + ".png 1\n", "list.txt: 1 of its 1"),
        (b"ann/0.png \xff\n", "UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00", "UTF-8"),
    ],
)
def test_what_is_no_such_list_is_an_error(
    text: str | bytes, told: str, identity_folder: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("list.txt", told):
        opened(identity_folder, text)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), shape=st.sampled_from(["{} {}", "{},{}", "{}\t{}"]))
def test_a_mutated_list_is_read_or_a_readable_error(
    seed: int,
    shape: str,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    (folder / "mutated.txt").write_bytes(mutate("\n".join(shape.format(*pair) for pair in LISTED).encode(), seed))
    with at_worst_complaint("mutated"):
        assert 1 <= len(read_list(folder / "mutated.txt")) <= 9
        data.open(f"folder:{folder},list=mutated.txt")


def test_k_face_says_how_a_picture_was_taken(identity_folder: Path) -> None:
    for camera in (1, 10):
        place = identity_folder / "19062421" / "S001" / "L1" / "E01" / f"C{camera}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(identity_folder / "ann" / "0.png", place)
    assert set(data.open(f"folder:{identity_folder}").attributes) == {"file"}
    for name in ("ann", "bob", "cid"):
        (identity_folder / name).rename(identity_folder / f".{name}")
    dataset = data.open(f"folder:{identity_folder}")
    assert dataset.identity_names == ["19062421"]
    shown = {key: list(dataset.attributes[key]) for key in ("session", "light", "expression", "camera")}
    assert shown == {"session": ["S001"] * 2, "light": ["L1"] * 2, "expression": ["E01"] * 2, "camera": ["C1", "C10"]}


def test_the_parts_of_a_set_are_no_identities(identity_folder: Path, complaint: Callable[..., Any]) -> None:
    for part in ("train", "test"):
        (identity_folder / part / "n000001").mkdir(parents=True)
        os.link(identity_folder / "ann" / "0.png", identity_folder / part / "n000001" / "0001_01.png")
    assert data.open(f"folder:{identity_folder}").num_identities == 5
    for name in ("ann", "bob", "cid"):
        (identity_folder / name).rename(identity_folder / f".{name}")
    with complaint("test, train", f"folder:{identity_folder}/train"):
        data.open(f"folder:{identity_folder}")
    assert data.open(f"folder:{identity_folder / 'train'}").identity_names == ["n000001"]
