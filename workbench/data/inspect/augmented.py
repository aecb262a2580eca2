"""Augmented images for a figure, one row for each augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.data.inspect.contact_sheet import People, shown_identities
from workbench.errors import WorkbenchError
from workbench.images import fit

if TYPE_CHECKING:
    from workbench.augmentation.presets import Spec

TOGETHER = 3
"""Rows that show all augmentations together, each with its own probability."""


def augmented(
    dataset: People, augment: Spec, faces: int = 6, seed: int = 0
) -> dict[str, NDArray[np.uint8]]:
    """Applies each augmentation of a list to an image of each of the first people.

    In its own row, an augmentation is applied to all images, whatever its probability. The last
    rows show all augmentations together, as in a training.

    Args:
        dataset: A data set, or a benchmark whose identities are known.
        augment: A preset or a list of augmentations, as in `workbench.augmentation.create`.
        faces: Largest number of people, at least 1. All images have the size of the first one.
        seed: Seed of the augmentation.

    Returns:
        (F, H, W, 3) uint8 images by the title of their row, which states the probability.

    Raises:
        WorkbenchError: if an augmentation is unknown or invalid, no identity is known, or `faces`
            is below 1.

    Example:
        >>> import numpy as np
        >>> import workbench as wb
        >>> images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
        >>> dataset = wb.data.Dataset("toy", images, np.array([0, 1]), ["anna", "bert"])
        >>> rows = wb.data.augmented(dataset, [{"blur": {"probability": 0.1}}])
        >>> list(rows)
        ['original', 'blur: defocus, 10 %']
    """
    import torch

    from workbench import augmentation

    if faces < 1:
        raise WorkbenchError(f"a figure of augmentations needs at least 1 face, got {faces}")
    created = augmentation.create(augment)
    identities = shown_identities(dataset, faces)
    numbers = [int(np.flatnonzero(dataset.identities == one)[0]) for one in identities]
    first = dataset.images[numbers[0]]
    original = np.stack([fit(dataset.images[number], first.shape[:2]) for number in numbers])
    rows = {"original": original}
    batch = torch.from_numpy(original).permute(0, 3, 1, 2)
    generator = torch.Generator().manual_seed(seed)
    for step, (label, alone) in zip(created.steps, created.alone().items(), strict=True):
        title = f"{label}, {100 * step.probability:.3g} %"
        rows[title] = alone(batch, generator).permute(0, 2, 3, 1).numpy()
    if len(created.steps) > 1:
        for number in range(TOGETHER):
            mixed = created(batch, generator).permute(0, 2, 3, 1).numpy()
            rows[f"all together, draw {number + 1}"] = mixed
    return rows
