"""UTKFace: labels from file names, in a folder or a zip archive, flat or nested."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data
from workbench.data.sources.utkface import parse_name
from workbench.images import to_png

NAMES = (
    "1_1_4_20170101000000001.jpg.chip.jpg",
    "35_0_0_20170101000000002.jpg",
    "60_1_2_3.jpg",
    "116_0_3_4.png",
    "59_1_1_5.jpg",
)


def picture(number: int) -> bytes:
    return to_png(np.full((6, 5, 3), number, dtype=np.uint8))


def folder(root: Path, inside: str = "", names: tuple[str, ...] = NAMES) -> Path:
    (root / "utk" / inside).mkdir(parents=True)
    for number, name in enumerate(names):
        (root / "utk" / inside / name).write_bytes(picture(number))
    return root / "utk"


def zipped(root: Path, inside: str = "", names: tuple[str, ...] = NAMES) -> Path:
    with zipfile.ZipFile(root / "utk.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(names):
            archive.writestr(inside + name, picture(number))
    return root / "utk.zip"


@pytest.mark.parametrize("made", [folder, zipped])
@pytest.mark.parametrize("inside", ["", "part1/deep/"])
@pytest.mark.filterwarnings("error")
def test_names_say_age_gender_and_race(
    made: Callable[..., Path], inside: str, tmp_path: Path
) -> None:
    dataset = data.open(f"utkface:{made(tmp_path, inside)}")
    assert dataset.name == "utk"
    assert dataset.identity_names == ["male", "female"]
    columns = zip(
        *(dataset.attributes[key] for key in ("file", "age", "gender", "race")),
        dataset.identities,
        strict=True,
    )
    assert sorted(columns, key=lambda row: row[1]) == [
        (inside + NAMES[0], 1, "female", "other", 1),
        (inside + NAMES[1], 35, "male", "White", 0),
        (inside + NAMES[4], 59, "female", "Black", 1),
        (inside + NAMES[2], 60, "female", "Asian", 1),
        (inside + NAMES[3], 116, "male", "Indian", 0),
    ]
    shown = {dataset.attributes["file"][i]: int(dataset.images[i][0, 0, 0]) for i in range(5)}
    assert shown == {inside + name: number for number, name in enumerate(NAMES)}
    assert type(dataset[0].attributes["age"]) is int


def test_the_class_can_be_another_label(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    root = folder(tmp_path)
    ages = data.open(f"utkface:{root},label=age")
    assert ages.identity_names == ["0-9", "30-39", "50-59", "60 and older"]
    assert {
        age: ages.identity_names[i]
        for age, i in zip(ages.attributes["age"], ages.identities, strict=True)
    } == {
        1: "0-9",
        35: "30-39",
        59: "50-59",
        60: "60 and older",
        116: "60 and older",
    }
    assert data.open(f"utkface:{root},label=race").identity_names == [
        "White",
        "Black",
        "Asian",
        "Indian",
        "other",
    ]
    with complaint("did you mean 'gender'"):
        data.open(f"utkface:{root},label=gendre")
    with complaint("did you mean 'label'"):
        data.open(f"utkface:{root},lable=age")


def test_the_real_set(workbench_data: Path) -> None:
    dataset = data.open(f"utkface:{workbench_data / 'utkface' / 'utkface_1200.zip'}")
    assert len(dataset) == 1260
    assert dataset.identity_names == ["male", "female"]
    assert 500 < np.bincount(dataset.identities)[0] < 760
    assert {dataset.images[i].shape for i in range(0, 1260, 60)} == {(200, 200, 3)}
    assert (min(dataset.attributes["age"]), max(dataset.attributes["age"]) > 90) == (1, True)
    assert (
        data.open(
            f"utkface:{workbench_data / 'utkface' / 'utkface_1200.zip'},label=age"
        ).num_identities
        == 7
    )


def test_malformed_names_are_passed_over_and_counted(tmp_path: Path) -> None:
    odd = (
        "39_1_20170116174525125.jpg.chip.jpg",
        "61_3_0_1.jpg",
        "20_1_5_1.jpg",
        "117_0_0_1.jpg",
        "x.jpg",
    )
    with pytest.warns(UserWarning, match="5 of 10 images are left out"):
        dataset = data.open(f"utkface:{folder(tmp_path, names=NAMES + odd)}")
    assert sorted(dataset.attributes["file"]) == sorted(NAMES)


@pytest.mark.filterwarnings("error")
def test_what_is_hidden_is_passed_over_and_in_the_note(tmp_path: Path) -> None:
    names = ("__MACOSX/._1_1_4_1.jpg", ".1_1_4_1.jpg")
    dataset = data.open(f"utkface:{zipped(tmp_path, names=NAMES + names)}")
    assert len(dataset) == 5
    assert dataset.note == "hidden or system files left out: 2 (__MACOSX)"


@pytest.mark.parametrize("place", [folder, zipped])
def test_what_is_no_picture_is_named(tmp_path: Path, place: Callable[..., Path]) -> None:
    with pytest.warns(data.LeftOutWarning, match=r"left out: 1 \.mov, 1 \.txt"):
        dataset = data.open(
            f"utkface:{place(tmp_path, names=(*NAMES, 'readme.txt', '1_1_4_1.mov'))}"
        )
    assert len(dataset) == 5


def test_a_place_without_such_pictures_is_an_error(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("AGE_GENDER_RACE_DATE.jpg", "'x.jpg'"):
        data.open(f"utkface:{folder(tmp_path, names=('x.jpg',))}")
    with complaint("AGE_GENDER_RACE_DATE.jpg", "no images"):
        data.open(f"utkface:{zipped(tmp_path, names=())}")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with complaint("a.zip", "not a zip"):
        data.open(f"utkface:{tmp_path / 'a.zip'}")
    for path in ("", tmp_path / "nowhere"):
        with complaint("no such folder or zip"):
            data.open(f"utkface:{path}")


def test_names_that_lead_out_of_a_zip_are_not_read(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    (tmp_path / "1_1_4_9.jpg").write_bytes(picture(99))
    (tmp_path / "in").mkdir()
    dataset = data.open(
        "utkface:"
        f"{zipped(tmp_path / 'in', inside=f'{tmp_path}/', names=('1_1_4_9.jpg', '1_0_4_9.jpg'))}"
    )
    assert {int(dataset.images[i][0, 0, 0]) for i in range(2)} == {0, 1}
    with complaint("no images"):
        data.open(
            f"utkface:{zipped(tmp_path / 'in', inside='../', names=('1_1_4_9.jpg', '1_0_4_9.jpg'))}"
        )


@pytest.mark.parametrize("made", [folder, zipped])
def test_it_can_be_pickled(made: Callable[..., Path], tmp_path: Path) -> None:
    dataset = data.open(f"utkface:{made(tmp_path)}")
    assert np.array_equal(pickle.loads(pickle.dumps(dataset.images))[2], dataset.images[2])


@given(st.text("0123456789_.jpgchi/", max_size=40))
def test_a_name_is_understood_or_not(name: str) -> None:
    labels = parse_name(name)
    assert labels is None or (
        0 <= labels.age <= 116 and labels.gender in (0, 1) and 0 <= labels.race <= 4
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_zip_is_read_or_a_readable_error(
    seed: int,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = zipped(tmp_path_factory.mktemp("mutated"))
    file.write_bytes(mutate(file.read_bytes(), seed))
    with at_worst_complaint("utk.zip"):
        dataset = data.open(f"utkface:{file}")
        for i in range(len(dataset)):
            assert dataset.images[i].dtype == np.uint8
