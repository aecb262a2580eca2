"""Backbones of other libraries, with names such as `timm:resnet18` and `torchvision:resnet18`."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from workbench.backbones.base import Backbone, initialise
from workbench.backbones.heads import Scale, embedding_head
from workbench.errors import WorkbenchError, unknown_name
from workbench.registry import Registry

LIBRARIES: Registry[Backbone] = Registry("library of backbones")
"""Libraries of backbones by the name that comes before the colon."""


def create(name: str, **options: Any) -> Backbone:
    """Creates a backbone by LIBRARY:MODEL.

    Args:
        name: Name of the library and the model, such as "timm:resnet18d".
        **options: Options of `External`, such as `embedding_dim` and `image_size`.

    Returns:
        The backbone.

    Raises:
        WorkbenchError: If the library, the model or an option is unknown (the message suggests the
            nearest one), the library is not installed, the model does not support the image size,
            or its weights cannot be downloaded.

    Example:
        >>> import workbench as wb
        >>> net = wb.backbones.create("torchvision:squeezenet1_1", embedding_dim=8, image_size=32)
        >>> net.image_size
        (32, 32)
    """
    library, _, model = name.partition(":")
    if "model" in options:
        raise WorkbenchError(f"{name}: 'model' is not an option; it is given after the colon")
    return LIBRARIES.create(library, model=model, **options)


class External(Backbone):
    """Classification network of another library without its last layer, with the head FC - BN.

    Args:
        model: Name of the model in the library.
        embedding_dim: Length D of an embedding, >= 1.
        image_size: Height and width in pixels; an int means a square. Whether the model supports it
            is tested with one image.
        pretrained: Whether to start from the library's weights, most of them from ImageNet, which
            the library downloads. They were trained with the mean and standard deviation of
            ImageNet. The first layers adapt to the scaling of this project in training.
        dropout: Share of the inputs of the FC that is dropped in training, 0..1.
        scale: Setting of the last BN: "trained", "frozen" or "none"; see `heads.closing_norm`.

    Attributes:
        library: Name of the library.

    Raises:
        WorkbenchError: As in `create`.
    """

    library: ClassVar[str]
    paper: ClassVar[str] = "see the library's page of the model"

    def __init__(
        self,
        model: str,
        embedding_dim: int = 512,
        image_size: int | tuple[int, int] = 112,
        pretrained: bool = False,
        dropout: float = 0.0,
        scale: Scale = "trained",
    ) -> None:
        super().__init__(embedding_dim, image_size, smallest=1)
        architecture = model.partition(".")[0]  # timm: resnet18.a1_in1k is ARCHITECTURE.WEIGHTS
        available = set(self.models())
        if architecture not in available:
            raise _unknown_model(self.library, architecture, available)
        # Some networks compute with values while they are created, so they are created on the CPU
        # even under `with torch.device("meta")`.
        device = torch.get_default_device()
        with torch.device("cpu"):
            self.trunk = self._make_trunk(model, pretrained)
            features = self._count_features(model)
            self.head = embedding_head("gap", features, (1, 1), embedding_dim, dropout, scale=scale)
        self.head.apply(initialise)
        self.to(device)

    @classmethod
    def models(cls) -> list[str]:
        """Returns the names of the library's models."""
        raise NotImplementedError

    def make(self, model: str, pretrained: bool) -> nn.Module:
        """Creates the library's network from (N, 3, H, W) images to (N, F) features.

        Args:
            model: Name of the model in the library.
            pretrained: Whether to load the library's weights.
        """
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """Computes the embeddings of checked images; see `Backbone.forward`."""
        embeddings: Tensor = self.head(self.trunk(images)[:, :, None, None])
        return embeddings

    def _make_trunk(self, model: str, pretrained: bool) -> nn.Module:
        try:
            return self.make(model, pretrained)
        except Exception as error:  # libraries raise errors of any type
            purpose = "with pretrained weights" if pretrained else f"for {self._size()}"
            raise WorkbenchError(
                f"{self.library}:{model} cannot be made {purpose} ({_one_line(error)})"
            ) from error

    @torch.no_grad()
    def _count_features(self, model: str) -> int:
        """Returns the number of features F, measured with one image of zeros."""
        training = self.trunk.training
        try:
            features = self.trunk.eval()(torch.zeros(1, 3, *self.image_size))
        except Exception as error:  # libraries raise errors of any type
            raise WorkbenchError(
                f"{self.library}:{model} cannot take images of {self._size()} ({_one_line(error)})"
            ) from error
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise WorkbenchError(
                f"{self.library}:{model} does not return one vector for each image; "
                "use a classification network"
            )
        self.trunk.train(training)
        return features.shape[1]

    def _size(self) -> str:
        """Returns the image size for error messages."""
        height, width = self.image_size
        return f"{height} x {width}"


@LIBRARIES.register("timm")
class Timm(External):
    """A model of timm (`pip install 'margin-workbench[timm]'`)."""

    library = "timm"

    @classmethod
    def models(cls) -> list[str]:
        """Returns the names of timm's models."""
        names: list[str] = _timm().list_models()
        return names

    def make(self, model: str, pretrained: bool) -> nn.Module:
        """Creates a network of timm; see `External.make`."""
        timm = _timm()
        # Transformers are created for a fixed image size. Convolutional networks support any size,
        # and do not have this option.
        fixed_size = getattr(timm.get_pretrained_cfg(model), "fixed_input_size", False)
        options = {"img_size": self.image_size} if fixed_size else {}
        net: nn.Module = timm.create_model(model, pretrained=pretrained, num_classes=0, **options)
        return net


@LIBRARIES.register("torchvision")
class Torchvision(External):
    """A classification model of torchvision."""

    library = "torchvision"

    @classmethod
    def models(cls) -> list[str]:
        """Returns the names of torchvision's models."""
        from torchvision import models  # imported here because it takes seconds

        names: list[str] = models.list_models(module=models)  # without models of videos
        return names

    def make(self, model: str, pretrained: bool) -> nn.Module:
        """Creates a network of torchvision; see `External.make`."""
        from torchvision import models

        options = {"image_size": self.image_size[0]} if model.startswith("vit_") else {}
        with warnings.catch_warnings():
            # GoogLeNet announces that its initialisation will change.
            warnings.simplefilter("ignore", FutureWarning)
            weights = "DEFAULT" if pretrained else None
            net: nn.Module = models.get_model(model, weights=weights, **options)
        # Only the last layer is removed. Layers before it, such as a norm or a hidden layer, stay.
        weighted = [
            name for name, layer in net.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
        ]
        net.set_submodule(weighted[-1], nn.Identity())
        # GoogLeNet and Inception have additional classifiers that are used in training.
        for auxiliary in ("aux1", "aux2", "AuxLogits"):
            if hasattr(net, auxiliary):
                setattr(net, auxiliary, None)
                net.aux_logits = False  # type: ignore[assignment]  # a plain attribute of these two
        return net


def _timm() -> Any:
    """Imports timm, or raises an error that says how to install it."""
    try:
        import timm
    except ImportError:
        raise WorkbenchError(
            "backbones timm:NAME need timm: pip install 'margin-workbench[timm]'"
        ) from None
    return timm


def _unknown_model(library: str, model: str, available: set[str]) -> WorkbenchError:
    """Returns `unknown_name` without its list of names, as there are about a thousand."""
    message = str(unknown_name(f"{library} model", model, available)).partition("known: ")[0]
    return WorkbenchError(f"{message}{library}'s list_models() has all {len(available):,}")


def _one_line(error: Exception) -> str:
    """Returns the message of an error in one line of at most 203 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
