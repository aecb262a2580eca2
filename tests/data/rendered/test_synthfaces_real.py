"""The renderer itself, as training sets and benchmarks use it: on a few people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from workbench import data, images, synthfaces
from workbench.data.rendered.benchmarks import IMAGES
from workbench.data.rendered.rendering import ensure
from workbench.data.rendered.store import RenderSettings, open_packed

FIRST = synthfaces.TEST_PEOPLE


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("WORKBENCH_CACHE", str(folder))
        yield folder


def rendered(people: int, count: int, album: str) -> data.Dataset:
    settings = RenderSettings(people, count, album, first=FIRST, size=48)
    ensure(settings, workers=0, progress=False)
    return open_packed(settings, album, "make it again")


def test_a_training_set_holds_the_portraits_whoever_rendered_them() -> None:
    dataset = data.open("synthfaces:2x3,size=48,seed=1")
    alone = [
        portrait
        for person in range(2)
        for portrait in synthfaces.portraits(person, images=3, seed=1, size=48)
    ]
    assert dataset.identities.tolist() == [0, 0, 0, 1, 1, 1]
    assert set(dataset.attributes) == {"landmarks", *synthfaces.ATTRIBUTES}
    for index, portrait in enumerate(alone):
        pixels = dataset.images[index]
        assert pixels.shape == (48, 48, 3)
        # Rendered in another process: on one machine to the bit.
        assert np.array_equal(pixels, images.decode(portrait.jpeg))
        assert np.array_equal(dataset.attributes["landmarks"][index], portrait.landmarks)
        assert {
            key: dataset.attributes[key][index] for key in portrait.attributes
        } == portrait.attributes


@pytest.mark.parametrize(
    ("album", "attribute", "first", "second"),
    [
        ("pose", "yaw", (0, 12), (60, 90)),
        ("age", "age", (20, 35), (60, 85)),
        ("light", "illumination", (0, 30), (45, 90)),
        ("occlusion", "occlusion", (0, 0.02), (1e-3, 0.9)),
    ],
)
def test_halves_of_an_album_are_the_two_conditions(
    album: str, attribute: str, first: tuple[float, float], second: tuple[float, float]
) -> None:
    dataset = rendered(2, IMAGES, album)
    values = np.abs(np.asarray(dataset.attributes[attribute])).reshape(2, 2, IMAGES // 2)
    for half, (low, high) in enumerate((first, second)):
        assert values[:, half].min() >= low
        assert values[:, half].max() <= high


def test_a_sweep_begins_with_its_reference() -> None:
    dataset = rendered(1, synthfaces.INVARIANCE_IMAGES, "invariance")
    columns = {key: np.asarray(column) for key, column in dataset.attributes.items()}
    assert columns["factor"][0] == "none"
    assert set(columns["factor"]) == {"none", "yaw", "age", "illumination", "occlusion"}
    for name, tolerance in (("yaw", 1), ("age", 1), ("illumination", 1), ("occlusion", 0.03)):
        others = columns["factor"] != name
        apart = np.abs(columns[name] - columns[name][0])
        assert apart[others].max() <= tolerance
        assert apart[~others].min() > tolerance
