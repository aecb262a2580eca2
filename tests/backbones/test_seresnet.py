from __future__ import annotations

import pytest
import torch
from torch import nn

import workbench as wb

BLOCKS = {"seresnet18": (2, 2, 2, 2), "seresnet34": (3, 4, 6, 3), "seresnet50": (3, 4, 14, 3)}


def _block(before: int, after: int, stride: int) -> int:
    """Counts the weights of BN - conv - BN - PReLU - conv - BN - SE, and of the shortcut."""
    hidden = max(after // 16, 4)
    body = 2 * before + 9 * before * after + 2 * after + after + 9 * after * after + 2 * after
    excite = (after * hidden + hidden) + (hidden * after + after)
    shortcut = before * after + 2 * after if stride == 2 else 0
    return body + excite + shortcut


@pytest.mark.parametrize("name", BLOCKS)
def test_number_of_weights(name: str) -> None:
    with torch.device("meta"):
        net = wb.backbones.create(name, embedding_dim=512, image_size=112)
    expected = 27 * 64 + 2 * 64 + 64
    for count, before, after in zip(
        BLOCKS[name], (64, 64, 128, 256), (64, 128, 256, 512), strict=True
    ):
        expected += _block(before, after, 2) + (count - 1) * _block(after, after, 1)
    expected += 2 * 512 + (512 * 7 * 7 * 512 + 512) + 2 * 512
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "depth"), [("seresnet18", 18), ("seresnet34", 34), ("seresnet50", 50)]
)
def test_depth_is_in_the_name(name: str, depth: int) -> None:
    with torch.device("meta"):
        net = wb.backbones.create(name, embedding_dim=4, image_size=16)
    convolutions = sum(
        isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) for layer in net.modules()
    )
    assert convolutions + sum(isinstance(layer, nn.Linear) for layer in net.modules()) == depth


def test_names_of_the_weights_stay_those_of_stored_runs() -> None:
    state = wb.backbones.create("seresnet18", embedding_dim=4, image_size=16).state_dict()
    first = ["features.0.0.weight", "features.0.1.weight", "features.0.2.weight"]
    block = [
        "body.0",
        "body.1",
        "body.2",
        "body.3",
        "body.4",
        "body.5",
        "body.6.squeeze",
        "body.6.excite",
    ]
    blocks = [f"features.{number}.{layer}.weight" for number in range(1, 9) for layer in block]
    shortcuts = [
        f"features.{number}.shortcut.{layer}.weight" for number in (1, 3, 5, 7) for layer in (0, 1)
    ]
    last = ["features.9.weight", "head.2.weight", "head.3.weight"]
    assert sorted(key for key in state if key.endswith(".weight")) == sorted(
        first + blocks + shortcuts + last
    )


@pytest.mark.parametrize("head", ["gap", "flatten", "gdc"])
def test_heads(head: str) -> None:
    net = wb.backbones.create("seresnet18", embedding_dim=3, image_size=(33, 17), head=head)
    assert net(torch.zeros(2, 3, 33, 17)).shape == (2, 3)


def test_seresnet50_learns_two_people_apart() -> None:
    torch.manual_seed(0)
    net = wb.backbones.create("seresnet50", embedding_dim=2, image_size=16, dropout=0.0)
    images = torch.rand(2, 3, 16, 16).repeat(4, 1, 1, 1) * 2 - 1 + 0.1 * torch.randn(8, 3, 16, 16)
    labels = torch.tensor([0, 1] * 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_the_exact_variant_has_prelu_in_the_gates_a_fixed_closing_scale_and_insightface_s_eps() -> (
    None
):
    torch.manual_seed(0)
    net = wb.backbones.create("seresnet18", embedding_dim=4, image_size=16, exact=True)
    gates = [layer for layer in net.modules() if isinstance(layer, wb.backbones.base.SqueezeExcite)]
    assert [gate.act.num_parameters for gate in gates] == [4, 4, 8, 8, 16, 16, 32, 32]
    assert [key for key, parameter in net.named_parameters() if not parameter.requires_grad] == [
        "head.3.weight"
    ]
    assert {
        layer.eps for layer in net.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    } == {2e-5}
    gate, x = gates[0], torch.randn(2, 64, 3, 3)
    squeeze, excite = (layer.weight[:, :, 0, 0] for layer in (gate.squeeze, gate.excite))
    inner = x.mean((2, 3)) @ squeeze.T + gate.squeeze.bias
    opened = torch.sigmoid(
        torch.where(inner > 0, inner, 0.25 * inner) @ excite.T + gate.excite.bias
    )
    torch.testing.assert_close(gate(x), x * opened[:, :, None, None])
