"""Interim."""

from __future__ import annotations
from typing import Any
import torch
from torch import Tensor


class Augmentation:
    mixing = None

    def __init__(self, flip: bool) -> None:
        self.flip = flip

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if not self.flip:
            return images
        chosen = torch.rand(len(images), generator=generator) < 0.5
        return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(-1), images)


def create(spec: str | list[Any]) -> Augmentation:
    return Augmentation(spec == "mirror")
