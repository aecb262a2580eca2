"""What was read from the file of a model: its network, its input scaling and what was assumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.data.batches import CHANNELS
from workbench.errors import unknown_name
from workbench.scaling import PerChannel, formula, per_channel


@dataclass(frozen=True)
class Scaling:
    """How pixels become the input of a network: `(x - mean) / std` of pixel values 0..255.

    Attributes:
        mean: One number, or one for each channel in the order of `channels`.
        std: One positive number, or one for each channel.
        channels: Order of the colour channels, "rgb" or "bgr".

    Raises:
        WorkbenchError: if a value is not one of these.
    """

    mean: PerChannel = 127.5
    std: PerChannel = 127.5
    channels: str = "rgb"

    def __post_init__(self) -> None:
        per_channel(self.mean, "pixel_mean")
        per_channel(self.std, "pixel_std", positive=True)
        if self.channels not in CHANNELS:
            raise unknown_name("order of channels", self.channels, CHANNELS)


@dataclass(frozen=True)
class ImportedNetwork:
    """A network read from a file, ready to be stored in a run directory.

    Attributes:
        settings: Settings of the network for config.yaml: `backbone`, `embedding_dim`,
            `image_size` as (height, width), and those that only some networks have.
        content: The tensors for model.safetensors, or the bytes of model.onnx.
        scaling: The scaling of the input.
        notes: What was understood, left out and assumed, one sentence each.
        source: The file.
    """

    settings: dict[str, Any]
    content: dict[str, Tensor] | bytes
    scaling: Scaling
    notes: list[str]
    source: Path

    @property
    def size(self) -> int:
        """Number of bytes that will be written."""
        if isinstance(self.content, bytes):
            return len(self.content)
        return sum(tensor.numel() * tensor.element_size() for tensor in self.content.values())


def note_on_size(size: tuple[int, int]) -> str:
    """Returns the note for an image size that neither the caller nor the file stated."""
    return f"the image size {size[0]} x {size[1]} is assumed; set another one with --image-size"


def notes_on_scaling(scaling: Scaling, stated: dict[str, Any]) -> list[str]:
    """Returns the notes for those parts of the scaling that are assumed.

    Args:
        scaling: The scaling in use.
        stated: Those fields of `Scaling` that the caller or the file stated.
    """
    notes = []
    if not {"mean", "std"} <= stated.keys():
        notes.append(
            f"the scaling {formula(scaling.mean, scaling.std)} is assumed, because the file does "
            "not state it; set another one with --pixel-mean and --pixel-std"
        )
    if "channels" not in stated:
        notes.append(
            "the channel order RGB is assumed; AdaFace's networks and some others need "
            "--channels bgr"
        )
    return notes
