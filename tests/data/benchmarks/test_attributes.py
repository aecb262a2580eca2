"""Benchmarks of attributes: UTKFace, SynthFaces and any source with attributes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench import data
from workbench.data.sources.utkface import PARTS, part_of


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 grey images named as in UTKFace."""
    root = tmp_path_factory.mktemp("chips")
    for number in range(40):
        name = f"{20 + number}_{number % 2}_{number % 5}_2017011{number:012d}.jpg.chip.jpg"
        Image.new("RGB", (16, 16), (5 * number,) * 3).save(root / name)
    return root


def test_utkface_is_a_benchmark_of_attributes(chips: Path) -> None:
    bench = data.benchmark(f"utkface:{chips}")
    assert isinstance(bench, data.Attributes)
    assert not bench.has_people
    assert bench.columns == ["age", "gender", "race"]
    assert set(bench.dataset.attributes["gender"]) == {"male", "female"}
    assert len(bench.images) == 40
    assert data.is_source(f"utkface:{chips}")


def test_parts_divide_the_images(chips: Path) -> None:
    whole = data.open(f"utkface:{chips}")
    parts = {part: data.open(f"utkface:{chips},part={part}") for part in PARTS}
    files = [file for one in parts.values() for file in one.attributes["file"]]
    assert sorted(files) == sorted(whole.attributes["file"])
    assert 0 < len(parts["test"]) < len(parts["train"])
    assert parts["test"].name.endswith("-test")
    assert all(part_of(f"x/{file}") == "test" for file in parts["test"].attributes["file"])


def test_a_fifth_of_the_real_images_is_the_test_part(workbench_data: Path) -> None:
    spec = f"utkface:{workbench_data / 'utkface' / 'utkface_1200.zip'}"
    test = data.benchmark(f"{spec},part=test")
    assert 200 < len(test.images) < 300
    ages = np.asarray(test.dataset.attributes["age"])
    assert ages.min() < 5
    assert ages.max() > 85


def test_an_unknown_part(chips: Path, complaint) -> None:
    with complaint("part of utkface", "'tset'", "test"):
        data.open(f"utkface:{chips},part=tset")


def test_attributes_of_any_source(chips: Path, identity_folder: Path, complaint) -> None:
    bench = data.benchmark(f"attributes:utkface:{chips}@*x5")
    assert len(bench.images) == 10
    with complaint("no attributes", "utkface:DIR"):
        data.benchmark(f"attributes:folder:{identity_folder}")
    with complaint("needs a data set"):
        data.benchmark("attributes:")


def test_the_fingerprint_depends_on_the_attributes(chips: Path) -> None:
    bench = data.benchmark(f"utkface:{chips}")
    changed = {**bench.dataset.attributes, "age": [1] * 40}
    other = data.Attributes(
        data.Dataset("x", bench.images, bench.dataset.identities, ["a", "b"], changed)
    )
    assert bench.fingerprint() == data.benchmark(f"utkface:{chips}").fingerprint()
    assert bench.fingerprint() != other.fingerprint()
