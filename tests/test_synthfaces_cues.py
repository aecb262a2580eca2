"""Nothing trivial gives a synthetic person away: simple cues stay far below a network, even a small
one trained for a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from workbench import data
from workbench.evaluation import evaluate, verification
from workbench.training import TrainConfig, train

pytestmark = pytest.mark.slow

FARTHEST = 0.70
"""No cue may reach this accuracy; 0.5 is chance."""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def frontal() -> data.Benchmark:
    """The easiest benchmark: whatever gives people away does so here first."""
    benchmark = data.benchmark("synthfaces-frontal")
    assert isinstance(benchmark, data.Benchmark)
    return benchmark


@pytest.fixture(scope="module")
def pictures(frontal: data.Benchmark) -> NDArray[np.float32]:
    return np.stack([frontal.images[i] for i in range(len(frontal.images))]).astype(np.float32)


def accuracy(benchmark: data.Benchmark, features: NDArray[np.floating]) -> float:
    """Of the verification by the distance between features."""
    first, second = (
        features[benchmark.pairs[:, side]].reshape(len(benchmark.pairs), -1) for side in (0, 1)
    )
    return verification(
        -np.linalg.norm(first - second, axis=1), benchmark.same, benchmark.folds, intervals=False
    ).accuracy


def centred(features: NDArray[np.floating]) -> NDArray[np.floating]:
    """Without the mean picture, and of length 1: the distance is then that of the cosine."""
    flat = features.reshape(len(features), -1)
    flat = flat - flat.mean(axis=0)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def cues(frontal: data.Benchmark, pictures: NDArray[np.float32]) -> dict[str, float]:
    """Accuracy of each."""
    thumbnails = pictures.reshape(len(pictures), 8, 14, 8, 14, 3).mean(axis=(2, 4))
    corners = np.concatenate([pictures[:, :20, :10], pictures[:, :20, -10:]], axis=2)
    features = {
        "mean colour": pictures.mean(axis=(1, 2)),
        "thumbnail 8 x 8": thumbnails,
        "thumbnail 8 x 8, cosine": centred(thumbnails),
        "raw pixels": pictures[:, ::2, ::2],
        "raw pixels, cosine": centred(pictures[:, ::2, ::2]),
        "hair": pictures[:, :14, 30:82].mean(axis=(1, 2)),
        "background": corners.mean(axis=(1, 2)),
        "glasses": np.asarray(frontal.attributes["glasses"], dtype=np.float64)[:, None],
    }
    return {name: accuracy(frontal, values) for name, values in features.items()}


def test_no_simple_cue_tells_who_somebody_is(cues: dict[str, float]) -> None:
    assert max(cues.values()) < FARTHEST, cues


def test_a_network_sees_far_more_than_any_cue(cues: dict[str, float], tmp_path: Path) -> None:
    run = train(
        TrainConfig(
            data="synthfaces:80x20",
            loss="arcface",
            loss_options={"s": 32.0, "m": 0.3},
            margin_ramp_epochs=4,
            image_size=64,
            batch_size=64,
            epochs=10,
            runs_dir=str(tmp_path),
        ),
        progress=False,
    )
    result = evaluate(run, "synthfaces-frontal", with_projection=False, progress=False)
    errors = {name: 1 - value for name, value in cues.items()}
    assert 1 - result.accuracy < 0.6 * min(errors.values()), (result.accuracy, cues)
