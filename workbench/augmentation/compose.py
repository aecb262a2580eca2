"""Creates augmentations from a preset or a list, and applies them to batches."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.augmentation.base import Step
from workbench.augmentation.mixup import Mixing, Mixup, mixed
from workbench.augmentation.presets import PRESETS, Spec
from workbench.augmentation.registry import AUGMENTATIONS
from workbench.augmentation.stages import stages
from workbench.errors import WorkbenchError, unknown_name


class Augmentation:
    """Augmentations that are applied to a batch in the order of a list.

    All random numbers are drawn for each image on its own, except by `mixup`. Neighbouring
    geometric augmentations share one resampling of an image, and neighbouring `colour` entries one
    pass over its pixels.

    Args:
        steps: The augmentations in their order. Only the last one may be `mixup`.

    Attributes:
        steps: The augmentations.
        mixing: How `mixup` mixed the last batch; None if it did not.

    Raises:
        WorkbenchError: if `mixup` is not the last augmentation.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> augmentation = wb.augmentation.create("mirror")
        >>> images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
        >>> augmentation(images, torch.Generator().manual_seed(0)).shape
        torch.Size([8, 3, 32, 32])
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self.mixing: Mixing | None = None
        mixups = [step for step in self.steps if isinstance(step, Mixup)]
        if mixups and (len(mixups) > 1 or self.steps[-1] is not mixups[0]):
            raise WorkbenchError(
                "augmentation 'mixup' can be given once, as the last one of the list"
            )
        self._mixup = mixups[0] if mixups else None
        self._stages = stages(step for step in self.steps if not isinstance(step, Mixup))

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others, so that the loss must mix their labels too."""
        return self._mixup is not None

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Applies the augmentations to a batch, and sets `mixing`.

        Args:
            images: (N, 3, H, W) uint8 in RGB on any device. They are not modified.
            generator: Source of all random numbers, on the CPU. A generator with the same state
                gives the same result on the same device, and draws the same on every device.

        Returns:
            (N, 3, H, W) uint8 on the same device.
        """
        for stage in self._stages:
            images = stage(images, generator)
        self.mixing = None
        if self._mixup is not None:
            drawn = self._mixup.draw_mixing(len(images), generator)
            if drawn is not None:
                self.mixing = drawn._replace(partner=drawn.partner.to(images.device))
                images = mixed(images, self.mixing)
        return images

    def alone(self) -> dict[str, Augmentation]:
        """Returns each augmentation on its own, applied to all images, as a figure shows them.

        Returns:
            The augmentations by label, such as "blur: motion". A label that occurs again gets a
            number.

        Example:
            >>> import workbench as wb
            >>> list(wb.augmentation.create(["flip", {"blur": {"kind": "motion"}}]).alone())
            ['flip', 'blur: motion']
        """
        by_label: dict[str, Augmentation] = {}
        labels = [step.label for step in self.steps]
        for number, step in enumerate(self.steps):
            earlier = labels[:number].count(step.label)
            label = f"{step.label} ({earlier + 1})" if earlier else step.label
            always = copy.copy(step)
            always.probability = 1.0
            by_label[label] = Augmentation([always])
        return by_label


def names() -> list[str]:
    """Returns the names of all augmentations, sorted.

    Example:
        >>> import workbench as wb
        >>> wb.augmentation.names()[:4]
        ['affine', 'blur', 'colour', 'crop']
    """
    return AUGMENTATIONS.names()


def create(spec: Spec) -> Augmentation:
    """Creates augmentations from a preset or a list.

    Args:
        spec: The name of a preset or of an augmentation, or a list. An entry of the list is such a
            name, or a mapping {name: {option: value}} with one augmentation and its options. A
            preset in a list stands for its own entries.

    Returns:
        The augmentations, which are applied in the order of the list.

    Raises:
        WorkbenchError: if a name or an option is unknown (the message suggests the nearest one), if
            a value is out of range, or if `mixup` is not the last one.

    Example:
        >>> import workbench as wb
        >>> augmentation = wb.augmentation.create(["mirror", {"affine": {"rotation": 20.0}}])
        >>> augmentation.steps[1].rotation
        20.0
    """
    if not isinstance(spec, str | list | tuple):
        raise WorkbenchError(
            f"the augmentation is {spec!r}, expected the name of a preset or a list, such as "
            "[flip, {affine: {rotation: 20}}]"
        )
    entries = [spec] if isinstance(spec, str) else spec
    return Augmentation([step for entry in entries for step in _steps(entry)])


def _steps(entry: Any) -> list[Step]:
    """Returns the augmentations of an entry of a list; a preset may have several."""
    if isinstance(entry, str):
        if entry in PRESETS:
            return [step for inner in PRESETS[entry] for step in _steps(inner)]
        if entry not in AUGMENTATIONS.names():
            raise unknown_name("augmentation or preset", entry, [*AUGMENTATIONS.names(), *PRESETS])
        return [AUGMENTATIONS.create(entry)]
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise WorkbenchError(
            f"an entry of the list of augmentations is {entry!r}, expected one name, or one name "
            "with its options as {name: {option: value}}"
        )
    ((name, options),) = entry.items()
    if isinstance(name, str) and name in PRESETS and name not in AUGMENTATIONS.names():
        raise WorkbenchError(
            f"the augmentation preset {name!r} takes no options; list its augmentations instead"
        )
    if options is None:  # as YAML reads `- flip:`
        options = {}
    if not isinstance(options, Mapping):
        raise WorkbenchError(
            f"the options of augmentation {name!r} are {options!r}, expected {{option: value}}"
        )
    return [AUGMENTATIONS.create(name, **{str(key): value for key, value in options.items()})]
