"""Benchmarks without the images that cannot be read.

What needs such an image is left out with it, and counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench.data.benchmark import Benchmark, Identification
from workbench.data.dataset import Images, image_name, where_and_why
from workbench.data.templates import Templates
from workbench.errors import WorkbenchError, printable

MOST_NAMED = 3
"""Images that a text names."""
Reduced = Benchmark | Identification | Templates


@dataclass(frozen=True)
class LeftOut:
    """What was left out of a result.

    Attributes:
        images: {number: (where, reason)} of the images that cannot be read.
        of: number of images that were read.
        parts: {"pairs": (left out, all), ...}, what was left out with the images.

    Example:
        >>> from workbench.data import LeftOut
        >>> print(LeftOut({7: ("7.jpg", "empty file")}, of=12, parts={"pairs": (2, 30)}))
        1 of 12 images, which cannot be read (7.jpg), 2 of 30 pairs
    """

    images: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    of: int = 0
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(n,) int64 numbers of the images, ascending."""
        return np.array(sorted(self.images), dtype=np.int64)

    def __str__(self) -> str:
        """Returns a text for users; empty if nothing was left out."""
        if not self.images:
            return ""
        names = [where for where, _ in self.images.values()]
        named = ", ".join(names[:MOST_NAMED])
        if len(names) > MOST_NAMED:
            named += f" and {len(names) - MOST_NAMED:,} more"
        texts = [f"{len(names):,} of {self.of:,} images, which cannot be read ({named})"]
        texts += [f"{lost:,} of {count:,} {part}" for part, (lost, count) in self.parts.items()]
        return ", ".join(texts)


def find_unreadable(
    reader: Images, numbers: NDArray[np.int64], title: str = ""
) -> dict[int, tuple[str, str]]:
    """Reads images to find those that cannot be read.

    Args:
        reader: reader of the images.
        numbers: numbers of the images to read.
        title: title of a progress bar; empty for no progress bar.

    Returns:
        {number: (where, reason)} of the images that cannot be read.

    Raises:
        WorkbenchError: if half of the images or more cannot be read.

    Example:
        >>> import numpy as np
        >>> from workbench.data import find_unreadable
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in range(4)]
        >>> find_unreadable(images, np.arange(4))
        {}
    """
    unreadable = {}
    for number in tqdm(
        numbers.tolist(), desc=title, unit="image", disable=not title, dynamic_ncols=True
    ):
        try:
            _ = reader[number]
        except WorkbenchError as error:
            where = printable(image_name(reader, number))
            unreadable[number] = where_and_why(where, str(error))
    if unreadable and len(unreadable) >= len(numbers) / 2:
        where, reason = next(iter(unreadable.values()))
        raise WorkbenchError(
            f"{len(unreadable):,} of {len(numbers):,} images cannot be read, too many to leave "
            f"out; the first is {where}: {reason}"
        )
    return unreadable


@overload
def without(target: Benchmark, unreadable: Collection[int]) -> Benchmark: ...


@overload
def without(target: Reduced, unreadable: Collection[int]) -> Reduced: ...


def without(target: Reduced, unreadable: Collection[int]) -> Reduced:
    """Returns a benchmark without everything that needs one of these images.

    All images keep their numbers. Pairs with such an image are left out. So are images of the
    gallery, distractors and probes, and probes whose person is no longer in the gallery. A template
    keeps its other images; if it has none, its pairs are left out.

    Args:
        target: the benchmark.
        unreadable: numbers of images.

    Raises:
        WorkbenchError: if half or more of the genuine pairs, of the impostor pairs, or of a part of
            an identification are left out.

    Example:
        >>> import numpy as np
        >>> from workbench.data import Dataset, draw_pairs, without
        >>> images = [np.full((8, 8, 3), grey, np.uint8) for grey in range(12)]
        >>> dataset = Dataset("toy", images, np.arange(12) // 3, list("abcd"))
        >>> without(draw_pairs(dataset), [3])
        <Benchmark toy: 10 genuine and 11 impostor pairs>
    """
    lost = np.array(sorted(unreadable), dtype=np.int64)
    if not len(lost):
        return target
    if isinstance(target, Identification):
        return _identification_without(target, lost)
    if isinstance(target, Templates):
        templates = target.templates.copy()
        templates[lost] = target.templates.min() - 1  # a number that is in no pair
        kept = np.asarray(np.isin(target.pairs, templates).all(axis=1))
        _check_pairs(target, kept)
        return replace(
            target, templates=templates, pairs=target.pairs[kept], same=target.same[kept]
        )
    kept = ~np.asarray(np.isin(target.pairs, lost).any(axis=1))
    _check_pairs(target, kept)
    return replace(
        target, pairs=target.pairs[kept], same=target.same[kept], folds=target.folds[kept]
    )


def lost_parts(whole: Reduced, reduced: Reduced) -> dict[str, tuple[int, int]]:
    """Counts what `without` has left out.

    Args:
        whole: the benchmark before.
        reduced: the benchmark after.

    Returns:
        {"pairs": (left out, all)}, or the same for "gallery", "probes" and "distractors".
    """
    parts: tuple[str, ...] = ("pairs",)
    if isinstance(whole, Identification):
        parts = ("gallery", "probes", "distractors")
    counts = {part: (len(getattr(whole, part)), len(getattr(reduced, part))) for part in parts}
    return {part: (before - after, before) for part, (before, after) in counts.items()}


def _identification_without(target: Identification, lost: NDArray[np.int64]) -> Identification:
    gallery, probes, distractors = (
        numbers[~np.isin(numbers, lost)]
        for numbers in (target.gallery, target.probes, target.distractors)
    )
    probes = probes[np.isin(target.identities[probes], target.identities[gallery])]
    _check_kept(target.name, "images of the gallery", len(gallery), len(target.gallery))
    _check_kept(target.name, "probes", len(probes), len(target.probes))
    _check_kept(target.name, "distractors", len(distractors), len(target.distractors))
    return replace(target, gallery=gallery, probes=probes, distractors=distractors)


def _check_pairs(target: Benchmark | Templates, kept: NDArray[np.bool_]) -> None:
    for kind, of_kind in (("genuine", target.same), ("impostor", ~target.same)):
        _check_kept(target.name, f"{kind} pairs", int((kept & of_kind).sum()), int(of_kind.sum()))


def _check_kept(name: str, part: str, kept: int, count: int) -> None:
    """Checks that more than half of a part is kept; otherwise it is another benchmark."""
    if count and kept <= count / 2:
        raise WorkbenchError(
            f"{name}: of {count:,} {part} only {kept:,} remain without the images that cannot be "
            "read; more than half are needed"
        )
