"""Backbones out of other libraries, under names such as `timm:mobilenetv3_small_100` and `torchvision:efficientnet_b0`."""

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
"""What may stand before the colon of a backbone's name."""


def create(name: str, **options: Any) -> Backbone:
    """Make a backbone from LIBRARY:MODEL, e.g. `create("timm:resnet18d", embedding_dim=128, image_size=112, pretrained=True)`.

    Raises:
        WorkbenchError: unknown library, model or option (the nearest is suggested), a library that is not installed, a size
            that the model cannot take, or weights that cannot be fetched.
    """
    library, _, model = name.partition(":")
    if "model" in options:
        raise WorkbenchError(f"{name}: 'model' is no option; it stands behind the colon")
    return LIBRARIES.create(library, model=model, **options)


class External(Backbone):
    """Another library's classification network without its last layer, then the head `gap`: FC - BN.

    Args:
        model: the library's own name of it.
        embedding_dim: D.
        image_size: pixels; what a model can take is found out by trying.
        pretrained: begin with the library's weights, most from ImageNet, which it downloads. They were trained on colours
            scaled by ImageNet's means; the first layers adapt to this project's scaling in training.
        dropout: share of what enters the FC that is dropped in training, 0..1.
        scale: of the closing BN, `trained`, `frozen` or `none`, see `heads.closing_norm`.
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
        architecture = model.partition(".")[0]  # timm names weights behind a dot, resnet18.a1_in1k
        if architecture not in (known := set(self.models())):
            raise _unknown_model(self.library, architecture, known)
        # Some of these networks compute with values while they are made, so they are made on the CPU even under
        # `with torch.device("meta")`.
        where = torch.get_default_device()
        with torch.device("cpu"):
            self.trunk = self._trunk(model, pretrained)
            features = self._try(model)
            self.head = embedding_head("gap", features, (1, 1), embedding_dim, dropout, scale=scale)
        self.head.apply(initialise)
        self.to(where)

    @classmethod
    def models(cls) -> list[str]:
        """Names of the library's models."""
        raise NotImplementedError

    def make(self, model: str, pretrained: bool) -> nn.Module:
        """The library's network from (N, 3, H, W) to (N, F)."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.head(self.trunk(images)[:, :, None, None])
        return embeddings

    def _trunk(self, model: str, pretrained: bool) -> nn.Module:
        try:
            return self.make(model, pretrained)
        except Exception as error:  # the library's own checks raise what they like
            what = (
                "cannot be made with pretrained weights"
                if pretrained
                else f"cannot be made for {self._size()}"
            )
            raise WorkbenchError(f"{self.library}:{model} {what} ({_line(error)})") from error

    @torch.no_grad()
    def _try(self, model: str) -> int:
        """Number of features F, from one black image."""
        training = self.trunk.training
        try:
            features = self.trunk.eval()(torch.zeros(1, 3, *self.image_size))
        except Exception as error:  # as above
            raise WorkbenchError(
                f"{self.library}:{model} cannot take images of {self._size()} ({_line(error)})"
            ) from error
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise WorkbenchError(
                f"{self.library}:{model} does not give one vector an image; take a classification network"
            )
        self.trunk.train(training)
        return features.shape[1]

    def _size(self) -> str:
        height, width = self.image_size
        return f"{height} x {width}"


@LIBRARIES.register("timm")
class Timm(External):
    """A model of timm (`pip install 'margin-workbench[timm]'`)."""

    library = "timm"

    @classmethod
    def models(cls) -> list[str]:
        names: list[str] = _timm().list_models()
        return names

    def make(self, model: str, pretrained: bool) -> nn.Module:
        timm = _timm()
        # Transformers are made for one size, which must be told; convolutional networks take any and know no such option.
        sized = getattr(timm.get_pretrained_cfg(model), "fixed_input_size", False)
        options = {"img_size": self.image_size} if sized else {}
        net: nn.Module = timm.create_model(model, pretrained=pretrained, num_classes=0, **options)
        return net


@LIBRARIES.register("torchvision")
class Torchvision(External):
    """A classification model of torchvision."""

    library = "torchvision"

    @classmethod
    def models(cls) -> list[str]:
        from torchvision import models  # takes seconds

        names: list[str] = models.list_models(module=models)  # of pictures, not of videos
        return names

    def make(self, model: str, pretrained: bool) -> nn.Module:
        from torchvision import models

        options = {"image_size": self.image_size[0]} if model.startswith("vit_") else {}
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # that GoogLeNet's first weights will be drawn otherwise some day
            net: nn.Module = models.get_model(
                model, weights="DEFAULT" if pretrained else None, **options
            )
        # The last layer goes; what stands before it, such as a norm or a hidden layer, stays.
        last = [
            name for name, layer in net.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
        ][-1]
        net.set_submodule(last, nn.Identity())
        for auxiliary in (
            "aux1",
            "aux2",
            "AuxLogits",
        ):  # GoogLeNet's and Inception's extra classifiers of training
            if hasattr(net, auxiliary):
                setattr(net, auxiliary, None)
                net.aux_logits = False  # type: ignore[assignment]  # a plain attribute of these two
        return net


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise WorkbenchError(
            "backbones timm:NAME need timm: pip install 'margin-workbench[timm]'"
        ) from None
    return timm


def _unknown_model(library: str, model: str, known: set[str]) -> WorkbenchError:
    """`unknown_name` without its list: there are a thousand of them."""
    message = str(unknown_name(f"{library} model", model, known)).partition("known: ")[0]
    return WorkbenchError(f"{message}{library}'s list_models() has all {len(known):,}")


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
