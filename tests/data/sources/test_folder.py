"""`folder:DIR`, and the data set type of all sources."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from workbench import data
from workbench.errors import WorkbenchError


@pytest.fixture
def people(identity_folder: Path) -> data.Dataset:
    return data.open(f"folder:{identity_folder}")


def test_each_folder_is_an_identity(people: data.Dataset) -> None:
    assert people.name == "people"
    assert people.identity_names == ["ann", "bob", "cid"]
    assert people.identities.tolist() == [0, 0, 1, 1, 2, 2]
    assert people.num_identities == 3
    assert list(people.attributes["file"]) == [
        "ann/0.png",
        "ann/1.png",
        "bob/0.png",
        "bob/1.png",
        "cid/0.png",
        "cid/1.png",
    ]
    assert people.images[3][0, 0].tolist() == [40, 100, 50]


def test_images_may_lie_deeper(identity_folder: Path) -> None:
    (identity_folder / "bob" / "2024" / "may").mkdir(parents=True)
    (identity_folder / "bob" / "1.png").rename(identity_folder / "bob" / "2024" / "may" / "1.PNG")
    people = data.open(f"folder:{identity_folder}")
    assert people.identities.tolist() == [0, 0, 1, 1, 2, 2]
    assert "bob/2024/may/1.PNG" in people.attributes["file"]


def test_hidden_and_other_files_are_passed_over(identity_folder: Path) -> None:
    for name in (
        ".DS_Store",
        "ann/.0.png",
        "ann/notes.txt",
        "beside.png",
        ".thumbs/ann/0.png",
        "ann/.cache/0.png",
    ):
        (identity_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (identity_folder / name).write_bytes(b"x")
    (identity_folder / "ann" / "album.jpg").mkdir()
    (identity_folder / "dan").mkdir()
    assert len(data.open(f"folder:{identity_folder}")) == 6


def test_a_folder_without_images_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    with complaint(tmp_path, "DIR/IDENTITY/", "none"):
        data.open(f"folder:{tmp_path}")
    (tmp_path / "a.png").touch()
    with complaint(tmp_path, "DIR/IDENTITY/", "only directly in DIR"):
        data.open(f"folder:{tmp_path}")


def test_a_path_that_is_missing_or_a_file_is_an_error(
    identity_folder: Path, complaint: Callable[..., Any]
) -> None:
    for path, message in (
        (identity_folder / "nobody", "no such folder"),
        (identity_folder / "ann" / "0.png", "expected a folder"),
    ):
        with complaint(path, message):
            data.open(f"folder:{path}")
    with complaint("folder:FOLDER"):
        data.open("folder:")


def test_a_broken_image_is_named_when_it_is_read(
    identity_folder: Path, complaint: Callable[..., Any]
) -> None:
    broken = identity_folder / "bob" / "0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    people = data.open(f"folder:{identity_folder}")
    assert people[0].identity == 0
    with complaint(broken):
        people[2]


def test_a_sample_is_image_identity_and_attributes(people: data.Dataset) -> None:
    image, identity, attributes = people[3]
    assert isinstance(people[3], data.Sample)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 10, 12)
    assert image[:, 4, 7].tolist() == [40, 100, 50]
    assert type(identity) is int
    assert identity == 1
    assert attributes == {"file": "bob/1.png"}


def test_indices_count_from_both_ends(people: data.Dataset) -> None:
    assert people[-1].attributes == people[5].attributes
    assert people[-6].attributes == people[0].attributes
    assert people[np.int64(2)].identity == 1  # type: ignore[call-overload, unused-ignore]
    for index in (6, -7, 10**12):
        with pytest.raises(IndexError, match="people has 6 images"):
            people[index]


def test_the_fingerprint_changes_with_people_and_images_only(identity_folder: Path) -> None:
    def fingerprint() -> str:
        return data.open(f"folder:{identity_folder}").fingerprint()

    first = fingerprint()
    assert len(first) == 16
    assert int(first, 16) >= 0
    (identity_folder / "ann" / "notes.txt").touch()
    (identity_folder / "ann" / "0.png").write_bytes(
        (identity_folder / "bob" / "0.png").read_bytes()
    )
    assert fingerprint() == first
    (identity_folder / "ann").rename(identity_folder / "amy")
    renamed = fingerprint()
    (identity_folder / "amy" / "1.png").unlink()
    assert len({first, renamed, fingerprint()}) == 3


def test_a_folder_name_in_another_encoding_has_a_fingerprint(identity_folder: Path) -> None:
    os.rename(bytes(identity_folder / "ann"), bytes(identity_folder) + b"/Jos\xe9")
    assert len(data.open(f"folder:{identity_folder}").fingerprint()) == 16


def test_a_subset_renumbers_those_who_remain(people: data.Dataset) -> None:
    part = people.subset("part", np.array([5, 0, 4]))
    assert part.name == "part"
    assert part.identity_names == ["ann", "cid"]
    assert part.identities.tolist() == [1, 0, 1]
    assert [part[i].attributes["file"] for i in range(3)] == ["cid/1.png", "ann/0.png", "cid/0.png"]
    assert torch.equal(part[0].image, people[5].image)
    assert part.fingerprint() != people.fingerprint()


def test_a_loader_makes_batches_of_it_in_other_processes(people: data.Dataset) -> None:
    batches = list(DataLoader(people, batch_size=4, num_workers=1))  # type: ignore[arg-type]
    image, identity, attributes = batches[0]
    assert image.shape == (4, 3, 10, 12)
    assert image.dtype == torch.uint8
    assert identity.tolist() == [0, 0, 1, 1]
    assert attributes["file"] == ["ann/0.png", "ann/1.png", "bob/0.png", "bob/1.png"]
    assert batches[1][1].tolist() == [2, 2]


def test_it_can_be_pickled(people: data.Dataset) -> None:
    again = pickle.loads(pickle.dumps(people.subset("part", np.array([1, 2]))))
    assert torch.equal(again[1].image, people[2].image)


def test_identities_that_do_not_fit_the_images_are_refused(people: data.Dataset) -> None:
    for identities, names in (
        (np.array([0, 1]), ["a", "b"]),
        (np.array([0, 0, 0, 2, 2, 2]), ["a", "b", "c"]),
        (np.array([0, 0, 0, 1, 1, 1]), ["a"]),
        (np.array([-1, 0, 0, 1, 1, 1]), ["a", "b", "c"]),
    ):
        with pytest.raises(WorkbenchError, match="odd"):
            data.Dataset("odd", people.images, identities, names)
    with pytest.raises(WorkbenchError, match="no images"):
        data.Dataset("odd", [], np.array([], dtype=np.int64), [])
