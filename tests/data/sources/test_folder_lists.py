"""`folder:DIR,list=FILE`: lists in many formats, and paths that lead out of the folder."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data
from workbench.data.io.image_lists import ListWarning, read_image_list

pytestmark = pytest.mark.filterwarnings("ignore::workbench.data.io.image_lists.ListWarning")
LISTED = [("bob/1.png", "b"), ("ann/0.png", "a"), ("ann/1.png", "b")]


def opened(root: Path, text: str | bytes, name: str = "list.txt") -> data.Dataset:
    (root.parent / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return data.open(f"folder:{root},list={root.parent / name}")


def check(dataset: data.Dataset) -> None:
    """Checks that the images are those of LISTED, in that order."""
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
    assert opened(identity_folder, "ann/0.png 010\nbob/0.png 9\ncid/0.png 10\n").identity_names == [
        "010",
        "10",
        "9",
    ]


def test_without_labels_the_folder_is_the_identity(
    identity_folder: Path, complaint: Callable[..., Any]
) -> None:
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
    assert list(opened(identity_folder, "5 ann b/0.png\n4 bob/1.png\n").attributes["file"]) == [
        "ann b/0.png",
        "bob/1.png",
    ]


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
    for path in (
        "../secret.png",
        str(secret),
        "ann/link.png",
        "up/secret.png",
        "ann/../../secret.png",
        "..\\secret.png",
    ):
        with complaint("list.txt, line 2", "leads out of"):
            opened(identity_folder, f"ann/0.png 1\n{path} 2\n")


def test_what_stays_inside_is_not(identity_folder: Path) -> None:
    (identity_folder / "ann" / "link.png").symlink_to(identity_folder / "bob" / "1.png")
    other = identity_folder.parent / "elsewhere"
    other.symlink_to(identity_folder)
    text = f"{identity_folder}/ann/0.png 1\nann/link.png 2\n{other}/bob/0.png 3\n"
    for root in (identity_folder, other):
        dataset = opened(root, text)
        assert [dataset.images[i][0, 0].tolist() for i in range(3)] == [
            [0, 0, 50],
            [40, 100, 50],
            [40, 0, 50],
        ]


def test_missing_images_are_counted(identity_folder: Path, complaint: Callable[..., Any]) -> None:
    with complaint("list.txt, line 2", "2 of the 3 images", "'no/0.png'"):
        opened(identity_folder, "ann/0.png 1\nno/0.png 1\nno/1.png 2\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("path,label\n", "line 1: expected"),
        ("Class_ID,Name\nn1,Ann\n", "no image in 'n1,Ann'"),
        ("ann/0.png 1\nbob/0.png\n", "line 2: expected 2 fields as in line 1"),
        ("ann/0.png,1\nbob/0.png\n", "line 2: expected 2 fields as in line 1"),
        ("ann/0.png,1\nbob/0.png,\n", "line 2: expected path and label"),
        ("ann/0.png,1\n,2\n", "line 2: expected path and label"),
        ('ann/0.png,1\n"bob,2\n', "list.txt"),
        ("ann/0.png,1\n" + "x" * 200_000 + ",2\n", "list.txt"),
        ("ann/0.png\tx\nb\0.png\tx\n", "line 2"),
        ("a" * 5000 + ".png 1\n", "1 of the 1 images that list.txt lists"),
        (b"ann/\xff.png x\n", "save it in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00", "UTF-8"),
    ],
)
def test_malformed_lists_are_errors(
    text: str | bytes, message: str, identity_folder: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("list.txt", message):
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
    (folder / "mutated.txt").write_bytes(
        mutate("\n".join(shape.format(*pair) for pair in LISTED).encode(), seed)
    )
    with at_worst_complaint("mutated"):
        assert 1 <= len(read_image_list(folder / "mutated.txt", folder, {}).files) <= 9
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
    shown = {
        key: list(dataset.attributes[key]) for key in ("session", "light", "expression", "camera")
    }
    assert shown == {
        "session": ["S001"] * 2,
        "light": ["L1"] * 2,
        "expression": ["E01"] * 2,
        "camera": ["C1", "C10"],
    }


def test_the_parts_of_a_set_are_not_identities(
    identity_folder: Path, complaint: Callable[..., Any]
) -> None:
    for part in ("train", "test"):
        (identity_folder / part / "n000001").mkdir(parents=True)
        os.link(
            identity_folder / "ann" / "0.png", identity_folder / part / "n000001" / "0001_01.png"
        )
    assert data.open(f"folder:{identity_folder}").num_identities == 5
    for name in ("ann", "bob", "cid"):
        (identity_folder / name).rename(identity_folder / f".{name}")
    with complaint("test, train", f"folder:{identity_folder}/train"):
        data.open(f"folder:{identity_folder}")
    assert data.open(f"folder:{identity_folder / 'train'}").identity_names == ["n000001"]


# Columns


ROWS = [
    ("ann/0.png", "a"),
    ("ann/1.png", "a"),
    ("bob/0.png", "b"),
    ("bob/1.png", "b"),
    ("cid/0.png", "c"),
    ("cid/1.png", "c"),
]


def columns(shape: str, mark: str = ",") -> str:
    """Returns lines with the columns of ROWS.

    The columns are letters, e.g. "i p l": "i" a running number, "p" the path, "l" the label, "v" 0 or
    1, "f" a fraction, "n" a number.
    """
    lines = []
    for number, (path, label) in enumerate(ROWS):
        values = {
            "i": number,
            "p": path,
            "l": label,
            "v": number % 2,
            "f": f"{number / 7:.3f}",
            "n": 3 * "abc".index(label),
        }
        lines.append(mark.join(str(values[key]) for key in shape.split()))
    return "\n".join(lines) + "\n"


def shows(dataset: data.Dataset, names: list[str] | None = None) -> None:
    """Checks that the images and identities are those of ROWS."""
    assert list(dataset.attributes["file"]) == [path for path, _ in ROWS]
    assert dataset.identities.tolist() == [0, 0, 1, 1, 2, 2]
    assert list(dataset.identity_names) == (names or ["a", "b", "c"])


@pytest.mark.parametrize(
    ("text", "name", "note"),
    [
        (
            "id,filename,name\n" + columns("i p l"),
            "list.csv",
            "column 2 'filename' = path, column 3 'name' = identity",
        ),
        (
            ",Path,Label\n" + columns("i p l"),
            "list.csv",
            "column 2 'Path' = path, column 3 'Label' = identity",
        ),
        (
            "file;age;name\n" + columns("p i l", ";"),
            "list.csv",
            "column 1 'file' = path, column 3 'name' = identity",
        ),
        (
            "label,identity,image path\n" + columns("v l p"),
            "list.csv",
            "column 3 'image path' = path, column 2 'identity'",
        ),
        (
            "wer,bild,nummer\n" + columns("l p i"),
            "list.csv",
            "column 2 'bild' = path, column 1 'wer' = identity",
        ),
        (
            "# path label\n" + columns("p l", " "),
            "list.txt",
            "column 1 'path' = path, column 2 'label' = identity",
        ),
        (
            '"path" "label"\n' + columns("i p l", " "),
            "list.txt",
            "column 2 'path' = path, column 3 'label' = identity",
        ),
        (columns("i p l"), "list.csv", "column 2 = path, column 3 = identity"),
        (columns("f l p i", "\t"), "list.tsv", "column 3 = path, column 2 = identity"),
        (columns("l p"), "list.csv", "column 2 = path, column 1 = identity"),
        (columns("i l p", "\t"), "list.lst", "column 3 = path, column 2 = identity"),
        (
            "# made by im2rec\n" + columns("p l", " "),
            "list.txt",
            "1 lines that begin with # are comments",
        ),
        (columns("p l") + columns("p l"), "list.csv", "6 lines repeat others and count once"),
        (
            columns("p l").replace("/", "\\").replace("\n", "\r\n"),
            "list.csv",
            "column 1 = path, column 2 = identity",
        ),
        (
            columns("p l", ", ").replace("ann/0.png", '" ./ann/0.png"'),
            "list.csv",
            "column 1 = path, column 2 = identity",
        ),
        (columns("p l").replace("\n", "\r"), "list.csv", "column 1 = path, column 2 = identity"),
        (columns("p l").encode("utf-16"), "list.csv", "column 1 = path, column 2 = identity"),
        (
            columns("p l").replace(",", ",,").replace("\n", ",,\n"),
            "list.csv",
            "column 1 = path, column 3 = identity",
        ),
    ],
)
def test_columns_are_recognised_and_said(
    text: str | bytes, name: str, note: str, identity_folder: Path
) -> None:
    dataset = opened(identity_folder, text, name)
    shows(dataset)
    assert dataset.note.startswith(f"list {name}: ")
    assert note in dataset.note


@pytest.mark.parametrize("shape", ["i n p", "i n v p", "i n v f p", "v p n", "v p n f f"])
def test_mxnets_and_insightfaces_lists_are_known(shape: str, identity_folder: Path) -> None:
    shows(opened(identity_folder, columns(shape, "\t"), "train.lst"), ["0", "3", "6"])
    floats = (
        columns(shape, "\t")
        .replace("\t3\t", "\t3.000000\t")
        .replace("\t6\t", "\t6.000000\t")
        .replace("\t0\t", "\t0.000000\t")
    )
    shows(opened(identity_folder, floats, "train.lst"), ["0", "3", "6"])


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (columns("p l v"), ("column 2 ('a', ...) or column 3 ('0', ...)", "identity=2")),
        ("file,score2,level\n" + columns("p v n"), ("column 2 'score2'", "column 3 'level'")),
        (columns("i p"), ("column 1 ('0', ...)", "identity=folder")),
        ("id,file\n" + columns("i p"), ("column 1 'id'", "identity=1")),
        (columns("p p l"), ("column 1 and column 2 both hold images", "path=1", "pairs:LIST@ROOT")),
        (
            columns("p l") + "ann/0.png,b\n",
            ("lines 1 and 7", "'ann/0.png' has two labels, 'a' and 'b'"),
        ),
        (columns("p l") + "./bob/../ann//0.png,b\n", ("lines 1 and 7",)),
        (columns("p l") + "ann/0.png,a,b\n", ("line 7: expected 2 fields as in line 1, found 3",)),
        (columns("p l") + "ann/2.png,a\n", ("line 7: 'ann/2.png' is not in", "did you mean 'ann/")),
        (columns("p l") + "anm/0.png,a\n", ("line 7", "did you mean 'ann/0.png'")),
        (columns("p l") + "Ann/0.PNG,a\n", ("line 7", "1 of the 7 images")),
        (
            columns("p l").replace("ann/0.png", "people/ann/0.png"),
            ("line 1", "it exists without 'people/'", "the folder above"),
        ),
        ("# nothing\n# at all\n", ("only comments",)),
        ("a\0b.png,1\n", ("line 1: holds a zero byte",)),
    ],
)
def test_ambiguous_lists_are_refused(
    text: str, messages: tuple[str, ...], identity_folder: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("list.txt", *messages):
        opened(identity_folder, text)


def test_columns_can_be_stated(identity_folder: Path, complaint: Callable[..., Any]) -> None:
    (identity_folder / "list.csv").write_text("shot,who,light\n" + columns("p l v"))
    (identity_folder / "two.csv").write_text(
        "raw,crop,who\n" + "".join(f"x/{i}.png,{p},{who}\n" for i, (p, who) in enumerate(ROWS))
    )
    spec = f"folder:{identity_folder},list="
    for option in ("who", "2", "WHO"):
        shows(data.open(f"{spec}list.csv,identity={option}"))
    assert data.open(f"{spec}list.csv,identity=light").identity_names == ["0", "1"]
    shows(data.open(f"{spec}list.csv,identity=folder"), ["ann", "bob", "cid"])
    shows(data.open(f"{spec}two.csv,path=crop,identity=who"))
    with complaint("line 2: 'x/0.png' is not in"):
        data.open(f"{spec}two.csv,path=1,identity=3")
    with complaint("identity= of", "'hwo'", "did you mean 'who'"):
        data.open(f"{spec}list.csv,identity=hwo")
    with complaint("is the column of the paths"):
        data.open(f"{spec}list.csv,identity=shot")
    with complaint("identity= states a column of a list"):
        data.open(f"folder:{identity_folder},identity=2")


def test_what_was_understood_is_warned_of_and_stays_with_parts_and_sums(
    identity_folder: Path,
) -> None:
    with pytest.warns(
        ListWarning, match=r"people: list list\.txt: column 1 = path, column 2 = identity"
    ):
        note = opened(identity_folder, columns("p l")).note
    spec = f"folder:{identity_folder},list={identity_folder.parent / 'list.txt'}"
    assert data.open(f"{spec}@2x1").note == note
    assert data.open(f"{spec}@2x1+{spec}").note.count(note) == 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("other", ["NFC", "NFD"])
def test_names_are_found_in_either_unicode_normalisation(
    form: Any, other: Any, identity_folder: Path
) -> None:
    folder, file = unicodedata.normalize(form, "Zoë"), unicodedata.normalize(other, "Ümit ä.png")
    (identity_folder / "ann").rename(identity_folder / folder)
    (identity_folder / folder / "0.png").rename(identity_folder / folder / file)
    for listed in ("NFC", "NFD"):
        text = unicodedata.normalize(listed, "Zoë/Ümit ä.png,a\nbob/0.png,b\n")  # type: ignore[arg-type]
        assert opened(identity_folder, text).images[0].shape == (10, 12, 3)


def test_a_label_in_two_unicode_normalisations_is_one_identity(identity_folder: Path) -> None:
    zoe = [unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD")]
    assert zoe[0] != zoe[1]
    dataset = opened(identity_folder, f"ann/0.png,{zoe[0]}\nann/1.png,{zoe[1]}\nbob/0.png,Bob\n")
    assert dataset.identity_names == ["Bob", zoe[0]]
    assert dataset.identities.tolist() == [1, 1, 0]


def test_names_that_are_not_utf8_are_found(identity_folder: Path) -> None:
    os.rename(identity_folder / "ann", os.fsencode(identity_folder) + b"/Ren\xe9")
    dataset = opened(identity_folder, b"Ren\xe9/0.png,Ren\xe9\nbob/0.png,b\n")
    assert dataset.images[0].shape == (10, 12, 3)
    assert dataset.identity_names == [os.fsdecode(b"Ren\xe9"), "b"]


ODD = st.text(
    st.characters(exclude_characters="\0\n\r/", exclude_categories=["Cs"]), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(
        ODD.filter(lambda name: name.strip(". ") != ""), min_size=2, max_size=5, unique=True
    ),
    mark=st.sampled_from(",;\t"),
)
def test_odd_names_in_quotes_are_found(
    names: list[str], mark: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("odd")
    with (root.parent / "odd.csv").open("w", encoding="utf-8", newline="") as file:
        for number, name in enumerate(names):
            (root / name).mkdir(exist_ok=True)
            (root / name / f"{name}.png").write_bytes(b"x")
            csv.writer(file, delimiter=mark, quoting=csv.QUOTE_ALL).writerow(
                [f"{name}/{name}.png", f"who{number}"]
            )
    dataset = data.open(f"folder:{root},list={root.parent / 'odd.csv'}")
    assert list(dataset.attributes["file"]) == [f"{name}/{name}.png" for name in names]
    assert [dataset.identity_names[i] for i in dataset.identities] == [
        f"who{number}" for number in range(len(names))
    ]


@pytest.mark.usefixtures("modest_memory")
def test_huge_and_binary_lists_are_one_line(
    identity_folder: Path, complaint: Callable[..., Any]
) -> None:
    file = identity_folder.parent / "list.txt"
    with file.open("wb") as sparse:
        sparse.truncate(2**40)
    with complaint("list.txt", "GB"):
        data.open(f"folder:{identity_folder},list={file}")
    rng = np.random.default_rng(0)
    for content in (
        rng.bytes(10_000),
        rng.integers(1, 256, 10_000, dtype=np.uint8).tobytes(),
        b"\xff\xfe\x00",
        b"\r" * 99,
        b'"' * 99,
    ):
        with complaint("list.txt"):
            opened(identity_folder, content)
