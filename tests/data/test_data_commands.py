"""`workbench data`: info, pack, pairs, overlap, render and show."""

from __future__ import annotations

import csv
import io
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import CommandResult, RunCommand
from PIL import Image

from workbench import data
from workbench.data.inspect.summary import ranges


@pytest.fixture
def workbench(run_command: RunCommand) -> RunCommand:
    """`workbench("info", "orl")` runs `workbench data info orl` in this process."""
    return partial(run_command, "data")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squares: None, cache: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_refused(said: CommandResult, *texts: str) -> None:
    assert said.code == 2
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    for text in texts:
        assert text in said.err


@pytest.mark.parametrize("command", ["info", "pack", "pairs", "overlap", "render", "show"])
def test_every_command_has_help(workbench: RunCommand, command: str) -> None:
    said = workbench(command, "--help")
    assert said.code == 0
    assert f"Usage: workbench data {command}" in said.out


@pytest.mark.usefixtures("here")
def test_render_says_where_and_renders_once(workbench: RunCommand) -> None:
    first = workbench("render", "synthfaces:3x2,size=32")
    assert first.code == 0
    assert first.out.splitlines() == [
        str(folder) for folder in data.render("synthfaces:3x2,size=32")
    ]
    assert "rendering 6 images of 3 people" in first.err
    again = workbench("render", "synthfaces:3x2,size=32")
    assert again == (0, first.out, "")
    assert "rendering 6 images" in workbench("render", "synthfaces:3x2,size=32", "--again").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("render", "synthfaces-poes"), "did you mean 'synthfaces-pose'"),
        (("render", "folder:x"), "unknown rendered set 'folder'"),
        (("render", "synthfaces:0x3"), "people must be"),
        (("render", "synthfaces-pose:3x3"), "only option"),
        (("render", "synthfaces", "--workers", "-1"), "--workers"),
        (("render",), "Missing argument"),
        (("show", "synthfaces", "--people", "0"), "--people"),
        (("show", "synthfaces", "--scale", "x"), "--scale"),
        (("show", "nope"), "unknown benchmark 'nope'"),
        (("show", "synthfaces:2x2,size=32", "--out", "a.jpg"), ".png"),
        (
            ("show", "synthfaces:2x2,size=32", "--out", "file/a.png"),
            "file/a.png: cannot be written",
        ),
        (
            ("show", "synthfaces:2x2,size=32", "--out", "folder.png"),
            "folder.png: cannot be written",
        ),
        (("show", "synthfaces:2x2,size=32", "--scale", "999"), "megapixels"),
        (("show", "synthfaces:2x2,size=32", "--augment", "stronk"), "did you mean 'strong'?"),
        (("show", "synthfaces:2x2,size=32", "--augment", "[flip"), "is not valid YAML"),
        (
            ("show", "synthfaces:2x2,size=32", "--augment", "strong", "--images", "2"),
            "--images cannot be combined with --augment",
        ),
        (("info", "synthfaces:2x"), "images must be"),
        (("info", "synthfaces:2x2,size=32@mni=2"), "did you mean 'min'"),
        (("info", "synthfaces:2x2,size=32", "--out", "a.csv"), "--verify"),
        (("pack", "synthfaces:2x2,size=32"), "Missing argument"),
        (("pack", "folder:nowhere", "a"), "no such folder"),
        (("pack", "synthfaces:2x2,size=32", "a", "--format", "zip"), "--format"),
        (("pack", "synthfaces:2x2,size=32", "a", "--broken", "maybe"), "--broken"),
        (("pack", "synthfaces:2x2,size=32", "a.bin"), "this is a training set"),
        (("pairs", "synthfaces:2x2,size=32", "a.bin"), "at least 4 are needed"),
        (("pack", "synthfaces:2x2,size=32", "file/a.rec"), "cannot be written"),
        (("pack", "synthfaces:2x2,size=32", "file", "--format", "folder"), "is there already"),
        (("pack", "bin:nowhere.bin", "a.rec"), "is a benchmark"),
        (("pack", "lfw", "a.bin"), "no lfw.bin"),
        (("pairs", "synthfaces:2x2,size=32", "a.csv"), "NAME.bin"),
        (("pairs", "synthfaces:2x2,size=32", "a.txt"), "a list needs files in one folder"),
        (("pairs", "synthfaces:2x2,size=32", "a.bin", "--folds", "1"), "--folds"),
        (("overlap", "synthfaces:2x2,size=32"), "Missing argument"),
        (("overlap", "bin:x.bin", "orl"), "is a benchmark"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(
    workbench: RunCommand, here: Path, arguments: tuple[str, ...], words: str
) -> None:
    (here / "file").touch()
    (here / "folder.png").mkdir()
    data.render("synthfaces:2x2,size=32", progress=False)
    assert_refused(workbench(*arguments), words)
    assert sorted(path.name for path in here.iterdir()) == ["cache", "file", "folder.png"]


@pytest.mark.parametrize("augment", ["adaface", "[flip, {blur: {kind: motion}}]"])
def test_show_draws_augmentations(workbench: RunCommand, here: Path, augment: str) -> None:
    spec = "synthfaces:5x4,size=32"
    done = workbench("show", spec, "--augment", augment, "--people", 2, "--scale", 1)
    assert done.out == "synthfaces-5x4-size32-augmented.png\n"
    rows = data.augmented(data.open(spec), yaml.safe_load(augment), faces=2)
    with Image.open(here / "synthfaces-5x4-size32-augmented.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape[0] == 2 + len(rows) * 34
    for row, faces in enumerate(rows.values()):
        for column, face in enumerate(faces):
            top, left = 2 + 34 * row, pixels.shape[1] - 34 * (2 - column)
            assert np.array_equal(pixels[top : top + 32, left : left + 32], face)


def test_show_writes_a_contact_sheet(workbench: RunCommand, here: Path) -> None:
    spec = "synthfaces:5x4,size=32"
    assert workbench("show", spec).out == "synthfaces-5x4-size32.png\n"
    with Image.open(here / "synthfaces-5x4-size32.png") as image:
        assert np.array_equal(np.asarray(image), data.contact_sheet(data.open(spec), scale=2))
    said = workbench(
        "show",
        spec,
        "--out",
        here / "new" / "sheet.png",
        "--people",
        2,
        "--images",
        3,
        "--scale",
        1,
    )
    assert said.code == 0
    content = (here / "new" / "sheet.png").read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(np.asarray(image), data.contact_sheet(data.open(spec), 2, 3, 1))
    assert [path.name for path in (here / "new").iterdir()] == ["sheet.png"]


def test_show_takes_any_source_or_benchmark(
    workbench: RunCommand, here: Path, identity_folder: Path
) -> None:
    assert workbench("show", f"folder:{identity_folder}").code == 0
    assert workbench("show", "synthfaces-invariance", "--people", 2).code == 0
    assert {path.name for path in here.glob("*.png")} == {"people.png", "synthfaces-invariance.png"}


@pytest.mark.usefixtures("here")
def test_info_tells_the_ranges_of_attributes(workbench: RunCommand) -> None:
    lines = workbench("info", "synthfaces:20x6,size=32").out.splitlines()
    assert lines[0] == "synthfaces:20x6,size=32: 120 images of 20 identities, the first 32 x 32"
    told = dict(line.split(": ", 1) for line in lines[1:])
    assert told["age"].startswith("20.")
    assert "median" in told["age"]
    assert told["glasses"].endswith("%")
    assert told["gender"].startswith("female ")
    assert "landmarks" not in told
    assert "factor" not in told  # empty in this album


@pytest.mark.usefixtures("squares", "common_cache")
def test_info_of_benchmarks(workbench: RunCommand) -> None:
    assert len(workbench("render", "synthfaces-id", "--workers", 0).out.splitlines()) == 2
    said = workbench("info", "synthfaces-invariance")
    assert "420 genuine and 2,100 impostor pairs in 10 folds, 480 images" in said.out
    assert "note: 60 synthetic people" in said.out
    assert "factor: age 60, illumination 60, none 120, occlusion 120, yaw 120" in said.out
    said = workbench("info", "synthfaces-id")
    assert "500 probes, 100 people enrolled with 100 images, 1,000 distractors" in said.out


def test_info_reads_every_image_when_asked_to(workbench: RunCommand, here: Path) -> None:
    spec = "synthfaces:3x2,size=32"
    (folder,) = data.render(spec, progress=False)
    assert "all 6 images can be read" in workbench("info", spec, "--verify").out
    pack = folder / "images.bin"
    content = bytearray(pack.read_bytes())
    content[-10] ^= 1
    pack.write_bytes(content)
    assert workbench("info", spec).code == 0
    said = workbench("info", spec, "--verify", "--out", here / "broken.csv")
    assert said.code == 1
    told = said.out.splitlines()[-2:]
    assert told[0] == "1 of 6 images cannot be read:"
    assert "evaluate, embed, alignment, pack and pairs with --broken skip" in said.err
    assert told[1].startswith(f"  {pack}, image 5: damaged")
    assert f"`workbench data render {spec} --again`" in told[1]
    assert "error" not in said.err
    rows = list(csv.reader((here / "broken.csv").read_text().splitlines()))
    assert rows[0] == ["image", "reason"]
    assert rows[1][0] == f"{pack}, image 5"
    assert workbench("render", spec, "--again").code == 0
    assert workbench("info", spec, "--verify").code == 0


def test_info_lists_the_first_of_many_broken_files(
    workbench: RunCommand, here: Path, identity_folder: Path
) -> None:
    for number in range(30):
        (identity_folder / "ann" / f"+{number:02d}.jpg").write_bytes(
            b"no picture"
        )  # the first of all
    said = workbench("info", f"folder:{identity_folder}", "--verify", "--out", "broken.csv")
    assert said.code == 1
    lines = said.out.splitlines()
    assert lines[1:5] == ["images per identity: 2 to 32, median 2", *lines[2:5]]
    assert lines[2].split(":")[0].strip() == "2-4 images"
    at = lines.index("30 of 36 images cannot be read:")
    assert lines[at + 1].startswith(f"  {identity_folder}/ann/+00.jpg: not an image")
    assert "the first cannot be read" in lines[0]
    assert len(lines) == at + 22
    assert lines[-1] == "  ... and 10 more"
    assert len((here / "broken.csv").read_text().splitlines()) == 31


@pytest.mark.parametrize(
    ("out", "kind", "opener"),
    [
        ("a", (), "pack"),
        ("a.rec", (), "recordio"),
        ("a", ("--format", "rec"), "recordio"),
        ("a", ("--format", "folder"), "folder"),
    ],
)
def test_pack_writes_what_the_name_says(
    out: str,
    kind: tuple[str, ...],
    opener: str,
    workbench: RunCommand,
    here: Path,
    identity_folder: Path,
) -> None:
    said = workbench("pack", f"folder:{identity_folder}@2x2", out, *kind)
    assert said.code == 0
    path, told = said.out.split(": ", 1)
    assert Path(path).resolve() == here / out
    assert told.startswith("4 images of 2 identities, ")
    spec = said.out.split("; ")[1].split(" opens it")[0]
    assert spec.startswith(f"{opener}:")
    assert len(data.open(spec)) == 4


def test_pack_leaves_out_what_is_broken_when_asked(
    workbench: RunCommand, here: Path, identity_folder: Path
) -> None:
    (identity_folder / "ann" / "0.png").write_bytes(b"")
    said = workbench("pack", f"folder:{identity_folder}", "a")
    assert said.code == 2
    hint = (
        "to continue without images that cannot be read, give --broken skip "
        "(broken='skip' in Python)"
    )
    assert (
        said.err.splitlines()[-1]
        == f"error: {identity_folder}/ann/0.png: empty (0 bytes), expected an image file; {hint}"
    )
    assert not (here / "a").exists()
    said = workbench("pack", f"folder:{identity_folder}", "a", "--broken", "skip")
    assert said.code == 0
    assert "5 images of 3 identities" in said.out
    assert said.out.splitlines()[1:] == [
        "1 images cannot be read and were left out:",
        f"  {identity_folder}/ann/0.png: empty (0 bytes), expected an image file",
    ]


@pytest.mark.usefixtures("here")
def test_a_benchmark_is_packed_as_a_bin(workbench: RunCommand) -> None:
    assert workbench("pairs", "synthfaces:20x3,size=32", "a.bin", "--pairs", "2").code == 0
    said = workbench("pack", "bin:a.bin", "b.bin")
    assert said.out.startswith("b.bin: 80 images, ")
    assert "bin:b.bin opens it" in said.out
    assert Path("a.bin").read_bytes() == Path("b.bin").read_bytes()


def test_pairs_are_written_as_pack_and_list(
    workbench: RunCommand, here: Path, identity_folder: Path
) -> None:
    for name in ("dan", "eve"):
        (identity_folder / name).mkdir()
        for number in range(2):
            (identity_folder / name / f"{number}.png").write_bytes(
                (identity_folder / "ann" / f"{number}.png").read_bytes()
            )
    said = workbench("pairs", f"folder:{identity_folder}", "a.txt", "--pairs", 1, "--seed", 2)
    assert said.code == 0
    assert f"pairs:a.txt@{identity_folder} opens it" in said.out
    assert (
        "note: a list of paths is read in 10 folds" not in said.out
    )  # four pairs are read in two folds
    assert workbench("info", f"pairs:a.txt@{identity_folder}").out.startswith(
        f"pairs:a.txt@{identity_folder}: 2 genuine and 2"
    )
    again = workbench("pairs", f"folder:{identity_folder}", "b.txt", "--pairs", 1, "--seed", 2)
    assert (again.code, (here / "b.txt").read_text()) == (0, (here / "a.txt").read_text())


def test_overlap_is_found_written_and_left_out(
    workbench: RunCommand, here: Path, identity_folder: Path
) -> None:
    source = f"folder:{identity_folder}"
    other = here / "other"
    for name in ("Bob", "CID", "zoe"):
        (other / name).mkdir(parents=True)
        (other / name / "0.png").write_bytes((identity_folder / "ann" / "0.png").read_bytes())
    said = workbench("overlap", source, f"folder:{other}")
    assert said.out.splitlines() == [
        f"2 of the 3 identities of {source} are among the 3 of folder:{other}",
        "  bob",
        "  cid",
    ]
    said = workbench("overlap", source, f"folder:{other}", "--out", "both.txt")
    assert (
        said.out.splitlines()[1]
        == f"both.txt. Next: workbench train --data {source}@exclude=both.txt"
    )
    assert (here / "both.txt").read_text() == "bob\ncid\n"
    assert data.open(f"{source}@exclude=both.txt").identity_names == ["ann"]
    assert "2 images of 1 identities" in workbench("info", f"{source}@exclude=both.txt").out
    assert (
        workbench(
            "overlap", f"{source}@exclude=both.txt", f"folder:{other}", "--out", "none.txt"
        ).code
        == 0
    )
    assert not (here / "none.txt").exists()
    assert_refused(
        workbench("overlap", source, f"folder:{other}", "--out", "other/zoe"),
        "other/zoe: cannot be written",
    )


def test_attributes_in_words() -> None:
    columns = {
        "age": [20.0, 30.5, float("nan"), 85.25],
        "count": np.array([3, 1, 2, 2]),
        "glasses": [True, False, False, False],
        "gender": ["male", "female", "male", "male"],
        "unknown": [float("nan")] * 4,
        "mixed": [None, "a", "a", 3],
        "landmarks": np.zeros((4, 5, 2)),
    }
    assert ranges(columns) == {
        "age": "20 to 85.25, median 30.5",
        "count": "1 to 3, median 2",
        "glasses": "25%",
        "gender": "female 1, male 3",
        "unknown": "not known",
        "mixed": "3 1, None 1, a 2",
    }
    assert ranges({"file": [f"{number}.png" for number in range(20)]}) == {}


def test_names_that_are_not_utf8_go_through_every_command(
    workbench: RunCommand, here: Path
) -> None:
    for person in (b"Ren\xe9", b"#hash", b" led", b'"q"', b"plain"):
        os.makedirs(os.fsencode(here / "people") + b"/" + person)
        for number in range(2):
            pixels = Image.new("RGB", (8, 8), (len(person), 90 * number, 0))
            pixels.save(os.path.join(here, "people", os.fsdecode(person), f"{number}.png"))
    for arguments in (
        ("pairs", "folder:people", "pairs.txt"),
        ("info", "pairs:pairs.txt@people"),
        ("info", "folder:people", "--verify"),
        ("overlap", "folder:people@4x2", "folder:people"),
        ("overlap", "folder:people", "folder:people@4x2", "--out", "both.txt"),
        ("info", "folder:people@exclude=both.txt"),
        *(("pack", "folder:people", f"out.{kind}") for kind in ("pack", "rec", "tar")),
        ("pack", "folder:people", "out", "--format", "folder"),
        ("pack", "pairs:pairs.txt@people", "out.bin"),
    ):
        said = workbench(*arguments)
        assert (said.code, "error" in said.err) == (0, False), said
    assert data.open("folder:people@exclude=both.txt").num_identities == 1
    for spec in ("pack:out.pack", "recordio:out.rec", "webdataset:out.tar"):
        assert os.fsdecode(b"Ren\xe9") in data.open(spec).identity_names
    (here / "people" / "plain" / "0.png").write_bytes(b"x")
    Path(here, "people", os.fsdecode(b"Ren\xe9"), "0.png").write_bytes(b"x")
    said = workbench("info", "folder:people", "--verify", "--out", "broken.csv")
    assert said.code == 1
    assert b"Ren\xe9" in (here / "broken.csv").read_bytes()


def test_info_says_how_a_list_was_understood(workbench: RunCommand, here: Path) -> None:
    (here / "faces").mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8), (9 * number, 0, 0)).save(here / "faces" / f"{number}.png")
    (here / "list.csv").write_text(
        "id,filename,name\n" + "".join(f"{n},{n}.png,{'ab'[n % 2]}\n" for n in range(4))
    )
    said = workbench("info", "folder:faces,list=list.csv")
    assert "4 images of 2 identities" in said.out
    assert "note: list list.csv: column 2 'filename' = path, column 3 'name' = identity" in said.out
    (here / "list.csv").write_text("".join(f"{n}.png,{n % 2},{n // 2}\n" for n in range(4)))
    assert_refused(workbench("info", "folder:faces,list=list.csv"), "cannot tell", "identity=2")
