"""benchmarks/faces.py, on one size and a small archive."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from workbench import images

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faces.py"


@pytest.mark.slow
def test_it_measures_and_counts_misses(tmp_path: Path) -> None:
    pytest.importorskip("anny")
    out, archive = tmp_path / "faces.json", tmp_path / "photos.zip"
    with ZipFile(archive, "w") as file:
        file.writestr("nobody.png", images.to_png(np.full((60, 60, 3), 90, dtype=np.uint8)))
    options = [
        "--sizes",
        "250x250",
        "--rounds",
        "1",
        "--processes",
        "1",
        "--images",
        str(archive),
        "--out",
        str(out),
    ]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert set(found["milliseconds"]["250x250"]) == {"network alone", "detect", "align"}
    assert found["processes"]["images_per_second"] > 0
    assert (found["photos"]["photos"], found["photos"]["missed"]) == (1, ["nobody.png"])
    assert "missed: nobody.png" in done.stdout
