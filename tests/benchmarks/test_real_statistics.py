"""benchmarks/real_statistics.py: its statistics of made-up crops, and the comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from workbench.errors import WorkbenchError


@pytest.fixture
def script(import_script: Callable[[str], Any]) -> Any:
    return import_script("real_statistics.py")


def _crops(count: int, colour: tuple[int, int, int], noise: float) -> NDArray[np.uint8]:
    draw = np.random.default_rng(0)
    values = np.array(colour) + noise * draw.standard_normal((count, 112, 112, 3))
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 10.0])
def test_noise_sigma_is_that_of_white_noise(script: Any, sigma: float) -> None:
    row, column = np.mgrid[:200, :200]
    noise = sigma * np.random.default_rng(1).standard_normal((200, 200))
    assert script.noise_sigma(noise + 0.3 * row - 0.2 * column) == pytest.approx(sigma, rel=0.03)


def test_the_spectrum_finds_the_band_of_a_wave(script: Any) -> None:
    column = np.arange(80) / 80
    for number, periods in enumerate((1, 3, 6, 12, 20, 28, 36)):
        wave = np.tile(np.sin(2 * np.pi * periods * column), (80, 1))
        assert int(np.argmax(script.spectrum(wave))) == number


def test_the_spectrum_of_white_noise_is_flat(script: Any) -> None:
    draw = np.random.default_rng(2)
    decibels = np.array([script.spectrum(draw.standard_normal((80, 80))) for _ in range(60)])
    mean_power = 10 * np.log10((10 ** (decibels / 10)).mean(axis=0))
    # The lowest band loses power, as the mean is subtracted before the Hann window is applied.
    assert np.abs(mean_power[1:]).max() < 0.25


def test_statistics_of_a_plain_colour(script: Any) -> None:
    values = script.statistics(_crops(3, (200, 100, 50), 0.0))
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert values["luma mean"] == pytest.approx(np.full(3, luma))
    assert values["skin luma"] == pytest.approx(np.full(3, luma))
    assert values["red mean"] == pytest.approx(np.full(3, 200))
    assert values["saturation"] == pytest.approx(np.full(3, 0.75))
    assert values["skin red/green"] == pytest.approx(np.full(3, 2.0))
    for name in ("luma sd", "edges mean", "noise sigma", "skin texture", "left/right light"):
        assert values[name] == pytest.approx(np.zeros(3), abs=1e-6), name


def test_grey_crops_have_no_statistics_of_colours(script: Any) -> None:
    grey = np.repeat(_crops(2, (90, 90, 90), 5.0)[..., :1], 3, axis=3)
    values = script.statistics(grey)
    assert "luma mean" in values
    assert "saturation" not in values
    mixed = script.statistics(np.concatenate([grey, _crops(2, (200, 100, 50), 5.0)]))
    assert len(mixed["saturation"]) == len(mixed["luma mean"]) == 2


def test_the_gap_is_the_wasserstein_distance_in_standard_deviations(script: Any) -> None:
    draw = np.random.default_rng(3)
    real, own = draw.normal(10, 2, 40_000), draw.normal(13, 2, 40_000)
    gaps = script.gaps({"x": own, "only here": own}, {"x": script.quantiles(real), "other": [1.0]})
    median, real_median, gap = gaps.pop("x")
    assert not gaps
    assert (median, real_median) == pytest.approx((13, 10), abs=0.1)
    assert gap == pytest.approx(wasserstein_distance(own, real) / 2, rel=0.03)
    (same,) = script.gaps({"x": real}, {"x": script.quantiles(real)}).values()
    assert same[2] < 0.01


def test_the_stored_statistics_are_those_that_the_script_computes(script: Any) -> None:
    stored = script.load(script.STORED)
    assert set(stored) == {"utkface", "orl"}
    computed = script.statistics(_crops(2, (200, 100, 50), 5.0))
    assert set(stored["utkface"]) == set(computed)
    assert set(stored["orl"]) < set(computed)
    for statistics in stored.values():
        for name, values in statistics.items():
            assert len(values) == len(script.QUANTILES), name
            assert (np.diff(values) >= 0).all(), name


def test_a_table_begins_with_the_largest_gap(script: Any) -> None:
    lines = script.table("utkface", {"a:b": {"small": (1, 1, 0.1), "large": (2, 1, 3.0)}})
    first, second = (
        next(i for i, line in enumerate(lines) if name in line) for name in ("large", "small")
    )
    assert first < second
    assert "1.55" in lines[-1]


def test_a_damaged_file_is_one_line_of_error(script: Any, tmp_path: Path) -> None:
    file = tmp_path / "stored.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(WorkbenchError, match=r"stored\.json: cannot be read"):
        script.load(file)
