"""The heads of tasks: losses against independent formulas, masking, weights and descriptions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, mean_absolute_error

from workbench import tasks
from workbench.errors import WorkbenchError
from workbench.tasks import Head, Heads, OrdinalHead
from workbench.tasks.classes import typical_values

NAN = float("nan")
AGES = [20.0, 25.0, 31.0, 31.0, 44.0, 60.0, 72.0, NAN]
GENDERS = ["female", "male", "male", "female", "female", "female", "female", None]
D = 16


def made(kind: str, column: list, **settings) -> Head:
    """A head of a kind for the labels of a column."""
    (one,) = tasks.parse({"task": {"kind": kind, **settings}}).values()
    assert isinstance(one, tasks.TaskSettings)
    return tasks.head_of(one, column, D, "toy")


EVERY = [
    ("classes", GENDERS, {}),
    ("classes", GENDERS, {"loss": "balanced_cross_entropy"}),
    ("classes", GENDERS, {"loss": "focal", "hidden": 5}),
    ("classes", AGES, {"edges": [10, 20, 30, 40, 50, 60]}),
    ("ordinal", AGES, {}),
    ("ordinal", AGES, {"loss": "extended_binary", "step": 5}),
    ("ordinal", AGES, {"thresholds": [30.0, 50.0], "hidden": 7}),
    ("regression", AGES, {}),
    ("regression", AGES, {"loss": "mse", "standardise": False}),
    ("regression", AGES, {"loss": "smooth_l1"}),
]
every_head = pytest.mark.parametrize(("kind", "column", "settings"), EVERY)


def batch(head: Head, column: list, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(len(column), D, generator=generator)
    return embeddings, torch.from_numpy(head.targets(column, "toy")).float()


@every_head
def test_a_head_learns_its_labels(kind: str, column: list, settings: dict) -> None:
    torch.manual_seed(0)
    head = made(kind, column, **settings)
    embeddings, targets = batch(head, column)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    first = head.value(head(embeddings), targets).item()
    for _ in range(150):
        optimizer.zero_grad()
        value = head.value(head(embeddings), targets)
        value.backward()
        optimizer.step()
    assert value.item() < 0.5 * first
    measured = head.measure(head(embeddings), targets)
    assert measured > 0.8 if head.measure_name == "accuracy" else measured < 6


@every_head
def test_missing_labels_change_nothing(kind: str, column: list, settings: dict) -> None:
    head = made(kind, column, **settings)
    embeddings, targets = batch(head, column)
    labelled = ~targets.isnan()
    assert labelled.sum() == len(column) - 1
    value = head.value(head(embeddings), targets)
    torch.testing.assert_close(value, head.value(head(embeddings[labelled]), targets[labelled]))
    inputs = embeddings.clone().requires_grad_()
    head.value(head(inputs), targets).backward()
    assert inputs.grad is not None
    assert (inputs.grad[~labelled] == 0).all()


@every_head
def test_a_batch_without_labels_costs_nothing(kind: str, column: list, settings: dict) -> None:
    head = made(kind, column, **settings)
    inputs = torch.randn(3, D, requires_grad=True)
    value = head.value(head(inputs), torch.full((3,), NAN))
    value.backward()
    assert value.item() == 0
    assert inputs.grad is not None
    assert not inputs.grad.any()
    assert math.isnan(head.measure(head(inputs), torch.full((3,), NAN)))
    assert head(torch.empty(0, D)).shape == (0, head.outputs)


@every_head
def test_the_length_of_an_embedding_does_not_matter(
    kind: str, column: list, settings: dict
) -> None:
    head = made(kind, column, **settings)
    embeddings, _ = batch(head, column)
    torch.testing.assert_close(head(embeddings), head(7.5 * embeddings))
    half = head(embeddings.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, head(embeddings), atol=0.05, rtol=0.02)


@every_head
def test_a_head_is_made_again_from_its_description(kind: str, column: list, settings: dict) -> None:
    head = made(kind, column, **settings)
    heads = Heads({"task": head})
    (again,) = tasks.from_description(heads.described()).values()
    again.load_state_dict(head.state_dict())
    embeddings, targets = batch(head, column)
    assert torch.equal(again(embeddings), head(embeddings))
    assert torch.equal(
        again.value(again(embeddings), targets), head.value(head(embeddings), targets)
    )
    assert np.array_equal(again.targets(column, "toy"), targets.double().numpy(), equal_nan=True)


# Formulas


def test_cross_entropy_is_that_of_torch() -> None:
    head = made("classes", GENDERS)
    outputs, classes = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
    torch.testing.assert_close(
        head.value(outputs, classes.float()), F.cross_entropy(outputs, classes)
    )


def test_balanced_classes_have_the_same_weight() -> None:
    head = made("classes", GENDERS, loss="balanced_cross_entropy")
    targets = torch.from_numpy(head.targets(GENDERS[:7], "toy"))
    outputs = torch.randn(7, 2)
    # Weighted as in torch: 5 women and 2 men count 3.5 each.
    expected = F.cross_entropy(outputs, targets.long(), weight=torch.tensor([7 / 10, 7 / 4]))
    torch.testing.assert_close(head.value(outputs, targets.float()), expected)


def test_focal_is_the_formula_of_lin() -> None:
    head = made("classes", GENDERS, loss="focal")
    outputs = torch.randn(6, 2, dtype=torch.float64)
    targets = torch.tensor([0.0, 1, 1, 0, 1, 0])
    p = outputs.softmax(1).numpy()[np.arange(6), targets.int().numpy()]
    np.testing.assert_allclose(head.losses(outputs, targets), -((1 - p) ** 2) * np.log(p))


@given(outputs=st.lists(st.floats(-20, 20), min_size=3, max_size=3), age=st.floats(0, 100))
def test_coral_is_the_formula_of_cao(outputs: list[float], age: float) -> None:
    head = OrdinalHead("age", D, [20, 30, 40], [10, 25, 35, 50])
    value = head.losses(
        torch.tensor([outputs], dtype=torch.float64), torch.tensor([age], dtype=torch.float64)
    ).item()
    expected = 0.0
    for f, threshold in zip(outputs, [20, 30, 40], strict=True):
        p = 1 / (1 + math.exp(-f))
        expected -= math.log(p) if age >= threshold else math.log1p(-p)
    assert value == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert (
        head.estimate(torch.tensor([outputs])).item()
        == [10, 25, 35, 50][sum(f > 0 for f in np.float32(outputs))]
    )


def test_coral_shares_one_weight_vector_and_is_rank_consistent() -> None:
    head = made("ordinal", AGES, step=5)
    outputs = head(torch.randn(50, D))
    assert head.last.shared.weight.shape == (1, D)
    # Sorted biases give falling probabilities for every image.
    assert (outputs[:, 1:] <= outputs[:, :-1] + 1e-5).all()
    own = made("ordinal", AGES, step=5, loss="extended_binary")
    assert own.last.weight.shape == (own.outputs, D)


def test_ordinal_biases_begin_at_the_odds_of_the_labels() -> None:
    head = made("ordinal", [10.0, 20, 30, 40], thresholds=[15.0, 35.0])
    expected = [math.log(3.5 / 1.5), math.log(1.5 / 3.5)]
    torch.testing.assert_close(head.last.bias.detach(), torch.tensor(expected))


def test_thresholds_follow_from_the_step() -> None:
    assert made("ordinal", [20.2, 23.0]).thresholds == [21, 22, 23]
    assert made("ordinal", [18.0, 41.0], step=10).thresholds == [20, 30, 40]


@pytest.mark.parametrize(
    ("loss", "function"), [("l1", F.l1_loss), ("mse", F.mse_loss), ("smooth_l1", F.smooth_l1_loss)]
)
@pytest.mark.parametrize("standardise", [True, False])
def test_regression_is_that_of_torch(loss, function, standardise: bool) -> None:
    head = made("regression", AGES, loss=loss, standardise=standardise)
    present = np.array(AGES[:7])
    assert head.mean == pytest.approx(present.mean())
    assert head.std == pytest.approx(present.std())
    outputs, targets = torch.randn(7, 1), torch.tensor(AGES[:7])
    unit = head.std if standardise else 1.0
    expected = function((head.mean + head.std * outputs[:, 0]) / unit, targets / unit)
    torch.testing.assert_close(head.value(outputs, targets), expected)


def test_measures_are_those_of_sklearn() -> None:
    classes, age = made("classes", GENDERS), made("regression", AGES)
    outputs, targets = torch.randn(7, 2), torch.from_numpy(classes.targets(GENDERS[:7], ""))
    expected = accuracy_score(targets, outputs.argmax(1))
    assert classes.measure(outputs, targets.float()) == pytest.approx(expected)
    outputs = torch.randn(8, 1)
    expected = mean_absolute_error(AGES[:7], age.estimate(outputs[:7]))
    assert age.measure(outputs, torch.tensor(AGES)) == pytest.approx(expected, rel=1e-5)


def test_ages_in_classes_are_also_estimated_in_years() -> None:
    head = made("classes", AGES, edges=[10, 20, 30, 40, 50, 60])
    assert head.classes == [
        "below 10", "10-19", "20-29", "30-39", "40-49", "50-59", "60 and more"
    ]  # fmt: skip
    assert head.values == [10.0, 15.0, 22.5, 31.0, 44.0, 55.0, 66.0]
    assert head.targets([9.9, 10, 59, 60, 200, -1], "").tolist()[:5] == [0, 1, 5, 6, 6]
    outputs = torch.randn(4, 7, dtype=torch.float64)
    expected = (outputs.exp() / outputs.exp().sum(1, keepdim=True)).numpy() @ head.values
    np.testing.assert_allclose(head.estimate(outputs), expected)
    assert made("classes", GENDERS).estimate(torch.randn(2, 2)) is None


@given(
    st.lists(st.floats(0, 100), min_size=1), st.lists(st.integers(1, 99), min_size=1, unique=True)
)
def test_typical_values_lie_in_their_ranges(numbers: list[float], edges: list[int]) -> None:
    edges = sorted(edges)
    values = typical_values(np.array(numbers), edges)
    assert values == sorted(values)
    assert np.isin(np.digitize(values, edges) - np.arange(len(values)), [0, 1]).all()


# All heads together


def pair(weights: dict | None = None, detached: tuple[str, ...] = ()) -> Heads:
    torch.manual_seed(1)
    return Heads(
        {"gender": made("classes", GENDERS), "age": made("regression", AGES, loss="mse")},
        weights,
        detached,
    )


def targets_of(heads: Heads) -> dict[str, torch.Tensor]:
    columns = {"gender": GENDERS, "age": AGES}
    return {
        name: torch.from_numpy(head.targets(columns[name], "")).float()
        for name, head in heads.items()
    }


def test_the_total_is_the_weighted_sum() -> None:
    heads, embeddings = pair({"fr": 0.5, "gender": 3.0}), torch.randn(8, D)
    targets = targets_of(heads)
    parts = {n: head.value(head(embeddings), targets[n]) for n, head in heads.items()}
    expected = 0.5 * 7.0 + 3 * parts["gender"] + parts["age"]
    torch.testing.assert_close(heads.total(torch.tensor(7.0), embeddings, targets), expected)
    without = heads.total(None, embeddings, targets)
    torch.testing.assert_close(without, expected - 3.5)


def test_learned_weights_are_the_formula_of_kendall() -> None:
    heads = pair({"fr": "learned", "gender": "learned", "age": "learned"})
    embeddings, targets = torch.randn(8, D), targets_of(heads)
    parts = {n: head.value(head(embeddings), targets[n]) for n, head in heads.items()}
    sigma = {"fr": 1.5, "gender": 0.7, "age": 2.0}
    for name, one in sigma.items():
        heads.get_parameter(f"log_variance_{name}").data.fill_(2 * math.log(one))
    expected = 7 / 1.5**2 + math.log(1.5)
    expected += parts["gender"] / 0.7**2 + math.log(0.7)
    expected += parts["age"] / (2 * 2.0**2) + math.log(2.0)
    torch.testing.assert_close(heads.total(torch.tensor(7.0), embeddings, targets), expected)
    figures = heads.measure(embeddings, targets)
    assert figures["gender_weight"] == pytest.approx(1 / 0.49, rel=1e-5)
    assert figures["age_weight"] == pytest.approx(1 / 8, rel=1e-5)
    assert figures["fr_weight"] == pytest.approx(1 / 2.25, rel=1e-5)


@pytest.mark.parametrize(("loss", "best"), [("mse", 4.0), ("l1", 4.0**2)])
def test_the_best_variance_is_the_error(loss: str, best: float) -> None:
    head = made("regression", AGES, loss=loss)
    s = torch.linspace(-3, 6, 9001, dtype=torch.float64)
    total = head.likelihood_factor(s) * 4.0 + 0.5 * s
    assert s[total.argmin()].exp().item() == pytest.approx(best, rel=2e-3)


def test_a_detached_task_trains_its_head_only() -> None:
    heads = pair(detached=("age",))
    embeddings = torch.randn(8, D, requires_grad=True)
    targets = targets_of(heads)
    heads.total(None, embeddings, targets).backward()
    alone = embeddings.detach().clone().requires_grad_()
    gender = heads["gender"]
    gender.value(gender(alone), targets["gender"]).backward()
    torch.testing.assert_close(embeddings.grad, alone.grad)
    assert heads["age"].last.weight.grad.any()
    assert heads.measure(embeddings, targets)["age_gradient"] == 0


def test_the_logged_gradient_is_that_of_the_weighted_loss() -> None:
    heads, embeddings = pair({"age": 2.0}), torch.randn(8, D)
    targets = targets_of(heads)
    inputs = embeddings.clone().requires_grad_()
    age = heads["age"]
    (2 * age.value(age(inputs), targets["age"])).backward()
    with torch.no_grad():
        figures = heads.measure(embeddings, targets)
    assert figures["age_gradient"] == pytest.approx(inputs.grad.norm().item(), rel=1e-5)
    assert all(parameter.grad is None for parameter in heads["gender"].parameters())
    only_gender = targets | {"age": torch.full((8,), NAN)}
    assert {"gender_loss", "gender_accuracy"} <= set(heads.measure(embeddings, only_gender))
    assert "age_loss" not in heads.measure(embeddings, only_gender)


def test_a_name_that_pytorch_uses_is_refused(complaint) -> None:
    with complaint("task 'keys'", "another name"):
        Heads({"keys": made("classes", GENDERS)})


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"a": {}}', '{"a": {"kind": "clases"}}', '{"a": {"kind": "classes"}}']
)
def test_a_damaged_description_is_refused(text: str) -> None:
    with pytest.raises(WorkbenchError, match="not a description of heads"):
        tasks.from_description(text)


def test_a_description_is_json() -> None:
    described = json.loads(pair().described())
    assert described["gender"]["kind"] == "classes"
    assert described["gender"]["classes"] == ["female", "male"]


# Labels that do not fit


@pytest.mark.parametrize(
    ("kind", "column", "settings", "text"),
    [
        ("classes", ["a", "a"], {}, "1 different labels"),
        ("classes", [None, "a"], {}, "1 image(s) have a label"),
        ("classes", ["a", "b", "c"], {"classes": ["a", "b"]}, "'c' is not one of the classes a, b"),
        ("classes", list(range(2000)), {}, "2000 different labels"),
        ("classes", ["x", "y"], {"edges": [3.0]}, "expected numbers, found 'x'"),
        ("ordinal", [NAN, NAN], {}, "0 image(s) have a label"),
        ("ordinal", [5.0, 5.0], {}, "give 0 thresholds"),
        ("ordinal", [0.0, 1e6], {}, "expected 1 to 500"),
        ("regression", ["young", "old"], {}, "expected numbers, found"),
        ("regression", [1.0], {}, "1 image(s)"),
    ],
)
def test_labels_that_do_not_fit(
    kind: str, column: list, settings: dict, text: str, complaint
) -> None:
    with complaint("toy", text):
        made(kind, column, **settings)


def test_a_new_label_is_refused_by_a_head() -> None:
    head = made("classes", GENDERS)
    with pytest.raises(WorkbenchError, match="'other' is not one of the classes female, male"):
        head.targets(["other"], "toy")


def test_equal_labels_can_be_regressed() -> None:
    head = made("regression", [30.0, 30.0])
    assert (head.mean, head.std) == (30.0, 1.0)


def test_the_totals_of_the_parts_add_up_to_that_of_the_batch() -> None:
    heads, embeddings = pair({"gender": "learned", "age": 2.0}), torch.randn(8, D)
    heads.get_parameter("log_variance_gender").data.fill_(0.7)
    targets = targets_of(heads)
    whole = heads.total(None, embeddings, targets)
    added = torch.zeros(())
    for part in (slice(0, 3), slice(3, 8)):
        shares = {
            name: (~one[part].isnan()).sum().item() / (~one.isnan()).sum().item()
            for name, one in targets.items()
        }
        of_part = {name: one[part] for name, one in targets.items()}
        added = added + heads.total(None, embeddings[part], of_part, shares)
    torch.testing.assert_close(added, whole)
