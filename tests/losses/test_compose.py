from __future__ import annotations

from typing import Any

import pytest
import torch

import workbench as wb
from workbench.losses import ClassificationLoss, Loss

SIZES = {"embedding_dim": 6, "num_classes": 5}


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(12, 6, generator=draw), torch.arange(12) % 5


def test_names_are_the_losses_and_their_parts() -> None:
    names = wb.losses.names()
    assert names == sorted(names)
    assert set(names) == {*wb.losses.LOSSES.names(), *wb.losses.PARTS.names()}
    assert {"arcface", "center", "focal", "mhe", "ohem", "softmax", "triplet"} <= set(names)


@pytest.mark.parametrize("part", wb.losses.PARTS.names())
def test_a_part_by_itself_is_added_to_softmax(part: str) -> None:
    torch.manual_seed(0)
    alone = wb.losses.create(part, **SIZES)
    torch.manual_seed(0)
    named = wb.losses.create(f"softmax+{part}", **SIZES)
    assert torch.equal(alone(*_batch()), named(*_batch()))
    assert isinstance(alone, wb.losses.Softmax)


def test_a_composition_is_its_first_loss_with_parts() -> None:
    loss = wb.losses.create("cosface+center+triplet+ohem", **SIZES)
    assert isinstance(loss, wb.losses.CosFace)
    assert list(loss.terms) == ["center", "triplet"]
    assert list(loss.reweightings) == ["ohem"]
    assert loss.images_per_identity == 4  # what the triplets need
    assert "center" in repr(loss)


def test_options_stand_beside_the_sizes_or_under_a_name() -> None:
    for options in ({"s": 20.0}, {"normface": {"s": 20.0}}):
        loss: Any = wb.losses.create(
            "normface+triplet", **SIZES, **options, triplet={"m": 0.7, "weight": 0.5}
        )
        assert loss.s == 20.0
        assert (loss.terms["triplet"].loss.m, loss.terms["triplet"].weight) == (0.7, 0.5)


def test_an_added_loss_counts_by_its_weight_and_is_logged() -> None:
    embeddings, labels = _batch()
    torch.manual_seed(0)
    both: Loss = wb.losses.create("normface+triplet", **SIZES, triplet={"m": 1.0, "weight": 0.25})
    torch.manual_seed(0)
    plain = wb.losses.create("normface", **SIZES)
    triplet = wb.losses.create("triplet", **SIZES, m=1.0)
    value = both(embeddings, labels)
    torch.testing.assert_close(
        value, plain(embeddings, labels) + 0.25 * triplet(embeddings, labels)
    )
    row = both.measure(embeddings, labels)
    assert row["triplet"] == pytest.approx(triplet(embeddings, labels).item())
    assert {"accuracy", "active_triplets"} <= set(row)


def test_the_ramp_reaches_an_added_loss() -> None:
    embeddings, labels = _batch()
    torch.manual_seed(0)
    both = wb.losses.create("normface+triplet", **SIZES, triplet={"m": 1.0})
    torch.manual_seed(0)
    half = wb.losses.create("normface+triplet", **SIZES, triplet={"m": 0.5})
    both.ramp = 0.5
    torch.testing.assert_close(both(embeddings, labels), half(embeddings, labels))


def test_a_reweighted_loss_is_streamed_and_sampled_as_any_other() -> None:
    embeddings, labels = _batch()
    values = []
    for head in ("plain", "streamed"):
        torch.manual_seed(0)
        loss = wb.losses.create("arcface+ohem", **SIZES, head=head, ohem={"keep": 0.5})
        assert isinstance(loss, ClassificationLoss)
        assert loss.head == head
        values.append(loss(embeddings, labels))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("normface+ohm", {}, "unknown loss 'ohm': did you mean 'ohem'"),
        ("arcfase+ohem", {}, "unknown loss 'arcfase': did you mean 'arcface'"),
        ("", {}, "unknown loss ''"),
        ("normface+", {}, "unknown loss ''"),
        (None, {}, "unknown loss None"),
        (["arcface"], {}, "unknown loss"),
        ("normface+ohem+ohem", {}, "names a part twice"),
        ("ohem+normface", {}, "name the loss first, e.g. 'normface\\+ohem'"),
        (
            "softmax+arcface",
            {},
            "'arcface' has class centres of its own and cannot be added; "
            "these can be added: .*center",
        ),
        (
            "triplet+ohem",
            {},
            "'ohem' weights the samples of a classification loss, and Triplet is not one",
        ),
        (
            "normface+ohem",
            {"ohem": {"kep": 0.5}},
            "unknown option of part of a loss 'ohem' 'kep': did you mean 'keep'",
        ),
        ("normface+ohem", {"ohem": 0.5}, "options of 'ohem' are 0.5, expected a mapping"),
        (
            "normface",
            {"s": 2.0, "normface": {"s": 3.0}},
            "'s' is given twice, once of them among the options of 'normface'",
        ),
        ("softmax+center", {"center": {"num_classes": 3}}, "'num_classes' is given twice"),
        ("arcface", {"arcface": {"embedding_dim": 3}}, "'embedding_dim' is given twice"),
        ("normface+ohem", {"keep": 0.5}, "'keep' is an option of 'ohem': give ohem={'keep': ...}"),
        ("center", {"rate": 0.5}, "'rate' is an option of 'center'"),
        ("normface", {"ohem": {"keep": 0.5}}, "unknown option of loss 'normface' 'ohem'"),
        ("normface+triplet", {"triplet": {"weight": -1}}, "weight must be a number >= 0, got -1"),
        ("normface+triplet", {"triplet": {"weight": "much"}}, "weight"),
    ],
)
def test_a_composition_that_makes_no_sense_is_one_line(
    name: Any, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(wb.WorkbenchError, match=match) as caught:
        wb.losses.create(name, **SIZES, **options)
    assert "\n" not in str(caught.value)


def test_what_is_known_can_be_asked() -> None:
    assert wb.losses.is_known("normface+ohem")
    assert not wb.losses.is_known("normface+mine")
    assert not wb.losses.is_known(None)
