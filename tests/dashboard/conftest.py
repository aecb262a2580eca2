"""Small trained runs, and a fixture that opens a page of the dashboard on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import workbench as wb
from workbench.evaluation import projection

APP = Path(__file__).parents[2] / "app.py"
PAIRS, CLOSED = "people", "train"
"""The two evaluations of each run. The evaluation of pairs has the name of the folder."""

Opened = Callable[..., AppTest]


@pytest.fixture(scope="session", autouse=True)
def _components_are_scanned_once() -> Iterator[None]:
    """Remembers which installed packages have Streamlit components.

    Each `AppTest.run` would read the metadata of all installed packages, which takes most of its
    time.
    """
    with pytest.MonkeyPatch.context() as patch:
        once = cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", once)
        yield


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two finished runs, tiny-softmax and tiny-arcface, of six people.

    Both are evaluated on pairs and on the training images.
    """
    root = tmp_path_factory.mktemp("dashboard")
    data, folder = f"folder:{_people(root / 'people')}", root / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            projection, "_umap", lambda unit, seed: projection.pca(unit)[0]
        )  # compiling UMAP takes 20 s
        for loss in ("softmax", "arcface"):
            options = {"m": 0.2, "s": 16.0} if loss == "arcface" else {}
            run = wb.train(
                {
                    "data": data,
                    "loss": loss,
                    "loss_options": options,
                    "image_size": 16,
                    "embedding_dim": 8,
                    "epochs": 2,
                    "batch_size": 16,
                    "log_every": 1,
                    "runs_dir": str(folder),
                    "name": f"tiny-{loss}",
                },
                progress=False,
            )
            for benchmark in (data, CLOSED):
                wb.evaluate(run, benchmark, bootstrap=50, progress=False)
    yield folder
    shutil.rmtree(root)


def _people(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for person in range(6):
        (root / f"person{person}").mkdir(parents=True)
        colour = rng.integers(40, 200, 3)
        for number in range(8):
            pixels = (colour + rng.normal(0, 60, (16, 16, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"person{person}" / f"{number}.png")
    return root


@pytest.fixture
def some_runs(tiny_runs: Path, tmp_path: Path) -> Path:
    """A copy of the tiny runs, which a test may damage."""
    return Path(shutil.copytree(tiny_runs, tmp_path / "copied"))


@pytest.fixture
def open_page(tiny_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """`open_page("roc", benchmark="train")` runs the app once at that address.

    By default it shows the tiny runs. `AppTest.switch_page` only supports pages that are files;
    the pages of this dashboard are functions, so the hash of the address is set instead.
    """

    def opened(page: str = "", folder: Path = tiny_runs, **query: str | list[str]) -> AppTest:
        monkeypatch.setenv("WORKBENCH_RUNS", str(folder))
        app = AppTest.from_file(str(APP), default_timeout=60)
        app._page_hash = calc_hash(page) if page else ""
        for key, value in query.items():
            app.query_params[key] = value
        return app.run()

    return opened
