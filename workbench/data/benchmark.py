"""The three types of benchmark: pairs to verify, labelled images of known classes, people to find among strangers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data.dataset import Dataset, Images
from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Benchmark:
    """Verification: are the two images of a pair of the same person?

    Attributes:
        name: what to call it in figures and file names.
        images: reader of M images, `images[i]` is (H, W, 3) uint8.
        pairs: (P, 2) int64 numbers of images.
        same: (P,) bool, True for a genuine pair.
        folds: (P,) int64, 0..F-1: which fold a pair is tested in.
        identities: (M,) int64 who is on each image, where it is known; -1 where not.
        identity_names: names of the identities, where known.
        note: what a reader of the figures must know.
        attributes: columns of M values each (age, yaw, ...), where known: what invariance curves are drawn over.
    """

    name: str
    images: Images
    pairs: NDArray[np.int64]
    same: NDArray[np.bool_]
    folds: NDArray[np.int64]
    identities: NDArray[np.int64] | None = None
    identity_names: tuple[str, ...] = ()
    note: str = ""
    attributes: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        genuine = int(self.same.sum())
        return f"<Benchmark {self.name}: {genuine:,} genuine and {len(self.same) - genuine:,} impostor pairs>"

    def fingerprint(self) -> str:
        """16 hex digits that change when the pairs, their kind or the identities do (not with pixels or attributes)."""
        digest = hashlib.sha256(self.pairs.astype("<i8").tobytes() + self.same.tobytes())
        if self.identities is not None:
            digest.update(self.identities.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def __post_init__(self) -> None:
        count = len(self.pairs)
        if (
            self.pairs.shape != (count, 2)
            or self.same.shape != (count,)
            or self.folds.shape != (count,)
        ):
            raise WorkbenchError(
                f"{self.name}: pairs {self.pairs.shape}, same {self.same.shape} and folds {self.folds.shape} do not belong together"
            )
        if count and not (self.pairs.min() >= 0 and self.pairs.max() < len(self.images)):
            raise WorkbenchError(
                f"{self.name}: a pair names image {self.pairs.max()}, there are {len(self.images)}"
            )
        for column, values in self.attributes.items():
            if np.shape(values) != (len(self.images),):
                shape = np.shape(values)
                raise WorkbenchError(
                    f"{self.name}: attribute {column!r} has shape {shape}, expected ({len(self.images)},)"
                )


@dataclass(frozen=True)
class ClosedSet:
    """Classification: images of classes that the run was trained on; accuracy is that of the highest logit."""

    dataset: Dataset
    note: str = ""

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def images(self) -> Images:
        """Reader of the data set's images."""
        return self.dataset.images

    def fingerprint(self) -> str:
        """That of the data set."""
        return self.dataset.fingerprint()


@dataclass(frozen=True)
class Identification:
    """Identification: who of the gallery is on a probe, among strangers?

    Kemelmacher-Shlizerman et al., "The MegaFace benchmark: 1 million faces for recognition at scale", CVPR 2016.

    Attributes:
        name: what to call it in figures and file names.
        images: reader of M images, `images[i]` is (H, W, 3) uint8.
        identities: (M,) int64 who is on each image; -1, a stranger without a number, for distractors only.
        gallery: (G,) int64 numbers of the images of enrolled people, at least one of every person of a probe.
        probes: (Q,) int64 numbers of the images to be recognised, none of which is in the gallery.
        distractors: (E,) int64 numbers of images of people who are on no probe and not in the gallery.
        identity_names: names of the identities, where known.
        note: what a reader of the figures must know.
        attributes: columns of M values each (age, yaw, ...).
        candidates: "gallery", a probe is compared with everybody in the gallery and the distractors; "megaface", with one other
            image of its person at a time and the distractors (`workbench.evaluation.identification`).
    """

    name: str
    images: Images
    identities: NDArray[np.int64]
    gallery: NDArray[np.int64]
    probes: NDArray[np.int64]
    distractors: NDArray[np.int64]
    identity_names: tuple[str, ...] = ()
    note: str = ""
    attributes: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    candidates: str = "gallery"

    def __repr__(self) -> str:
        parts = f"{len(self.probes):,} probes, {len(self.gallery):,} enrolled images, {len(self.distractors):,} distractors"
        return f"<Identification {self.name}: {parts}>"

    def fingerprint(self) -> str:
        """16 hex digits that change when the identities or the parts images play do (not with pixels or attributes)."""
        digest = hashlib.sha256(self.identities.astype("<i8").tobytes())
        for numbers in (self.gallery, self.probes, self.distractors):
            digest.update(
                np.append(numbers, -1).astype("<i8").tobytes()
            )  # -1: where one list ends and the next begins
        return digest.hexdigest()[:16]

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.identities.shape != (count,):
            raise WorkbenchError(
                f"{self.name}: {count} images but identities of shape {self.identities.shape}"
            )
        for part in ("gallery", "probes", "distractors"):
            numbers = getattr(self, part)
            if numbers.ndim != 1 or not len(numbers) or numbers.dtype.kind not in "iu":
                raise WorkbenchError(
                    f"{self.name}: {part} are {numbers.dtype} of shape {numbers.shape}, expected at least one number of an image"
                )
            if outside := [
                int(number) for number in (numbers.min(), numbers.max()) if not 0 <= number < count
            ]:
                raise WorkbenchError(
                    f"{self.name}: {part} name image {outside[0]}, there are {count}"
                )
            if len(np.unique(numbers)) < len(numbers):
                raise WorkbenchError(f"{self.name}: {part} name an image twice")
        if len(both := np.intersect1d(self.gallery, self.probes)):
            raise WorkbenchError(
                f"{self.name}: image {both[0]} is both in the gallery and a probe; it would find itself"
            )
        enrolled, asked = self.identities[self.gallery], self.identities[self.probes]
        if min(enrolled.min(), asked.min()) < 0:
            raise WorkbenchError(
                f"{self.name}: an image of the gallery or a probe has no identity; only distractors may have -1"
            )
        if len(missing := np.setdiff1d(asked, enrolled)):
            raise WorkbenchError(
                f"{self.name}: nobody in the gallery is identity {missing[0]}, who is on a probe"
            )
        if len(known := np.intersect1d(enrolled, self.identities[self.distractors])):
            raise WorkbenchError(
                f"{self.name}: identity {known[0]} is in the gallery and on a distractor; these must be strangers"
            )
        for column, values in self.attributes.items():
            if np.shape(values) != (count,):
                raise WorkbenchError(
                    f"{self.name}: attribute {column!r} has shape {np.shape(values)}, expected ({count},)"
                )


def consecutive_folds(count: int, folds: int) -> NDArray[np.int64]:
    """Fold of each of `count` pairs when they are cut into `folds` runs, as `KFold(folds, shuffle=False)` cuts them."""
    if not 2 <= folds <= count:
        raise WorkbenchError(
            f"{count} pairs cannot be cut into {folds} folds; at least 2 folds with a pair each are needed"
        )
    return np.repeat(
        np.arange(folds), [len(part) for part in np.array_split(np.arange(count), folds)]
    )


def balanced_folds(same: NDArray[np.bool_], folds: int = 10) -> NDArray[np.int64]:
    """Fold of each pair when each fold has its share of the genuine and its share of the impostor pairs, in their order.

    Lists with all genuine pairs first would else give folds of one kind; where consecutive folds are balanced, these are they.
    With fewer than `folds` pairs of a kind there are fewer folds.

    Raises:
        WorkbenchError: fewer than two pairs of a kind.
    """
    genuine = int(same.sum())
    count = min(folds, genuine, len(same) - genuine)
    if count < 2:
        raise WorkbenchError(
            f"{genuine} genuine and {len(same) - genuine} impostor pairs; at least two of each are needed to make folds"
        )
    fold_of = np.empty(len(same), dtype=np.int64)
    for kind in (same, ~same):
        fold_of[kind] = consecutive_folds(int(kind.sum()), count)
    return fold_of


def draw_pairs(dataset: Dataset, folds: int = 10, per_fold: int = 300, seed: int = 0) -> Benchmark:
    """A verification benchmark from any identity data set, as LFW's View 2 was made from LFW.

    The identities are dealt out to the folds, so that no person is in two of them. Each fold gets at most `per_fold`
    genuine and as many impostor pairs, drawn without repetition. With fewer than `2 * folds` identities of two or more
    images there are fewer folds.

    Args:
        dataset: at least 4 identities with two images.
        folds: wanted number of folds.
        per_fold: most pairs of each kind in a fold.
        seed: of the draw.

    Raises:
        WorkbenchError: too few identities.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(dataset.identities, minlength=dataset.num_identities)
    members = np.split(np.argsort(dataset.identities, kind="stable"), np.cumsum(counts)[:-1])
    usable = rng.permutation(
        [identity for identity, images in enumerate(members) if len(images) >= 2]
    )
    folds = min(folds, len(usable) // 2)
    if folds < 2:
        raise WorkbenchError(
            f"{dataset.name}: {len(usable)} identities with two or more images, at least 4 are needed to draw pairs"
        )
    pairs, same, fold_of = [], [], []
    for fold in range(folds):
        # A genuine pair each is enough; the couples of all the people of a large set would not fit into memory.
        people = [members[identity] for identity in usable[fold::folds][: max(per_fold, 2)]]
        genuine = _draw(rng, per_fold, [len(images) * (len(images) - 1) // 2 for images in people])
        couples = [(a, b) for i, a in enumerate(people) for b in people[i + 1 :]]
        impostor = _draw(rng, len(genuine), [len(a) * len(b) for a, b in couples])
        genuine = genuine[: len(impostor)]
        for person, number in genuine:
            first, second = _unordered_pair(number, len(people[person]))
            pairs.append((people[person][first], people[person][second]))
        for couple, number in impostor:
            a, b = couples[couple]
            pairs.append((a[number // len(b)], b[number % len(b)]))
        same += [True] * len(genuine) + [False] * len(impostor)
        fold_of += [fold] * (len(genuine) + len(impostor))
    return Benchmark(
        dataset.name,
        dataset.images,
        np.array(pairs, dtype=np.int64),
        np.array(same),
        np.array(fold_of, dtype=np.int64),
        dataset.identities,
        tuple(dataset.identity_names),
        note=f"{folds} folds with disjoint identities, pairs drawn with seed {seed}",
    )


def _draw(rng: np.random.Generator, count: int, sizes: list[int]) -> list[tuple[int, int]]:
    """`count` different (group, number within group), evenly over the groups first, as far as they go."""
    left: dict[
        int, list[int]
    ] = {}  # made when a group's turn comes, which with many groups it never does
    drawn: list[tuple[int, int]] = []
    groups = [group for group in rng.permutation(len(sizes)).tolist() if sizes[group]]
    while groups and len(drawn) < count:
        for group in groups[: count - len(drawn)]:
            if group not in left:
                left[group] = rng.choice(
                    sizes[group], min(sizes[group], count), replace=False
                ).tolist()
            drawn.append((group, left[group].pop()))
        groups = [group for group in groups if group not in left or left[group]]
    return drawn


def _unordered_pair(number: int, count: int) -> tuple[int, int]:
    """The `number`-th of the count * (count - 1) / 2 pairs i < j."""
    for first in range(count):
        if number < count - 1 - first:
            return first, first + 1 + number
        number -= count - 1 - first
    raise IndexError(number)
