from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from workbench import data
from workbench.data.stored import anchor
from workbench.errors import WorkbenchError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images, which is not the current folder."""
    for person in "ab":
        (tmp_path / "home" / "faces" / person).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "home" / "faces" / person / "1.png")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


def test_a_relative_path_is_looked_for_where_the_run_began(home: Path) -> None:
    assert (
        len(data.open_stored("folder:faces", str(home), "runs/a/config.yaml", "give another")) == 2
    )
    assert (
        len(
            data.open_stored(
                "folder:faces@1x1+folder:faces@min=1",
                str(home),
                "runs/a/config.yaml",
                "give another",
            )
        )
        == 3
    )


def test_without_one_there_the_current_folder_counts(home: Path, tmp_path: Path) -> None:
    (home / "faces").rename(tmp_path / "elsewhere" / "faces")
    assert (
        len(data.open_stored("folder:faces", str(home), "runs/a/config.yaml", "give another")) == 2
    )
    assert len(data.open_stored("folder:faces", None, "runs/a/config.yaml", "give another")) == 2


@pytest.mark.parametrize(
    ("folder", "began"), [(None, ""), ("/began/here", " of a run that began in /began/here")]
)
def test_what_is_missing_is_said_to_be_the_stored_path(
    home: Path, folder: str | None, began: str
) -> None:
    with pytest.raises(WorkbenchError) as caught:
        data.open_stored(
            "folder:gone", folder, "runs/a/config.yaml", "give the new place with --data"
        )
    assert str(caught.value) == (
        f"folder:gone: no such folder; 'folder:gone' is stored in runs/a/config.yaml{began}; "
        f"give the new place with --data"
    )


def test_the_folder_is_not_named_where_the_path_is_absolute(home: Path) -> None:
    with pytest.raises(
        WorkbenchError,
        match=r"no such folder; 'folder:/gone' is stored in runs/a/config.yaml; give another",
    ):
        data.open_stored("folder:/gone", str(home), "runs/a/config.yaml", "give another")


@pytest.mark.parametrize(
    ("spec", "anchored"),
    [
        ("folder:faces", "folder:{home}/faces"),
        ("folder:faces@1x1", "folder:{home}/faces@1x1"),
        ("folder:faces@min=2+folder:gone", "folder:{home}/faces@min=2+folder:gone"),
        ("packed:set", "packed:{home}/set"),
        ("webdataset:shard-{{0..3}}.tar", "webdataset:{home}/shard-{{0..3}}.tar"),
        ("webdataset:pipe:cat faces", "webdataset:pipe:cat faces"),
        ("folder:/faces", "folder:/faces"),
        ("folder:~/faces", "folder:~/faces"),
        ("synthfaces:500x20,seed=3", "synthfaces:500x20,seed=3"),
        ("orl", "orl"),
        ("synthfaces@100x20", "synthfaces@100x20"),
    ],
)
def test_only_relative_paths_that_lead_somewhere_are_anchored(
    home: Path, spec: str, anchored: str
) -> None:
    for name in ("set.bin", "set.idx", "shard-0.tar"):
        (home / name).touch()
    assert anchor(spec.format(), str(home)) == anchored.format(home=home)
