"""From trained reference runs to those that ship: small files, the same figures, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import Complaint, RunCommand
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file

from workbench import cli, runs
from workbench.evaluation import evaluate, load_angles, load_result, load_snapshots
from workbench.evaluation.model import load_model
from workbench.evaluation.verification import verification
from workbench.experiments import reference
from workbench.experiments.reference import PlannedRun, packaging
from workbench.experiments.reference import plan as plan_module
from workbench.experiments.reference.measuring import measure
from workbench.experiments.reference.thinning import STEPS, rounded, with_few_bits
from workbench.reference import read_figures
from workbench.training import train

pytestmark = pytest.mark.usefixtures("pca_for_umap")


def quiet(_: str) -> None:
    """Takes the lines that are told."""


@pytest.fixture(scope="module")
def work(
    tmp_path_factory: pytest.TempPathFactory, tiny_plan: list[PlannedRun]
) -> tuple[Path, list[PlannedRun]]:
    """A folder with two trained reference runs of two seeds each, and their plan."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        from workbench.evaluation import projection

        patch.setattr(projection, "_umap", lambda unit, seed: projection.pca(unit)[0])
        reference.train_reference(tiny_plan, folder, progress=False, tell=quiet)
    return folder, tiny_plan


@pytest.fixture(scope="module")
def packaged(work: tuple[Path, list[PlannedRun]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of these runs."""
    package = tmp_path_factory.mktemp("package")
    reference.package_reference(work[1], work[0], package, tell=quiet)
    return package


def test_a_shipped_run_has_what_a_run_has(
    work: tuple[Path, list[PlannedRun]], packaged: Path
) -> None:
    assert sorted(path.name for path in (packaged / "runs").iterdir()) == ["arcface", "softmax"]
    run = runs.open(packaged / "runs" / "arcface")
    trained = reference.evaluated_run(work[1][1], work[0])
    assert (run.state, run.evaluations()) == ("finished", trained.evaluations())
    assert run.config == {**trained.config, "name": "arcface", "runs_dir": "runs"}
    assert run.identity_names() == trained.identity_names()
    assert run.notes() == trained.notes()
    assert not (run.path / runs.CHECKPOINT).exists()
    assert not [path for path in run.path.rglob("*") if path.name.startswith(".")]
    assert run.model_path.read_bytes() == trained.model_path.read_bytes()
    pd.testing.assert_frame_equal(run.metrics(), trained.metrics(), rtol=1e-4)


def test_its_environment_says_how_to_make_it_again(packaged: Path) -> None:
    environment = runs.open(packaged / "runs" / "arcface").environment
    assert environment["reference"]["command"] == (
        "workbench reference train --only arcface --seed 0"
    )
    assert pd.Timestamp(environment["reference"]["date"]) <= pd.Timestamp.now()
    assert environment["cpu"]
    assert "folder" not in environment["data"]


def test_figures_are_those_of_the_shipped_weights(
    work: tuple[Path, list[PlannedRun]], packaged: Path
) -> None:
    figures = read_figures(packaged)
    for one in work[1]:
        of_run = figures[(figures["run"] == one.name) & (figures["seed"] == one.seed)]
        stored = dict(zip(of_run["figure"], of_run["value"], strict=True))
        assert stored == pytest.approx(
            measure(reference.evaluated_run(one, work[0]), one), rel=1e-5
        )
        if one.ships:
            run = runs.open(packaged / "runs" / one.name)
            assert measure(run, one) == pytest.approx(stored, rel=1e-3)


def test_evaluating_a_shipped_run_anew_finds_its_figures(packaged: Path, tmp_path: Path) -> None:
    from workbench.reference.copying import copy_into

    (path,) = copy_into(tmp_path, [packaged / "runs" / "arcface"])
    run = runs.open(path)
    for name in run.evaluations():
        stored = load_result(run, name)
        spec = str(run.figures(name)["benchmark"])
        again = evaluate(run, spec, with_projection=False, progress=False)
        assert again.headline == stored.headline


def test_stored_arrays_are_near_those_of_the_training(
    work: tuple[Path, list[PlannedRun]], packaged: Path
) -> None:
    trained = reference.evaluated_run(work[1][0], work[0])
    shipped = runs.open(packaged / "runs" / "softmax")
    for name in trained.evaluations():
        exact, thin = trained.evaluation(name)[1], shipped.evaluation(name)[1]
        assert exact.keys() == thin.keys()
        for key, values in exact.items():
            assert thin[key].dtype == values.dtype
            np.testing.assert_allclose(thin[key], values, atol=STEPS.get(key, 0) / 2, rtol=0)
    result = load_result(shipped, "test")
    again = verification(result.scores, result.same, result.folds, people=result.people)
    assert (again.accuracy, again.tar_at_far) == (result.accuracy, result.tar_at_far)
    assert load_angles(shipped, "train") is not None


def test_a_model_that_ships_is_float32_when_it_is_loaded(packaged: Path) -> None:
    run = runs.open(packaged / "runs" / "softmax")
    assert load_file(run.model_path)["loss.weight"].dtype == np.float16
    model = load_model(run, device="cpu")
    assert {str(value.dtype) for value in model.net.parameters()} == {"torch.float32"}


def test_packaging_replaces_what_was_there(
    work: tuple[Path, list[PlannedRun]], tmp_path: Path
) -> None:
    (tmp_path / "runs" / "earlier").mkdir(parents=True)
    done = reference.package_reference(work[1], work[0], tmp_path, tell=quiet)
    assert done.names == ["softmax", "arcface"]
    assert done.missing == []
    assert done.size == sum(
        path.stat().st_size for path in (tmp_path / "runs").rglob("*") if path.is_file()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.csv", "runs"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["arcface", "softmax"]


def test_a_training_that_is_missing(
    work: tuple[Path, list[PlannedRun]], tmp_path: Path, complaint: Complaint
) -> None:
    missing = PlannedRun(
        **{**vars(work[1][1]), "seed": 7, "settings": {**work[1][1].settings, "seed": 7}}
    )
    plan = [*work[1], missing]
    with complaint("arcface, seed 7: not trained", "--only arcface --seed 7"):
        reference.package_reference(plan, work[0], tmp_path, tell=quiet)
    assert list(tmp_path.iterdir()) == []
    done = reference.package_reference(plan, work[0], tmp_path, partial=True, tell=quiet)
    assert (done.names, done.missing) == (["softmax", "arcface"], ["arcface, seed 7"])
    with complaint("no reference run is trained"):
        reference.package_reference([missing], work[0], tmp_path, partial=True, tell=quiet)


def test_a_gallery_that_is_too_large_changes_nothing(
    work: tuple[Path, list[PlannedRun]],
    tmp_path: Path,
    complaint: Complaint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packaging, "MOST_BYTES", 1000)
    (tmp_path / "runs").mkdir()
    with complaint("the reference runs have", "at most"):
        reference.package_reference(work[1], work[0], tmp_path, tell=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_the_command_packages_and_writes_the_table(
    work: tuple[Path, list[PlannedRun]],
    tmp_path: Path,
    run_command: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan_module, "_main_runs", lambda: work[1])
    monkeypatch.setattr(plan_module, "_flat_runs", list)
    monkeypatch.setattr(cli.reference, "DOCUMENTS", (tmp_path / "README.md", tmp_path / "none.md"))
    page = tmp_path / "README.md"
    page.write_text(f"before\n\n{reference.BEGIN}\n{reference.END}\n\nafter\n")
    words = f"reference package --folder {work[0]} --out {tmp_path / 'package'}"
    done = run_command(words)
    assert done.code == 0, done.err
    assert f"table: {page}" in done.out
    assert "2 reference runs, 0." in done.out
    written = page.read_text()
    assert written.startswith(f"before\n\n{reference.BEGIN}\n\n| loss")
    assert written.endswith(f"\n{reference.END}\n\nafter\n")
    other = tmp_path / "other.md"
    other.write_text("no place")
    refused = run_command(f"{words} --document {other}")
    assert (refused.code, "has no place for the table" in refused.err) == (2, True)


def test_snapshots_ship_with_fewer_images(painted: Path, tmp_path: Path) -> None:
    from workbench.experiments.reference.rounding import round_weights
    from workbench.experiments.reference.thinning import thin

    settings = {
        "data": f"folder:{painted / 'train'}",
        "image_size": 16,
        "batch_size": 8,
        "epochs": 1,
        "backbone_options": {"width": 8},
        "device": "cpu",
        "snapshots": ["train", f"folder:{painted / 'test'}"],
        "runs_dir": str(tmp_path),
    }
    for dimension, images in ((3, 16), (8, 8)):
        run = train(_config(settings, dimension), progress=False)
        round_weights(run)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("workbench.experiments.reference.thinning.SNAPSHOT_IMAGES", 2)
            thin(run, tmp_path / f"thin{dimension}", "softmax", "")
        exact, small = load_snapshots(run), load_snapshots(runs.open(tmp_path / f"thin{dimension}"))
        assert [one.epoch for one in small] == [one.epoch for one in exact] == [0, 1]
        for one, thinned in zip(exact, small, strict=True):
            ours, theirs = thinned.sets["train"], one.sets["train"]
            assert len(ours.images) == images
            place = np.searchsorted(theirs.images, ours.images)
            np.testing.assert_array_equal(theirs.identities[place], ours.identities)
            np.testing.assert_allclose(
                ours.embeddings, theirs.embeddings[place], rtol=2.0**-7 if dimension == 8 else 0
            )
            assert ours.centres is not None
            assert len(ours.centres) == 4


def _config(settings: dict[str, object], dimension: int) -> object:
    from workbench.training import TrainConfig

    return TrainConfig(
        **settings, embedding_dim=dimension, loss="softmax", name=f"softmax-{dimension}"
    )


@given(arrays(np.float64, 20, elements=st.floats(-180, 180)), st.integers(0, 16))
def test_rounding_is_to_the_nearest_multiple(values: np.ndarray, digits: int) -> None:
    step = 2.0**-digits
    near = rounded(values, step)
    assert (near / step == np.round(near / step)).all()
    assert (np.abs(near - values) <= step / 2).all()


@given(arrays(np.float16, 20, elements=st.floats(-1000, 1000, width=16)))
def test_numbers_with_few_digits(values: np.ndarray) -> None:
    short = with_few_bits(values, 7)
    assert short.dtype == np.float16
    np.testing.assert_allclose(short, values, rtol=2.0**-7, atol=2.0**-25)
    np.testing.assert_array_equal(with_few_bits(short, 7), short)


def test_rounding_keeps_what_is_unknown() -> None:
    np.testing.assert_array_equal(rounded(np.array([np.nan, 1.3]), 0.5), [np.nan, 1.5])


def test_d_prime_of_two_normal_distributions() -> None:
    rng = np.random.default_rng(0)
    same = np.arange(40_000) < 20_000
    scores = np.where(same, rng.normal(2, 1, 40_000), rng.normal(0, 3, 40_000))
    assert reference.d_prime(scores, same) == pytest.approx(2 / np.sqrt((1 + 9) / 2), rel=0.03)
    assert reference.d_prime(-scores, same) == reference.d_prime(scores, same)
    assert np.isnan(reference.d_prime([1.0, 2.0], [True, True]))
    assert np.isnan(reference.d_prime([1.0, 1.0], [True, False]))


def test_metrics_of_a_long_training_are_thinned(tmp_path: Path) -> None:
    from workbench.experiments.reference.thinning import MOST_ROWS, _thin_metrics

    run = runs.create(tmp_path, "long", {})
    rows = [{"step": step, "loss": 1 / (step + 3)} for step in range(1000)]
    (run.path / runs.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    _thin_metrics(run, tmp_path / "thin.jsonl")
    thin = list(runs.read_metrics(tmp_path / "thin.jsonl"))
    assert len(thin) == MOST_ROWS
    assert thin[-1] == {"step": 999, "loss": 0.000998}
    assert thin[0]["loss"] == pytest.approx(1 / (thin[0]["step"] + 3), rel=1e-4)
