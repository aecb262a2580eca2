"""Several small batches that are accumulated give the update of one large batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import paint_people
from safetensors.torch import load_file
from torch import Tensor, nn

import workbench as wb
from workbench import runs
from workbench.backbones.registry import BACKBONES


class _Smooth(wb.backbones.Backbone):
    """A network without batch normalisation, which depends on the batch, and without kinks."""

    def __init__(self, embedding_dim: int = 8, image_size: int = 16) -> None:
        super().__init__(embedding_dim, image_size, smallest=16)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 4, 4), nn.Tanh(), nn.Flatten(), nn.Linear(128, embedding_dim)
        )

    def embed(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.layers(images)
        return embeddings


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES._factories, "smooth_test", _Smooth)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Settings of a short training."""
    return {
        "data": f"folder:{paint_people(tmp_path / 'people', 4, 8)}",
        "backbone": "smooth_test",
        "image_size": 16,
        "embedding_dim": 8,
        "epochs": 2,
        "lr": 0.05,
        "log_every": 1,
        "augment": "mirror",
        "device": "cpu",
        "precision": "fp32",
        "loss_options": {"s": 16.0, "m": 0.3},
        "runs_dir": str(tmp_path / "runs"),
    }


def _train(settings: dict[str, Any], **others: Any) -> runs.Run:
    return wb.train(settings | others, progress=False)


@pytest.mark.parametrize(
    "loss",
    [
        {"loss": "arcface"},
        {"loss": "cosface", "loss_options": {"s": 16.0}},
        {"loss": "normface+focal", "loss_options": {"s": 16.0}},
        {"loss": "softmax", "loss_options": {}, "label_smoothing": 0.1},
    ],
)
def test_the_result_equals_that_of_the_large_batch(
    settings: dict[str, Any], loss: dict[str, Any]
) -> None:
    large = _train(settings, batch_size=16, name="large", **loss)
    small = _train(settings, batch_size=4, accumulate=4, name="small", **loss)
    weights = load_file(small.path / runs.MODEL)
    for name, expected in load_file(large.path / runs.MODEL).items():
        torch.testing.assert_close(weights[name], expected, rtol=1e-4, atol=1e-5)
    for column in ("loss", "accuracy", "lr", "step"):
        torch.testing.assert_close(
            torch.tensor(small.metrics()[column].to_numpy(dtype=float)),
            torch.tensor(large.metrics()[column].to_numpy(dtype=float)),
            rtol=1e-4,
            atol=1e-5,
        )


def test_a_small_data_set_is_split_into_parts_of_at_least_two_images(
    settings: dict[str, Any],
) -> None:
    run = _train(settings, batch_size=16, accumulate=100, epochs=1, name="a")
    assert [row["step"] for row in run.metrics().to_dict("records")] == [1]


def test_batches_by_identity_are_accumulated(settings: dict[str, Any]) -> None:
    run = _train(settings, batch_size=8, accumulate=2, images_per_identity=4, epochs=1, name="a")
    assert len(run.metrics()) == 2


@pytest.mark.parametrize("loss", ["triplet", "contrastive", "softmax+triplet"])
def test_losses_that_compare_the_images_of_a_batch_are_refused(
    settings: dict[str, Any], loss: str
) -> None:
    with pytest.raises(wb.WorkbenchError, match=r"accumulate is 2.*raise batch_size"):
        _train(settings, loss=loss, loss_options={}, accumulate=2)
    assert not Path(settings["runs_dir"]).exists()
