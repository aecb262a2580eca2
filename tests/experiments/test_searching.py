"""A search draws settings with Optuna, is continued, and chooses on validation people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import Complaint

from workbench import experiments, runs
from workbench.errors import WorkbenchError
from workbench.experiments import read_plan, searching
from workbench.experiments.executing import Outcome
from workbench.experiments.jobs import Job
from workbench.experiments.space import Search
from workbench.training import TrainConfig

optuna = pytest.importorskip("optuna")


@pytest.fixture
def search_plan(plan: dict[str, Any], painted: Path) -> dict[str, Any]:
    del plan["vary"]
    plan["search"] = {
        "lr": {"low": 0.01, "high": 0.3, "log": True},
        "loss_options.m": {"low": 0.1, "high": 0.5},
        "epochs": {"low": 1, "high": 3},
        "optimizer": ["SGD", "AdamW"],
    }
    return plan | {"objective": f"folder:{painted / 'validation'}", "trials": 3}


class Fake:
    """Does jobs without training: the figure of a run is a function of its learning rate."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs: list[Job] = []
        monkeypatch.setattr(searching, "figure_of", lambda run, benchmark: self.figure(run))
        monkeypatch.setattr(searching, "_results_of", lambda config, benchmarks: {})

    @staticmethod
    def figure(run: runs.Run) -> float:
        return 1 - abs(float(run.config["lr"]) - 0.1)

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        self.jobs += jobs
        outcomes = []
        for job in jobs:
            run = job.find()
            if run is None:
                run = runs.create(job.config.runs_dir, str(job.config.name), job.config.plain())
                run.set_status("finished", step=1)
            outcomes.append(Outcome(run, ""))
        return outcomes


def test_the_best_of_many_trials_is_chosen(
    search_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    search_plan["trials"] = 12
    plan = read_plan(search_plan)
    plan.directory.mkdir()
    fake, told = Fake(monkeypatch), []
    result = searching.search(plan, fake, 2, told.append)
    assert len(result.trials) == 12
    assert (result.trials["state"] == "COMPLETE").all()
    best = result.trials.loc[result.trials["score"].idxmax()]
    assert result.config is not None
    assert result.config.lr == pytest.approx(best["lr"])
    assert result.config.loss_options == {"m": pytest.approx(best["loss_options.m"])}
    assert best["optimizer"] in ("SGD", "AdamW")
    assert result.trials["epochs"].isin([1, 2, 3]).all()
    assert fake.jobs[0].benchmarks == (plan.search.objective,)
    assert fake.jobs[-1].benchmarks == plan.benchmarks
    written = TrainConfig.read(plan.directory / "best.yaml")
    assert written == result.config.model_copy(update={"name": None})
    assert "too optimistic" in (plan.directory / "report.md").read_text()

    # A search that is finished is not continued; one with more trials is.
    count = len(fake.jobs)
    searching.search(plan, fake, 2, told.append)
    assert len(fake.jobs) == count + 1  # the best trial's benchmarks
    more = read_plan(search_plan | {"trials": 14})
    assert len(searching.search(more, fake, 2, told.append).trials) == 14
    drawn = {repr(job.config.lr) for job in fake.jobs}
    assert len(drawn) == 14


def test_an_interrupted_trial_is_trained_again_and_a_failed_one_counts(
    search_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = read_plan(search_plan)
    plan.directory.mkdir()
    fake = Fake(monkeypatch)
    interrupted: list[Job] = []

    def interrupt(jobs: Sequence[Job]) -> list[Outcome]:
        interrupted.extend(jobs)
        raise KeyboardInterrupt

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        searching.search(plan, interrupt, 2, told.append)
    assert "start the search again" in told[-1]
    failures = iter(["broken", "", ""])

    def fail_first(jobs: Sequence[Job]) -> list[Outcome]:
        done = fake(jobs)
        if jobs[0].benchmarks != (plan.search.objective,):
            return done
        return [Outcome(one.run, next(failures)) for one in done]

    result = searching.search(plan, fail_first, 1, told.append)
    assert [job.config for job in fake.jobs[:2]] == [job.config for job in interrupted]
    assert result.trials["state"].tolist() == ["FAIL", "COMPLETE", "COMPLETE"]
    assert "2 of 3 trials are finished, 1 failed" in str(result)


def test_another_objective_or_other_values_need_another_folder(
    search_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    plan = read_plan(search_plan)
    plan.directory.mkdir()
    fake = Fake(monkeypatch)
    searching.search(plan, fake, 1, [].append)
    with complaint("is a search judged by", "give another directory"):
        searching.search(read_plan(search_plan | {"objective": "orl"}), fake, 1, [].append)
    search_plan["search"]["optimizer"] = ["SGD", "AdamW", "Adam"]
    with complaint("was begun with other values"):
        searching.search(read_plan(search_plan | {"trials": 9}), fake, 1, [].append)
    (plan.directory / searching.STUDY).write_bytes(b"no database" * 100)
    with complaint("cannot be opened as a study"):
        searching.search(plan, fake, 1, [].append)


def test_dotted_names_are_options(search_plan: dict[str, Any], complaint: Complaint) -> None:
    search_plan["base"]["loss_options"] = {"s": 20}
    plan = read_plan(search_plan)
    config = searching.config_of(plan, {"lr": 0.2, "loss_options.m": 0.3}, "a")
    assert (config.loss_options, config.lr, config.name) == ({"s": 20, "m": 0.3}, 0.2, "a")
    with complaint("'lr' has no options"):
        searching.config_of(plan, {"lr.m": 0.2}, "a")


def test_each_choice_is_checked_before_the_search(
    search_plan: dict[str, Any], complaint: Complaint
) -> None:
    examples = list(Search.read(search_plan["search"], "orl", 3).examples())
    assert [one["optimizer"] for one in examples] == ["SGD", "AdamW"]
    assert {one["lr"] for one in examples} == {0.01}
    search_plan["search"]["loss"] = ["arcface", "arcfase"]
    with complaint("'arcfase'", "'arcface'"):
        experiments.sweep(search_plan, jobs=0, progress=False, tell=[].append)


def test_optuna_is_an_extra(
    search_plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    plan = read_plan(search_plan)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with complaint("a search needs optuna: pip install 'margin-workbench[optuna]'"):
        searching.search(plan, lambda jobs: [], 1, [].append)


@pytest.mark.slow
def test_a_search_trains_its_trials(search_plan: dict[str, Any]) -> None:
    told: list[str] = []
    result = experiments.sweep(search_plan, jobs=0, progress=False, tell=told.append)
    assert isinstance(result, experiments.SearchResult)
    assert result.run is not None
    assert set(result.results) == set(search_plan["benchmarks"])
    scores = result.trials["score"]
    assert scores.max() == pytest.approx(
        next(
            result.run.figures(name)["accuracy"]
            for name in result.run.evaluations()
            if name == "validation"
        )
    )
    assert "validation" in str(result)
    with pytest.raises(WorkbenchError):
        TrainConfig.read(Path(search_plan["directory"]) / "trials.csv")
