"""The reference runs in the package: complete, small, as planned, with the figures they state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import workbench as wb
from workbench import reference, runs
from workbench.evaluation import VerificationResult, load_result, load_snapshots
from workbench.evaluation.angles import similarity
from workbench.evaluation.model import load_model
from workbench.evaluation.verification import verification
from workbench.experiments.reference import BEGIN, END, measure, planned_runs, table
from workbench.experiments.reference.packaging import MOST_BYTES
from workbench.experiments.reference.thinning import kept_epochs
from workbench.reference import SHIPPED

ROOT = Path(__file__).parents[2]
NAMES = reference.names()
FEW = "synthfaces:2x40"
"""The first two people of `synthfaces`, who are rendered in seconds."""

shipped_run = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, runs.Run]:
    """Copies of the reference runs, by name."""
    opened = reference.runs(tmp_path_factory.mktemp("copies"))
    return dict(zip(NAMES, opened, strict=True))


def test_the_package_has_the_runs_of_the_plan_in_its_order() -> None:
    directories = sorted(path.name for path in SHIPPED.iterdir())
    assert directories == sorted(NAMES)
    assert [one.name for one in planned_runs() if one.ships] == NAMES


def test_the_runs_are_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= MOST_BYTES


@shipped_run
def test_a_run_was_trained_as_planned(name: str) -> None:
    (one,) = [one for one in planned_runs([name]) if one.ships]
    run = runs.open(SHIPPED / name)
    wanted = {**one.config("runs").plain(), "name": name}
    own = {"backbone_options"}  # to which training adds what the loss recommends
    assert {k: v for k, v in run.config.items() if k not in own} == {
        k: v for k, v in wanted.items() if k not in own
    }
    assert wanted["backbone_options"].items() <= run.config["backbone_options"].items()
    assert {str(run.figures(e)["benchmark"]) for e in run.evaluations()} == {*one.benchmarks}
    epochs = {one.epoch for one in load_snapshots(run)}
    assert epochs == kept_epochs(one.settings["epochs"])


@shipped_run
def test_a_run_says_where_it_comes_from(name: str) -> None:
    run = runs.open(SHIPPED / name)
    origin = run.environment["reference"]
    assert origin["command"].startswith(f"workbench reference train --only {name} --seed ")
    assert pd.Timestamp(origin["date"]) <= pd.Timestamp.now()
    assert run.environment["cpu"]
    assert run.state == "finished"
    assert not (run.path / runs.CHECKPOINT).exists()
    text = (run.path / runs.ENVIRONMENT).read_text() + (run.path / runs.CONFIG).read_text()
    assert str(Path.home()) not in text
    matrices = [value for value in load_file(run.model_path).values() if value.ndim > 1]
    assert {value.dtype for value in matrices} == {np.dtype("float16")}


@shipped_run
def test_figures_follow_from_the_stored_scores(name: str) -> None:
    run = runs.open(SHIPPED / name)
    (one,) = [one for one in planned_runs([name]) if one.ships]
    stated = reference.figures()
    stated = stated[(stated["run"] == name) & stated["ships"]].set_index("figure")["value"]
    measured = measure(run, one)
    assert measured.keys() == set(stated.index)
    for figure, value in measured.items():
        assert value == pytest.approx(stated[figure], rel=2e-4)
    for evaluation in run.evaluations():
        result = load_result(run, evaluation)
        if isinstance(result, VerificationResult):
            again = verification(result.scores, result.same, result.folds, people=result.people)
            assert again.accuracy == pytest.approx(result.accuracy, abs=1 / len(result.same))
            assert again.auc == pytest.approx(result.auc, abs=1e-5)
            assert again.tar_at_far == pytest.approx(result.tar_at_far, abs=1e-3)


@pytest.mark.parametrize("name", ["softmax", "center"])
def test_weights_are_those_of_the_last_snapshot(name: str, copies: dict[str, runs.Run]) -> None:
    last = load_snapshots(copies[name])[-1].sets["train"]
    people = wb.data.open(FEW)
    chosen = last.images < len(people)
    assert chosen.any()
    numbers = last.images[chosen]
    assert (people.identities[numbers] == last.identities[chosen]).all()
    embeddings = load_model(copies[name], device="cpu").embed(people.images, numbers, flip="none")
    # The snapshot was taken with the weights before they were rounded to float16.
    assert similarity(embeddings, last.embeddings[chosen]).min() > 0.998


@pytest.mark.slow
@shipped_run
def test_evaluating_a_run_anew_finds_its_figures(name: str, copies: dict[str, runs.Run]) -> None:
    run = copies[name]
    for evaluation in run.evaluations():
        stated = load_result(run, evaluation).headline
        spec = str(run.figures(evaluation)["benchmark"])
        again = wb.evaluate(run, spec, bootstrap=0, with_projection=False, progress=False).headline
        # Another CPU computes sums in another order, which can change a decision on the verge.
        assert again.value == pytest.approx(stated.value, abs=1e-3)


@pytest.mark.parametrize("page", ["README.md", "docs/guide/reference-runs.md"])
def test_the_table_in_a_document_is_that_of_the_figures(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    _, _, rest = text.partition(BEGIN)
    assert rest, f"{page} has no place for the table"
    assert rest.partition(END)[0].strip() == table(reference.figures()).strip()


def test_the_figures_have_all_seeds_of_the_plan() -> None:
    figures = reference.figures()
    planned = {(one.name, one.seed) for one in planned_runs()}
    assert set(zip(figures["run"], figures["seed"], strict=True)) == planned
