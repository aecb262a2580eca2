"""The base class of backbones, and the layers that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import ClassVar

from torch import Tensor, nn

from workbench.backbones.stages import HEAD, Stage, split
from workbench.errors import WorkbenchError
from workbench.scaling import LARGEST_SIDE

Activation = Callable[[int], nn.Module]
"""Creates the activation for a number of channels."""


class Backbone(nn.Module):
    """Base class of all backbones: maps images to embeddings.

    The input is (N, 3, H, W) floats in RGB order, scaled as `(x / 255 - 0.5) / 0.5`. The output is
    (N, D) embeddings, not normalised. Subclasses define `embed(images)`.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        image_size: Height and width of the input in pixels; an int means a square.
        smallest: Smallest height and width that the architecture supports.

    Attributes:
        paper: Source of the architecture, such as "Deng et al., ArcFace, CVPR 2019", for tables.
        head_layers: Names of the direct children that compute the embedding from the last feature
            map. They are the last stage; see `stages`.

    Raises:
        WorkbenchError: If a size is out of range.

    Example:
        >>> import torch
        >>> class Mean(Backbone):
        ...     def embed(self, images):
        ...         return images.mean((2, 3))
        >>> Mean(embedding_dim=3, image_size=8, smallest=1)(torch.ones(2, 3, 8, 8)).shape
        torch.Size([2, 3])
    """

    paper: ClassVar[str] = ""
    head_layers: ClassVar[tuple[str, ...]] = (HEAD,)

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
                f"{type(self).__name__} needs images of at least {smallest} x {smallest}, "
                f"got {height} x {width}"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Computes the embeddings of images.

        Args:
            images: (N, 3, H, W) images.

        Returns:
            (N, D) embeddings.

        Raises:
            WorkbenchError: If the images have another shape.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, *self.image_size):
            height, width = self.image_size
            raise WorkbenchError(
                f"images have shape {tuple(images.shape)}, expected (N, 3, {height}, {width})"
            )
        return self.embed(images)

    def embed(self, images: Tensor) -> Tensor:
        """Computes the embeddings of images whose shape was checked; see `forward`."""
        raise NotImplementedError

    def stages(self) -> list[Stage]:
        """Returns the stages of the network from input to output.

        A stage is a group of consecutive layers that work at the same resolution, or one block of
        a vision transformer. The last stage is the head, which computes the embedding. Layer-wise
        learning rates and freezing treat the layers of a stage alike. Each weight is in exactly
        one stage. The rules are those of `workbench.backbones.stages.split`; a subclass may
        override this method.

        Example:
            >>> import workbench as wb
            >>> net = wb.backbones.create("iresnet18", embedding_dim=8, image_size=16)
            >>> [stage.name for stage in net.stages()]
            ['conv1', 'layer1.0', 'layer2.0', 'layer3.0', 'layer4.0', 'head']
        """
        return split(self, self.head_layers)


class SqueezeExcite(nn.Module):
    """Channel attention: multiplies each channel by a gate computed from the means of all channels.

    Hu et al., "Squeeze-and-excitation networks", CVPR 2018, eq. 2-4.

    Args:
        channels: Number of channels of the feature map.
        reduction: Factor by which the hidden layer is narrower. It has at least 4 channels.
        act: Activation between the two layers; by default ReLU, as in the paper.
    """

    def __init__(self, channels: int, reduction: int = 16, act: Activation | None = None) -> None:
        super().__init__()
        hidden = max(channels // reduction, 4)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.act = relu(hidden) if act is None else act(hidden)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a feature map of the same shape."""
        gate: Tensor = self.excite(self.act(self.squeeze(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class ImprovedResidual(nn.Module):
    """Residual block of face networks: BN - conv - BN - PReLU - conv (stride) - BN - SE.

    SE is squeeze-and-excitation. The block has the pre-activation layout of He et al., "Identity
    mappings in deep residual networks", ECCV 2016, with the changes of Deng et al., "ArcFace", CVPR
    2019, section 3.1 (called "IR" in InsightFace's code). Nothing follows the addition.

    Args:
        channels_in: Number of channels of the input.
        channels: Number of channels of the output.
        stride: Stride of the second convolution.
        act: Activation between the convolutions.
        gate_act: Activation between the two layers of SE; by default ReLU.
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
        """Returns the output feature map."""
        out: Tensor = self.shortcut(x) + self.body(x)
        return out


def shortcut(channels_in: int, channels: int, stride: int) -> nn.Module:
    """Creates the shortcut of a residual block.

    Args:
        channels_in: Number of channels of the input.
        channels: Number of channels of the output.
        stride: Stride of the block.

    Returns:
        The identity if input and output have the same shape, and otherwise a 1x1 convolution with
        batch normalisation.
    """
    if stride == 1 and channels_in == channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
    )


def stem(
    channels: int,
    stride: int = 1,
    act: Activation = nn.PReLU,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    """Creates the first layer of a face network: a 3x3 convolution, which keeps fine detail.

    Args:
        channels: Number of channels of the output.
        stride: Stride of the convolution.
        act: Activation.
        norm: Creates the normalisation for a number of channels; by default batch normalisation.

    Returns:
        Convolution, normalisation and activation.
    """
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=stride, padding=1, bias=False),
        norm(channels),
        act(channels),
    )


def relu(channels: int) -> nn.Module:
    """Creates a ReLU as an `Activation`. On a CPU it is much faster than PReLU.

    Args:
        channels: Not used, as ReLU has no parameters.
    """
    return nn.ReLU(inplace=True)


def initialise(module: nn.Module) -> None:
    """Initialises a layer: He-normal for convolutions, Xavier-normal for linear layers.

    Biases are set to 0. Other layers stay unchanged. Use it with `net.apply(initialise)`.

    Args:
        module: The layer.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def as_size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Converts an image size to (height, width).

    Args:
        image_size: Height and width in pixels; an int means a square.

    Returns:
        (height, width).

    Raises:
        WorkbenchError: If it is neither a whole number nor a pair of them, or too large.

    Example:
        >>> as_size(112)
        (112, 112)
    """
    try:
        if isinstance(image_size, tuple | list):
            height, width = image_size
        else:
            height, width = image_size, image_size
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
