"""Names what is wrong with a training, from its logged rows: each cause once, in one line.

A finding needs evidence over many steps after the warm-up and the margin ramp, because a healthy
training also begins with the loss of a guess, and some networks begin with similar embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.losses import ClassificationLoss, Loss
from workbench.losses.guessing import Guess
from workbench.losses.head import unit
from workbench.training.config import TrainConfig

FEWEST_STEPS, MOST_STEPS = 100, 1500
"""Bounds of the number of steps over which a state must last, which is one epoch between them."""
ALIKE = 0.9
"""Mean cosine from which on embeddings, or class centres, count as coinciding."""
SHORTEST, LONGEST = 1e-3, 1e5
"""Mean lengths of embeddings that count as vanishing and exploding."""
LENGTH_FACTOR = 100.0
"""Change of the mean length since the first row that counts as vanishing or exploding."""
RISE = 1.5
"""Factor by which the loss must exceed that of a random guess to count as destroyed."""
LARGE_LOSS, HIGH_ACCURACY = 8.0, 0.5
"""Loss and accuracy from which on it is explained that both together are normal."""
LAST_ROWS = 5
"""Number of rows whose median decides about quantities that change from batch to batch."""

Level = Literal["note", "warning"]


class Finding(NamedTuple):
    """What is reported about a training."""

    kind: str
    """Short name of the cause. Each is reported once a run."""
    level: Level
    """"warning" if something should be changed, "note" if it is an explanation."""
    text: str
    """One sentence: what was seen, the likely cause, and what to change."""


@torch.no_grad()
def health(loss: Loss, embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """Returns the columns of metrics.jsonl that show how a training does.

    Args:
        loss: The loss.
        embeddings: (N, D) embeddings of a batch.
        labels: (N,) int64 labels.

    Returns:
        `embedding_norm`, the mean length of the embeddings; `embedding_cosine`, the mean cosine
        between two images of the batch; `centre_cosine`, that between two class centres, if there
        are any; `loss_of_random_guess` and `loss_of_uniform_guess`, if the loss defines them.
    """
    embeddings = embeddings.float()
    row = {"embedding_norm": torch.linalg.vector_norm(embeddings, dim=1).mean().item()}
    if len(embeddings) > 1:
        row["embedding_cosine"] = mean_cosine(embeddings)
    if isinstance(loss, ClassificationLoss) and loss.num_classes > 1:
        row["centre_cosine"] = mean_cosine(loss.centres)
    guess = loss.value_of_guess(embeddings, labels)
    if guess is not None:
        row |= {"loss_of_random_guess": guess.random, "loss_of_uniform_guess": guess.uniform}
    return row


def mean_cosine(vectors: Tensor) -> float:
    """Returns the mean cosine between two different vectors.

    Args:
        vectors: (N, D) vectors, N >= 2.

    Example:
        >>> import torch
        >>> mean_cosine(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]))  # 1, 0 and 0
        0.3333333...
    """
    directions = unit(vectors)
    number = len(directions)
    total = directions.sum(0).square().sum() - directions.square().sum()  # without i = j
    return float(total / (number * (number - 1)))


class Diagnosis:
    """Reads the logged rows of a training, and reports each cause of trouble once.

    Args:
        config: The settings.
        loss: The loss.
        steps_per_epoch: Number of steps in an epoch.
        reported: Kinds of findings that were reported before the run was resumed.

    Example:
        >>> import torch
        >>> import workbench as wb
        >>> from workbench.training.diagnosis import Diagnosis, health
        >>> loss = wb.losses.create("arcface", embedding_dim=128, num_classes=100)
        >>> diagnosis = Diagnosis(wb.TrainConfig(data="synthfaces"), loss, steps_per_epoch=10)
        >>> batch = torch.randn(32, 128), torch.arange(32)
        >>> row = {"step": 10, "loss": 45.0} | health(loss, *batch)
        >>> [finding.kind for finding in diagnosis.check(row, *batch)]
        ['guess']
    """

    def __init__(
        self,
        config: TrainConfig,
        loss: Loss,
        steps_per_epoch: int,
        reported: Collection[str] = (),
    ) -> None:
        self.config, self.loss = config, loss
        self.reported = set(reported)
        begin = max(config.warmup_epochs, config.margin_ramp_epochs, config.freeze_epochs)
        self.settled = round(begin * steps_per_epoch)
        self.patience = min(max(steps_per_epoch, FEWEST_STEPS), MOST_STEPS)
        self.rows: list[dict[str, float]] = []
        self.full: Guess | None = None
        self.best = math.inf

    def check(self, row: Mapping[str, Any], embeddings: Tensor, labels: Tensor) -> list[Finding]:
        """Returns what a new row shows.

        Args:
            row: The row, with the columns of `health`.
            embeddings: (N, D) embeddings of its batch.
            labels: (N,) int64 labels.

        Returns:
            Findings of kinds that were not reported before.
        """
        if not self.rows:
            self.full = self._with_full_margin(embeddings, labels)
            self.first = dict(row)
        self.rows.append({**row, "images": len(labels)})
        # Rows before the window are not needed. `_still` compares its two halves.
        while (
            len(self.rows) > LAST_ROWS and self.rows[1]["step"] <= row["step"] - 2 * self.patience
        ):
            del self.rows[0]
        checks = (
            self._guess,
            self._norm,
            self._destroyed,
            self._collapse,
            self._centres,
            self._stuck,
            self._normal,
        )
        findings = []
        for check in checks:
            finding = check()
            if finding is not None and finding.kind not in self.reported:
                self.reported.add(finding.kind)
                findings.append(finding)
        return findings

    def _with_full_margin(self, embeddings: Tensor, labels: Tensor) -> Guess | None:
        ramp, self.loss.ramp = self.loss.ramp, 1.0
        try:
            return self.loss.value_of_guess(embeddings, labels)
        finally:
            self.loss.ramp = ramp

    # Windows of rows.

    def _column(self, name: str, rows: list[dict[str, float]]) -> NDArray[np.float64]:
        return np.array([row[name] for row in rows if name in row], dtype=np.float64)

    def _recent(self, name: str) -> float:
        """The median of the last rows; NaN if there are fewer rows, or the column is missing."""
        values = self._column(name, self.rows[-LAST_ROWS:])
        return float(np.median(values)) if len(values) == LAST_ROWS else math.nan

    def _lasting(self, steps: int) -> list[dict[str, float]]:
        """The rows of the last `steps` steps after the warm-up; empty if there are not as many."""
        end = self.rows[-1]["step"]
        begin = end - steps
        if begin < max(self.settled, self.rows[0]["step"]):
            return []
        return [row for row in self.rows if row["step"] > begin]

    def _always(self, name: str, above: float) -> bool:
        """Whether a column was above a value in all rows of the patience."""
        values = self._column(name, self._lasting(self.patience))
        return len(values) > 1 and bool((values > above).all())

    # The causes.

    def _guess(self) -> Finding | None:
        if self.full is None:
            return None
        return Finding(
            "guess",
            "note",
            f"a network that cannot tell identities apart has a loss of {self.full.uniform:.3g} "
            "or more here (all similarities equal), and of "
            f"{self.full.random:.3g} with random directions, as at the start; a lower loss shows "
            "that it learns",
        )

    def _norm(self) -> Finding | None:
        length, first = self._recent("embedding_norm"), self.first["embedding_norm"]
        if length < max(SHORTEST, first / LENGTH_FACTOR) or length < SHORTEST:
            return Finding(
                "vanishing-norm",
                "warning",
                f"the embeddings vanish: their mean length fell from {first:.3g} to {length:.3g}, "
                "so rounding and noise decide about their directions; lower weight_decay or lr, "
                "or use a backbone that ends with batch normalisation",
            )
        if length > min(LONGEST, first * LENGTH_FACTOR):
            return Finding(
                "exploding-norm",
                "warning",
                f"the embeddings explode: their mean length grew from {first:.3g} to {length:.3g}, "
                "so a step hardly turns them any more; lower lr or clip_norm, lengthen "
                "warmup_epochs, or use a backbone that ends with batch normalisation",
            )
        return None

    def _destroyed(self) -> Finding | None:
        if self.full is None or self.rows[-1]["step"] <= self.settled:
            return None
        now = self._recent("loss")
        worst = RISE * max(self.full.random, self.first["loss"])
        fell_to, self.best = self.best, min(self.best, now)
        undone = fell_to < 0.5 * self.full.uniform and now > self.full.uniform
        if not (now > worst or undone):
            return None
        before = f"fell to {fell_to:.3g} and rose to {now:.3g}" if undone else f"rose to {now:.3g}"
        return Finding(
            "destroyed",
            "warning",
            f"the loss {before}, above that of a guess ({self.full.uniform:.3g} if all "
            f"similarities are equal): the learning rate destroys what was learnt; lower lr (it is "
            f"{self.config.lr:g}), lengthen warmup_epochs, or lower clip_norm",
        )

    def _collapse(self) -> Finding | None:
        if "vanishing-norm" in self.reported:
            return None
        if not self._always("embedding_cosine", ALIKE) or self._pairs_differ():
            return None
        cosine = self._recent("embedding_cosine")
        remedy = "lower lr, lengthen warmup_epochs, or set margin_ramp_epochs"
        at_margin = ""
        if not isinstance(self.loss, ClassificationLoss):
            remedy = (
                "lower lr, use easier triplets or pairs (triplet: mining semi_hard or all), or "
                "begin with the weights of a run with class centres (init)"
            )
            if self.full is not None:
                at_margin = f", and the loss of {self._recent('loss'):.3g} is that of the margin"
        return Finding(
            "collapse",
            "warning",
            f"the embeddings of all identities coincide: their mean cosine is {cosine:.3f}"
            f"{at_margin}; {remedy}",
        )

    def _pairs_differ(self) -> bool:
        """Whether impostor pairs are clearly farther apart than genuine pairs."""
        rows = self._lasting(self.patience)
        genuine = self._column("genuine_angle_mean", rows)
        impostor = self._column("impostor_angle_mean", rows)
        if len(genuine) == 0 or len(impostor) == 0:
            return False
        return bool(np.median(impostor) > 1.25 * np.median(genuine))

    def _centres(self) -> Finding | None:
        if not self._always("centre_cosine", ALIKE / 2.0):
            return None
        return Finding(
            "centres",
            "warning",
            f"the class centres coincide: the mean cosine between two of them is "
            f"{self._recent('centre_cosine'):.2f}, where 0 or less is normal; lower lr or "
            "lr_factor_loss, raise warmup_epochs, or use a smaller margin at the start "
            "(margin_ramp_epochs)",
        )

    def _stuck(self) -> Finding | None:
        others = {"collapse", "centres", "destroyed", "vanishing-norm", "exploding-norm"}
        rows = self._lasting(2 * self.patience)
        if self.full is None or not rows or others & self.reported:
            return None
        loss = self._column("loss", rows)
        first, second = np.array_split(loss, 2)
        noise = float(loss.std()) / math.sqrt(len(second))
        is_still = second.mean() > first.mean() - 2.0 * noise
        is_high = loss.mean() > 0.95 * self.full.uniform
        if len(loss) < 2 * LAST_ROWS or not is_still or not is_high or not self._at_chance(rows):
            return None
        steps = int(rows[-1]["step"] - rows[0]["step"])
        return Finding(
            "stuck",
            "warning",
            f"for {steps:,} steps the loss has stayed at {loss.mean():.3g}, that of a guess (from "
            f"{self.full.uniform:.3g}, all similarities equal, to {self.full.random:.3g}, random "
            "directions), and identities are told apart no better than by chance; check that the "
            "labels belong to the images, try another lr (it is "
            f"{self.config.lr:g}), or let the margin grow (margin_ramp_epochs)",
        )

    def _at_chance(self, rows: list[dict[str, float]]) -> bool:
        """Whether identities are not told apart: by accuracy, or by the angles of pairs."""
        accuracy = self._column("accuracy", rows)
        if len(accuracy):
            images = self._column("images", rows)
            total, correct = images.sum(), (accuracy * images).sum()
            by_chance = total / self.loss.num_classes
            return bool(correct <= 2.0 * by_chance + 3.0 * math.sqrt(by_chance) + 1.0)
        genuine = self._column("genuine_angle_mean", rows)
        impostor = self._column("impostor_angle_mean", rows)
        if len(genuine) == 0 or len(impostor) == 0:
            return False
        return bool(genuine.mean() > 0.97 * impostor.mean())

    def _normal(self) -> Finding | None:
        loss, accuracy = self._recent("loss"), self._recent("accuracy")
        if self.full is None or not (LARGE_LOSS < loss < self.full.random):
            return None
        if not accuracy > HIGH_ACCURACY:
            return None
        return Finding(
            "margin",
            "note",
            f"the loss is {loss:.3g} although {accuracy:.0%} of the images are classified "
            "correctly without margin; this is normal, because the margin and the scale count "
            "against each image until its angle is smaller by the margin than to all other classes",
        )
