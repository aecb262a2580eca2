"""A toy type of benchmark and its result are registered, evaluated, stored and read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from workbench import data, runs
from workbench.arrays import Floats, Integers
from workbench.errors import WorkbenchError
from workbench.evaluation import (
    EvaluationContext,
    Evaluator,
    Headline,
    Measurement,
    Result,
    VerificationResult,
    closed_set,
    evaluate,
    evaluates,
    identification,
    leaderboard,
    load_projection,
    load_result,
    open_set,
    preparing,
    register_result,
    verification,
)
from workbench.evaluation.evaluators import base, evaluator_of
from workbench.evaluation.kinds import KINDS, of_type, result_type
from workbench.evaluation.model import Model
from workbench.evaluation.results import save_result

SIZE = 4


class Squares:
    """Grey images, each as bright as its number."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return np.full((SIZE, SIZE, 3), index, dtype=np.uint8)


@dataclass(frozen=True)
class Ages:
    """A toy benchmark: how well is a number predicted from the first entry of an embedding?"""

    name: str
    images: data.Images
    ages: Floats
    note: str = ""

    def fingerprint(self) -> str:
        return f"ages-{self.ages.sum():g}"


@dataclass(frozen=True)
class AgeResult(Result):
    """The toy benchmark's result: the mean absolute error."""

    error: float
    errors: Floats

    kind: ClassVar[str] = "toy-ages"
    description: ClassVar[str] = "is a benchmark of ages: it has numbers"

    @property
    def headline(self) -> Headline:
        return Headline("mae", "Mean absolute error", self.error, None)

    def summary(self) -> str:
        return f"mean absolute error {self.error:.2f} years"

    def figures(self) -> dict[str, Any]:
        return {"error": self.error}

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"errors": self.errors}

    @classmethod
    def from_stored(cls, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        return cls(float(figures["error"]), arrays["errors"])

    def remark(self) -> str:
        return "all errors are 0" if not self.errors.any() else ""


class AgeEvaluator(Evaluator[Ages]):
    """Embeds every second image and compares the first entry of its embedding with the age."""

    def evaluate(self, target: Ages, context: EvaluationContext) -> Measurement:
        numbers = self.used_images(target)
        embeddings = context.embed(target.images, numbers)
        errors = np.abs(embeddings[:, 0] - target.ages[numbers]).astype(np.float64)
        result = AgeResult(float(errors.mean()), errors, note=target.note)
        return Measurement(result, numbers, embeddings, np.zeros(len(numbers), dtype=np.int64))

    def used_images(self, target: Ages) -> Integers:
        return np.arange(0, len(target.images), 2)


class Brightness(nn.Module):
    """A network whose embedding is the brightness of the image, and a constant."""

    embedding_dim, image_size = 2, (SIZE, SIZE)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.mean(dim=(1, 2, 3))
        return torch.stack([bright, torch.ones_like(bright)], dim=1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    model = Model(Brightness(), None, None, 0.0, 1.0, torch.device("cpu"), 5)  # type: ignore[arg-type]
    monkeypatch.setattr(preparing, "load_model", lambda opened, device, weights: model)
    return runs.create(tmp_path / "runs", "a", {"loss": "toy", "backbone": "toy", "data": "x"})


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the toy types for one test."""
    monkeypatch.setattr(KINDS, "_factories", dict(KINDS._factories))
    monkeypatch.setattr(base, "_EVALUATORS", dict(base._EVALUATORS))
    assert register_result(AgeResult) is AgeResult
    assert evaluates(Ages)(AgeEvaluator) is AgeEvaluator


def _benchmark(**changes: Any) -> Ages:
    """Ages that exceed the network's prediction by 1; embeddings of mirror images are added."""
    return Ages(**{"name": "ages", "images": Squares(), "ages": 2 * np.arange(20.0) + 1} | changes)


def _evaluate(run: runs.Run, target: Any, **options: Any) -> Any:
    return evaluate(run, target, device="cpu", progress=False, **options)


@pytest.mark.usefixtures("_toy")
def test_a_toy_benchmark_is_evaluated_stored_read_and_summarised(run: runs.Run) -> None:
    result = _evaluate(run, _benchmark(note="made of squares"))
    assert isinstance(result, AgeResult)
    assert (result.name, result.note) == ("ages", "made of squares")
    assert result.error == pytest.approx(1.0)
    assert result.summary() == "mean absolute error 1.00 years"
    assert result.headline.value == result.error

    stored = load_result(run, "ages")
    assert isinstance(stored, AgeResult)
    assert (stored.name, stored.note, stored.protocol) == (
        result.name,
        result.note,
        result.protocol,
    )
    assert "image scaling" in stored.protocol
    np.testing.assert_array_equal(stored.errors, result.errors)
    figures = json.loads((run.path / runs.EVALUATION / "ages.json").read_text())
    assert (figures["kind"], figures["step"]) == ("toy-ages", 5)
    assert figures["fingerprint"] == _benchmark().fingerprint()

    projection = load_projection(run, "ages")
    assert projection is not None
    assert projection[0].points.tolist() == list(range(0, 20, 2))

    (row,) = leaderboard([run]).to_dict("records")
    assert (row["kind"], row["benchmark"], row["mae"]) == ("toy-ages", "ages", result.error)
    assert np.isnan(row["accuracy"])


@pytest.mark.usefixtures("_toy")
def test_a_remark_of_the_result_is_part_of_its_note(run: runs.Run) -> None:
    exact = _benchmark(ages=2 * np.arange(20.0), note="exact")
    assert _evaluate(run, exact, with_projection=False).note == "exact; all errors are 0"


@pytest.mark.usefixtures("_toy")
def test_only_flip_can_be_chosen_of_a_protocol_by_default(run: runs.Run, complaint: Any) -> None:
    with complaint("ages: protocol arcface_torch", "pairs", "flip"):
        _evaluate(run, _benchmark(), protocol="arcface_torch")


@pytest.mark.usefixtures("_toy")
def test_images_cannot_be_left_out_by_default(run: runs.Run, complaint: Any) -> None:
    class Damaged(Squares):
        def __getitem__(self, index: int) -> NDArray[np.uint8]:
            if index == 4:
                raise WorkbenchError("image 4 is damaged")
            return super().__getitem__(index)

    assert _evaluate(run, _benchmark(), broken="skip", with_projection=False).name == "ages"
    with complaint("ages: 1 images cannot be read", "Ages", "broken='stop'"):
        _evaluate(run, _benchmark(images=Damaged()), broken="skip")


def test_a_type_without_an_evaluator_is_an_error(run: runs.Run, complaint: Any) -> None:
    with complaint("type Ages", "Benchmark, ClosedSet, Identification, Templates"):
        _evaluate(run, _benchmark())
    assert run.evaluations() == []


def test_a_subclass_of_a_benchmark_is_evaluated_as_its_base() -> None:
    class Special(data.Benchmark):
        pass

    numbers = np.array([[0, 1], [0, 2]])
    target = Special("s", Squares(), numbers, np.array([True, False]), np.array([0, 1]))
    assert type(evaluator_of(target)).__name__ == "PairsEvaluator"


def test_a_stored_kind_that_is_not_registered_is_named(run: runs.Run, complaint: Any) -> None:
    save_result(run, "ages", "ages", AgeResult(1.0, np.ones(3)), None, None, [])
    with complaint("ages", "unknown kind of result 'toy-ages'", "verification", "import"):
        load_result(run, "ages")
    assert leaderboard([run]).empty


def test_two_classes_cannot_have_one_kind(complaint: Any) -> None:
    class Other(AgeResult):
        kind: ClassVar[str] = "verification"

    with complaint("kind of result 'verification' is registered already"):
        register_result(Other)


# The kinds that come with the workbench


def _results() -> dict[str, Result]:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=400) + np.tile([2.0, 0.0], 200)
    embeddings = (
        rng.normal(size=(12, 4)),
        rng.normal(size=(3, 4)),
        rng.normal(size=(200, 4)),
        np.arange(12) % 3,
        np.arange(3),
    )
    search = identification(*embeddings, bootstrap=20)
    return {
        "verification": verification(scores, np.tile([True, False], 200)),
        "closed-set": closed_set([0, 1, 1, 2], [0, 1, 2, 2], ["a", "b", "c"]),
        "identification": search,
        "open": replace(search, open_set=open_set(*embeddings, bootstrap=20)),
    }


@pytest.mark.parametrize("kind", ["verification", "closed-set", "identification", "open"])
def test_every_kind_describes_itself(kind: str) -> None:
    result = _results()[kind]
    assert result_type(result.kind) is type(result)
    assert "\n" not in result.summary()
    assert f"{result.headline.value:.2%}" in result.summary()
    assert result.columns()[result.headline.column] == result.headline.value
    assert result.protocol.items() <= result.details().items()
    counts = {"verification": "200 genuine, 200 impostor", "closed-set": None}
    assert next(iter(result.details().values()), None) == counts.get(
        kind, "12 genuine, 2,400 impostor"
    )
    assert ("FNIR at FPIR 10%" in result.summary()) == (kind == "open")
    json.dumps(result.figures())
    assert set(result.figures()) >= {"accuracy"}
    read = type(result).from_stored(result.figures(), result.arrays())
    assert read.summary() == result.summary()


def test_results_of_one_type() -> None:
    assert list(of_type(_results(), VerificationResult)) == ["verification"]
