"""Losers are stopped early by a validation benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import experiments, runs
from workbench.experiments import sweeping
from workbench.experiments.executing import Outcome
from workbench.experiments.halving import Ladder, StopLosers, survivors
from workbench.experiments.jobs import Job
from workbench.experiments.matching import evaluations_of


@given(st.lists(st.floats(), min_size=1, max_size=9), st.floats(0.01, 0.99))
def test_the_best_share_survives(values: list[float], keep: float) -> None:
    scores = {str(number): value for number, value in enumerate(values)}
    kept = survivors(scores, keep)
    assert max(1, keep * len(scores) - 1e-6) <= len(kept) <= keep * len(scores) + 1
    stopped = [score for name, score in scores.items() if name not in kept]
    for name in kept:
        assert all(scores[name] >= score for score in stopped if not math.isnan(score))


def test_the_rungs_by_default() -> None:
    rule = StopLosers.read({"benchmark": "orl", "keep": 1 / 3}, {18}, [])
    assert rule.rungs == (2, 6)
    assert StopLosers.read({"benchmark": "orl"}, {2}, []).rungs == (1,)


def test_figures_are_kept_for_the_same_benchmark(tmp_path: Path) -> None:
    rule = StopLosers("orl", 0.5, (1,))
    ladder = Ladder(tmp_path, rule)
    ladder.add(1, "a", 0.5)
    ladder.add(1, "b", 0.7)
    ladder.write()
    again = Ladder(tmp_path, rule)
    assert again.score(1, "a") == 0.5
    assert again.mean(1, ["a", "b", "c"]) == pytest.approx(0.6)
    assert again.mean(2, ["a"]) != again.mean(2, ["a"])
    assert Ladder(tmp_path, StopLosers("lfw", 0.5, (1,))).score(1, "a") is None


def test_each_rung_keeps_the_best_of_those_that_are_left(
    plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan["vary"] = {"loss": ["softmax", "arcface", "cosface", "normface"], "seed": [0, 1]}
    plan["stop_losers"] = {"benchmark": "orl", "after": [1, 2]}
    read = experiments.read_plan(plan)
    read.directory.mkdir()
    quality = {"softmax": 0.4, "arcface": 0.9, "cosface": 0.8, "normface": 0.5}
    asked: list[str] = []

    def execute(jobs: Sequence[Job]) -> list[Outcome]:
        asked.extend(f"{job.title} to {job.stop_after} on {job.benchmarks[0]}" for job in jobs)
        return [Outcome(runs.Run(Path(job.config.loss)), "") for job in jobs]

    monkeypatch.setattr(sweeping, "figure_of", lambda run, benchmark: quality[run.name])
    for _ in range(2):  # the second time, all figures are there already
        stopped: dict[str, int] = {}
        sweeping._halve(read, read.stop_losers, execute, stopped, [].append)
        assert stopped == {
            f"small-{loss}-seed{seed}": rung
            for loss, rung in (("softmax", 1), ("normface", 1), ("cosface", 2))
            for seed in (0, 1)
        }
        assert len(asked) == 8 + 4
    assert asked[0] == "softmax, smallresnet, seed 0 to 1 on orl"
    assert asked[-1] == "cosface, smallresnet, seed 1 to 2 on orl"


@pytest.mark.slow
def test_losers_are_stopped_and_winners_trained_to_the_end(
    plan: dict[str, Any], painted: Path
) -> None:
    validation = f"folder:{painted / 'validation'}"
    plan["vary"] = {"loss": ["softmax", "arcface", "cosface"], "seed": [0, 1]}
    plan["stop_losers"] = {"benchmark": validation, "keep": 0.4, "after": [1, 2]}
    told: list[str] = []
    result = experiments.sweep(plan, jobs=0, progress=False, tell=told.append)
    assert isinstance(result, experiments.SweepResult)
    by_row: dict[str, set[int | None]] = {}
    for one in result.outcomes:
        by_row.setdefault(one.cell.row, set()).add(one.stopped_after)
    assert sorted(map(str, by_row.values())) == ["{1}", "{2}", "{None}"]
    for one in result.outcomes:
        assert (one.run is None) == (one.stopped_after is not None)
        (found,) = [run for run in runs.list(plan["base"]["runs_dir"]) if run.name == one.cell.name]
        state, epochs = ("finished", 4) if one.run else ("stopped", one.stopped_after)
        assert (found.state, found.status["step"]) == (state, epochs * 2)
    (winner,) = (row for row, stops in by_row.items() if stops == {None})
    assert result.table(plan["benchmarks"][0]).set_index("row").loc[winner, "seeds"] == 2
    for run in result.runs:
        assert set(evaluations_of(run)) == set(plan["benchmarks"])
    report = experiments.report(result)
    assert "Stopped early" in report
    assert f"{validation} is not among the benchmarks" in report
    assert report.count("stopped after") == 4

    # The same sweep again has nothing to do and gives the same answer.
    told.clear()
    again = experiments.sweep(plan, jobs=0, progress=False, tell=told.append)
    assert not any("training" in line or "resuming" in line for line in told)
    assert str(again) == str(result)
    # Without the rule, the stopped runs are trained to the end.
    del plan["stop_losers"]
    told.clear()
    whole = experiments.sweep(plan, jobs=0, progress=False, tell=told.append)
    assert sum("resuming" in line for line in told) == 4
    assert len(whole.runs) == 6
