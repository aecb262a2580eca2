"""Stored results are read again unchanged, and damaged files raise an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench import runs
from workbench.evaluation import (
    Angles,
    Gaps,
    Projection,
    closed_set,
    identification,
    invariance,
    invariance_curves,
    load_angles,
    load_gaps,
    load_projection,
    load_result,
    open_set,
    project,
    verification,
)
from workbench.evaluation.results import save_result, stored_figures


def _assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    for field in fields(one):
        if is_dataclass(getattr(one, field.name)):
            _assert_equal(getattr(one, field.name), getattr(other, field.name))
        else:
            np.testing.assert_equal(
                getattr(one, field.name), getattr(other, field.name), err_msg=field.name
            )


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    return runs.create(tmp_path / "runs", "a", {"loss": "arcface", "backbone": "smallresnet"})


def _save(
    run: runs.Run, result: Any, angles: Angles | None = None, projection: Projection | None = None
) -> None:
    save_result(run, "pack", "bin:pack.bin", result, angles, projection, ["ann", "bob"])


def _pairs(**options: Any) -> Any:
    scores = np.random.default_rng(0).normal(size=40).round(2)
    return verification(scores, np.arange(40) % 2 == 0, **options)


@pytest.mark.parametrize(
    "options", [{"intervals": False}, {}, {"people": np.arange(80).reshape(40, 2) // 4}]
)
def test_a_verification_result_comes_back_equal(run: runs.Run, options: dict[str, Any]) -> None:
    result = _pairs(**options)
    _save(run, result)
    loaded = load_result(run, "pack")
    assert loaded.name == "pack"
    object.__setattr__(loaded, "name", result.name)
    _assert_equal(loaded, result)
    assert loaded.roc.far.tolist() == result.roc.far.tolist()


def test_a_closed_set_result_comes_back_equal(run: runs.Run) -> None:
    result = closed_set([0, 1, 1, 2], [0, 1, 2, 2], ["å", "b", "c d"])
    _save(run, result)
    loaded = load_result(run, "pack")
    object.__setattr__(loaded, "name", result.name)
    _assert_equal(loaded, result)


@pytest.mark.parametrize("candidates", ["gallery", "megaface"])
@pytest.mark.parametrize("bootstrap", [0, 20])
def test_an_open_set_comes_back_equal(run: runs.Run, bootstrap: int, candidates: Any) -> None:
    rng = np.random.default_rng(0)
    searched = (
        rng.normal(size=(12, 4)),
        rng.normal(size=(3, 4)),
        rng.normal(size=(20, 4)),
        np.arange(12) % 3,
        np.arange(3),
    )
    for rank in (1, None):
        asked = open_set(*searched, rank=rank, bootstrap=bootstrap)
        result = replace(
            identification(*searched, candidates=candidates, bootstrap=bootstrap), open_set=asked
        )
        _save(run, result)
        _assert_equal(load_result(run, "pack"), replace(result, name="pack"))


def test_an_identification_from_before_there_were_open_sets_is_read(run: runs.Run) -> None:
    rng = np.random.default_rng(0)
    result = identification(
        rng.normal(size=(12, 4)),
        rng.normal(size=(3, 4)),
        rng.normal(size=(20, 4)),
        np.arange(12) % 3,
        np.arange(3),
    )
    _save(run, result)
    path = run.path / runs.EVALUATION / "pack.json"
    figures = json.loads(path.read_text())
    del figures["probes"], figures["candidates"]
    path.write_text(json.dumps(figures))
    _assert_equal(load_result(run, "pack"), replace(result, name="pack"))


def test_angles_and_projection_come_back_equal(run: runs.Run) -> None:
    angles = Angles(np.array([1.0, np.nan]), np.array([np.nan, 90.0]))
    projection = project(np.eye(3), np.array([0, 0, 1]))
    _save(run, _pairs(), angles, projection)
    np.testing.assert_equal(load_angles(run, "pack"), angles)
    loaded = load_projection(run, "pack")
    assert loaded is not None
    _assert_equal(loaded[0], projection)
    assert loaded[1] == ["ann", "bob"]


@pytest.mark.parametrize("people", [None, np.arange(80).reshape(40, 2)])
def test_gaps_come_back_equal(run: runs.Run, people: Any) -> None:
    gaps = Gaps(
        {"yaw": np.arange(40.0), "age": np.where(np.arange(40) % 3 == 0, np.nan, 5.0)},
        people,
        controlled=True,
    )
    save_result(run, "pack", "bin:pack.bin", _pairs(), None, None, [], gaps=gaps)
    np.testing.assert_equal(load_gaps(run, "pack"), gaps)


def test_curves_are_drawn_from_the_stored_scores_at_any_rate(run: runs.Run, complaint: Any) -> None:
    result, people = _pairs(), np.stack([np.arange(40), np.arange(40)], 1)
    gaps = Gaps({"yaw": np.arange(40.0), "age": np.arange(40.0) / 2}, people, controlled=False)
    save_result(run, "pack", "bin:pack.bin", result, None, None, [], gaps=gaps)
    for far in (0.1, 0.3):
        curves = invariance_curves(run.path, "pack", far=far, bootstrap=20)
        assert list(curves) == ["yaw", "age"]
        for factor, curve in curves.items():
            gap = gaps.by_factor[factor]
            expected = invariance(
                result.scores, result.same, gap, factor=factor, far=far, bootstrap=20, people=people
            )
            _assert_equal(curve, expected)
    assert list(invariance_curves(run, "pack", far=0.1, bootstrap=0, factors=["age"])) == ["age"]
    with complaint("did you mean 'yaw'"):
        invariance_curves(run, "pack", factors=["yawn"])
    with complaint("at least 100 impostor pairs", "there are 20"):
        invariance_curves(run, "pack")


def test_without_gaps_there_are_no_curves(run: runs.Run, complaint: Any) -> None:
    _save(run, _pairs())
    assert load_gaps(run, "pack") is None
    with complaint("a on pack", "synthfaces-invariance"):
        invariance_curves(run, "pack")
    with complaint("unknown evaluation", "pack"):
        invariance_curves(run)


def test_angles_and_projection_may_be_missing(run: runs.Run) -> None:
    _save(run, _pairs())
    assert load_angles(run, "pack") is None
    assert load_projection(run, "pack") is None


def test_the_figures_are_json_with_benchmark_and_protocol(run: runs.Run) -> None:
    _save(run, _pairs())
    figures = json.loads((run.path / runs.EVALUATION / "pack.json").read_text())
    assert figures["benchmark"] == "bin:pack.bin" == stored_figures(run, "pack")["benchmark"]
    assert figures["kind"] == "verification"
    assert figures["protocol"]["folds"] == 10


def test_another_name_is_suggested(run: runs.Run, complaint: Any) -> None:
    _save(run, _pairs())
    with complaint("did you mean 'pack'"):
        load_result(run, "pakc")
    assert stored_figures(run, "pakc") == {}


def _json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def damage(folder: Path) -> None:
        figures = json.loads((folder / "pack.json").read_text())
        change(figures)
        (folder / "pack.json").write_text(json.dumps(figures))

    return damage


def _without(folder: Path, key: str) -> None:
    with np.load(folder / "pack.npz") as archive:
        rest = {name: archive[name] for name in archive.files if name != key}
    np.savez(folder / "pack.npz", **rest)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "arrays gone": lambda folder: (folder / "pack.npz").unlink(),
    "arrays cut off": lambda folder: (folder / "pack.npz").write_bytes(
        (folder / "pack.npz").read_bytes()[:200]
    ),
    "arrays empty": lambda folder: (folder / "pack.npz").write_bytes(b""),
    "no scores": lambda folder: _without(folder, "scores"),
    "figures cut off": lambda folder: (folder / "pack.json").write_text(
        (folder / "pack.json").read_text()[:100]
    ),
    "figures a list": lambda folder: (folder / "pack.json").write_text("[]"),
    "no kind": _json(lambda figures: figures.pop("kind")),
    "no accuracy": _json(lambda figures: figures.pop("accuracy")),
    "rates a list": _json(lambda figures: figures.update(tar_at_far=[1, 2])),
    "rate not a number": _json(lambda figures: figures.update(tar_at_far={"often": 1})),
    "interval of three": _json(lambda figures: figures.update(intervals={"auc": [0, 1, 2]})),
    "of the other kind": _json(lambda figures: figures.update(kind="closed-set")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_damaged_files_are_one_readable_line(
    run: runs.Run, damage: Callable[[Path], Any], complaint: Any
) -> None:
    _save(run, _pairs())
    damage(run.path / runs.EVALUATION)
    with complaint("pack"):
        load_result(run, "pack")


def test_a_damaged_projection_is_one_readable_line(run: runs.Run, complaint: Any) -> None:
    _save(run, _pairs(), projection=project(np.eye(3), np.array([0, 0, 1])))
    _without(run.path / runs.EVALUATION, "projection_pca")
    with complaint("pack", "damaged"):
        load_projection(run, "pack")


# Identification


def _found(bootstrap: int = 20) -> Any:
    rng = np.random.default_rng(0)
    people, probes = rng.normal(size=(5, 4)), np.repeat(np.arange(5), 3)
    near = people[probes] + rng.normal(size=(15, 4))
    return identification(
        near, people, rng.normal(size=(30, 4)), probes, np.arange(5), bootstrap=bootstrap
    )


@pytest.mark.parametrize("bootstrap", [0, 20])
def test_an_identification_result_comes_back_equal(run: runs.Run, bootstrap: int) -> None:
    result = _found(bootstrap)
    _save(run, result)
    loaded = load_result(run, "pack")
    assert loaded.name == "pack"
    object.__setattr__(loaded, "name", result.name)
    _assert_equal(loaded, result)
    assert stored_figures(run, "pack")["kind"] == "identification"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _without(folder, "ranks"),
        lambda folder: _without(folder, "distractor_counts"),
        _json(lambda figures: figures.pop("enrolled")),
        _json(lambda figures: figures.update(interval=[0, 1, 2])),
        _json(lambda figures: figures.update(tar_at_far=[1, 2])),
        _json(lambda figures: figures.update(kind="verification")),
    ],
)
def test_a_damaged_identification_is_one_readable_line(
    run: runs.Run, damage: Callable[[Path], Any], complaint: Any
) -> None:
    _save(run, _found())
    damage(run.path / runs.EVALUATION)
    with complaint("pack", "damaged"):
        load_result(run, "pack")
