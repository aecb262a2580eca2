"""Pages with a run whose loss has no class centres, alone and beside one that has some."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from workbench import runs

BOTH = ["tiny-arcface", "tiny-triplet"]


@pytest.fixture(scope="module")
def with_triplet(tiny_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tiny_runs, tmp_path_factory.mktemp("triplet") / "runs"))
    like = runs.open(folder / "tiny-arcface").config
    settings = like | {
        "loss": "triplet",
        "loss_options": {},
        "runs_dir": str(folder),
        "name": "tiny-triplet",
    }
    run = wb.train(settings, progress=False)
    for benchmark in (like["data"], "train"):
        wb.evaluate(run, benchmark, bootstrap=20, with_projection=False, progress=False)
    return folder


def _texts(app: AppTest) -> str:
    assert [error.message for error in app.exception] == []
    assert [warning.value for warning in app.warning] == []
    return "\n".join(
        element.value for group in (app.markdown, app.caption, app.info) for element in group
    )


@pytest.mark.parametrize("page", ["", "roc", "angles", "training", "photos"])
def test_every_page_opens(open_page: Callable[..., AppTest], with_triplet: Path, page: str) -> None:
    _texts(
        open_page(
            page,
            folder=with_triplet,
            run=["tiny-triplet"],
            benchmark="people" if page == "roc" else "train",
        )
    )


def test_training_shows_what_each_run_has_logged(
    open_page: Callable[..., AppTest], with_triplet: Path
) -> None:
    app = open_page(
        "training", folder=with_triplet, run=BOTH, curve="Training accuracy, without margin"
    )
    said = _texts(app)
    assert "Not logged by tiny-triplet." in said
    assert "to the own class centre; accuracy without margin" in said
    assert "between images of one person; active triplets" in said
    assert len(app.metric) == 2


def test_quantities_that_no_run_has_logged_are_not_offered(
    open_page: Callable[..., AppTest], with_triplet: Path
) -> None:
    def offered(*chosen: str) -> set[str]:
        app = open_page("training", folder=with_triplet, run=list(chosen))
        return set(app.button_group(key="curve").options)

    assert "Training accuracy, without margin" not in offered("tiny-triplet")
    assert "Triplets that cost something" not in offered("tiny-arcface")
    assert {"Training accuracy, without margin", "Triplets that cost something"} <= offered(*BOTH)


def test_angles_say_what_they_are_measured_to(
    open_page: Callable[..., AppTest], with_triplet: Path
) -> None:
    def said(*chosen: str, benchmark: str = "train") -> str:
        return _texts(
            open_page("angles", folder=with_triplet, run=list(chosen), benchmark=benchmark)
        )

    means = "the mean direction of each identity's other images"
    assert f"Class centres here are {means}." in said("tiny-triplet")
    assert "Class centres here are the centres that the loss learned." in said("tiny-arcface")
    assert (
        f"the centres that the loss learned; for tiny-triplet, which learns none, {means}."
        in said(*BOTH)
    )
    assert f"Class centres here are {means}." in said(*BOTH, benchmark="people")


def test_the_protocol_says_how_classes_were_predicted(
    open_page: Callable[..., AppTest], with_triplet: Path
) -> None:
    app = open_page("", folder=with_triplet, run=["tiny-triplet"], benchmark="train")
    assert "nearest class mean" in _texts(app) + json.dumps(
        [str(element.value) for element in app.dataframe]
    )
