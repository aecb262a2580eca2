"""Reading snapshots, and what is computed from them, against independent formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Complaint
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from workbench import runs
from workbench.evaluation import (
    Snapshot,
    SnapshotSet,
    aligned_maps,
    load_snapshot,
    load_snapshots,
    over_epochs,
    snapshot_sets,
)


def _people(seed: int, people: int = 5, images: int = 4, spread: float = 0.8) -> SnapshotSet:
    draw = np.random.default_rng(seed)
    directions = draw.normal(size=(people, 6))
    identities = np.repeat(np.arange(people) * 3, images)
    embeddings = np.repeat(directions, images, axis=0) + spread * draw.normal(
        size=(people * images, 6)
    )
    lengths = draw.uniform(0.5, 40, (len(embeddings), 1))
    return SnapshotSet(
        (lengths * embeddings).astype(np.float32), identities, np.arange(len(identities)) + 100
    )


def _degrees(a: Any, b: Any) -> float:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


@given(st.integers(0, 10_000), st.floats(0.1, 3.0))
@settings(max_examples=30, deadline=None)
def test_verification_agrees_with_scikit_learn(seed: int, spread: float) -> None:
    one = _people(seed, spread=spread)
    pairs = [(i, j) for i in range(20) for j in range(i + 1, 20)]
    angles = np.array([_degrees(one.embeddings[i], one.embeddings[j]) for i, j in pairs])
    same = np.array([one.identities[i] == one.identities[j] for i, j in pairs])
    found = one.verification()
    assert found.auc == pytest.approx(roc_auc_score(same, -angles), abs=1e-6)
    candidates = [*np.sort(angles), -1.0]
    best = max(balanced_accuracy_score(same, angles <= limit + 1e-9) for limit in candidates)
    assert found.accuracy == pytest.approx(best, abs=1e-6)
    reached = balanced_accuracy_score(same, angles <= found.threshold + 1e-6)
    assert reached == pytest.approx(best, abs=1e-6)
    genuine, impostor = one.pair_angles()
    np.testing.assert_allclose(np.sort(genuine), np.sort(angles[same]), atol=1e-5)
    np.testing.assert_allclose(np.sort(impostor), np.sort(angles[~same]), atol=1e-5)


def test_angles_to_the_centres_of_the_shown_identities() -> None:
    one = _people(1)
    centres = np.random.default_rng(2).normal(size=(5, 6)).astype(np.float32)
    with_centres = SnapshotSet(one.embeddings, one.identities, one.images, centres)
    own, other = with_centres.angles()
    for number, embedding in enumerate(one.embeddings):
        to_all = [_degrees(embedding, centre) for centre in centres]
        assert own[number] == pytest.approx(to_all.pop(number // 4), abs=1e-4)
        assert other[number] == pytest.approx(min(to_all), abs=1e-4)


def test_without_class_centres_the_angles_are_those_to_the_mean_directions() -> None:
    one = _people(3)
    own, other = one.angles()
    unit = one.embeddings / np.linalg.norm(one.embeddings, axis=1, keepdims=True)
    for number in (0, 7, 19):
        person = one.identities[number]
        mates = (one.identities == person) & (np.arange(20) != number)
        assert own[number] == pytest.approx(_degrees(unit[number], unit[mates].sum(0)), abs=1e-3)
        others = [
            _degrees(unit[number], unit[one.identities == name].sum(0))
            for name in np.unique(one.identities)
            if name != person
        ]
        assert other[number] == pytest.approx(min(others), abs=1e-3)


def test_a_table_over_epochs() -> None:
    snapshots = [
        Snapshot(epoch, 7 * epoch, {"train": _people(epoch), "people": _people(9 + epoch)})
        for epoch in (0, 2, 3)
    ]
    table = over_epochs(snapshots, "people")
    assert table["epoch"].tolist() == [0, 2, 3]
    assert table["step"].tolist() == [0, 14, 21]
    last = snapshots[-1].sets["people"]
    assert table["auc"].iloc[-1] == last.verification().auc
    assert table["own_angle"].iloc[-1] == last.angles().own.mean()
    assert table["genuine_angle"].iloc[-1] == last.pair_angles().genuine.mean()
    assert (table["impostor_angle"] > table["genuine_angle"]).all()
    assert snapshot_sets(snapshots) == ["people", "train"]


def test_a_set_that_appears_later_has_fewer_rows() -> None:
    both = {"train": _people(0), "people": _people(1)}
    snapshots = [Snapshot(0, 0, {"train": _people(0)}), Snapshot(1, 5, both)]
    assert over_epochs(snapshots, "people")["epoch"].tolist() == [1]
    assert list(aligned_maps(snapshots, "people")) == [1]


def test_an_unknown_set_is_refused(complaint: Complaint) -> None:
    snapshots = [Snapshot(0, 0, {"people": _people(0)})]
    for function in (over_epochs, aligned_maps):
        with complaint("poeple", "people"):
            function(snapshots, "poeple")
    with complaint("people"):
        over_epochs([], "people")


def test_maps_are_principal_components_that_are_rotated_onto_the_epoch_before() -> None:
    snapshots = [Snapshot(epoch, epoch, {"people": _people(epoch)}) for epoch in range(3)]
    maps = aligned_maps(snapshots, "people")
    for epoch in range(3):
        one = snapshots[epoch].sets["people"].embeddings.astype(np.float64)
        unit = one / np.linalg.norm(one, axis=1, keepdims=True)
        centred = unit - unit.mean(axis=0)
        variances = np.linalg.eigvalsh(centred.T @ centred)[-2:]
        found = np.linalg.eigvalsh(maps[epoch].T @ maps[epoch])
        np.testing.assert_allclose(found, variances, rtol=1e-9)
        if epoch:
            rotation, _ = orthogonal_procrustes(maps[epoch], maps[epoch - 1])
            np.testing.assert_allclose(rotation, np.eye(2), atol=1e-9)


def test_maps_skip_images_that_one_epoch_lacks() -> None:
    first, second = _people(0), _people(1)
    fewer = SnapshotSet(first.embeddings[1:], first.identities[1:], first.images[1:])
    maps = aligned_maps(
        [Snapshot(0, 0, {"people": fewer}), Snapshot(1, 3, {"people": second})], "people"
    )
    assert maps[0].shape == maps[1].shape == (20, 2)
    assert np.isnan(maps[0][0]).all()
    assert np.isfinite(maps[0][1:]).all()
    assert np.isfinite(maps[1]).all()


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    return runs.create(tmp_path, "run", {"loss": "arcface"})


def _write(run: runs.Run, epoch: int, /, **changes: Any) -> Path:
    one = _people(epoch)
    arrays = {
        "people/embeddings": one.embeddings.astype(np.float16),
        "people/identities": one.identities,
        "people/images": one.images,
        "epoch": np.array(epoch),
        "step": np.array(3 * epoch),
    }
    path = runs.snapshot_path(run, epoch)
    path.parent.mkdir(exist_ok=True)
    kept = {key: value for key, value in (arrays | changes).items() if value is not None}
    np.savez(path, **kept)
    return path


def test_snapshots_are_read_in_the_order_of_their_epochs(run: runs.Run) -> None:
    assert load_snapshots(run) == []
    for epoch in (10, 2, 10_000, 0):
        _write(run, epoch)
    (run.path / runs.SNAPSHOTS / "epoch-last.npz").write_bytes(b"another file")
    snapshots = load_snapshots(run.path)
    assert [one.epoch for one in snapshots] == [0, 2, 10, 10_000]
    assert [one.step for one in snapshots] == [0, 6, 30, 30_000]
    assert snapshots[0].sets["people"].embeddings.dtype == np.float32
    assert snapshots[0].sets["people"].centres is None


@pytest.mark.parametrize(
    "changes",
    [
        {"people/images": None},
        {"people/images": np.arange(3)},
        {"people/embeddings": np.zeros(20)},
        {"people/embeddings": np.full((20, 6), np.nan)},
        {"people/centres": np.zeros((4, 6))},
        {"epoch": None},
        {"people/images": np.array([{}] * 20, dtype=object)},
    ],
)
def test_damaged_files_are_named(
    run: runs.Run, changes: dict[str, Any], complaint: Complaint
) -> None:
    _write(run, 0)
    _write(run, 1, **changes)
    with complaint("epoch-0001.npz", "damaged"):
        load_snapshots(run)


def test_a_truncated_file_is_named(run: runs.Run, complaint: Complaint) -> None:
    path = _write(run, 4)
    path.write_bytes(path.read_bytes()[:-50])
    with complaint("epoch-0004.npz"):
        load_snapshot(path)
    with complaint("epoch-0005.npz"):
        load_snapshot(runs.snapshot_path(run, 5))
