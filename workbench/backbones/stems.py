"""First layers that make a network depend less on colour, light and contrast.

The mean and the standard deviation of each channel over the positions of a feature map describe the
style of an image: its light, contrast and colours. These layers remove such statistics, or exchange
them between images, so that a network can be used on images of another style than those that it was
trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from workbench.backbones.base import Activation, stem
from workbench.errors import WorkbenchError, unknown_name

Stem = Literal["batch", "ibn", "instance", "mixstyle", "standardised"]
"""Names of the stems; see `styled_stem`."""
EPSILON = 1e-6
"""Added to variances in `MixStyle`, as in its published code."""


class InstanceBatchNorm(nn.Module):
    """Instance normalisation of the first half of the channels, and BN of the others.

    Pan et al., "Two at once: Enhancing learning and generalization capacities via IBN-Net", ECCV
    2018, the layer of IBN-Net-a. BN is batch normalisation.

    Args:
        channels: Number of channels, at least 2.

    Example:
        >>> import torch
        >>> InstanceBatchNorm(8)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.instance_channels = channels // 2
        self.instance = nn.InstanceNorm2d(self.instance_channels, affine=True)
        self.batch = nn.BatchNorm2d(channels - self.instance_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a feature map of the same shape."""
        first, second = x[:, : self.instance_channels], x[:, self.instance_channels :]
        return torch.cat([self.instance(first), self.batch(second)], dim=1)


class MixStyle(nn.Module):
    """Mixes the statistics of each image with those of another image of the batch, in training.

    Zhou et al., "Domain generalization with MixStyle", ICLR 2021. An image x with the means mu(x)
    and the standard deviations sigma(x) of its channels becomes

        gamma (x - mu(x)) / sigma(x) + beta,
        gamma = w sigma(x) + (1 - w) sigma(y),  beta = w mu(x) + (1 - w) mu(y),

    where y is another image of the batch, chosen by a random permutation, and w is drawn for each
    image from the distribution Beta(alpha, alpha). No gradient flows through the statistics. In
    evaluation mode the layer changes nothing.

    Args:
        probability: Probability that a batch is changed, 0..1. 0.5 is the paper's value.
        alpha: Parameter of the distribution of w, > 0. 0.1 is the paper's value.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import torch
        >>> MixStyle().eval()(torch.ones(2, 8, 4, 4)).std()
        tensor(0.)
    """

    def __init__(self, probability: float = 0.5, alpha: float = 0.1) -> None:
        super().__init__()
        if not 0 <= probability <= 1 or not alpha > 0:
            raise WorkbenchError(
                "MixStyle: expected a probability from 0 to 1 and alpha > 0, got "
                f"{probability!r} and {alpha!r}"
            )
        self.probability, self.alpha = probability, alpha

    def forward(self, x: Tensor) -> Tensor:
        """Returns a feature map of the same shape."""
        if not self.training or torch.rand(()) >= self.probability:
            return x
        weights = torch.distributions.Beta(self.alpha, self.alpha).sample((len(x),))
        return mix_style(x, torch.randperm(len(x)).to(x.device), weights.to(x.device))


def mix_style(x: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
    """Mixes the statistics of feature maps with those of others; see `MixStyle`.

    Args:
        x: (N, C, H, W) feature maps, with at least 2 positions each.
        partners: (N,) int64 numbers of the other feature maps.
        weights: (N,) shares of the own statistics, 0..1.

    Returns:
        (N, C, H, W) feature maps of the same type.
    """
    values = x.float()  # with bfloat16, the statistics would be too inexact
    mean = values.mean((2, 3), keepdim=True).detach()
    deviation = (values.var((2, 3), keepdim=True) + EPSILON).sqrt().detach()
    own = weights[:, None, None, None]
    gamma = own * deviation + (1 - own) * deviation[partners]
    beta = own * mean + (1 - own) * mean[partners]
    mixed: Tensor = gamma * (values - mean) / deviation + beta
    return mixed.to(x.dtype)


def styled_stem(kind: Stem, channels: int, stride: int, act: Activation) -> nn.Sequential:
    """Creates the first layer of a network: a 3x3 convolution, a normalisation and an activation.

    - "batch": with batch normalisation (BN), as most face networks have it.
    - "ibn": with instance normalisation of half of the channels; see `InstanceBatchNorm`.
    - "instance": with instance normalisation of all channels, which removes the mean and the
      contrast of each channel from each image.
    - "mixstyle": with BN, followed by `MixStyle`.
    - "standardised": with BN, on images whose mean is set to 0 and whose standard deviation is set
      to 1 before, over all pixels and colours of an image.

    Args:
        kind: Name of the stem.
        channels: Number of channels of the output.
        stride: Stride of the convolution.
        act: Activation.

    Raises:
        WorkbenchError: If the name is unknown. The message suggests the nearest one.

    Example:
        >>> import torch
        >>> from workbench.backbones.base import relu
        >>> styled_stem("ibn", 8, stride=2, act=relu)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 8, 8, 8])
    """
    if kind not in get_args(Stem):
        raise unknown_name("stem", kind, get_args(Stem))
    layers = stem(channels, stride, act, _NORMS.get(kind, nn.BatchNorm2d))
    if kind == "mixstyle":
        layers.append(MixStyle())
    elif kind == "standardised":
        layers.insert(0, nn.GroupNorm(1, 3, affine=False))
    return layers


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "ibn": InstanceBatchNorm,
    "instance": partial(nn.InstanceNorm2d, affine=True),
}
"""Normalisation of the stems that differ from the others in it."""
