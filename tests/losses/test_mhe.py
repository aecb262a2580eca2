from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from batches import random_batch
from torch import Tensor
from torch.func import functional_call

import workbench as wb
from workbench.losses import MHE, ClassificationLoss, mhe

D, C, N = 6, 7, 10
every_power = pytest.mark.parametrize("power", [0, 1, 2])


def _make(
    name: str = "sphereface+mhe", dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[ClassificationLoss, MHE]:
    torch.manual_seed(0)
    loss = wb.losses.create(name, **{"embedding_dim": D, "num_classes": C} | options).to(dtype)
    assert isinstance(loss, ClassificationLoss)
    term = loss.terms["mhe"]
    assert isinstance(term, MHE)
    return loss, term


def _batch(dtype: torch.dtype = torch.float64, dim: int = D) -> tuple[Tensor, Tensor]:
    embeddings, _ = random_batch(N, dim, C, dtype)
    return embeddings, torch.tensor([0, 2, 2, 2, 5, 5, 0, 6, 2, 0])


def _by_the_paper(weight: Tensor, labels: Tensor, power: int) -> float:
    w = weight.numpy(force=True)
    w = w / np.linalg.norm(w, axis=1, keepdims=True)
    energies = []
    for i in sorted(set(labels.tolist())):
        for j in range(len(w)):
            if j != i:
                theta = math.acos(w[i] @ w[j])
                energies.append(theta**-power if power else math.log(1 / theta))
    return float(np.mean(energies))


@every_power
def test_it_is_the_mean_energy_of_the_batch_s_classes_with_all_others(power: int) -> None:
    loss, term = _make(mhe={"power": power})
    embeddings, labels = _batch()
    found = term(embeddings, labels, loss)
    assert found.item() == pytest.approx(_by_the_paper(loss.weight, labels, power), rel=1e-9)


@pytest.mark.parametrize("name", ["sphereface", "softmax", "arcface", "magface"])
def test_it_is_added_with_its_weight(name: str) -> None:
    both, _ = _make(f"{name}+mhe", mhe={"weight": 3.0, "power": 1})
    torch.manual_seed(0)
    alone = wb.losses.create(name, embedding_dim=D, num_classes=C).double()
    embeddings, labels = _batch()
    energy = _by_the_paper(both.weight, labels, 1)
    assert both(embeddings, labels).item() == pytest.approx(
        alone(embeddings, labels).item() + 3 * energy, rel=1e-9
    )
    assert both.measure(embeddings, labels)["mhe"] == pytest.approx(energy, rel=1e-9)


def test_by_itself_it_goes_with_softmax_and_of_sub_centres_the_dominant_ones_repel_each_other() -> (
    None
):
    embeddings, labels = _batch()
    loss, _ = _make("mhe")
    energy = _by_the_paper(loss.weight, labels, 2)
    expected = F.cross_entropy(loss.predict(embeddings), labels).item() + energy
    assert loss(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)
    several, term = _make("subcenter_arcface+mhe")
    several(embeddings, labels)
    assert term(embeddings, labels, several).item() == pytest.approx(
        _by_the_paper(several.centres, labels, 2), rel=1e-9
    )


@every_power
def test_the_curve_is_the_formula_and_near_0_its_tangent(power: int) -> None:
    _, term = _make(mhe={"power": power})
    theta = np.deg2rad(np.arange(0, 180.01, 0.37))
    far, near = theta[theta > mhe.MIN_ANGLE], theta[theta <= mhe.MIN_ANGLE]
    formula = far**-power if power else -np.log(far)
    np.testing.assert_allclose(term.energy(torch.from_numpy(far)).numpy(), formula, atol=1e-12)
    at, slope = (
        (mhe.MIN_ANGLE**-power, -power * mhe.MIN_ANGLE ** (-power - 1))
        if power
        else (-math.log(mhe.MIN_ANGLE), -1 / mhe.MIN_ANGLE)
    )
    np.testing.assert_allclose(
        term.energy(torch.from_numpy(near)).numpy(), at + slope * (near - mhe.MIN_ANGLE), rtol=1e-12
    )
    angles = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    assert (term.energy(angles).diff() < 0).all()


@every_power
def test_gradients_are_those_of_the_value(power: int) -> None:
    loss, term = _make(mhe={"power": power})
    embeddings, labels = _batch()
    weight = loss.weight.detach().clone()
    weight[1] = weight[0] + 0.01 * weight[3]  # nearer than MIN_ANGLE
    assert F.cosine_similarity(weight[0], weight[1], dim=0) > math.cos(mhe.MIN_ANGLE)

    def value(weight: Tensor) -> Tensor:
        return term(embeddings, labels, _Holder(weight, loss))

    assert torch.autograd.gradcheck(value, (weight.requires_grad_(),))


class _Holder(ClassificationLoss):
    """A loss with given centres."""

    def __init__(self, weight: Tensor, like: ClassificationLoss) -> None:
        super().__init__(like.embedding_dim, like.num_classes)
        self._given = weight

    @property
    def centres(self) -> Tensor:
        return self._given

    def per_sample(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError

    def logits(self, embeddings: Tensor, classes: slice = slice(None)) -> Tensor:
        raise NotImplementedError


def test_the_whole_loss_has_the_gradient_of_its_value() -> None:
    loss, _ = _make("normface+mhe", s=8.0)
    embeddings, labels = _batch()

    def value(embeddings: Tensor, weight: Tensor) -> Tensor:
        return functional_call(loss, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(
        value, (embeddings, loss.weight.detach().clone().requires_grad_())
    )


@every_power
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_centres_that_coincide_are_opposite_or_0_stay_finite(
    power: int, dtype: torch.dtype
) -> None:
    loss, _ = _make(dtype=dtype, mhe={"power": power})
    with torch.no_grad():
        loss.weight[1] = loss.weight[0]
        loss.weight[2] = loss.weight[0] * (1 + 1e-6)
        loss.weight[3] = -loss.weight[0]
        loss.weight[4] = 0.0
        loss.weight[5] = loss.weight[0] + 1e-6
    embeddings, _ = _batch(dtype)
    value = loss(embeddings, torch.arange(N) % C)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(loss.weight.grad).all()
    assert loss.weight.grad.abs().max() < 1e6


def test_one_class_has_no_energy() -> None:
    loss, term = _make(num_classes=1)
    embeddings, _ = _batch()
    labels = torch.zeros(N, dtype=torch.int64)
    assert term(embeddings, labels, loss).item() == 0.0
    loss(embeddings, labels).backward()
    assert torch.isfinite(loss.weight.grad).all()


@every_power
@pytest.mark.parametrize("limit", [1, 4, 13])
def test_chunks_of_classes_give_the_same(
    power: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for logits in (2**21, limit):
        monkeypatch.setattr(mhe, "MAX_PLAIN_LOGITS", logits)
        loss, term = _make(mhe={"power": power})
        energy = term(*_batch(), loss)
        results.append((energy, *torch.autograd.grad(energy, [loss.weight])))
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=1e-14)


def test_descent_drives_the_centres_apart() -> None:
    loss, term = _make(num_classes=D + 1, dtype=torch.float64)
    labels = torch.arange(D + 1)
    embeddings = torch.zeros(D + 1, D, dtype=torch.float64)
    optimizer = torch.optim.Adam([loss.weight], lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        term(embeddings, labels, loss).backward()
        optimizer.step()
    cosines = loss.cosines(loss.weight.detach())
    # The optimum for D + 1 points on the sphere is a regular simplex, with all cosines -1 / D.
    torch.testing.assert_close(
        cosines[~torch.eye(D + 1, dtype=torch.bool)],
        torch.full((42,), -1 / D).double(),
        atol=1e-3,
        rtol=0,
    )


@pytest.mark.parametrize("name", ["triplet+mhe", "contrastive+mhe"])
def test_a_loss_without_class_centres_is_one_line(name: str) -> None:
    with pytest.raises(
        wb.WorkbenchError, match=r"'mhe' needs class centres, but (Triplet|Contrastive) has none"
    ) as caught:
        wb.losses.create(name, embedding_dim=D, num_classes=C)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"power": 3}, {"power": -1}, {"power": 0.5}, {"power": "2"}, {"weight": -1}, {"power": None}],
    ids=str,
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        _make(mhe=options)
    assert "\n" not in str(caught.value)
