"""The dashboard in a real browser: what only a browser shows."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn_face import photo as drawn_photo
from PIL import Image

import workbench as wb
from workbench.evaluation import projection

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install 'margin-workbench[dev]'"
)
pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = {  # in the navigation: (h1, charts on the way)
    "ROC and DET": ("ROC and DET", True),
    "Angles": ("Angles", True),
    "Map": ("Map of the embeddings", True),
    "Training": ("Training", True),
    "Live": ("Live", False),
    "Two photos": ("Two photos", False),
    "Leaderboard": ("Leaderboard", True),
}
NAMES = ("seen-arcface", "seen-softmax")
WAIT = 90_000


@pytest.fixture(scope="module")
def seen_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    for person in range(6):
        (root / "people" / f"p{person}").mkdir(parents=True)
        for number in range(8):
            picture(10 * person + number, 30 * person).save(
                root / "people" / f"p{person}" / f"{number}.png"
            )
    data = f"folder:{root}/people"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            projection, "_umap", lambda unit, seed: projection.pca(unit)[0]
        )  # the real one takes 20 s to load
        for name in NAMES:
            settings = {
                "data": data,
                "loss": name.removeprefix("seen-"),
                "image_size": 16,
                "embedding_dim": 8,
                "epochs": 2,
            }
            run = wb.train(
                settings
                | {"batch_size": 16, "log_every": 1, "runs_dir": f"{root}/runs", "name": name},
                progress=False,
            )
            for benchmark in (data, "train"):
                wb.evaluate(run, benchmark, bootstrap=50, progress=False)
    return root / "runs"


def picture(seed: int, shade: int, side: int = 16) -> Image.Image:
    pixels = shade + np.random.default_rng(seed).integers(0, 100, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def address(seen_runs: Path) -> Iterator[str]:
    """Of the dashboard, served as `streamlit run app.py` does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app.py",
        "--server.port",
        str(port),
        "--server.headless",
        "true",
    ]
    environment = os.environ | {"WORKBENCH_RUNS": str(seen_runs)}
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 60
        while not _healthy(port):
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.2)
        yield f"http://localhost:{port}"
    finally:
        server.kill()  # asked to terminate it would wait for the browser's open connections
        server.wait(timeout=60)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def chromium() -> Iterator[sync_api.Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(BROWSERS)} is in the PATH")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: sync_api.Browser) -> Iterator[sync_api.Page]:
    """A tab of 1400 x 1000.

    Fails at the end if a script of the page broke or Streamlit showed an exception.
    """
    tab = chromium.new_page(viewport={"width": 1400, "height": 1000})
    tab.set_default_timeout(WAIT)
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on(
        "console",
        lambda message: errors.append(message.text) if "Uncaught" in message.text else None,
    )
    yield tab
    assert errors == []
    assert tab.locator('[data-testid="stException"]').count() == 0
    tab.close()


def wait_for_title(page: sync_api.Page, title: str) -> None:
    """Until the page with this h1 is there and nothing is running any more."""
    sync_api.expect(page.locator("h1", has_text=re.compile(f"^{title}$"))).to_be_visible(
        timeout=WAIT
    )
    sync_api.expect(page.locator('[data-testid="stStatusWidget"]')).to_have_count(0, timeout=WAIT)


def choose(page: sync_api.Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def test_every_page_of_the_navigation(page: sync_api.Page, address: str) -> None:
    page.goto(address)
    wait_for_title(page, "Leaderboard")
    for link, (title, charts) in PAGES.items():
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=link).click()
        wait_for_title(page, title)
        drawn = page.locator(".js-plotly-plot .main-svg")
        if charts:
            sync_api.expect(drawn.first).to_be_visible(timeout=WAIT)
        assert page.locator('[data-testid="stException"]').count() == 0
        notes = 1 if title == "Live" else 0  # nothing is being trained
        alerts = page.locator('[data-testid="stAlert"]')
        sync_api.expect(alerts).to_have_count(notes, timeout=WAIT)


def test_chosen_benchmark_is_in_the_address_and_comes_back(
    page: sync_api.Page, address: str
) -> None:
    page.goto(f"{address}/angles")
    wait_for_title(page, "Angles")
    sync_api.expect(page.get_by_role("heading", name="Between two images")).to_be_visible(
        timeout=WAIT
    )
    choose(page, "Benchmark", "train")
    page.wait_for_url(re.compile(r"benchmark=train"))
    sync_api.expect(page.get_by_role("heading", name="Between two images")).to_have_count(0)

    page.goto(page.url)
    wait_for_title(page, "Angles")
    sync_api.expect(page.get_by_text("the centres that the loss learned")).to_be_visible(
        timeout=WAIT
    )
    sync_api.expect(page.get_by_role("heading", name="Between two images")).to_have_count(0)


def test_chosen_runs_and_folder_are_in_the_address_and_come_back(
    page: sync_api.Page, address: str, seen_runs: Path
) -> None:
    page.goto(f"{address}/?runs=/no/such/folder")
    wait_for_title(page, "No runs yet")
    page.get_by_role("textbox", name="Folder of runs").fill(str(seen_runs))
    page.get_by_role("textbox", name="Folder of runs").press("Enter")
    wait_for_title(page, "Leaderboard")
    chosen = page.get_by_test_id("stMultiSelect")
    for name in NAMES:
        sync_api.expect(chosen).to_contain_text(name, timeout=WAIT)
    page.get_by_role("combobox", name="Runs").press("Backspace")
    page.wait_for_url(re.compile(r"run=seen-\w+$"))
    left = page.url.rpartition("=")[2]
    (gone,) = set(NAMES) - {left}
    sync_api.expect(chosen).not_to_contain_text(gone)

    page.goto(page.url)
    wait_for_title(page, "Leaderboard")
    sync_api.expect(chosen).to_contain_text(left)
    sync_api.expect(chosen).not_to_contain_text(gone)


def test_uploaded_photos_get_the_similarity_that_the_models_give(
    page: sync_api.Page, address: str, seen_runs: Path
) -> None:
    photos = [picture(100, 20, side=48), picture(101, 90, side=48)]
    page.goto(f"{address}/photos")
    wait_for_title(page, "Two photos")
    for number, photo in enumerate(photos):
        buffer = io.BytesIO()
        photo.save(buffer, format="PNG")
        file = {"name": f"photo{number}.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
        page.locator('input[type="file"]').nth(number).set_input_files(file)  # type: ignore[arg-type]
        sync_api.expect(
            page.get_by_text(f"photo{number}.png, as the networks see it")
        ).to_be_visible(timeout=WAIT)
    values = page.locator('[data-testid="stMetricValue"]')
    sync_api.expect(values).to_have_count(
        len(NAMES), timeout=WAIT
    )  # torch is imported and two models are loaded
    wait_for_title(page, "Two photos")
    headings = [heading for heading in page.locator("h3").all_inner_texts() if heading in NAMES]
    assert sorted(headings) == list(NAMES)
    for name, shown in zip(headings, values.all_inner_texts(), strict=True):
        model = wb.evaluation.load_model(wb.runs.open(seen_runs / name), device="cpu")
        first, second = model.embed([np.asarray(photo) for photo in photos])[:, None]
        assert float(shown) == pytest.approx(wb.evaluation.similarity(first, second)[0], abs=5.1e-4)
    sync_api.expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=WAIT)


def test_faces_are_found_and_aligned(page: sync_api.Page, address: str, seen_runs: Path) -> None:
    photos = [
        drawn_photo((90, 20, 40), (140, 110, 90), size=(250, 300)),
        drawn_photo((120, 60, 40), turn=15),
    ]
    page.goto(f"{address}/photos?prepare=crop&run={NAMES[0]}")
    wait_for_title(page, "Two photos")
    for number, pixels in enumerate(photos):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        file = {"name": f"photo{number}.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
        page.locator('input[type="file"]').nth(number).set_input_files(file)  # type: ignore[arg-type]
        sync_api.expect(
            page.get_by_text(f"photo{number}.png, as the networks see it")
        ).to_be_visible(timeout=WAIT)
    model = wb.evaluation.load_model(wb.runs.open(seen_runs / NAMES[0]), device="cpu")
    value = page.locator('[data-testid="stMetricValue"]')

    def similarity(face: int) -> str:
        found = sorted(wb.faces.detect(photos[0]), key=lambda one: -one.size[0])[face]
        seen = [wb.faces.warp(photos[0], found.landmarks), wb.faces.align(photos[1])[0].image]
        first, second = model.embed(seen)[:, None]
        return f"{wb.evaluation.similarity(first, second)[0]:.3f}"

    sync_api.expect(value).to_have_count(1, timeout=WAIT)
    page.get_by_role("radio", name="align", exact=True).click()
    page.wait_for_url(re.compile(r"photos\?(?!.*prepare=crop)"))
    sync_api.expect(value).to_have_text(similarity(0), timeout=WAIT)
    page.get_by_role("radio", name="2", exact=True).click()
    sync_api.expect(page.get_by_text("face 2 of 2, 1 is the largest")).to_be_visible(timeout=WAIT)
    sync_api.expect(value).to_have_text(similarity(1), timeout=WAIT)


def test_nothing_is_asked_of_other_machines(page: sync_api.Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/photos")
    wait_for_title(page, "Two photos")
    page.goto(f"{address}/roc")
    wait_for_title(page, "ROC and DET")
    sync_api.expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=WAIT)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
