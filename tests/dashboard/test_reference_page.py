"""The page without runs offers the reference runs with one click."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from workbench import reference

Opened = Callable[..., AppTest]
BUTTON = "Copy the 2 reference runs into this folder"


@pytest.fixture
def gallery(tiny_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose reference runs are the tiny runs."""
    package = tmp_path / "package"
    shutil.copytree(tiny_runs, package / "runs")
    lines = [f"tiny-{loss},{loss},8,0,True,people,0.9" for loss in ("softmax", "arcface")]
    (package / "figures.csv").write_text(
        "\n".join(["run,loss,dimension,seed,ships,figure,value", *lines])
    )
    monkeypatch.setattr(reference, "SHIPPED", package / "runs")
    monkeypatch.setattr(reference, "FIGURES", package / "figures.csv")
    return package


@pytest.mark.usefixtures("gallery")
def test_one_click_copies_and_chooses_the_reference_runs(open_page: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    app = open_page("", folder=folder)
    assert [title.value for title in app.title] == ["No runs yet"]
    (button,) = [one for one in app.button if one.label == BUTTON]
    button.click().run()
    assert not app.exception
    assert [title.value for title in app.title] == ["Leaderboard"]
    assert app.multiselect(key="run").value == ["tiny-softmax", "tiny-arcface"]
    assert app.selectbox(key="benchmark").value == "people"
    assert not app.warning
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [
        "tiny-arcface",
        "tiny-softmax",
    ]


@pytest.mark.usefixtures("gallery")
@pytest.mark.parametrize("folder", ["/proc/1/mem", "/proc/none", "zero\0byte", "x" * 5000])
def test_a_folder_that_cannot_be_written_to_is_an_error_on_the_page(
    open_page: Opened, folder: str
) -> None:
    app = open_page("", runs=folder)
    (button,) = [one for one in app.button if one.label == BUTTON]
    button.click().run()
    assert not app.exception
    assert [title.value for title in app.title] == ["No runs yet"]
    assert len(app.error) == 1


def test_without_reference_runs_there_is_no_button(
    open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "FIGURES", tmp_path / "none.csv")
    app = open_page("", folder=tmp_path)
    assert not app.button
