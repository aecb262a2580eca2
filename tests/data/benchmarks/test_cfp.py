"""A small set in CFP's layout: 4 people with 3 frontal and 2 profile images each, two splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench import data

PEOPLE, FRONTAL, PROFILE = 4, 3, 2


def shade(person: int, view: str, number: int) -> int:
    return 60 * person + 20 * (view == "profile") + number


def number(person: int, photo: int, photos: int) -> int:
    """Return the number of a photo in a list, from 1."""
    return person * photos + photo + 1


def write(path: Path, lines: list[str], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cfp-dataset"
    for kind, view, photos in (("F", "frontal", FRONTAL), ("P", "profile", PROFILE)):
        listed: list[str] = []
        for person in range(PEOPLE):
            for photo in range(photos):
                file = root / f"Data/Images/{person + 1:03d}/{view}/{photo + 1:02d}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 8, 3), shade(person, view, photo), np.uint8)).save(
                    file, quality=100
                )
                listed.append(f"{len(listed) + 1} ../{file.relative_to(root).as_posix()}")
        write(root / f"Protocol/Pair_list_{kind}.txt", listed, "\r\n")
    for split, (one, other) in enumerate(((0, 1), (2, 3))):
        for protocol, photos in (("FF", FRONTAL), ("FP", PROFILE)):
            folder = root / f"Protocol/Split/{protocol}/{split + 1:02d}"
            same = [
                f"{number(one, 0, FRONTAL)},{number(one, 1, photos)}",
                f"{number(other, 2, FRONTAL)},{number(other, 0, photos)}",
            ]
            write(folder / "same.txt", same)
            write(folder / "diff.txt", [f"{number(one, 0, FRONTAL)},{number(other, 1, photos)}"])
    return root


def opened(spec: str) -> data.Benchmark:
    bench = data.benchmark(spec)
    assert isinstance(bench, data.Benchmark)
    return bench


@pytest.mark.parametrize(
    ("option", "view"), [("", "profile"), (",protocol=fp", "profile"), (",protocol=ff", "frontal")]
)
def test_the_second_photo_is_of_the_protocols_view(option: str, view: str, root: Path) -> None:
    bench = opened(f"cfp:{root}{option}")
    assert bench.name == ("cfp-ff" if view == "frontal" else "cfp-fp")
    expected_pairs = []
    for one, other in ((0, 1), (2, 3)):
        expected_pairs += [(one, 0, one, 1), (other, 2, other, 0), (one, 0, other, 1)]
    shown = [[int(bench.images[i][4, 4, 0]) for i in pair] for pair in bench.pairs]
    expected = [[shade(a, "frontal", i), shade(b, view, j)] for a, i, b, j in expected_pairs]
    np.testing.assert_allclose(shown, expected, atol=2)
    assert bench.same.tolist() == [True, True, False] * 2
    assert bench.folds.tolist() == [0, 0, 0, 1, 1, 1]
    assert bench.identities is not None
    assert [[bench.identity_names[bench.identities[i]] for i in pair] for pair in bench.pairs] == [
        [f"{a + 1:03d}", f"{b + 1:03d}"] for a, _, b, _ in expected_pairs
    ]
    views = bench.attributes["view"][bench.pairs]
    assert set(views[:, 0]) == {"frontal"}
    assert set(views[:, 1]) == {view}
    assert len(bench.images) == PEOPLE * (FRONTAL + (PROFILE if view == "profile" else 0))


def test_an_unknown_protocol_is_an_error(root: Path, complaint: Callable[..., Any]) -> None:
    with complaint("unknown protocol of CFP 'fpp': did you mean 'fp'?"):
        opened(f"cfp:{root},protocol=fpp")


@pytest.mark.parametrize(
    "part",
    ["Protocol", "Protocol/Pair_list_P.txt", "Protocol/Split/FP", "Protocol/Split/FP/02/diff.txt"],
)
def test_a_missing_part_is_named(part: str, root: Path, complaint: Callable[..., Any]) -> None:
    (root / part).rename(root / "renamed")
    name = part.rpartition("/")[2]
    with complaint("no folder Protocol" if name == "Protocol" else name):
        opened(f"cfp:{root}")


def test_missing_images_are_counted(root: Path, complaint: Callable[..., Any]) -> None:
    (root / "Data/Images/002/profile/02.jpg").unlink()
    with complaint(
        "Pair_list_P.txt, line 4", "1 of the 8 images", "Data/Images/002/profile/02.jpg"
    ):
        opened(f"cfp:{root}")
    assert len(opened(f"cfp:{root},protocol=ff").pairs) == 6  # This protocol has no profile images.


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("Pair_list_F.txt", "3 ../Data/Images/001/frontal/03.jpg", "line 2: expected '2 PATH'"),
        ("Pair_list_F.txt", "2 /etc/a/passwd.jpg", "line 2: expected a path such as"),
        (
            "Pair_list_F.txt",
            "2 ../../../outside/001/frontal/02.jpg",
            "line 2: expected a path such as",
        ),
        (
            "Pair_list_F.txt",
            r"2 ..\Data\Images\001\frontal\01.jpg",
            "line 2: Data/Images/001/frontal/01.jpg is in line 1 too",
        ),
        ("Pair_list_P.txt", "2", "line 2: expected '2 PATH'"),
        ("Split/FP/02/same.txt", "1,9", "line 2: no image 9 in Pair_list_P.txt, which has 8"),
        ("Split/FP/02/same.txt", "13,1", "line 2: no image 13 in Pair_list_F.txt, which has 12"),
        ("Split/FP/02/same.txt", "0,1", "line 2: no image 0 in Pair_list_F.txt"),
        ("Split/FP/02/same.txt", "1 2", "line 2: expected 'I,J'"),
        ("Split/FP/02/same.txt", "1,-2", "line 2: expected 'I,J'"),
        ("Split/FP/02/same.txt", "1,2,1", "line 2: expected 'I,J'"),
    ],
)
def test_a_wrong_line_is_named(
    file: str, line: str, message: str, root: Path, complaint: Callable[..., Any]
) -> None:
    path = root / "Protocol" / file
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], line, *lines[2:]]))
    with complaint(path.name, message):
        opened(f"cfp:{root}")


def test_a_photo_against_itself_is_an_error(root: Path, complaint: Callable[..., Any]) -> None:
    write(root / "Protocol/Split/FF/01/diff.txt", ["2,2"])
    with complaint("diff.txt, line 1: image 2 is paired with itself"):
        opened(f"cfp:{root},protocol=ff")
    write(root / "Protocol/Split/FP/01/diff.txt", ["2,2"])
    assert len(opened(f"cfp:{root}").pairs) == 6  # Image 2 of one list and image 2 of the other.


def test_a_pair_cannot_be_both_same_and_different(
    root: Path, complaint: Callable[..., Any]
) -> None:
    first = (root / "Protocol/Split/FF/01/same.txt").read_text().split()[0]
    write(root / "Protocol/Split/FF/02/diff.txt", ["1,7", ",".join(reversed(first.split(",")))])
    with complaint("02/diff.txt, line 2", "is also in same.txt of a split"):
        opened(f"cfp:{root},protocol=ff")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe1,2"])
def test_an_empty_or_binary_split_is_an_error(
    content: bytes, root: Path, complaint: Callable[..., Any]
) -> None:
    (root / "Protocol/Split/FP/01/same.txt").write_bytes(content)
    with complaint("same.txt"):
        opened(f"cfp:{root}")


def test_lists_with_windows_separators_or_absolute_paths_are_read(
    root: Path, complaint: Callable[..., Any]
) -> None:
    before = opened(f"cfp:{root}").fingerprint()
    frontal, profile = (root / "Protocol" / f"Pair_list_{kind}.txt" for kind in "FP")
    frontal.write_bytes(
        b"\xef\xbb\xbf" + frontal.read_bytes().replace(b"/", b"\\").replace(b"\n", b"\r\n")
    )
    profile.write_text(profile.read_text().replace("..", str(root)))
    assert opened(f"cfp:{root}").fingerprint() == before
    profile.write_text(profile.read_text().replace("profile/02", "profil/02"))
    with complaint("Pair_list_P.txt, line 2", "did you mean", "profile/02.jpg"):
        opened(f"cfp:{root}")
