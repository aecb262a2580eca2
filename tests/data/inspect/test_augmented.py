"""Figures of augmentations: the rows, their titles, and the faces on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workbench import augmentation, data


def people(count: int = 8, images: int = 3, side: tuple[int, int] = (12, 10)) -> data.Dataset:
    pixels = np.random.default_rng(0).integers(0, 256, (count * images, *side, 3), dtype=np.uint8)
    identities = np.repeat(np.arange(count), images)
    return data.Dataset("people", pixels, identities, [f"p{i}" for i in range(count)])


@pytest.mark.parametrize("preset", augmentation.presets())
def test_a_preset_has_a_row_for_each_augmentation(preset: str) -> None:
    rows = data.augmented(people(), preset)
    steps = augmentation.create(preset).steps
    together = 3 if len(steps) > 1 else 0
    assert len(rows) == 1 + len(steps) + together
    assert {row.shape for row in rows.values()} == {(6, 12, 10, 3)}
    assert {row.dtype for row in rows.values()} == {np.dtype(np.uint8)}
    shown = people()
    assert np.array_equal(rows["original"], np.stack([shown.images[3 * i] for i in range(6)]))


def test_titles_state_the_probability_and_every_image_is_changed() -> None:
    spec = [{"flip": {"probability": 0.5}}, {"noise": {"probability": 0.035}}]
    rows = data.augmented(people(), spec)
    titles = ["original", "flip, 50 %", "noise, 3.5 %"]
    assert list(rows) == [*titles, *(f"all together, draw {number}" for number in (1, 2, 3))]
    assert np.array_equal(rows["flip, 50 %"], rows["original"][:, :, ::-1])
    assert (rows["noise, 3.5 %"] != rows["original"]).any((1, 2, 3)).all()


def test_the_seed_decides_and_mixup_mixes_the_faces_shown() -> None:
    first, again, other = (
        data.augmented(people(), ["strong", "mixup"], faces=3, seed=seed) for seed in (0, 0, 1)
    )
    assert all(np.array_equal(first[title], again[title]) for title in first)
    assert not np.array_equal(first["affine, 100 %"], other["affine, 100 %"])
    assert first["mixup, 100 %"].shape == (3, 12, 10, 3)


def test_fewer_people_than_faces_and_images_of_other_sizes() -> None:
    images = [np.zeros((8, 8, 3), dtype=np.uint8), np.zeros((20, 30, 3), dtype=np.uint8)]
    mixed = data.Dataset("mixed", images, np.arange(2), ["p", "q"])
    assert data.augmented(mixed, "mirror")["original"].shape == (2, 8, 8, 3)


def test_bad_input_is_refused(complaint: Callable[..., Any]) -> None:
    with complaint("at least 1 face, got 0"):
        data.augmented(people(), "mirror", faces=0)
    with complaint("did you mean 'strong'"):
        data.augmented(people(), "stronk")
    bench = data.draw_pairs(people(5, 4))
    unknown = data.Benchmark("nobody", bench.images, bench.pairs, bench.same, bench.folds)
    with complaint("nobody", "identities are not known"):
        data.augmented(unknown, "mirror")
