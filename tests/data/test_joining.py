"""Joined data sets, subsets, data sets without the people of a list, and their specs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Complaint
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data
from workbench.data.dataset import Joined, Picked, encoded_image, image_name, is_encoded, source_of
from workbench.data.joining import Options, normalised, parse_options, read_names, write_names
from workbench.data.registry import Part


def numbered(name: str, counts: Sequence[int], first: int = 0, **attributes: Any) -> data.Dataset:
    """Returns a data set in which person i has counts[i] images.

    The pixels of an image are its number, from `first`.
    """
    identities = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(identities), 1, 1, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(first, first + len(identities))
    return data.Dataset(name, images, identities, [f"p{i}" for i in range(len(counts))], attributes)


def shown(dataset: data.Dataset) -> dict[str, list[int]]:
    """Returns {identity: the numbers of its images}."""
    numbers: dict[str, list[int]] = {}
    for number in range(len(dataset)):
        numbers.setdefault(dataset.identity_names[dataset.identities[number]], []).append(
            int(dataset.images[number][0, 0, 0])
        )
    return numbers


# Draws


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 8), min_size=2, max_size=20),
    people=st.integers(1, 20),
    images=st.integers(1, 8),
    seed=st.integers(0, 9),
)
def test_draws_are_nested(counts: list[int], people: int, images: int, seed: int) -> None:
    whole = numbered("a", counts)
    people = min(people, len(counts))
    small, more_people = (shown(data.subset(whole, n, images, seed)) for n in (people, len(counts)))
    more_images = shown(data.subset(whole, people, None, seed))
    assert len(small) == people
    assert small.keys() == more_images.keys()
    for name, numbers in small.items():
        every = shown(whole)[name]
        assert more_images[name] == every
        assert len(numbers) == min(images, len(every))
        assert numbers == more_people[name]
        assert set(numbers) <= set(shown(data.subset(whole, None, images + 1, seed))[name])


def test_the_seed_decides_who_is_drawn() -> None:
    whole = numbered("a", [4] * 30)
    draws = [shown(data.subset(whole, 10, 2, seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    fingerprints = {data.subset(whole, None, 2, seed).fingerprint() for seed in (0, 1)}
    assert len(fingerprints) == 2  # the same people and as many images, but other images


def test_the_least_number_of_images_counts_before_the_draw() -> None:
    whole = numbered("a", [1, 3, 5, 2, 7])
    assert shown(data.subset(whole, least=3)).keys() == {"p1", "p2", "p4"}
    subset = shown(data.subset(whole, 2, 2, least=3))
    assert all(len(numbers) == 2 for numbers in subset.values())
    assert subset.keys() < {"p1", "p2", "p4"}


def test_names_of_subsets_describe_them() -> None:
    whole = numbered("a", [1, 3, 5, 2, 7])
    assert data.subset(whole).name == "a"
    assert data.subset(whole, least=1) is whole
    assert data.subset(whole, 2, 2).name == "a-2x2"
    assert data.subset(whole, None, 2, seed=3).name == "a-allx2-seed3"
    assert data.subset(whole, 2, seed=3, least=2).name == "a-2xall-min2-seed3"
    assert data.exclude(whole, ["p0"]).name == "a-without"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"people": 4}, "3 identities, 4 are asked for"),
        ({"people": 3, "least": 2}, "2 identities with at least 2 images, 3 are asked for"),
        ({"least": 9}, "0 identities with at least 9 images, at least one is asked for"),
        ({"people": 3, "without": ["p1"]}, "2 identities after the exclusion, 3"),
        ({"without": ["p0", "p1", "p2"]}, "0 identities after"),
        (
            {"without": ["m.01", "m.02"]},
            "none of the 2 names to exclude occurs in it; they are like 'm.01', those of the "
            "set like 'p0'",
        ),
    ],
)
def test_a_draw_of_more_than_there_is_is_an_error(
    arguments: dict[str, Any], hint: str, complaint: Complaint
) -> None:
    with complaint("a: ", hint):
        data.subset(numbered("a", [1, 2, 3]), **arguments)


def test_without_an_exact_name_case_and_spaces_do_not_count() -> None:
    names = ["Ann Lee", "ann_lee", "Bob"]
    people = data.Dataset("a", np.zeros((3, 1, 1, 3), dtype=np.uint8), np.arange(3), names)
    assert data.exclude(people, ["Ann Lee"]).identity_names == ["ann_lee", "Bob"]
    assert data.exclude(people, ["ANN_LEE", "nobody"]).identity_names == ["Bob"]


# Lists of names


def test_a_list_of_names(tmp_path: Path, complaint: Complaint) -> None:
    file = tmp_path / "names.txt"
    file.write_text(
        '\ufeff# people of LFW\n\n  Ann Lee \nBob\t12\n  # more\n"Cid",3,x\nDoe, John\n',
        encoding="utf-8",
    )
    assert read_names(str(file)) == [
        "Ann Lee",
        "Bob\t12",
        "Bob",
        '"Cid",3,x',
        "Cid",
        "Doe, John",
        "Doe",
    ]
    file.write_text("# none\n")
    with complaint(file, "no names"):
        read_names(str(file))
    file.write_bytes(b"\xff\xfe\x00")
    with complaint(file, "UTF-8"):
        read_names(str(file))
    with complaint("nowhere.txt", "cannot be read"):
        read_names("nowhere.txt")


def test_people_in_both_sets_are_found_by_name(complaint: Complaint) -> None:
    assert normalised(" Ann_Lee ") == normalised("ann lee") == "annlee"
    assert data.overlap(["Ann Lee", "Bob", "Cid"], ["cid", "ann_lee", "Dan"]) == ["Ann Lee", "Cid"]
    assert data.overlap(["Bob"], ["Dan"]) == []
    for first, second, side in (
        (["1", "22"], ["Ann"], "first"),
        (["Ann"], ["1"], "second"),
        (["Ann"], [], "second"),
    ):
        with complaint(f"names of the {side} set", "unknown" if not second else "only numbers"):
            data.overlap(first, second)


# Joins


def test_joined_sets_keep_their_people_apart() -> None:
    first, second = numbered("a", [2, 1]), numbered("b", [1, 2, 1], first=3)
    second = data.Dataset("b", second.images, second.identities, ["p1", "q", "r"])
    both = data.join([first, second])
    assert both.name == "a+b"
    assert shown(both) == {"p0": [0, 1], "a/p1": [2], "b/p1": [3], "q": [4, 5], "r": [6]}
    assert list(both.attributes["set"]) == ["a"] * 3 + ["b"] * 4
    assert data.join([first]) is first


def test_sets_of_the_same_name_are_renamed(complaint: Complaint) -> None:
    both = data.join([numbered("train", [1, 1]), numbered("train", [1, 1]), numbered("train", [1])])
    assert both.identity_names == ["train/p0", "train/p1", "train-2/p0", "train-2/p1", "train-3/p0"]
    assert len(data.join([numbered("x" * 60, [1])] * 3).name) <= 80
    with complaint("no data sets"):
        data.join([])


def test_columns_of_joined_sets_are_filled_where_they_are_missing() -> None:
    marks = np.ones((2, 5, 2), dtype=np.float32)
    first = numbered(
        "a",
        [2],
        age=[3, 4],
        file=["x", "y"],
        landmarks=marks,
        glasses=[True, False],
        odd=[None, "x"],
    )
    second = numbered("b", [1], age=[5.5], yaw=np.array([9.0]))
    columns = data.join([first, second]).attributes
    assert np.array_equal(columns["age"], [3, 4, 5.5])
    assert np.array_equal(columns["yaw"], [np.nan, np.nan, 9], equal_nan=True)
    assert columns["file"] == ["x", "y", ""]
    assert np.asarray(columns["landmarks"]).shape == (3, 5, 2)
    assert np.isnan(columns["landmarks"][2]).all()
    assert np.array_equal(columns["glasses"], [1, 0, np.nan], equal_nan=True)
    assert columns["odd"] == [None, "x", None]
    assert data.join([first, second])[2].attributes["age"] == 5.5
    mixed = data.join([numbered("a", [1], age=[3]), numbered("b", [1], age=["young"])]).attributes[
        "age"
    ]
    assert mixed == [3, "young"]


def test_joined_images_can_be_pickled_and_are_those_of_the_parts(identity_folder: Path) -> None:
    files, arrays = data.open(f"folder:{identity_folder}"), numbered("b", [2, 1])
    both = data.join([files, data.subset(arrays, 1), files])
    again = pickle.loads(pickle.dumps(both))
    assert isinstance(again.images, Joined)
    for number in range(len(both)):
        assert np.array_equal(again.images[number], both.images[number])
    assert np.array_equal(both.images[-1], files.images[len(files) - 1])
    for outside in (len(both), -len(both) - 1):
        with pytest.raises(IndexError):
            _ = both.images[outside]
    last = Picked(both.images, np.array([len(both) - 1, 6]))
    assert source_of(last, 0) == (files.images, 5)
    assert is_encoded(last, 0)
    assert encoded_image(last, 0) == (identity_folder / "cid" / "1.png").read_bytes()
    assert image_name(last, 0) == str(identity_folder / "cid" / "1.png")
    assert not is_encoded(last, 1)
    assert encoded_image(last, 1).startswith(b"\x89PNG")
    assert image_name(last, 1).startswith("image ")


# Options and specs


def test_options_are_read_in_any_order() -> None:
    assert parse_options("100x20") == Options(100, 20)
    assert parse_options("exclude=a/b.txt,*x20,seed=0,min=5") == Options(None, 20, 5, "a/b.txt", 0)
    assert parse_options("3x*") == Options(3, None)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "is not an option of a data set"),
        ("100", "is not an option of a data set"),
        ("0x5", "is not an option of a data set"),
        ("-1x5", "is not an option of a data set"),
        ("mni=5", "did you mean 'min'"),
        ("min=0", "'min=0' is not an option of a data set"),
        ("min=many", "PEOPLExIMAGES"),
        ("seed=-1", "'seed=-1'"),
        ("exclude=", "exclude=FILE"),
        ("min=2,min=3", "given twice"),
        ("1x1,2x2", "given twice"),
        ("9999999999x1", "is not an option of a data set"),
    ],
)
def test_odd_options_are_refused(text: str, hint: str, complaint: Complaint) -> None:
    with complaint(hint):
        parse_options(text)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("folder:a", [Part("folder", "a")]),
        ("folder:a@100x20", [Part("folder", "a", "100x20")]),
        ("folder:a+folder:b", [Part("folder", "a"), Part("folder", "b")]),
        (
            "orl+folder:b@min=2+orl@3x*",
            [Part("orl", ""), Part("folder", "b", "min=2"), Part("orl", "", "3x*")],
        ),
        ("synthfaces:5x5,seed=3@2x2", [Part("synthfaces", "5x5,seed=3", "2x2")]),
        ("synthfaces-mini+synthfaces", [Part("synthfaces-mini", ""), Part("synthfaces", "")]),
        ("folder:me@home/a+b", [Part("folder", "me@home/a+b")]),
        ("folder:me@home/a+b@min=2", [Part("folder", "me@home/a+b", "min=2")]),
        ("folder:a@exclude=x@y.txt,min=2", [Part("folder", "a", "exclude=x@y.txt,min=2")]),
        ("folder:a+folders:b", [Part("folder", "a+folders:b")]),
        ("folder:orl-people+orl", [Part("folder", "orl-people"), Part("orl", "")]),
        ("pairs:list.txt@root", [Part("pairs", "list.txt@root")]),
        ("pairs:list.txt@3x3", [Part("pairs", "list.txt@3x3")]),
        ("bin:a+b.bin", [Part("bin", "a+b.bin")]),
    ],
)
def test_specs_are_split_where_a_source_or_options_follow(spec: str, expected: list[Part]) -> None:
    assert data.parts(spec) == expected


def test_an_existing_path_is_not_split(identity_folder: Path, tmp_path: Path) -> None:
    for name in ("a+orl", "a@3x3", "b@min=2+orl"):
        path = identity_folder.rename(tmp_path / name)
        assert data.parts(f"folder:{path}") == [Part("folder", str(path))]
        assert data.open(f"folder:{path}").name == name
        identity_folder = path


@pytest.mark.parametrize(
    ("ending", "hint"),
    [
        ("+foldr:b", "unknown data source 'foldr': did you mean 'folder'"),
        ("+synthface-mini", "did you mean 'synthfaces-mini'"),
        ("@mni=5", "unknown option of a data set 'mni': did you mean 'min'"),
        ("@3x3,mni=5", "did you mean 'min'"),
        ("@3xfour", "'3xfour' is not an option of a data set"),
        ("@what", "'what' is not an option of a data set"),
        ("/nowhere+x", "no such folder"),
        ("/me@home", "no such folder"),
        ("@4x3", "4 are asked for"),
        ("@exclude=nowhere.txt", "nowhere.txt: the list of names cannot be read"),
        ("+bin:x.bin", "'bin' is a benchmark"),
    ],
)
def test_misspelt_parts_are_named(
    ending: str, hint: str, identity_folder: Path, complaint: Complaint
) -> None:
    with complaint(hint):
        data.open(f"folder:{identity_folder}{ending}")


@pytest.mark.parametrize("call", [data.open, data.benchmark])
def test_after_a_source_without_a_path_only_options_are_allowed(
    call: Callable[[str], Any], complaint: Complaint
) -> None:
    with complaint("did you mean 'min'"):
        call("orl@mni=5")
    with complaint("unknown", "'orl2'", "did you mean 'orl'"):
        call("orl2@2x2")


def test_a_spec_is_opened_part_by_part(identity_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "leave.txt").write_text("BOB\n")
    folder = f"folder:{identity_folder}"
    both = data.open(f"{folder}@*x1+{folder}@exclude={tmp_path}/leave.txt")
    assert both.name == "people-allx1+people-without-leave"
    assert both.identity_names == [
        "people-allx1/ann",
        "bob",
        "people-allx1/cid",
        *(f"people-without-leave/{n}" for n in ("ann", "cid")),
    ]
    assert np.bincount(both.identities).tolist() == [1, 1, 1, 2, 2]
    bench = data.benchmark(f"{folder}+{folder}")
    assert isinstance(bench, data.Benchmark)
    assert bench.name == "people+people-2"
    assert "disjoint identities" in bench.note


def test_what_specs_are_of(identity_folder: Path) -> None:
    folder = f"folder:{identity_folder}"
    assert data.is_source(f"{folder}+orl@2x2")
    assert not data.is_source("bin:x.bin")
    assert data.is_drawn(folder)
    assert data.is_drawn("orl@2x2")
    assert data.is_drawn(f"{folder}@2x2+orl")
    assert not data.is_drawn("orl")
    assert not data.is_drawn("nonsense:x")
    assert data.same_source(f"{folder}@2x2", f"orl+folder:{identity_folder}/../people/")
    assert not data.same_source(folder, "orl")


def test_any_names_that_are_written_are_excluded(tmp_path: Path) -> None:
    names = [
        "#hash",
        '"quoted"',
        "Doe, John",
        "a\tb",
        "new\nline",
        os.fsdecode(b"Ren\xe9"),
        "e\u0301t",
        " led",
        "plain",
    ]
    write_names(names, tmp_path / "names.txt")
    (tmp_path / "names.txt").write_bytes(
        (tmp_path / "names.txt").read_bytes().replace(b"\n", b"\r\n")
    )
    people = data.Dataset(
        "p",
        np.zeros((10, 1, 1, 3), np.uint8),
        np.arange(10),
        [*names[:6], "\u00e9t", *names[7:], "other"],
    )
    assert data.exclude(people, read_names(str(tmp_path / "names.txt"))).identity_names == ["other"]


def test_a_list_of_names_may_be_in_utf_16(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("Zoë\r\nBob\r\n".encode("utf-16"))
    assert read_names(str(tmp_path / "names.txt")) == ["Zoë", "Bob"]
