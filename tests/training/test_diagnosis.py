"""What is wrong with a training: on made rows, and on short trainings that have the fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import workbench as wb
from workbench import losses, runs
from workbench.training import TrainConfig
from workbench.training.diagnosis import Diagnosis, Finding, health, mean_cosine

D, C, N = 32, 50, 64
EPOCH = 20
BATCH = torch.randn(N, D, generator=torch.Generator().manual_seed(0)), torch.arange(N) % C
CHANCE = 1 / C


def diagnose(
    loss_name: str,
    rows: Iterable[dict[str, float]],
    *,
    reported: Iterable[str] = (),
    **settings: Any,
) -> list[Finding]:
    """All warnings and notes for rows, except the note on the value of a guess."""
    torch.manual_seed(0)
    loss = losses.create(loss_name, embedding_dim=D, num_classes=C)
    labels = BATCH[1]
    if loss.images_per_identity is not None:
        labels = torch.arange(N // 4).repeat_interleave(4)
    usual = health(loss, BATCH[0], labels)
    config = TrainConfig(data="synthfaces", loss=loss_name, **settings)
    diagnosis = Diagnosis(config, loss, EPOCH, set(reported))
    findings = [
        finding
        for number, row in enumerate(rows)
        for finding in diagnosis.check(usual | {"step": 5 * (number + 1)} | row, BATCH[0], labels)
    ]
    return [finding for finding in findings if finding.kind != "guess"]


def noisy(values: Iterable[float], size: float = 0.3) -> list[float]:
    draw = np.random.default_rng(0)
    return [float(value + draw.normal(0, size)) for value in values]


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.kind for finding in findings]


HEALTHY = noisy(45 * np.exp(-np.arange(120) / 25))
"""The loss of an ArcFace training."""
RISING = np.linspace(CHANCE, 1, 120)


def test_a_healthy_training_is_only_told_that_its_loss_is_normal() -> None:
    rows = ({"loss": abs(v), "accuracy": a} for v, a in zip(HEALTHY, RISING, strict=True))
    assert kinds(diagnose("arcface", rows)) == []
    fast = np.minimum(3 * RISING, 1)
    rows = ({"loss": abs(v), "accuracy": a} for v, a in zip(HEALTHY, fast, strict=True))
    [finding] = diagnose("arcface", rows)
    assert (finding.kind, finding.level) == ("margin", "note")
    assert "this is normal" in finding.text


def test_the_value_of_a_guess_is_explained_first() -> None:
    loss = losses.create("arcface", embedding_dim=D, num_classes=C)
    diagnosis = Diagnosis(TrainConfig(data="synthfaces"), loss, EPOCH)
    loss.ramp = 0.1
    row = {"step": 5, "loss": 45.0} | health(loss, *BATCH)
    [finding] = diagnosis.check(row, *BATCH)
    full = losses.create("arcface", embedding_dim=D, num_classes=C).value_of_guess(*BATCH)
    assert full is not None
    assert f"{full.uniform:.3g} or more" in finding.text  # with the whole margin
    assert f"{full.random:.3g} with random directions" in finding.text
    assert loss.ramp == 0.1
    assert diagnosis.check(row | {"step": 10}, *BATCH) == []


def stuck(steps: int, value: float = 40.0) -> list[dict[str, float]]:
    return [{"loss": loss, "accuracy": CHANCE} for loss in noisy([value] * (steps // 5), 1.0)]


def test_a_loss_that_stays_at_a_guess_is_named_once() -> None:
    [finding] = diagnose("arcface", stuck(600))
    assert (finding.kind, finding.level) == ("stuck", "warning")
    assert "lr (it is 0.1)" in finding.text
    assert finding.text.count("\n") == 0
    assert diagnose("arcface", stuck(600), reported={"stuck"}) == []


@pytest.mark.parametrize(
    "settings", [{"warmup_epochs": 30}, {"margin_ramp_epochs": 30}, {"freeze_epochs": 30}]
)
def test_nothing_is_said_before_the_training_has_begun_in_earnest(settings: dict[str, Any]) -> None:
    assert diagnose("arcface", stuck(600), **settings) == []


def test_a_loss_that_falls_slowly_is_not_stuck() -> None:
    rows = [{"loss": v, "accuracy": CHANCE} for v in noisy(np.linspace(45, 30, 120))]
    assert diagnose("arcface", rows) == []


def test_an_accuracy_above_chance_is_not_stuck() -> None:
    rows = [row | {"accuracy": 4 * CHANCE} for row in stuck(600)]
    assert diagnose("arcface", rows) == []


def test_a_triplet_loss_at_its_margin_with_coinciding_embeddings_is_a_collapse() -> None:
    angles = {"genuine_angle_mean": 3.0, "impostor_angle_mean": 3.1}
    rows = [{"loss": v, "embedding_cosine": 0.998} | angles for v in noisy([0.3] * 120, 1e-3)]
    [finding] = diagnose("triplet", rows)
    assert finding.kind == "collapse"
    assert "the loss of 0.3 is that of the margin" in finding.text
    assert "semi_hard" in finding.text


def test_pairs_that_a_small_margin_leaves_close_are_no_collapse() -> None:
    angles = {"genuine_angle_mean": 1.0, "impostor_angle_mean": 6.0}
    rows = [{"loss": 0.01, "embedding_cosine": 0.99} | angles for _ in range(120)]
    assert diagnose("contrastive", rows) == []


def test_embeddings_that_are_alike_only_at_the_beginning_are_no_collapse() -> None:
    alike = np.linspace(1, 0, 60).tolist() + [0.0] * 60
    rows = [{"loss": abs(v), "embedding_cosine": c} for v, c in zip(HEALTHY, alike, strict=True)]
    assert diagnose("cosface", rows) == []


def test_class_centres_that_coincide_are_named() -> None:
    rows = [{"loss": 20.0, "accuracy": 0.3, "centre_cosine": 0.8}] * 60
    [finding] = diagnose("arcface", rows)
    assert finding.kind == "centres"
    assert "0.80" in finding.text


@pytest.mark.parametrize(("factor", "kind"), [(0.9, "vanishing-norm"), (1.15, "exploding-norm")])
def test_a_norm_that_vanishes_or_explodes_is_named(factor: float, kind: str) -> None:
    norms = 5.0 * factor ** np.arange(120)
    rows = [
        {"loss": abs(v), "accuracy": 0.2, "embedding_norm": norm}
        for v, norm in zip(HEALTHY, norms, strict=True)
    ]
    [finding] = diagnose("arcface", rows)
    assert (finding.kind, finding.level) == (kind, "warning")


@pytest.mark.parametrize("norm", [0.01, 1.0, 50_000.0])
def test_a_norm_that_stays_is_not_named(norm: float) -> None:
    rows = [{"loss": abs(v), "accuracy": 0.2, "embedding_norm": norm} for v in HEALTHY]
    assert diagnose("arcface", rows) == []


def test_a_loss_far_above_a_guess_is_a_learning_rate_that_destroys() -> None:
    rows = [{"loss": 45.0, "accuracy": 0.0}] * 10 + [{"loss": 200.0, "accuracy": 0.0}] * 10
    [finding] = diagnose("arcface", rows)
    assert finding.kind == "destroyed"
    assert "rose to 200" in finding.text


def test_a_loss_that_fell_and_rises_above_a_guess_is_destroyed() -> None:
    rows = [{"loss": v, "accuracy": 0.3} for v in [45.0] * 5 + [2.0] * 20 + [30.0] * 10]
    [finding] = diagnose("arcface", rows)
    assert finding.kind == "destroyed"
    assert "fell to 2 and rose to 30" in finding.text


def test_a_single_high_loss_is_not_named() -> None:
    rows = [{"loss": v, "accuracy": 0.3} for v in [45.0] * 5 + [2.0] * 20 + [300.0] + [2.0] * 9]
    assert diagnose("arcface", rows) == []


def test_health_without_centres_and_of_one_image() -> None:
    loss = losses.create("triplet", embedding_dim=D, num_classes=C)
    row = health(loss, BATCH[0][:1], torch.tensor([0]))
    assert set(row) == {"embedding_norm"}


def test_the_mean_cosine_agrees_with_all_pairs() -> None:
    vectors = BATCH[0].double()
    directions = nn.functional.normalize(vectors)
    products = directions @ directions.T
    pairs = products[~torch.eye(N, dtype=torch.bool)]
    assert mean_cosine(vectors) == pytest.approx(pairs.mean().item(), rel=1e-9)


# Trainings.


@pytest.fixture(scope="module")
def _plain() -> None:
    @wb.backbones.register("plain-for-diagnosis")
    class Plain(wb.backbones.Backbone):
        """Two linear layers without normalisation; `blind` ignores the images."""

        def __init__(
            self, embedding_dim: int, image_size: int | tuple[int, int], blind: bool = False
        ) -> None:
            super().__init__(embedding_dim, image_size, smallest=1)
            self.hidden = nn.Linear(3 * self.image_size[0] * self.image_size[1], 32)
            self.head = nn.Linear(32, embedding_dim)
            self.blind = blind

        def embed(self, images: Tensor) -> Tensor:
            inputs = images.flatten(1)
            if self.blind:
                inputs = inputs * 0.0 + 1.0
            embedded: Tensor = self.head(self.hidden(inputs).relu())
            return embedded


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve people, each a random pattern with noise."""
    root, draw = tmp_path_factory.mktemp("data") / "patterns", np.random.default_rng(0)
    for person in range(12):
        folder = root / f"p{person}"
        folder.mkdir(parents=True)
        pattern = draw.integers(0, 255, (8, 8, 3))
        for number in range(8):
            pixels = np.clip(pattern + draw.normal(0, 40, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


Train = Callable[..., runs.Run]


@pytest.fixture
def train(_plain: None, patterns: Path, tmp_path: Path) -> Train:
    def run(**settings: Any) -> runs.Run:
        usual = {
            "data": f"folder:{patterns}",
            "backbone": "plain-for-diagnosis",
            "image_size": 8,
            "embedding_dim": 16,
            "batch_size": 24,
            "epochs": 80,
            "lr": 0.02,
            "device": "cpu",
            "precision": "fp32",
            "runs_dir": str(tmp_path),
            "augment": "none",
        }
        return wb.train(usual | settings, progress=False)

    return run


def warnings_of(run: runs.Run) -> list[str]:
    return [note["kind"] for note in run.notes() if note["level"] == "warning"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "arcface"},
        {"loss": "arcface", "margin_ramp_epochs": 10},
        {"loss": "cosface", "lr": 0.005},
        {"loss": "softmax"},
        {"loss": "triplet"},
        {"loss": "contrastive"},
        {"loss": "sphereface2", "loss_options": {"lw": 50.0}},
        {"loss": "adacos", "optimizer": "Adam", "lr": 0.001},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_healthy_trainings_get_no_warning(train: Train, settings: dict[str, Any]) -> None:
    run = train(**settings)
    assert warnings_of(run) == []
    metrics = run.metrics()
    assert metrics["loss"].iloc[-1] < metrics["loss"].iloc[0]


@pytest.mark.slow
def test_a_learning_rate_near_zero_stays_at_a_guess(train: Train) -> None:
    assert warnings_of(train(loss="arcface", lr=1e-9)) == ["stuck"]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["triplet", "arcface"])
def test_a_network_that_ignores_its_images_is_a_collapse(train: Train, loss: str) -> None:
    run = train(loss=loss, backbone_options={"blind": True}, epochs=60)
    assert "collapse" in warnings_of(run)
    if loss == "triplet":
        assert run.metrics()["loss"].iloc[-1] == pytest.approx(0.3, abs=0.01)


@pytest.mark.slow
def test_a_very_large_weight_decay_makes_embeddings_vanish(train: Train) -> None:
    run = train(loss="softmax", weight_decay=3.0, decay_norm_and_bias=True)
    assert warnings_of(run) == ["vanishing-norm"]


@pytest.mark.slow
def test_a_very_large_learning_rate_is_named(train: Train) -> None:
    run = train(loss="softmax", lr=1.0, warmup_epochs=10, epochs=40)
    assert set(warnings_of(run)) == {"destroyed", "exploding-norm"}
    assert not any(note["kind"] == "margin" for note in run.notes())


@pytest.mark.slow
def test_notes_are_kept_when_a_run_is_resumed(train: Train) -> None:
    run = train(loss="arcface", lr=1e-9)
    before = run.notes()
    wb.train(resume=run, changes={"epochs": 90}, progress=False)
    assert run.notes() == before
