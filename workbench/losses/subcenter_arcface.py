"""Sub-centre ArcFace: several centres for each class, which makes it robust to label noise."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.losses.angular import add_angle
from workbench.losses.base import MarginSoftmax, at_least_float32, in_range
from workbench.losses.guessing import RandomCosines
from workbench.losses.head import unit
from workbench.losses.registry import register


@register("subcenter_arcface")
class SubCenterArcFace(MarginSoftmax):
    """ArcFace with K sub-centres for each class, of which the nearest counts.

    Deng et al., "Sub-center ArcFace: Boosting face recognition by large-scale noisy web faces",
    ECCV 2020, eq. 3. The cosine to a class is the largest one to its sub-centres,
    cos theta_j = max_k cos theta_jk, and the target logit is s * cos(theta_y + m).

    The clean images of a class gather around one sub-centre, the *dominant* one, and mislabelled or
    unusual images around the others. The paper finds the dominant sub-centre by counting, over the
    images of a class, which sub-centre is the nearest. Here the images of the training batches are
    counted. `centres` returns the dominant sub-centres, and `predict` uses all of them.

    The head "streamed" is not supported: the maximum over sub-centres needs the cosines to all
    C * K sub-centres, which is K times as many as to C class centres.

    Args:
        embedding_dim: Length D of an embedding, >= 1.
        num_classes: Number C of classes, >= 1.
        s: Scale of the logits, > 0.
        m: Margin in radians, 0..pi.
        sub_centres: Number K of sub-centres of each class, >= 1. With 1 the loss is ArcFace.

    Attributes:
        weight: (C, K, D) sub-centres, trained.
        counts: (C, K) int64, how often each sub-centre was the nearest one to an image of its class
            in training.

    Raises:
        WorkbenchError: If an option is out of range.

    Example:
        >>> import workbench as wb
        >>> sizes = {"embedding_dim": 8, "num_classes": 10}
        >>> loss = wb.losses.create("subcenter_arcface", **sizes, sub_centres=3)
        >>> loss.weight.shape, loss.centres.shape
        (torch.Size([10, 3, 8]), torch.Size([10, 8]))
    """

    formula = "s cos(theta + m), theta to the nearest of K sub-centres"
    paper = (
        "Deng et al., Sub-center ArcFace: Boosting face recognition by large-scale noisy web "
        "faces, ECCV 2020"
    )
    can_stream: ClassVar[bool] = False
    counts: Tensor

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        s: float = 64.0,
        m: float = 0.5,
        sub_centres: int = 3,
    ) -> None:
        super().__init__(
            embedding_dim, num_classes, s, in_range("subcenter_arcface: margin m", m, 0.0, math.pi)
        )
        if not isinstance(sub_centres, int) or sub_centres < 1:
            raise WorkbenchError(
                f"subcenter_arcface: sub_centres must be a whole number >= 1, got {sub_centres!r}"
            )
        self.sub_centres = sub_centres
        rows = nn.init.xavier_normal_(torch.empty(num_classes * sub_centres, embedding_dim))
        self.weight = nn.Parameter(rows.view(num_classes, sub_centres, embedding_dim))
        self.register_buffer("counts", torch.zeros(num_classes, sub_centres, dtype=torch.int64))

    def margin(self, cosine: Tensor) -> Tensor:
        """Returns cos(theta + m); see `MarginSoftmax.margin`."""
        return add_angle(cosine, self.m * self.ramp)

    def random_cosines(self, size: int) -> RandomCosines:
        """Returns the distribution of the largest cosine to the sub-centres of a class."""
        return super().random_cosines(size).largest_of(self.sub_centres)

    @property
    def dominant(self) -> Tensor:
        """(C,) index of each class's dominant sub-centre; 0 for a class without images so far."""
        return self.counts.argmax(1)

    @property
    def centres(self) -> Tensor:
        """(C, D) dominant sub-centre of each class."""
        return self.weight[torch.arange(self.num_classes, device=self.weight.device), self.dominant]

    @torch.no_grad()
    def nearest(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the index of the target class's sub-centre that is nearest to each embedding.

        Args:
            embeddings: (N, D) embeddings.
            labels: (N,) int64 labels.

        Returns:
            (N,) int64 indices in 0..K-1.

        Raises:
            WorkbenchError: If a shape or type does not fit, or a label is out of range.
        """
        self._check(embeddings)
        self._check_labels(embeddings, labels)
        embeddings = at_least_float32(embeddings)
        sub_centres = unit(self.weight[labels].to(embeddings.dtype))
        return torch.einsum("nkd,nd->nk", sub_centres, unit(embeddings)).argmax(1)

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        """Counts the nearest sub-centres of a training batch; see `Loss.observe`."""
        nearest = self.nearest(embeddings, labels)
        self.counts.index_put_((labels, nearest), self.counts.new_ones(()), accumulate=True)

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """Adds `non_dominant`: the share of images not nearest to the dominant sub-centre.

        See `MarginSoftmax.measure`.
        """
        differs = self.nearest(embeddings, labels) != self.dominant[labels]
        return super().measure(embeddings, labels) | {"non_dominant": differs.float().mean().item()}

    def extra_repr(self) -> str:
        """Returns the sizes and options for `repr`."""
        return f"{super().extra_repr()}, sub_centres={self.sub_centres}"
