from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import workbench as wb
from workbench.training.recommendations import notes, with_head_scale


def _config(loss: str, backbone: str = "iresnet18", **options: Any) -> wb.TrainConfig:
    return wb.TrainConfig(
        data="synthfaces-mini", loss=loss, backbone=backbone, backbone_options=options
    )


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("magface", {"scale": "trained"}),
        ("magface+ohem", {"scale": "trained"}),
        ("adaface", {"scale": "none"}),
        ("softmax", {"scale": "trained"}),
        ("center", {"scale": "trained"}),
        ("sphereface+mhe", {"scale": "trained"}),
        ("arcface", {}),
        ("triplet", {}),
    ],
)
def test_the_loss_chooses_the_scale_of_the_closing_norm(loss: str, options: dict[str, Any]) -> None:
    assert with_head_scale(_config(loss)).backbone_options == options


def test_what_the_user_chose_stays_and_what_does_not_fit_is_said() -> None:
    config = with_head_scale(_config("magface", scale="frozen"))
    assert config.backbone_options == {"scale": "frozen"}
    loss = wb.losses.create("magface", embedding_dim=4, num_classes=3)
    (said,) = notes(config, loss, 10**6)
    assert said.startswith("magface and the backbone option scale: frozen do not fit together")
    assert notes(with_head_scale(_config("magface")), loss, 10**6) == []
    assert (
        with_head_scale(_config("magface", "sphereface20")).backbone_options == {}
    )  # has no normalisation


def test_a_run_records_the_scale_says_what_is_too_short_and_loads_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for person in range(4):
        (tmp_path / "faces" / str(person)).mkdir(parents=True)
        for number in range(4):
            picture = Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8))
            picture.save(tmp_path / "faces" / str(person) / f"{number}.png")
    settings = {
        "data": f"folder:{tmp_path / 'faces'}",
        "image_size": 16,
        "embedding_dim": 4,
        "batch_size": 8,
        "epochs": 1,
        "device": "cpu",
        "loss": "adaface",
        "backbone_options": {"width": 8},
        "runs_dir": str(tmp_path),
        "name": "run",
    }
    run = wb.train(settings, progress=True)
    assert run.config["backbone_options"] == {"width": 8, "scale": "none"}
    assert (
        "note: adaface: the moving standard deviation starts at 100, "
        "and after 2 steps 98% of that is left" in capsys.readouterr().err
    )
    state = torch.load(run.path / "last.ckpt", weights_only=True)["backbone"]
    assert torch.equal(state["head.4.weight"], torch.ones(4))
    assert torch.equal(state["head.4.bias"], torch.zeros(4))
    assert wb.train(resume=run, progress=False).status["state"] == "finished"
