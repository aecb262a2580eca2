"""IJB-B and IJB-C, read from small sets with the same files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_ijb
import numpy as np
import pytest
from PIL import Image

from workbench import data, faces
from workbench.data.templates import usable


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fake_ijb.make(tmp_path / "IJBC")


def opened(root: Path, options: str = "") -> data.Templates:
    bench = data.benchmark(f"ijb:{root}{options}")
    assert isinstance(bench, data.Templates)
    return bench


def change(root: Path, part: str, line: int, new: str | None) -> Path:
    """Replace a line, counted from 1, of a file in meta/; None removes it."""
    file = root / "meta" / f"ijbc_{part}.txt"
    lines = file.read_text().splitlines()
    lines[line - 1 : line] = [] if new is None else [new]
    file.write_text("\n".join(lines) + "\n")
    return file


def rows(root: Path, part: str) -> list[list[str]]:
    return [line.split() for line in (root / "meta" / f"ijbc_{part}.txt").read_text().splitlines()]


def test_the_benchmark_holds_the_contents_of_the_files(root: Path) -> None:
    bench = opened(root)
    listed, scored, pairs = (
        rows(root, part) for part in ("face_tid_mid", "name_5pts_score", "template_pair_label")
    )
    assert (bench.name, bench.note, bench.keep_norm) == ("ijb-c", "", True)
    assert bench.templates.tolist() == [int(row[1]) for row in listed]
    assert bench.media.tolist() == [int(row[2]) for row in listed]
    assert bench.pairs.tolist() == [[int(row[0]), int(row[1])] for row in pairs]
    assert bench.same.tolist() == [row[2] == "1" for row in pairs]
    assert bench.detector_scores is not None
    assert bench.detector_scores.tolist() == [float(row[11]) for row in scored]
    assert bench.landmarks is not None
    assert bench.landmarks.reshape(-1, 10).tolist() == [
        [float(value) for value in row[1:11]] for row in scored
    ]
    assert bench.same.sum() == 18
    assert len(bench.pairs) == 153


def test_faces_are_aligned_by_the_landmarks(root: Path) -> None:
    bench = opened(root)
    assert bench.landmarks is not None
    stored = np.asarray(Image.open(root / "loose_crop" / "5.png"))
    np.testing.assert_array_equal(bench.images[4], stored)
    np.testing.assert_array_equal(bench.faces[4], faces.warp(stored, bench.landmarks[4], 112))
    assert bench.faces[4].shape == (112, 112, 3)
    assert len(bench.faces) == len(bench.images)
    again = pickle.loads(pickle.dumps(bench.faces))  # As for the worker processes of a data loader.
    np.testing.assert_array_equal(again[4], bench.faces[4])


def test_landmarks_on_a_line_leave_an_image_as_it_is(root: Path) -> None:
    change(
        root,
        "name_5pts_score",
        2,
        "2.png " + " ".join(f"{value} {value}" for value in range(10, 15)) + " 0.9",
    )
    change(root, "name_5pts_score", 3, "3.png " + "7 7 " * 5 + "0.9")
    bench = opened(root)
    assert bench.note == "2 images have landmarks on a line and are not aligned"
    assert [bench.faces[i].shape[0] for i in range(4)] == [112, 40, 40, 112]


def test_usable_landmarks_are_those_that_can_be_fitted(complaint: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    line = np.outer(np.arange(5.0), rng.normal(size=2)) + rng.normal(size=2)
    many = np.stack(
        [
            line + spread * rng.normal(size=(5, 2))
            for spread in np.repeat([0, 1e-3, 0.01, 0.03, 0.3, 3], 30)
        ]
    )
    good = usable(many)
    assert good[:60].sum() == 0
    assert good[-60:].all()
    for landmarks in many[good]:
        faces.fit(landmarks, faces.template())
    with complaint("landmarks"):
        faces.fit(many[0], faces.template())


@pytest.mark.parametrize("inside", ["", "IJBB", "IJBC"])
def test_either_set_is_found_and_named(inside: str, tmp_path: Path) -> None:
    kind = "ijbc" if inside == "IJBC" else "ijbb"
    fake_ijb.make(tmp_path / "release" / inside, kind)
    assert opened(tmp_path / "release").name == {"ijbb": "ijb-b", "ijbc": "ijb-c"}[kind]


def test_two_sets_in_one_folder_are_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    for kind in ("ijbb", "ijbc"):
        fake_ijb.make(tmp_path / "release" / kind.upper(), kind)
    with complaint("both IJB-B and IJB-C"):
        opened(tmp_path / "release")


def test_weights_can_be_left_out(root: Path) -> None:
    plain, without = opened(root), opened(root, ",norm=no,score=no")
    assert without.name == "ijb-c-without-norm-without-score"
    assert not without.keep_norm
    assert without.detector_scores is None
    assert plain.fingerprint() == opened(root, ",norm=yes,score=yes").fingerprint()
    assert (
        len({plain.fingerprint(), without.fingerprint(), opened(root, ",norm=no").fingerprint()})
        == 3
    )


def test_the_fingerprint_changes_with_every_column(root: Path) -> None:
    before = opened(root).fingerprint()
    changes = [
        ("face_tid_mid", "1.png 8 0"),
        ("face_tid_mid", "1.png 1 5"),
        ("template_pair_label", "1 43 0"),
    ]
    changes.append(("name_5pts_score", "1.png 14 16 26 15 20 22 15 30 25 29 0.75"))
    seen = {before}
    for part, line in changes:
        old = " ".join(rows(root, part)[0])
        change(root, part, 1, line)
        seen.add(opened(root).fingerprint())
        change(root, part, 1, old)
    assert len(seen) == 5
    assert opened(root).fingerprint() == before


def test_repeated_pairs_are_counted(root: Path) -> None:
    first = rows(root, "template_pair_label")[0]
    change(root, "template_pair_label", 2, f"{first[1]} {first[0]} {first[2]}")
    assert opened(root).note == "1 pairs are listed more than once"


@pytest.mark.parametrize("option", ["norm=maybe", "weights=no"])
def test_an_unknown_option_is_an_error(
    option: str, root: Path, complaint: Callable[..., Any]
) -> None:
    name, _, value = option.partition("=")
    with complaint(value if name == "norm" else name):
        opened(root, f",{option}")


@pytest.mark.parametrize(
    ("part", "line", "message"),
    [
        (
            "face_tid_mid",
            "2.png 1",
            "line 2: expected 3 columns (text whole whole), found '2.png 1'",
        ),
        ("face_tid_mid", "2.png 1 2 3", "line 2: expected 3 columns"),
        ("face_tid_mid", "2.png one 2", "line 2: expected 3 columns"),
        ("face_tid_mid", "1.png 1 2", "line 2: '2.png', where ijbc_face_tid_mid.txt has '1.png'"),
        ("face_tid_mid", None, "lines for"),
        ("name_5pts_score", "2.png 1 2 3 4 5 6 7 8 9 10", "line 2: expected 12 columns"),
        ("name_5pts_score", "2.png 1 2 3 4 5 6 7 8 9 10 nan", "line 2: expected 12 columns"),
        (
            "name_5pts_score",
            "2.png 1 2 3 4 5 6 7 8 9 1e999 0.5",
            "line 2: a landmark is not finite",
        ),
        ("name_5pts_score", "2.png 1 2 3 4 5 6 7 8 9 10 -0.5", "line 2: the score"),
        ("name_5pts_score", "3.png 1 2 3 4 5 6 7 8 9 10 0.5", "line 2: '3.png', where"),
        ("name_5pts_score", None, "lines for"),
        ("template_pair_label", "1 2 1", "line 2: no image is in template 2"),
        ("template_pair_label", "999 1 1", "line 2: no image is in template 999"),
        ("template_pair_label", "1 8 2", "line 2: the label"),
        ("template_pair_label", "1 8 -1", "line 2: the label"),
        ("template_pair_label", "1 1 1", "line 2: a template is paired with itself"),
        (
            "template_pair_label",
            "43 1 0",
            "line 2: labelled 0, but line 1 has the same pair with 1",
        ),
        ("template_pair_label", "1 8 0.5", "line 2: expected 3 columns"),
        ("template_pair_label", "1 8", "line 2: expected 3 columns"),
        ("template_pair_label", "1 99999999999999999999 0", "line 2: expected 3 columns"),
    ],
)
def test_a_wrong_line_is_named(
    part: str, line: str | None, message: str, root: Path, complaint: Callable[..., Any]
) -> None:
    change(root, part, 2, line)
    with complaint(".txt", message):
        opened(root)


def test_empty_lines_are_ignored_but_counted(root: Path, complaint: Callable[..., Any]) -> None:
    before = opened(root).fingerprint()
    first = " ".join(rows(root, "template_pair_label")[0])
    change(root, "template_pair_label", 1, f"\n \n{first}\t")
    assert opened(root).fingerprint() == before
    change(root, "template_pair_label", 5, "1 2 1")
    with complaint("ijbc_template_pair_label.txt, line 5: no image is in template 2"):
        opened(root)


@pytest.mark.parametrize(
    "name", ["../2.png", "/etc/2.png", "a/../../2.png", r"..\2.png", "C:2.png"]
)
def test_a_path_that_may_lead_out_is_refused(
    name: str, root: Path, complaint: Callable[..., Any]
) -> None:
    _, template, medium = rows(root, "face_tid_mid")[1]
    change(root, "face_tid_mid", 2, f"{name} {template} {medium}")
    change(root, "name_5pts_score", 2, f"{name} 14 16 26 15 20 22 15 30 25 29 0.75")
    with complaint("ijbc_face_tid_mid.txt, line 2", "may lead out"):
        opened(root)


def test_an_image_may_be_in_two_templates_but_not_twice_in_one(
    root: Path, complaint: Callable[..., Any]
) -> None:
    scored = " ".join(rows(root, "name_5pts_score")[0])
    change(root, "face_tid_mid", 2, "1.png 8 0")
    change(root, "name_5pts_score", 2, scored)
    assert opened(root).templates[:2].tolist() == [1, 8]
    change(root, "face_tid_mid", 2, "1.png 1 3")
    with complaint("line 2: '1.png' is in template 1 already, by line 1"):
        opened(root)


@pytest.mark.parametrize(
    "part",
    ["meta", "loose_crop", "meta/ijbc_name_5pts_score.txt", "meta/ijbc_template_pair_label.txt"],
)
def test_a_missing_part_is_named(part: str, root: Path, complaint: Callable[..., Any]) -> None:
    (root / part).rename(root / "renamed")
    with complaint(part):
        opened(root)


def test_missing_images_are_counted(root: Path, complaint: Callable[..., Any]) -> None:
    (root / "loose_crop" / "2.png").unlink()
    with complaint("loose_crop", "1 of the", "2.png"):
        opened(root)


@pytest.mark.parametrize("content", [b"", b"\n\n", bytes(range(256)), b"1 2 1\n\xff 2 1\n"])
@pytest.mark.parametrize("part", ["face_tid_mid", "template_pair_label"])
def test_an_empty_or_binary_file_is_an_error(
    part: str, content: bytes, root: Path, complaint: Callable[..., Any]
) -> None:
    (root / "meta" / f"ijbc_{part}.txt").write_bytes(content)
    with complaint(f"ijbc_{part}.txt"):
        opened(root)


def test_templates_that_do_not_fit_together_are_errors(
    root: Path, complaint: Callable[..., Any]
) -> None:
    bench = opened(root)
    with complaint("media have shape"):
        replace(bench, media=bench.media[1:])
    with complaint("landmarks have shape"):
        replace(bench, landmarks=np.zeros((3, 5, 2)))
    with complaint("pairs (153, 2) and same (152,)"):
        replace(bench, same=bench.same[1:])
    with complaint("template 3, of which there is no image"):
        replace(bench, pairs=bench.pairs * 0 + 3)
    with complaint("image 0 has a detector score"):
        replace(bench, detector_scores=np.full(len(bench.images), np.nan))


def test_the_people_on_the_images_are_unknown(root: Path, complaint: Callable[..., Any]) -> None:
    with complaint("its identities are not known"):
        data.contact_sheet(opened(root))


def test_names_may_be_spelt_as_in_other_lists(root: Path, complaint: Callable[..., Any]) -> None:
    (root / "loose_crop" / "a").mkdir()
    (root / "loose_crop" / "2.png").rename(root / "loose_crop" / "a" / "é.png")
    _, template, medium = rows(root, "face_tid_mid")[1]
    points = " ".join(rows(root, "name_5pts_score")[1][1:])
    for name in ("a\\é.png", "./a/é.png", "a/e\u0301.png", f"{root}/loose_crop/a/é.png"):
        change(root, "face_tid_mid", 2, f"{name} {template} {medium}")
        change(root, "name_5pts_score", 2, f"{name} {points}")
        assert opened(root).images.names[1] == "a/é.png"  # type: ignore[attr-defined]
    change(root, "face_tid_mid", 2, f"a/3.png {template} {medium}")
    change(root, "name_5pts_score", 2, f"a/3.png {points}")
    with complaint("ijbc_face_tid_mid.txt, line 2: 'a/3.png' is not in", "it exists without 'a/'"):
        opened(root)


@pytest.mark.parametrize("part", ["face_tid_mid", "name_5pts_score", "template_pair_label"])
def test_a_byte_order_mark_and_windows_line_ends_are_read(part: str, root: Path) -> None:
    before = opened(root).fingerprint()
    file = root / "meta" / f"ijbc_{part}.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert opened(root).fingerprint() == before
