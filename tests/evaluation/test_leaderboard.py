"""The table of runs and benchmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from workbench import runs
from workbench.evaluation import closed_set, identification, leaderboard, verification
from workbench.evaluation.results import save_result

SCORES, SAME = np.random.default_rng(0).normal(size=60), np.arange(60) % 2 == 0
PAIRS = verification(SCORES, SAME)
CLOSED = closed_set([0, 1, 1], [0, 1, 0], ["x", "y"])


@pytest.fixture
def two(tmp_path: Path) -> list[runs.Run]:
    """Two runs: the first evaluated on pairs and a closed set, the second on pairs only."""
    made = [
        runs.create(tmp_path, loss, {"loss": loss, "backbone": "smallresnet"})
        for loss in ("arcface", "softmax")
    ]
    save_result(made[0], "pack", "bin:pack.bin", PAIRS, None, None, [])
    save_result(made[0], "train", "train", CLOSED, None, None, [])
    save_result(
        made[1], "pack", "bin:pack.bin", verification(SCORES, SAME, intervals=False), None, None, []
    )
    return made


def test_there_is_a_row_per_run_and_benchmark(two: list[runs.Run]) -> None:
    table = leaderboard(two)
    found = table[["run", "loss", "backbone", "benchmark", "kind"]].to_numpy().tolist()
    assert found == [
        ["arcface", "arcface", "smallresnet", "pack", "verification"],
        ["arcface", "arcface", "smallresnet", "train", "closed-set"],
        ["softmax", "softmax", "smallresnet", "pack", "verification"],
    ]


def test_the_figures_are_those_of_the_results(two: list[runs.Run]) -> None:
    pairs, train, plain = (row for _, row in leaderboard(two).iterrows())
    assert (pairs["accuracy"], pairs["std"], pairs["auc"], pairs["eer"]) == (
        PAIRS.accuracy,
        PAIRS.std,
        PAIRS.auc,
        PAIRS.eer,
    )
    assert (pairs["accuracy_low"], pairs["accuracy_high"]) == PAIRS.intervals["accuracy"]
    assert (pairs["tar@0.1_low"], pairs["tar@0.1_high"]) == PAIRS.intervals["tar@0.1"]
    assert pairs["tar@0.1"] == PAIRS.tar_at_far[0.1]
    assert [bool(pairs[f"tar@{far}_supported"]) for far in ("0.1", "0.01")] == [
        PAIRS.supported(0.1),
        False,
    ]
    assert (train["accuracy"], train["accuracy_low"], train["accuracy_high"]) == (
        CLOSED.accuracy,
        *CLOSED.interval,
    )
    assert np.isnan(
        [train["std"], train["auc"], train["eer"], plain["accuracy_low"], plain["auc_high"]]
    ).all()


def test_benchmarks_can_be_chosen(two: list[runs.Run]) -> None:
    assert leaderboard(two, ["train"])["run"].tolist() == ["arcface"]
    assert leaderboard(two, ["nothing"]).empty


def test_damaged_evaluations_are_left_out(two: list[runs.Run]) -> None:
    (two[0].path / runs.EVALUATION / "pack.npz").write_bytes(b"PK")
    (two[1].path / runs.CONFIG).write_text("- a list")
    assert leaderboard(two)["benchmark"].tolist() == ["train"]


@pytest.mark.parametrize("kind", ["none", "closed-set", "no intervals"])
def test_the_main_columns_are_always_there(two: list[runs.Run], kind: str) -> None:
    table = {
        "none": leaderboard([]),
        "closed-set": leaderboard(two, ["train"]),
        "no intervals": leaderboard(two[1:]),
    }[kind]
    expected = ["run", "loss", "backbone", "benchmark", "protocol", "kind"]
    expected += ["accuracy", "std", "accuracy_low", "accuracy_high", "auc", "eer"]
    assert table.columns.tolist()[: len(expected)] == expected


@pytest.mark.parametrize("bootstrap", [0, 20])
def test_the_accuracy_of_an_identification_is_its_rank_one(
    two: list[runs.Run], bootstrap: int
) -> None:
    rng = np.random.default_rng(0)
    people, probes = rng.normal(size=(5, 4)), np.repeat(np.arange(5), 3)
    near = people[probes] + rng.normal(size=(15, 4))
    result = identification(
        near, people, rng.normal(size=(30, 4)), probes, np.arange(5), bootstrap=bootstrap
    )
    save_result(two[1], "among", "among", result, None, None, [])
    (row,) = (row for _, row in leaderboard(two, ["among"]).iterrows())
    assert row["accuracy"] == (result.ranks == 1).mean()
    assert (row["kind"], row["tar@0.01"]) == ("identification", result.tar_at_far[0.01])
    assert [bool(row[f"tar@{far}_supported"]) for far in ("0.01", "0.001")] == [
        False,
        False,
    ]  # 5 people x 30 strangers
    if result.interval is None:
        assert np.isnan([row["accuracy_low"], row["accuracy_high"]]).all()
    else:
        assert (row["accuracy_low"], row["accuracy_high"]) == result.interval
    assert np.isnan([row["std"], row["auc"], row["eer"]]).all()
    assert leaderboard(two)["kind"].tolist() == [
        "verification",
        "closed-set",
        "identification",
        "verification",
    ]


def test_evaluations_of_a_model_that_was_trained_on_since_are_stale(two: list[runs.Run]) -> None:
    save_result(two[0], "pack", "bin:pack.bin", PAIRS, None, None, [], step=10)
    assert leaderboard(two)["stale"].tolist() == [
        False,
        False,
        False,
    ]  # no model is there, or it is not known of which they are
    save_file({"x": np.zeros(1)}, two[0].path / runs.MODEL, metadata={"step": "10"})
    assert leaderboard(two)["stale"].tolist() == [False, False, False]
    save_file({"x": np.zeros(1)}, two[0].path / runs.MODEL, metadata={"step": "20"})
    assert leaderboard(two)["stale"].tolist() == [True, False, False]


def test_what_was_left_out_is_told(two: list[runs.Run]) -> None:
    told = "1 of 60 images, which cannot be read (a.png), 2 of 60 pairs"
    save_result(
        two[1], "pack", "bin:pack.bin", replace(PAIRS, protocol={"left out": told}), None, None, []
    )
    assert leaderboard(two)["left_out"].tolist() == ["", "", told]
