from __future__ import annotations

import torch
from torch import nn

import workbench as wb


def test_it_is_the_network_of_the_paper() -> None:
    """Wen et al., table 1: pairs of 5x5 convolutions with 32, 64 and 128 channels, pooling, FC."""
    net = wb.backbones.create("fashion_cnn", embedding_dim=2, image_size=28, norm=False)
    kinds = [type(layer) for layer in net.modules() if not list(layer.children())]
    stage = [nn.Conv2d, nn.PReLU, nn.Conv2d, nn.PReLU, nn.MaxPool2d]
    assert [kind for kind in kinds if kind not in (nn.Dropout, nn.Flatten)] == [
        *stage,
        *stage,
        *stage,
        nn.Linear,
    ]
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [32, 32, 64, 64, 128, 128]
    assert {layer.kernel_size for layer in convolutions} == {(5, 5)}
    (last,) = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
    assert last.weight.shape == (2, 128 * 3 * 3)


def test_it_learns_to_tell_two_patterns_apart() -> None:
    torch.manual_seed(0)
    net = wb.backbones.create("fashion_cnn", embedding_dim=2, image_size=8)
    head = nn.Linear(2, 2)
    labels = torch.arange(32) % 2
    images = 0.3 * torch.randn(32, 3, 8, 8)
    images[labels == 1, :, :4] += 1
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1, momentum=0.9)
    for _ in range(10):
        loss = nn.functional.cross_entropy(head(net(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (head(net.eval()(images)).argmax(1) == labels).all()


def test_pictures_of_eight_pixels_are_the_smallest() -> None:
    net = wb.backbones.create("fashion_cnn", image_size=8)
    assert net(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
