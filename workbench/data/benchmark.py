"""Types of benchmarks: verification of pairs, closed sets, attributes, and identification.

The fifth type, verification of templates, is in `templates.py`.
"""

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
    """Verification: do the two images of a pair show the same person?

    Attributes:
        name: name for figures and file names.
        images: reader of M images.
        pairs: (P, 2) int64 numbers of images.
        same: (P,) bool, True for a genuine pair.
        folds: (P,) int64, 0..F-1, the fold in which a pair is tested.
        identities: (M,) int64 identity of each image, -1 if it is unknown; None if all are.
        identity_names: names of the identities, if they are known.
        note: what a reader of the results must know.
        attributes: columns of M values each (age, yaw, ...), over which invariance curves are
            drawn.

    Raises:
        WorkbenchError: if the shapes do not agree, or a pair names an image that does not exist.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Benchmark
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in (0, 50, 100)]
        >>> pairs, same = np.array([[0, 1], [0, 2]]), np.array([True, False])
        >>> Benchmark("toy", images, pairs, same, folds=np.array([0, 1]))
        <Benchmark toy: 1 genuine and 1 impostor pairs>
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
        impostor = len(self.same) - genuine
        return f"<Benchmark {self.name}: {genuine:,} genuine and {impostor:,} impostor pairs>"

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits that identify the benchmark.

        They change with the pairs, with which of them are genuine, and with the identities. They do
        not depend on pixels or attributes.
        """
        digest = hashlib.sha256(self.pairs.astype("<i8").tobytes() + self.same.tobytes())
        if self.identities is not None:
            digest.update(self.identities.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def __post_init__(self) -> None:
        count = len(self.pairs)
        shapes = (self.pairs.shape, self.same.shape, self.folds.shape)
        if shapes != ((count, 2), (count,), (count,)):
            raise WorkbenchError(
                f"{self.name}: pairs have shape {self.pairs.shape}, same {self.same.shape} and "
                f"folds {self.folds.shape}; expected (P, 2), (P,) and (P,)"
            )
        if count and not (self.pairs.min() >= 0 and self.pairs.max() < len(self.images)):
            raise WorkbenchError(
                f"{self.name}: a pair names image {self.pairs.max()}, there are {len(self.images)}"
            )
        _check_attributes(self.name, self.attributes, len(self.images))


@dataclass(frozen=True)
class Labelled:
    """Base class of benchmarks in which each image has a label and is judged alone.

    Attributes:
        dataset: images with identities and attributes.
        note: what a reader of the results must know.
    """

    dataset: Dataset
    note: str = ""

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.dataset.name

    @property
    def images(self) -> Images:
        """Reader of the data set's images."""
        return self.dataset.images

    def fingerprint(self) -> str:
        """Returns the fingerprint of the data set."""
        return self.dataset.fingerprint()


@dataclass(frozen=True)
class ClosedSet(Labelled):
    """Classification: images of the classes that a run was trained on.

    The predicted class is that of the highest logit, or that of the nearest class mean if the loss
    of the run has no class centres.

    Attributes:
        dataset: images with identities.
        note: what a reader of the results must know.
    """


@dataclass(frozen=True)
class Attributes(Labelled):
    """Attributes: the gender, the age or another attribute of each image is estimated.

    Attributes:
        dataset: images with the attributes as columns.
        note: what a reader of the results must know.
        has_people: whether the identities of the data set are people. If they are, the intervals
            take into account that the images of a person are alike.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Attributes, Dataset
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in (0, 50)]
        >>> dataset = Dataset("toy", images, np.array([0, 1]), ["ann", "bob"], {"age": [30, 61]})
        >>> Attributes(dataset).columns
        ['age']
    """

    has_people: bool = True

    @property
    def columns(self) -> list[str]:
        """Names of the attributes that can be estimated."""
        return [name for name in self.dataset.attributes if name not in ("file", "set")]

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits that identify the images and their attributes."""
        digest = hashlib.sha256(self.dataset.fingerprint().encode())
        for name in self.columns:
            for value in self.dataset.attributes[name]:
                digest.update(f"{name}={value}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Identification:
    """Identification: which person of the gallery does a probe show, among distractors?

    Kemelmacher-Shlizerman et al., "The MegaFace benchmark: 1 million faces for recognition at
    scale", CVPR 2016.

    Attributes:
        name: name for figures and file names.
        images: reader of M images.
        identities: (M,) int64 identity of each image; -1 if it is unknown, which is allowed only
            for distractors.
        gallery: (G,) int64 numbers of the images of enrolled people. It contains at least one image
            of the person of each probe.
        probes: (Q,) int64 numbers of the images to be recognised, none of which is in the gallery.
        distractors: (E,) int64 numbers of images of other people.
        identity_names: names of the identities, if they are known.
        note: what a reader of the results must know.
        attributes: columns of M values each (age, yaw, ...).
        candidates: what a probe is compared with. "gallery": all images of the gallery and the
            distractors. "megaface": one other image of its person at a time, and the distractors
            (`workbench.evaluation.identification`).

    Raises:
        WorkbenchError: if the shapes do not agree, or the parts contradict each other.
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
        return (
            f"<Identification {self.name}: {len(self.probes):,} probes, "
            f"{len(self.gallery):,} enrolled images, {len(self.distractors):,} distractors>"
        )

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits that identify the benchmark.

        They change with the identities and with the images of gallery, probes and distractors. They
        do not depend on pixels or attributes.
        """
        digest = hashlib.sha256(self.identities.astype("<i8").tobytes())
        for numbers in (self.gallery, self.probes, self.distractors):
            # The -1 marks where one list ends and the next begins.
            digest.update(np.append(numbers, -1).astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.identities.shape != (count,):
            raise WorkbenchError(
                f"{self.name}: {count} images but identities of shape {self.identities.shape}"
            )
        for part in ("gallery", "probes", "distractors"):
            self._check_numbers(part, getattr(self, part))
        self._check_people()
        _check_attributes(self.name, self.attributes, count)

    def _check_numbers(self, part: str, numbers: NDArray[np.int64]) -> None:
        """Checks that a part names existing images, each once."""
        count = len(self.images)
        if numbers.ndim != 1 or not len(numbers) or numbers.dtype.kind not in "iu":
            raise WorkbenchError(
                f"{self.name}: {part} are {numbers.dtype} of shape {numbers.shape}, "
                "expected at least one number of an image"
            )
        for number in (int(numbers.min()), int(numbers.max())):
            if not 0 <= number < count:
                raise WorkbenchError(f"{self.name}: {part} name image {number}, there are {count}")
        if len(np.unique(numbers)) < len(numbers):
            raise WorkbenchError(f"{self.name}: {part} name an image twice")

    def _check_people(self) -> None:
        """Checks that gallery, probes and distractors show the people that they may show."""
        if len(both := np.intersect1d(self.gallery, self.probes)):
            raise WorkbenchError(
                f"{self.name}: image {both[0]} is both in the gallery and a probe; "
                "it would find itself"
            )
        enrolled, probed = self.identities[self.gallery], self.identities[self.probes]
        if min(enrolled.min(), probed.min()) < 0:
            raise WorkbenchError(
                f"{self.name}: an image of the gallery or a probe has no identity; "
                "only distractors may have -1"
            )
        if len(missing := np.setdiff1d(probed, enrolled)):
            raise WorkbenchError(
                f"{self.name}: identity {missing[0]} is on a probe, but not in the gallery"
            )
        if len(common := np.intersect1d(enrolled, self.identities[self.distractors])):
            raise WorkbenchError(
                f"{self.name}: identity {common[0]} is in the gallery and on a distractor; "
                "distractors must show other people"
            )


def _check_attributes(name: str, attributes: Mapping[str, NDArray[Any]], count: int) -> None:
    for column, values in attributes.items():
        if np.shape(values) != (count,):
            raise WorkbenchError(
                f"{name}: attribute {column!r} has shape {np.shape(values)}, expected ({count},)"
            )


def consecutive_folds(count: int, folds: int) -> NDArray[np.int64]:
    """Cuts pairs into folds in their order, as scikit-learn's `KFold(folds, shuffle=False)` does.

    Args:
        count: number of pairs.
        folds: number of folds, at least 2.

    Returns:
        (count,) int64 fold of each pair, 0..folds-1.

    Raises:
        WorkbenchError: if there are fewer than two folds, or fewer pairs than folds.

    Example:
        >>> from workbench.data import consecutive_folds
        >>> consecutive_folds(7, 3)
        array([0, 0, 0, 1, 1, 2, 2])
    """
    if not 2 <= folds <= count:
        raise WorkbenchError(
            f"{count} pairs cannot be cut into {folds} folds; "
            "at least 2 folds with a pair each are needed"
        )
    sizes = [len(part) for part in np.array_split(np.arange(count), folds)]
    return np.repeat(np.arange(folds), sizes)


def balanced_folds(same: NDArray[np.bool_], folds: int = 10) -> NDArray[np.int64]:
    """Cuts pairs into folds so that each has its share of the genuine and of the impostor pairs.

    A list that has all genuine pairs first would otherwise give folds of one kind. Pairs of a kind
    are assigned in their order. If consecutive folds are balanced, the result is the same.

    Args:
        same: (P,) bool, True for a genuine pair.
        folds: wanted number of folds; there are fewer if there are fewer pairs of a kind.

    Returns:
        (P,) int64 fold of each pair.

    Raises:
        WorkbenchError: if there are fewer than two genuine or fewer than two impostor pairs.

    Example:
        >>> import numpy as np
        >>> from workbench.data import balanced_folds
        >>> balanced_folds(np.array([True, True, True, True, False, False]), folds=2)
        array([0, 0, 1, 1, 0, 1])
    """
    genuine = int(same.sum())
    impostor = len(same) - genuine
    count = min(folds, genuine, impostor)
    if count < 2:
        raise WorkbenchError(
            f"{genuine} genuine and {impostor} impostor pairs; "
            "at least two of each are needed to make folds"
        )
    fold_of = np.empty(len(same), dtype=np.int64)
    for kind in (same, ~same):
        fold_of[kind] = consecutive_folds(int(kind.sum()), count)
    return fold_of


def draw_pairs(dataset: Dataset, folds: int = 10, per_fold: int = 300, seed: int = 0) -> Benchmark:
    """Draws a verification benchmark from a data set, as LFW's View 2 was made from LFW.

    The identities are divided among the folds, so that no person is in two of them. Each fold gets
    genuine pairs and as many impostor pairs, drawn without repetition.

    Args:
        dataset: must have at least 4 identities with two images.
        folds: wanted number of folds. There are fewer if fewer than `2 * folds` identities have
            two images.
        per_fold: largest number of genuine pairs, and of impostor pairs, in a fold.
        seed: seed of the draw.

    Returns:
        The benchmark, over all images of the data set.

    Raises:
        WorkbenchError: if there are too few identities.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Dataset, draw_pairs
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in range(12)]
        >>> dataset = Dataset("toy", images, np.arange(12) // 3, list("abcd"))
        >>> draw_pairs(dataset)
        <Benchmark toy: 12 genuine and 12 impostor pairs>
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(dataset.identities, minlength=dataset.num_identities)
    images_of = np.split(np.argsort(dataset.identities, kind="stable"), np.cumsum(counts)[:-1])
    usable = rng.permutation(
        [identity for identity, images in enumerate(images_of) if len(images) >= 2]
    )
    folds = min(folds, len(usable) // 2)
    if folds < 2:
        raise WorkbenchError(
            f"{dataset.name}: {len(usable)} identities with two or more images, "
            "at least 4 are needed to draw pairs"
        )
    pairs, same, fold_of = [], [], []
    for fold in range(folds):
        # One genuine pair of each person is enough. The pairs of all people of a large data set
        # would not fit into memory.
        people = [images_of[identity] for identity in usable[fold::folds][: max(per_fold, 2)]]
        genuine, impostor = _draw_fold(rng, people, per_fold)
        pairs += genuine + impostor
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


def all_pairs(dataset: Dataset, most: int = 200_000, seed: int = 0) -> Benchmark:
    """Forms all pairs of images of a data set.

    Args:
        dataset: must have two identities, and one with two images.
        most: largest number of genuine pairs, and of impostor pairs. If there are more of a kind,
            this many of them are drawn at random.
        seed: seed of the draw.

    Returns:
        The benchmark, over all images of the data set. Its folds share people.

    Raises:
        WorkbenchError: if there are fewer than two genuine or fewer than two impostor pairs.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Dataset, all_pairs
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in range(5)]
        >>> dataset = Dataset("toy", images, np.array([0, 0, 0, 1, 1]), ["ann", "bob"])
        >>> all_pairs(dataset)
        <Benchmark toy: 4 genuine and 6 impostor pairs>
    """
    rng = np.random.default_rng(seed)
    identities = dataset.identities
    genuine = _drawn(rng, _genuine_pairs(identities), most)
    impostor = _drawn(rng, _impostor_pairs(identities, most, rng), most)
    same = np.repeat([True, False], [len(genuine), len(impostor)])
    total = len(identities) * (len(identities) - 1) // 2
    chosen = "all pairs" if total == len(same) else f"{len(same):,} of {total:,} pairs, drawn"
    return Benchmark(
        dataset.name,
        dataset.images,
        np.concatenate([genuine, impostor]),
        same,
        balanced_folds(same),
        identities,
        tuple(dataset.identity_names),
        note=f"{chosen} of {len(identities):,} images",
    )


def _genuine_pairs(identities: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns all (G, 2) pairs of images of one identity."""
    pairs = [np.empty((0, 2), dtype=np.int64)]
    order = np.argsort(identities, kind="stable")
    begins = np.flatnonzero(np.diff(identities[order])) + 1
    for images in np.split(order, begins):
        first, second = np.triu_indices(len(images), 1)
        pairs.append(np.stack([images[first], images[second]], axis=1))
    return np.concatenate(pairs)


def _impostor_pairs(
    identities: NDArray[np.int64], most: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Returns all pairs of images of two identities, or several times `most` random ones."""
    count = len(identities)
    if count * (count - 1) // 2 <= 20 * most:
        first, second = np.triu_indices(count, 1)
    else:  # all pairs would need too much memory
        first, second = np.sort(rng.integers(0, count, (2, 4 * most)), axis=0)
        codes = np.unique(first[first < second] * count + second[first < second])
        first, second = np.divmod(codes, count)
    differ = identities[first] != identities[second]
    return np.stack([first[differ], second[differ]], axis=1)


def _drawn(rng: np.random.Generator, pairs: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Returns the pairs, or `most` of them in their order."""
    if len(pairs) <= most:
        return pairs
    return pairs[np.sort(rng.choice(len(pairs), most, replace=False))]


_Pair = tuple[np.int64, np.int64]


def _draw_fold(
    rng: np.random.Generator, people: list[NDArray[np.int64]], count: int
) -> tuple[list[_Pair], list[_Pair]]:
    """Draws at most `count` genuine pairs of images, and as many impostor pairs.

    Args:
        rng: source of random numbers.
        people: numbers of the images of each person.
        count: largest number of genuine pairs.
    """
    genuine = _draw(rng, count, [len(images) * (len(images) - 1) // 2 for images in people])
    couples = [(a, b) for i, a in enumerate(people) for b in people[i + 1 :]]
    impostor = _draw(rng, len(genuine), [len(a) * len(b) for a, b in couples])
    genuine_pairs = []
    for person, number in genuine[: len(impostor)]:
        first, second = _unordered_pair(number, len(people[person]))
        genuine_pairs.append((people[person][first], people[person][second]))
    impostor_pairs = []
    for couple, number in impostor:
        a, b = couples[couple]
        impostor_pairs.append((a[number // len(b)], b[number % len(b)]))
    return genuine_pairs, impostor_pairs


def _draw(rng: np.random.Generator, count: int, sizes: list[int]) -> list[tuple[int, int]]:
    """Draws `count` different elements (group, number within the group), evenly over the groups.

    Fewer are returned if the groups are too small.
    """
    # The numbers of a group are only drawn when its turn comes. With many groups, some have none.
    remaining: dict[int, list[int]] = {}
    pairs: list[tuple[int, int]] = []
    groups = [group for group in rng.permutation(len(sizes)).tolist() if sizes[group]]
    while groups and len(pairs) < count:
        for group in groups[: count - len(pairs)]:
            size = sizes[group]
            if group not in remaining:
                remaining[group] = rng.choice(size, min(size, count), replace=False).tolist()
            pairs.append((group, remaining[group].pop()))
        groups = [group for group in groups if group not in remaining or remaining[group]]
    return pairs


def _unordered_pair(number: int, count: int) -> tuple[int, int]:
    """Returns the pair with this number among the count * (count - 1) / 2 pairs i < j."""
    for first in range(count):
        if number < count - 1 - first:
            return first, first + 1 + number
        number -= count - 1 - first
    raise IndexError(number)
