"""Reads the snapshots of a run, and computes what changes from epoch to epoch.

A snapshot has the embeddings of a small fixed set of images after an epoch; the setting
`snapshots` of a training names the sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench import runs
from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.angles import Angles, normalised, to_centres, to_identity_means
from workbench.evaluation.projection import pca
from workbench.evaluation.sources import TRAIN
from workbench.evaluation.verification import roc

if TYPE_CHECKING:
    import pandas as pd


class PairAngles(NamedTuple):
    """Angles in degrees between the embeddings of all pairs of images of a set."""

    genuine: Floats
    """between two images of one identity"""
    impostor: Floats
    """between images of two identities"""


@dataclass(frozen=True)
class SnapshotSet:
    """The embeddings of one set of images at one epoch.

    Attributes:
        embeddings: (N, D) embeddings, not normalised.
        identities: (N,) identity of each image.
        images: (N,) number of each image in its data set.
        centres: (C, D) class centres of the identities in ascending order; None if the set is not
            the training set, or the loss has no class centres.
    """

    embeddings: NDArray[np.float32]
    identities: Integers
    images: Integers
    centres: NDArray[np.float32] | None = None

    def angles(self) -> Angles:
        """Returns the angle of each embedding to its own and to the nearest other centre.

        The centres are the class centres of the shown identities if the set has them, else the mean
        directions of the identities, from which the embedding itself is left out.
        """
        _, labels = np.unique(self.identities, return_inverse=True)
        if self.centres is None:
            return to_identity_means(self.embeddings, labels)
        return to_centres(self.embeddings, labels, self.centres)

    def pair_angles(self) -> PairAngles:
        """Returns the angles of all pairs of images."""
        unit = normalised(self.embeddings)
        first, second = np.triu_indices(len(unit), k=1)
        cosines = (unit @ unit.T)[first, second]
        degrees = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
        same = self.identities[first] == self.identities[second]
        return PairAngles(degrees[same], degrees[~same])

    def verification(self) -> SnapshotVerification:
        """Returns how well genuine and impostor pairs can be told apart by their angles."""
        genuine, impostor = self.pair_angles()
        same = np.arange(len(genuine) + len(impostor)) < len(genuine)
        far, tar, thresholds = roc(-np.concatenate([genuine, impostor]), same)
        accuracies = (tar + 1 - far) / 2
        best = int(np.argmax(accuracies))
        # The first threshold accepts no pair and is infinite.
        degrees = float(np.clip(-thresholds[best], 0.0, 180.0))
        return SnapshotVerification(float(np.trapezoid(tar, far)), float(accuracies[best]), degrees)


class SnapshotVerification(NamedTuple):
    """How well the pairs of a set can be told apart."""

    auc: float
    """area under the ROC curve: the share of all (genuine, impostor) couples of pairs in which the
    genuine pair has the smaller angle"""
    accuracy: float
    """mean of the accuracy on genuine and of that on impostor pairs, at the best threshold. The
    threshold is chosen on the same pairs, so that this value is slightly too high for few images"""
    threshold: float
    """that threshold, in degrees"""


@dataclass(frozen=True)
class Snapshot:
    """The embeddings of all sets at one epoch.

    Attributes:
        epoch: number of finished epochs; 0 before the first step.
        step: number of steps done.
        sets: the sets by name: "train" for the training set, or the name of a benchmark.
    """

    epoch: int
    step: int
    sets: Mapping[str, SnapshotSet]


def load_snapshot(path: str | Path) -> Snapshot:
    """Read the file of one snapshot.

    Args:
        path: the file, as in `Run.snapshots`.

    Returns:
        The snapshot.

    Raises:
        WorkbenchError: if the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        names = dict.fromkeys(key.rpartition("/")[0] for key in arrays if "/" in key)
        sets = {name: _set(arrays, name) for name in names}
        return Snapshot(int(arrays["epoch"]), int(arrays["step"]), sets)
    # A damaged archive raises OSError, ValueError, BadZipFile, zlib.error, struct.error, ...
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(f"{path}: not a snapshot, or damaged ({reason})") from None


def load_snapshots(run: str | Path | runs.Run) -> list[Snapshot]:
    """Read all snapshots of a run.

    Args:
        run: run directory.

    Returns:
        The snapshots in the order of their epochs; none if the run was trained without the setting
        `snapshots`.

    Raises:
        WorkbenchError: if there is no such run, or a file is damaged.

    Example:
        >>> import workbench as wb
        >>> snapshots = wb.evaluation.load_snapshots("runs/arcface")  # doctest: +SKIP
        >>> snapshots[-1].sets["train"].angles().own.mean()  # doctest: +SKIP
        21.3
    """
    return [load_snapshot(path) for path in runs.open(run).snapshots()]


def _set(arrays: Mapping[str, NDArray[Any]], name: str) -> SnapshotSet:
    """Returns a set, after checking that the shapes of its arrays agree."""
    embeddings, identities = arrays[f"{name}/embeddings"], arrays[f"{name}/identities"]
    images, centres = arrays[f"{name}/images"], arrays.get(f"{name}/centres")
    count = len(embeddings)
    if embeddings.ndim != 2 or identities.shape != (count,) or images.shape != (count,):
        raise ValueError(f"the arrays of {name} have shapes that do not agree")
    expected = (len(np.unique(identities)), embeddings.shape[1])
    if centres is not None and centres.shape != expected:
        raise ValueError(f"{name}/centres have shape {centres.shape}, expected {expected}")
    vectors = [embeddings] if centres is None else [embeddings, centres]
    if not all(np.isfinite(values).all() for values in vectors):
        raise ValueError(f"the embeddings of {name} contain NaN or infinity")
    return SnapshotSet(
        embeddings.astype(np.float32),
        identities.astype(np.int64),
        images.astype(np.int64),
        None if centres is None else centres.astype(np.float32),
    )


def snapshot_sets(snapshots: Sequence[Snapshot]) -> list[str]:
    """Returns the names of the sets in any of the snapshots; the training set comes last."""
    names = dict.fromkeys(name for snapshot in snapshots for name in snapshot.sets)
    return sorted(names, key=lambda name: name == TRAIN)


def over_epochs(snapshots: Sequence[Snapshot], name: str) -> pd.DataFrame:
    """Computes figures of one set for each epoch.

    Args:
        snapshots: the snapshots of a run.
        name: name of the set.

    Returns:
        A table with one row for each snapshot that has the set: `epoch`, `step`, `auc`,
        `accuracy` and `threshold` of all its pairs (see `SnapshotVerification`), and mean angles in
        degrees: `genuine_angle` and `impostor_angle` of the pairs, `own_angle` and `other_angle` to
        the own and to the nearest other centre (see `SnapshotSet.angles`).

    Raises:
        WorkbenchError: if no snapshot has the set.

    Example:
        >>> import numpy as np
        >>> from workbench.evaluation import Snapshot, SnapshotSet, over_epochs
        >>> embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], dtype=np.float32)
        >>> people = SnapshotSet(embeddings, np.array([0, 0, 1, 1]), np.arange(4))
        >>> table = over_epochs([Snapshot(0, 0, {"people": people})], "people")
        >>> table[["epoch", "auc", "accuracy"]].to_dict("records")
        [{'epoch': 0, 'auc': 1.0, 'accuracy': 1.0}]
    """
    import pandas as pd

    return pd.DataFrame(
        [
            {"epoch": one.epoch, "step": one.step, **_figures(one.sets[name])}
            for one in _having(snapshots, name)
        ]
    )


def _figures(one: SnapshotSet) -> dict[str, float]:
    pairs, centres = one.pair_angles(), one.angles()
    return {
        **one.verification()._asdict(),
        "genuine_angle": float(pairs.genuine.mean()),
        "impostor_angle": float(pairs.impostor.mean()),
        "own_angle": float(np.nanmean(centres.own)),
        "other_angle": float(np.nanmean(centres.other)),
    }


def _having(snapshots: Sequence[Snapshot], name: str) -> list[Snapshot]:
    having = [one for one in snapshots if name in one.sets]
    if not having:
        raise unknown_name("set of the snapshots", name, snapshot_sets(snapshots))
    return having


def aligned_maps(snapshots: Sequence[Snapshot], name: str) -> dict[int, Floats]:
    """Project one set to two dimensions at each epoch, so that its points move little.

    The two axes of each epoch are those of a PCA of the normalised embeddings. As the axes of two
    epochs have nothing in common, each map is rotated, and mirrored if necessary, onto the map of
    the epoch before it by an orthogonal Procrustes transformation (Schönemann 1966), which changes
    no distance between points.

    Args:
        snapshots: the snapshots of a run.
        name: name of the set.

    Returns:
        (N, 2) coordinates by epoch. The images are those of the last snapshot; those of them that
        another snapshot lacks are NaN there.

    Raises:
        WorkbenchError: if no snapshot has the set.

    Example:
        >>> import numpy as np
        >>> from workbench.evaluation import Snapshot, SnapshotSet, aligned_maps
        >>> before = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
        >>> rotated = before @ np.array([[0, 1], [-1, 0]], dtype=np.float32)
        >>> people = np.array([0, 0, 1]), np.arange(3)
        >>> snapshots = [
        ...     Snapshot(epoch, epoch, {"people": SnapshotSet(embeddings, *people)})
        ...     for epoch, embeddings in enumerate([before, rotated])
        ... ]
        >>> maps = aligned_maps(snapshots, "people")
        >>> bool(np.allclose(maps[0], maps[1]))
        True
    """
    having = _having(snapshots, name)
    images = having[-1].sets[name].images
    maps: dict[int, Floats] = {}
    previous: Floats | None = None
    for snapshot in having:
        one = snapshot.sets[name]
        coordinates = np.full((len(images), 2), np.nan)
        row = {number: index for index, number in enumerate(one.images.tolist())}
        is_there = np.array([number in row for number in images.tolist()], dtype=bool)
        rows = [row[number] for number in images[is_there].tolist()]
        coordinates[is_there] = pca(normalised(one.embeddings[rows]))[0]
        if previous is not None:
            coordinates = coordinates @ _procrustes(coordinates, previous)
        maps[snapshot.epoch] = previous = coordinates
    return maps


def _procrustes(points: Floats, onto: Floats) -> Floats:
    """Returns the (2, 2) orthogonal matrix R for which `points @ R` is nearest to `onto`."""
    common = np.isfinite(points).all(axis=1) & np.isfinite(onto).all(axis=1)
    left, _, right = np.linalg.svd(points[common].T @ onto[common])
    rotation: Floats = left @ right
    return rotation
