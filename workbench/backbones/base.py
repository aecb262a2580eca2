"""What every backbone offers: images to embeddings, and the pieces that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import ClassVar

from torch import Tensor, nn

from workbench.errors import WorkbenchError

LARGEST_SIDE = 4096
"""Pixels of a side of the input; more is a slip, and would end for want of memory."""
Activation = Callable[[int], nn.Module]
"""Makes the activation for a number of channels."""


class Backbone(nn.Module):
    """A network from images to embeddings.

    Args:
        embedding_dim: length D of an embedding, > 0.
        image_size: height and width of the input in pixels; an int means a square.
        smallest: the least height and width this architecture can take.

    Input is (N, 3, H, W) floats, RGB, scaled as `(x / 255 - 0.5) / 0.5`; output is (N, D), not normalised.
    """

    paper: ClassVar[str] = ""
    """Where the architecture comes from, e.g. "Deng et al., ArcFace, CVPR 2019", for tables of backbones."""

    def __init__(
        self, embedding_dim: int, image_size: int | tuple[int, int], smallest: int
    ) -> None:
        super().__init__()
        if embedding_dim < 1:
            raise WorkbenchError(f"embedding_dim must be positive, got {embedding_dim}")
        self.embedding_dim = embedding_dim
        self.image_size = as_size(image_size)
        if min(self.image_size) < smallest:
            height, width = self.image_size
            raise WorkbenchError(
                f"{type(self).__name__} needs images of at least {smallest} x {smallest}, got {height} x {width}"
            )

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D). Raises WorkbenchError for images of another shape."""
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, *self.image_size):
            height, width = self.image_size
            raise WorkbenchError(
                f"images have shape {tuple(images.shape)}, expected (N, 3, {height}, {width})"
            )
        return self.embed(images)

    def embed(self, images: Tensor) -> Tensor:
        """The network itself, images already checked."""
        raise NotImplementedError


class SqueezeExcite(nn.Module):
    """Channel attention: scale each channel by a gate computed from all channels' means.

    Hu et al., "Squeeze-and-excitation networks", CVPR 2018, eq. 2-4.

    Args:
        channels: of the map.
        reduction: how many times narrower the layer between is; it has at least 4 channels.
        act: between the two layers; ReLU in the paper.
    """

    def __init__(self, channels: int, reduction: int = 16, act: Activation | None = None) -> None:
        super().__init__()
        hidden = max(channels // reduction, 4)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.act = relu(hidden) if act is None else act(hidden)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.excite(self.act(self.squeeze(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class ImprovedResidual(nn.Module):
    """The residual block of face networks: BN - conv - BN - PReLU - conv (stride) - BN, then squeeze-and-excite.

    The pre-activation layout of He et al., "Identity mappings in deep residual networks", ECCV 2016, with the changes
    of Deng et al., "ArcFace", CVPR 2019, section 3.1 (InsightFace's code calls it "IR"); nothing follows the addition.

    Args:
        channels_in, channels: of the map before and after.
        stride: of the second convolution.
        act: between the convolutions.
        gate_act: between the two layers of squeeze-and-excite; None: ReLU.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        stride: int,
        act: Activation = nn.PReLU,
        gate_act: Activation | None = None,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            act(channels),
            nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            SqueezeExcite(channels, act=gate_act),
        )
        self.shortcut = shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.body(x)
        return out


def shortcut(channels_in: int, channels: int, stride: int) -> nn.Module:
    """What the input of a residual block goes through before the addition: nothing, or what gives it the shape of the output."""
    if stride == 1 and channels_in == channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
    )


def stem(channels: int, stride: int = 1, act: Activation = nn.PReLU) -> nn.Sequential:
    """First layer of a face network: one 3x3 convolution, so that no detail of a 112-pixel face is lost at once."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        act(channels),
    )


def relu(channels: int) -> nn.Module:
    """ReLU as an `Activation`: it has no parameter per channel. On a CPU it is much cheaper than PReLU."""
    return nn.ReLU(inplace=True)


def initialise(module: nn.Module) -> None:
    """He-normal for convolutions, Xavier-normal for linear layers, zero biases."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def as_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """`112` -> (112, 112); (height, width) stays. Raises WorkbenchError for anything else."""
    try:
        height, width = (
            image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
        )
        size = index(height), index(width)
    except (TypeError, ValueError):
        raise WorkbenchError(
            f"image_size must be a whole number of pixels or (height, width), got {image_size!r}"
        ) from None
    if max(size) > LARGEST_SIDE:
        raise WorkbenchError(
            f"image_size {size[0]} x {size[1]}: a side is at most {LARGEST_SIDE} pixels"
        )
    return size
