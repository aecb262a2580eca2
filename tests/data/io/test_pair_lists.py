"""Lists "PATH_A PATH_B LABEL" in many spellings, with the images in a folder or a zip archive."""

from __future__ import annotations

import csv
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data
from workbench.data.io.list_files import Place
from workbench.data.io.pair_lists import read_pair_list
from workbench.data.io.readers import Files
from workbench.images import to_png

PAIRS = [
    ("ann/1.png", "ann/2.png", 1),
    ("bob/1.png", "bob/2.png", 1),
    ("ann/1.png", "bob/1.png", 0),
    ("cid/a b.png", "bob/2.png", 0),
]
SHADES = {
    name: 20 + 30 * number
    for number, name in enumerate(
        ["ann/1.png", "ann/2.png", "bob/1.png", "bob/2.png", "cid/a b.png"]
    )
}


def placed(root: Path, zipped: bool, inside: str = "", names: dict[str, int] | None = None) -> Path:
    files = {
        f"{inside}{name}": to_png(np.full((4, 4, 3), shade, np.uint8))
        for name, shade in (names or SHADES).items()
    }
    if zipped:
        with zipfile.ZipFile(root / "faces.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return root / "faces.zip"
    for name, content in files.items():
        (root / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "faces" / name).write_bytes(content)
    return root / "faces"


def opened(folder: Path, root: Path, text: str) -> data.Benchmark:
    (folder / "list.txt").write_text(text, encoding="utf-8")
    bench = data.benchmark(f"pairs:{folder / 'list.txt'}@{root}")
    assert isinstance(bench, data.Benchmark)
    return bench


def written(separator: str = "\t", label_first: bool = False, heading: str = "") -> str:
    rows = [(label, a, b) if label_first else (a, b, label) for a, b, label in PAIRS]
    return heading + "".join(separator.join(map(str, row)) + "\n" for row in rows)


def check(bench: data.Benchmark) -> None:
    shown = [[int(bench.images[i][0, 0, 0]) for i in pair] for pair in bench.pairs]
    assert shown == [[SHADES[a], SHADES[b]] for a, b, _ in PAIRS]
    assert bench.same.tolist() == [True, True, False, False]
    assert bench.folds.tolist() == [0, 1, 0, 1]
    assert bench.identities is not None
    people = [[bench.identity_names[bench.identities[i]] for i in pair] for pair in bench.pairs]
    assert people == [[a.split("/")[0], b.split("/")[0]] for a, b, _ in PAIRS]


@pytest.mark.parametrize("heading", ["", "img1{0}img2{0}same\n"])
@pytest.mark.parametrize("label_first", [False, True])
@pytest.mark.parametrize("separator", ["\t", ",", ", "])
def test_lists_are_read_in_many_spellings(
    separator: str, label_first: bool, heading: str, tmp_path: Path
) -> None:
    text = written(separator, label_first, heading.format(separator))
    check(opened(tmp_path, placed(tmp_path, zipped=False), text))


@pytest.mark.parametrize("inside", ["", "faces_112/"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_single_folder_may_be_around_all(zipped: bool, inside: str, tmp_path: Path) -> None:
    check(opened(tmp_path, placed(tmp_path, zipped, inside), written()))


def test_spaces_part_where_no_path_holds_any(tmp_path: Path) -> None:
    text = (
        "\ufeffa/1.png  a/2.png 1\r\n\r\n1 b/1.PNG ./b//2.png\r\na/1.png b/1.PNG 0\r\n0 a/"
        "2.png b/1.PNG"
    )
    shades = {"a/1.png": 1, "a/2.png": 2, "b/1.PNG": 3, "b/2.png": 4}
    bench = opened(tmp_path, placed(tmp_path, True, names=shades), text)
    assert [[int(bench.images[i][0, 0, 0]) for i in pair] for pair in bench.pairs] == [
        [1, 2],
        [3, 4],
        [1, 3],
        [2, 3],
    ]
    assert bench.same.tolist() == [True, True, False, False]


def test_quoted_paths_with_commas(tmp_path: Path) -> None:
    shades = {"a/x,1.png": 1, "a/2.png": 2, "b/1.png": 3, "b/2.png": 4}
    text = '"a/x,1.png",a/2.png,1\nb/1.png,b/2.png,1\n"a/x,1.png",b/1.png,0\na/2.png,b/2.png,0\n'
    bench = opened(tmp_path, placed(tmp_path, False, names=shades), text)
    assert [[int(bench.images[i][0, 0, 0]) for i in pair] for pair in bench.pairs] == [
        [1, 2],
        [3, 4],
        [1, 3],
        [2, 4],
    ]


def test_folds_hold_a_tenth_of_each_kind_in_order(tmp_path: Path) -> None:
    """K-Face's lists have all genuine pairs first."""
    lines = [f"a/{i}.jpg a/{i + 1}.jpg 1" for i in range(25)] + [
        f"a/{i}.jpg b/{i}.jpg 0" for i in range(30)
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    listing = read_pair_list(tmp_path / "list.txt", Place(tmp_path, loose=True))
    assert np.bincount(listing.folds[listing.same]).tolist() == [3] * 5 + [2] * 5
    assert np.bincount(listing.folds[~listing.same]).tolist() == [3] * 10
    assert (np.diff(listing.folds[listing.same]) >= 0).all()
    assert (np.diff(listing.folds[~listing.same]) >= 0).all()


def test_folds_of_an_lfw_list_written_as_paths_are_lfws(tmp_path: Path) -> None:
    kinds = np.tile(np.repeat([1, 0], 6), 10)
    lines = [f"a/{i}.jpg {'a' if same else 'b'}/{i + 1}.jpg {same}" for i, same in enumerate(kinds)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert (
        read_pair_list(tmp_path / "list.txt", Place(tmp_path, loose=True)).folds.tolist()
        == np.repeat(range(10), 12).tolist()
    )


def test_k_face_lists_know_people_and_conditions(tmp_path: Path) -> None:
    one, other = "19082641/S002/L1/E01", "19090641/S001/L30/E03"
    lines = [f"{one}/C18.jpg {one}/C6.jpg 1", f"{other}/C6.jpg {other}/C4.jpg 1"]
    lines += [f"{one}/C6.jpg {other}/C6.jpg 0", f"{other}/C4.jpg {one}/C18.jpg 0"]
    names = {f"{one}/C18.jpg": 1, f"{one}/C6.jpg": 2, f"{other}/C6.jpg": 3, f"{other}/C4.jpg": 4}
    bench = opened(tmp_path, placed(tmp_path, False, "High/", names), "\n".join(lines))
    assert bench.identity_names == ("19082641", "19090641")
    assert bench.identities is not None
    assert bench.identities.tolist() == [0, 0, 1, 1]
    assert {name: column.tolist() for name, column in bench.attributes.items()} == {
        "accessory": ["S002", "S002", "S001", "S001"],
        "light": ["L1", "L1", "L30", "L30"],
        "expression": ["E01", "E01", "E03", "E03"],
        "camera": ["C18", "C6", "C6", "C4"],
    }


@pytest.mark.parametrize(
    ("names", "people"),
    [
        (["x/view1/a/1.png", "x/view2/a/2.png", "x/view1/b/1.png", "x/view2/b/2.png"], ("a", "b")),
        (["a/front/1.png", "a/side/1.png", "b/front/1.png", "b/side/1.png"], ("a", "b")),
        (["1.png", "2.png", "3.png", "4.png"], ()),
        (["a/1.png", "b/2.png", "a/3.png", "b/4.png"], ()),
    ],
)
def test_people_are_folders_where_the_labels_agree(
    names: list[str], people: tuple[str, ...], tmp_path: Path
) -> None:
    one, two, three, four = names
    text = f"{one} {two} 1\n{three} {four} 1\n{one} {three} 0\n{two} {four} 0"
    bench = opened(tmp_path, placed(tmp_path, False, names=dict.fromkeys(names, 1)), text)
    assert bench.identity_names == people
    assert (bench.identities is None) == (not people)


def test_pairs_listed_again_are_counted(tmp_path: Path) -> None:
    text = written() + "ann/2.png\tann/1.png\t1\n"
    assert opened(tmp_path, placed(tmp_path, False), text).note.endswith(
        "; 1 pairs are listed more than once"
    )


@pytest.mark.parametrize(
    ("lines", "line", "says"),
    [
        (["ann/1.png ann/2.png 1", "ann/1.png bob/1.png 2"], 2, "the label is '2', expected 1"),
        (["ann/1.png ann/2.png sam"], 1, "the label is 'sam'"),
        (["ann/1.png,ann/2.png,"], 1, "the label is ''"),
        (["a b label", "", "ann/1.png ann/2.png"], 3, "expected 'PATH_A PATH_B LABEL'"),
        (["a b label", "a b label"], 2, "expected 'PATH_A PATH_B LABEL'"),
        (["ann/1.png ann/2.png 1", "ann/1.png 2 0"], 2, "expected two image files"),
        (["ann/1.png ann/2.png 1 1"], 1, "cannot tell whether column 3 or column 4 is the label"),
        (["19082641 C17 19082641 C5 1"], 1, "expected 'PATH_A PATH_B LABEL'"),
        (
            ["ann/1.png ann/2.png 1", "ann/2.png ./ann//1.png 0"],
            2,
            "line 1 has the same pair with 1",
        ),
        (["ann/1.png ann/1.png 1"], 1, "paired with itself"),
        (["ann/1.png " + "x" * 200_000 + ",.pn 1"], 1, "expected"),
    ],
)
def test_a_wrong_line_is_named(
    lines: list[str], line: int, says: str, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("list.txt", f"line {line}:", says):
        opened(tmp_path, placed(tmp_path, False), "\n".join(lines))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/1.png",
        "../ann/1.png",
        "ann/../../1.png",
        "C:/1.png",
        "c:1.png",
        r"..\1.png",
        r"\\host\1.png",
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_path_that_may_lead_out_is_refused(
    path: str, zipped: bool, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("list.txt, line 2", "leads out of"):
        opened(tmp_path, placed(tmp_path, zipped), f"ann/1.png ann/2.png 1\n{path} bob/1.png 0\n")


@pytest.mark.parametrize("inside", ["../", "/", "../faces/"])
def test_members_of_a_zip_that_climb_out_are_not_found(
    inside: str, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    placed(tmp_path, zipped=False)  # the place to which the names would lead
    with complaint("faces.zip", "5 of the 5"):
        opened(tmp_path, placed(tmp_path, True, inside), written())


def test_one_kind_alone_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    with complaint("list.txt", "2 genuine and 1 impostor pairs"):
        opened(tmp_path, placed(tmp_path, False), "\n".join(written().splitlines()[:3]))


@pytest.mark.parametrize("zipped", [False, True])
def test_missing_images_are_counted(
    zipped: bool, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    names = {name: shade for name, shade in SHADES.items() if not name.startswith("bob")}
    root = placed(tmp_path, zipped, names=names)
    with complaint(root, "2 of the 5", "list.txt", "bob/1.png"):
        opened(tmp_path, root, written())


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_mutated_list_is_read_or_a_readable_error(
    seed: int,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("mutated") / "list.txt"
    file.write_bytes(mutate(written().encode(), seed))
    with at_worst_complaint("list.txt"):
        assert len(read_pair_list(file, Place(file.parent, loose=True)).folds) >= 2


# Lists of any origin


SHAPES = [
    "{a}\t{b}\t{l}",
    "{l} {a} {b}",
    "{a},{b},{l}",
    "{n},{a},{b},{l}",
    "{a};{b};{l};{f}",
    "{a} {b} {l}",
    '"{a}" "{b}" {l}',
    "{n}\t{a}\t{w}\t{b}\t{w}\t{l}",
    "./{a}\t./{b}\t{l}",
    "{r}/{a},{r}/{b},{l}",
    "{n} {l} {a} {b}",
]
WORDS = [
    ("1", "0"),
    ("1", "-1"),
    ("1.0", "0.000"),
    ("same", "different"),
    ("Match", "mismatch"),
    ("genuine", "impostor"),
    ("TRUE", "False"),
]
WORDS += [("yes", "no"), ("positive", "negative"), ("same person", "not same")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("shape", SHAPES)
def test_lists_come_in_many_shapes(shape: str, end: str, tmp_path: Path) -> None:
    root = placed(tmp_path, zipped=False)
    rows = [
        shape.format(
            a=a, b=b, l=label, n=7 + number, f=f"{number / 7:.3f}", w=f"who{number}", r=root
        )
        for number, (a, b, label) in enumerate(PAIRS)
    ]
    bench = opened(tmp_path, root, end.join(rows))
    check(bench)
    assert "1 = same person, 0 = different people" in bench.note


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("genuine", "impostor"), WORDS)
def test_labels_are_words_or_numbers(
    genuine: str, impostor: str, first: bool, tmp_path: Path
) -> None:
    words = {1: genuine, 0: impostor}
    text = "\n".join(
        f"{words[label]}\t{a}\t{b}" if first else f"{a}\t{b}\t{words[label]}"
        for a, b, label in PAIRS
    )
    bench = opened(tmp_path, placed(tmp_path, zipped=True), text)
    check(bench)
    column = 1 if first else 3
    assert (
        f"column {column} = label, {genuine} = same person, {impostor} = different people"
        in bench.note
    )


def test_windows_paths_headings_and_comments(tmp_path: Path) -> None:
    rows = "".join(
        f"{number},{a},{b},{label},{number / 9}\n" for number, (a, b, label) in enumerate(PAIRS)
    )
    text = "\ufeff# pairs of 2020\nindex,left,right,same,distance\n" + rows.replace(
        "/", "\\"
    ).replace("\n", "\r\n")
    for zipped in (False, True):
        bench = opened(tmp_path, placed(tmp_path, zipped), text)
        check(bench)
        assert "column 2 'left' and column 3 'right' = paths, column 4 'same' = label" in bench.note
        assert "1 lines that begin with # are comments" in bench.note


def test_the_label_and_what_it_means_can_be_stated(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    root = placed(tmp_path, zipped=False)
    file = tmp_path / "list.txt"
    file.write_text(
        "".join(f"{a}\t{b}\t{label}\t{i % 2}\n" for i, (a, b, label) in enumerate(PAIRS))
    )
    with complaint(
        "list.txt, line 1: cannot tell whether column 3 or column 4 is the label", ",label=3"
    ):
        data.benchmark(f"pairs:{file}@{root}")
    spec = f"pairs:{file}@{root}"
    check(open_pairs(f"{spec},label=3"))
    assert open_pairs(f"{spec},label=4").same.tolist() == [False, True, False, True]
    assert open_pairs(f"{spec},label=3,same=0").same.tolist() == [False, False, True, True]
    with complaint("label= of", "'5'", "known: 3, 4"):
        open_pairs(f"{spec},label=5")
    with complaint("same= of", "'2'"):
        open_pairs(f"{spec},label=3,same=2")
    file.write_text("".join(f"{a}\t{b}\t{'ab'[label]}\n" for a, b, label in PAIRS))
    with complaint("line 1: the label is 'b'"):
        open_pairs(spec)
    check(open_pairs(f"{spec},same=b"))
    file.write_text(file.read_text() + "ann/2.png\tbob/2.png\tc\n")
    with complaint("line 5: a third label, there are 'b', 'a', 'c'"):
        open_pairs(f"{spec},same=b")


def open_pairs(spec: str) -> data.Benchmark:
    bench = data.benchmark(spec)
    assert isinstance(bench, data.Benchmark)
    return bench


def test_labels_that_are_distances_are_suspected(tmp_path: Path) -> None:
    root = placed(tmp_path, zipped=False)
    text = "".join(f"{a}\t{b}\t{1 - label}\n" for a, b, label in PAIRS)
    bench = opened(tmp_path, root, text)
    assert bench.same.tolist() == [False, False, True, True]
    assert "if the labels are distances, add ,same=0" in bench.note
    check(open_pairs(f"pairs:{tmp_path / 'list.txt'}@{root},same=0"))


def test_labels_of_three_kinds_are_refused(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    with complaint("list.txt, line 5: labels are 1, 0 and -1"):
        opened(tmp_path, placed(tmp_path, False), written() + "ann/2.png\tbob/2.png\t-1\n")


@pytest.mark.parametrize("folder", ["a@b", "a@b,c=d", "@", "x@list.txt"])
def test_a_root_may_have_an_at_in_its_path(folder: str, tmp_path: Path) -> None:
    root = placed(tmp_path / folder, zipped=False)
    check(opened(tmp_path, root, written()))
    (tmp_path / folder / "list.txt").write_text(written())
    check(open_pairs(f"pairs:{tmp_path / folder / 'list.txt'}@{root}"))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("on_disk", "listed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_another_unicode_normalisation_are_found(
    on_disk: Any, listed: Any, zipped: bool, tmp_path: Path
) -> None:
    names = {
        unicodedata.normalize(on_disk, name.replace("ann", "Zoë")): shade
        for name, shade in SHADES.items()
    }
    root = placed(tmp_path, zipped, names=names)
    bench = opened(tmp_path, root, unicodedata.normalize(listed, written().replace("ann", "Zoë")))
    assert [[int(bench.images[i][0, 0, 0]) for i in pair] for pair in bench.pairs] == [
        [SHADES[a], SHADES[b]] for a, b, _ in PAIRS
    ]
    (tmp_path / "lfw").mkdir()
    stems = {
        unicodedata.normalize(on_disk, f"{who}/{who}_000{i}.png"): 9 * i
        for who in ("Zoë", "Çağ")
        for i in (1, 2)
    }
    root = placed(tmp_path / "lfw", zipped, names=stems)
    lfw = opened(
        tmp_path,
        root,
        unicodedata.normalize(listed, "1 2\nZoë 1 2\nÇağ 1 2\nZoë 1 Çağ 1\nZoë 2 Çağ 2\n"),
    )
    assert len(lfw.images) == 4


def test_a_missing_image_is_named_with_its_line_and_a_suggestion(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    root = placed(tmp_path, zipped=False)
    with complaint("list.txt, line 2: 'bbo/1.png' is not in", "did you mean 'bob/1.png'"):
        opened(tmp_path, root, written().replace("bob/1.png", "bbo/1.png", 1))
    with complaint("list.txt, line 1: 'faces/ann/1.png' is not in", "it exists without 'faces/'"):
        opened(tmp_path, root, written().replace("ann/1.png", "faces/ann/1.png", 1))


def test_one_file_under_two_spellings_is_one_image(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    root = placed(tmp_path, zipped=False)
    with complaint("list.txt, line 5: 'ann/1.png' is paired with itself"):
        opened(tmp_path, root, written() + f"{root}/ann/1.png\tann\\1.png\t1\n")
    with complaint("list.txt, line 5: labelled 0, but line 1 has the same pair with 1"):
        opened(tmp_path, root, written() + f"{root}/ann/2.png\t./ann/1.png\t0\n")
    assert len(opened(tmp_path, root, written() + "./ann/2.png\tbob\\2.png\t0\n").images) == 5


def test_lists_of_lfw_are_checked_too(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    root = placed(
        tmp_path,
        zipped=False,
        names={f"{who}/{who}_000{i}.png": i for who in ("a b", "c") for i in (1, 2)},
    )
    bench = opened(tmp_path, root, "1\t2\na b\t1\t2\nc\t1\t2\na b\t1\tc\t1\na b\t2\tc\t2\n")
    assert bench.identity_names == ("a b", "c")
    with complaint("list.txt, line 3", "is paired with itself"):
        opened(tmp_path, root, "1\t2\na b\t1\t2\nc\t1\t1\na b\t1\tc\t1\na b\t2\tc\t2\n")
    with complaint("list.txt, line 5: labelled 0, but line 2 has the same pair with 1"):
        opened(tmp_path, root, "1\t2\na b\t1\t2\nc\t1\t2\na b\t1\tc\t1\na b\t2\ta b\t1\n")


ODD = st.text(
    st.characters(exclude_characters="\0\n\r/", exclude_categories=["Cs"]), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(
        ODD.filter(lambda name: name.strip(". ") != ""), min_size=3, max_size=3, unique=True
    ),
    mark=st.sampled_from("\t,;"),
    label=st.sampled_from([0, 1, 2]),
)
def test_odd_names_in_quotes_are_found(
    names: list[str], mark: str, label: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("odd")
    files = [f"{name}/{number}.png" for name in names for number in (1, 2)]
    for file in files:
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_bytes(b"x")
    pairs = [
        (files[0], files[1], "same"),
        (files[2], files[3], "same"),
        (files[0], files[2], "diff"),
        (files[3], files[5], "diff"),
    ]
    with (root.parent / "odd.csv").open("w", encoding="utf-8", newline="") as stream:
        for first, second, word in pairs:
            row = [first, second]
            row.insert(label, word)
            csv.writer(stream, delimiter=mark, quoting=csv.QUOTE_ALL).writerow(row)
    bench = open_pairs(f"pairs:{root.parent / 'odd.csv'}@{root}")
    assert isinstance(bench.images, Files)
    assert [tuple(bench.images.names[i] for i in pair) for pair in bench.pairs] == [
        pair[:2] for pair in pairs
    ]
    assert bench.same.tolist() == [True, True, False, False]
