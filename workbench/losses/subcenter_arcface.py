"""Sub-centre ArcFace: several centres a class, so that mislabelled and odd images need not pull at the main one."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.losses.angular import add_angle
from workbench.losses.base import MarginSoftmax, at_least_float32, in_range
from workbench.losses.head import unit
from workbench.losses.registry import register


@register("subcenter_arcface")
class SubCenterArcFace(MarginSoftmax):
    """ArcFace in which a class is as near as the nearest of its K sub-centres: cos theta_j = max_k cos theta_jk.

    Deng et al., "Sub-center ArcFace: Boosting face recognition by large-scale noisy web faces", ECCV 2020, eq. 3 (target logit
    s * cos(theta_y + m)). The clean images of a class gather at one sub-centre, its *dominant* one, noise at the others. The
    paper finds it by counting, for a class's images, which sub-centre is the nearest; here the training batches are counted as
    they go by. It is what `centres` gives; `predict` looks at all of them.

    The head cannot be streamed, as there is a K-th more than (N, C) numbers to go through for a maximum.

    Args:
        embedding_dim: D.
        num_classes: C.
        s: scale of the logits, > 0.
        m: margin in radians, 0..pi.
        sub_centres: K, >= 1; 1 is ArcFace.

    Attributes:
        weight: (C, K, D) sub-centres.
        counts: (C, K) int64, how often each was the nearest one of an image of its own class in training.
    """

    formula = "s cos(theta + m), theta to the nearest of K sub-centres"
    paper = "Deng et al., Sub-center ArcFace: Boosting face recognition by large-scale noisy web faces, ECCV 2020"
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
        return add_angle(cosine, self.m * self.ramp)

    @property
    def dominant(self) -> Tensor:
        """(C,) number of each class's dominant sub-centre; the first one of a class that was not seen yet."""
        return self.counts.argmax(1)

    @property
    def centres(self) -> Tensor:
        """(C, D) each class's dominant sub-centre."""
        return self.weight[torch.arange(self.num_classes, device=self.weight.device), self.dominant]

    @torch.no_grad()
    def nearest(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(N, D), (N,) -> (N,) number of the nearest sub-centre of the own class.

        Raises:
            WorkbenchError: as of `forward`.
        """
        self._check(embeddings)
        self._check_labels(embeddings, labels)
        embeddings = at_least_float32(embeddings)
        return torch.einsum(
            "nkd,nd->nk", unit(self.weight[labels].to(embeddings.dtype)), unit(embeddings)
        ).argmax(1)

    def observe(self, embeddings: Tensor, labels: Tensor) -> None:
        self.counts.index_put_(
            (labels, self.nearest(embeddings, labels)), self.counts.new_ones(()), accumulate=True
        )

    def measure(self, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
        """As for every margin; and the share of images that are nearer to another sub-centre than the dominant one."""
        aside = self.nearest(embeddings, labels) != self.dominant[labels]
        return super().measure(embeddings, labels) | {"non_dominant": aside.float().mean().item()}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, sub_centres={self.sub_centres}"
