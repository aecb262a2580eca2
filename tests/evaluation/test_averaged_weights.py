"""A run with a moving average of its weights is evaluated with the average or the last weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import paint_people

import workbench as wb
from workbench import runs
from workbench.evaluation import load_model


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{paint_people(tmp_path_factory.mktemp('data') / 'people', 4, 8)}"


def _train(people: str, folder: Path, ema: float | None) -> runs.Run:
    return wb.train(
        {
            "data": people,
            "image_size": 16,
            "embedding_dim": 8,
            "batch_size": 8,
            "epochs": 2,
            "ema": ema,
            "device": "cpu",
            "precision": "fp32",
            "backbone_options": {"width": 8},
            "runs_dir": str(folder),
            "name": f"ema-{ema}",
        },
        progress=False,
    )


@pytest.fixture(scope="module")
def run(people: str, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    return _train(people, tmp_path_factory.mktemp("runs"), 0.9)


def test_the_average_is_what_is_evaluated(run: runs.Run, people: str) -> None:
    averaged = wb.evaluate(run, people, with_projection=False, progress=False)
    last = wb.evaluate(run, people, weights="last", with_projection=False, progress=False)
    assert averaged.protocol["weights"] == "moving average of the weights"
    assert "weights" not in last.protocol
    assert last.name == f"{averaged.name}+last"
    assert not np.array_equal(averaged.scores, last.scores)
    assert {averaged.name, last.name} <= {path.stem for path in (run.path / "evaluation").iterdir()}


def test_both_share_the_class_centres(run: runs.Run) -> None:
    averaged, last = load_model(run), load_model(run, weights="last")
    assert (averaged.averaged, last.averaged) == (True, False)
    assert averaged.centres is not None
    assert np.array_equal(averaged.centres, last.centres)
    pairs = zip(averaged.net.parameters(), last.net.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)


def test_a_run_without_an_average_has_only_the_last_weights(people: str, tmp_path: Path) -> None:
    run = _train(people, tmp_path, None)
    assert not (run.path / runs.AVERAGED_MODEL).exists()
    result = wb.evaluate(run, people, weights="last", with_projection=False, progress=False)
    assert not result.name.endswith("+last")
    with pytest.raises(wb.WorkbenchError, match=r"has no averaged weights.*setting ema"):
        wb.evaluate(run, people, weights="averaged", progress=False)
    with pytest.raises(wb.WorkbenchError, match="unknown value of weights 'best'"):
        load_model(run, weights="best")  # type: ignore[arg-type]
