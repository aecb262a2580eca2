"""Small imitations of CelebA and LFW in torchvision's folders, without the real checksums."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import celeba, lfw

from workbench import data
from workbench.images import to_png

ATTRIBUTES = [f"Attribute_{number}" for number in range(40)]
PEOPLE = {"Ann_Lee": 2, "Bob_Ray": 1, "Cid_Day": 3}


def picture(number: int) -> bytes:
    return to_png(np.full((6, 5, 3), number, dtype=np.uint8))


@pytest.fixture
def any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the checksums, because the lists are imitations."""
    for module in (celeba, lfw):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).is_file())


@pytest.fixture
def celeba_root(tmp_path: Path) -> Path:
    """Six images of the people 20, 3 and 100; the first four are for training."""
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, 7)]
    for number, name in enumerate(names):
        (folder / "img_align_celeba" / name).write_bytes(picture(number))
    rows = list(zip(names, (20, 3, 20, 100, 3, 3), (0, 0, 0, 0, 1, 1), strict=True))

    def flags(number: int) -> str:
        return "  ".join("1" if (number + i) % 3 == 0 else "-1" for i in range(40))

    lists = {
        "identity_CelebA.txt": "".join(f"{name} {who}\n" for name, who, _ in rows),
        "list_eval_partition.txt": "".join(f"{name} {part}\n" for name, _, part in rows),
        "list_attr_celeba.txt": f"6\n{' '.join(ATTRIBUTES)} \n"
        + "".join(f"{name}  {flags(i)}\n" for i, name in enumerate(names)),
        "list_bbox_celeba.txt": "6\nimage_id x_1 y_1 width height\n"
        + "".join(f"{name}    95  71 226 313\n" for name in names),
        "list_landmarks_align_celeba.txt": "6\nlefteye_x lefteye_y\n"
        + "".join(
            f"{name} {i} 109 106 113 77 142 73 152 108 154\n" for i, name in enumerate(names)
        ),
    }
    for name, text in lists.items():
        (folder / name).write_text(text)
    return tmp_path


@pytest.mark.usefixtures("any_checksum")
def test_celeba_has_identities_and_attributes(celeba_root: Path) -> None:
    dataset = data.open(f"celeba:{celeba_root}")
    assert dataset.name == "celeba"
    assert dataset.identity_names == ["3", "20", "100"]
    assert dataset.identities.tolist() == [1, 0, 1, 2]
    assert [int(dataset.images[i][0, 0, 0]) for i in range(4)] == [0, 1, 2, 3]
    assert list(dataset.attributes["file"]) == [f"{number:06d}.jpg" for number in range(1, 5)]
    assert list(dataset.attributes)[1:41] == ATTRIBUTES
    assert list(dataset.attributes["Attribute_1"]) == [False, False, True, False]
    assert dataset[2].attributes["Attribute_1"] is True
    assert dataset.attributes["landmarks"][3].tolist() == [
        [3, 109],
        [106, 113],
        [77, 142],
        [73, 152],
        [108, 154],
    ]
    assert np.array_equal(pickle.loads(pickle.dumps(dataset.images))[3], dataset.images[3])


@pytest.mark.usefixtures("any_checksum")
def test_celeba_has_parts(celeba_root: Path, complaint: Callable[..., Any]) -> None:
    assert data.open(f"celeba:{celeba_root},split=valid").identity_names == ["3"]
    whole = data.open(f"celeba:{celeba_root},split=all")
    assert (whole.name, len(whole)) == ("celeba-all", 6)
    with complaint("did you mean 'train'"):
        data.open(f"celeba:{celeba_root},split=trian")
    with complaint("did you mean 'split'"):
        data.open(f"celeba:{celeba_root},spilt=train")


def test_the_checksums_of_the_lists_are_compared(
    celeba_root: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("celeba: torchvision refuses the files", celeba_root / "celeba", "checksums"):
        data.open(f"celeba:{celeba_root}")


@pytest.mark.usefixtures("any_checksum")
def test_what_celeba_lacks_is_named(celeba_root: Path, complaint: Callable[..., Any]) -> None:
    (celeba_root / "celeba" / "identity_CelebA.txt").unlink()
    (celeba_root / "celeba" / "img_align_celeba").rename(celeba_root / "celeba" / "images")
    with complaint(
        "lacks identity_CelebA.txt, img_align_celeba/", "https://mmlab", celeba_root / "celeba"
    ):
        data.open(f"celeba:{celeba_root}")
    with complaint("no such folder"):
        data.open(f"celeba:{celeba_root / 'nowhere'}")
    with complaint("celeba:FOLDER"):
        data.open("celeba:")


@pytest.mark.usefixtures("any_checksum")
@pytest.mark.parametrize("text", ["", "000001.jpg\n", "000001.jpg x\n", "000001.jpg 1\n"])
def test_a_list_that_is_malformed_is_an_error(
    text: str, celeba_root: Path, complaint: Callable[..., Any]
) -> None:
    (celeba_root / "celeba" / "identity_CelebA.txt").write_text(text)
    with complaint("celeba"):
        data.open(f"celeba:{celeba_root}")


@pytest.fixture
def lfw_root(tmp_path: Path) -> Path:
    folder = tmp_path / "lfw-py"
    for kind in ("lfw_funneled", "lfw-deepfunneled"):
        for person, (name, count) in enumerate(PEOPLE.items()):
            (folder / kind / name).mkdir(parents=True)
            for number in range(1, count + 1):
                (folder / kind / name / f"{name}_{number:04d}.jpg").write_bytes(
                    picture(10 * person + number)
                )
    for name in ("lfw-funneled.tgz", "lfw-deepfunneled.tgz"):
        (folder / name).touch()
    (folder / "lfw-names.txt").write_text(
        "".join(f"{name}\t{count}\n" for name, count in PEOPLE.items())
    )
    (folder / "people.txt").write_text("2\n2\nCid_Day\t3\nAnn_Lee\t2\n1\nBob_Ray\t1\n")
    (folder / "peopleDevTrain.txt").write_text("2\nCid_Day\t3\nBob_Ray\t1\n")
    return tmp_path


@pytest.mark.usefixtures("any_checksum")
@pytest.mark.parametrize("options", ["", ",images=deepfunneled"])
def test_lfw_has_all_people_or_those_of_a_split(
    options: str, lfw_root: Path, complaint: Callable[..., Any]
) -> None:
    dataset = data.open(f"lfw-people:{lfw_root}{options}")
    assert dataset.name == "lfw-people"
    assert dataset.identity_names == ["Ann_Lee", "Bob_Ray", "Cid_Day"]
    assert dataset.identities.tolist() == [2, 2, 2, 0, 0, 1]
    assert [int(dataset.images[i][0, 0, 0]) for i in range(6)] == [21, 22, 23, 1, 2, 11]
    assert dataset.attributes["file"][3] == "Ann_Lee/Ann_Lee_0001.jpg"
    part = data.open(f"lfw-people:{lfw_root}{options},split=train")
    assert (part.name, part.identity_names, part.identities.tolist()) == (
        "lfw-people-train",
        ["Bob_Ray", "Cid_Day"],
        [1, 1, 1, 0],
    )
    with complaint("lacks peopleDevTest.txt", "folder:DIR"):
        data.open(f"lfw-people:{lfw_root}{options},split=test")


@pytest.mark.usefixtures("any_checksum")
def test_what_lfw_lacks_is_named(lfw_root: Path, complaint: Callable[..., Any]) -> None:
    with complaint("lacks lfw.tgz, lfw/ (unpacked from lfw.tgz)", lfw_root / "lfw-py"):
        data.open(f"lfw-people:{lfw_root},images=original")
    with complaint("did you mean 'deepfunneled'"):
        data.open(f"lfw-people:{lfw_root},images=deepfuneled")
    (lfw_root / "lfw-py" / "people.txt").write_text("2\nx\n")
    with complaint("lfw-people: torchvision refuses the files"):
        data.open(f"lfw-people:{lfw_root}")
