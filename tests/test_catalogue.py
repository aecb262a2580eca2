"""The tables of backbones and losses agree with the classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import Tensor, nn

import workbench as wb
from workbench import catalogue
from workbench.backbones.registry import BACKBONES
from workbench.losses.registry import LOSSES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def one_of_mine() -> Iterator[None]:
    """A backbone and a loss as a notebook registers them, with only what is required."""

    @wb.backbones.register("mine")
    class Mine(wb.backbones.Backbone):
        def __init__(self, embedding_dim: int, image_size: int) -> None:
            super().__init__(embedding_dim, image_size, smallest=1)
            self.fc = nn.Linear(3, embedding_dim, bias=False)

        def embed(self, images: Tensor) -> Tensor:
            embeddings: Tensor = self.fc(images.mean((2, 3)))
            return embeddings

    @wb.losses.register("my_loss")
    class MyLoss(wb.losses.Loss):
        def value(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return embeddings.sum()

    yield
    del BACKBONES._factories["mine"], LOSSES._factories["my_loss"]


def test_every_backbone_has_its_row() -> None:
    table = catalogue.backbone_table(embedding_dim=64)
    assert list(table.columns) == ["name", "size", "parameters", "multiply_adds", "heads", "paper"]
    assert sorted(table["name"]) == wb.backbones.names()
    assert list(table["name"][1:5]) == ["iresnet18", "iresnet34", "iresnet50", "iresnet100"]
    assert (table[["parameters", "multiply_adds"]] > 1e5).all(axis=None)
    assert (table["paper"] != "").all()
    rows = table.set_index("name")
    assert list(rows.loc[["fashion_cnn", "smallresnet", "iresnet50"], "size"]) == [
        "28x28",
        "64x64",
        "112x112",
    ]
    assert rows.loc["smallresnet", "heads"] == "gdc, flatten, gap"
    assert rows.loc["iresnet18", "heads"] == "flatten, gap, gdc"
    net = wb.backbones.create("smallresnet", embedding_dim=64)
    assert rows.loc["smallresnet", "parameters"] == sum(
        parameter.numel() for parameter in net.parameters()
    )


def test_a_backbone_that_cannot_take_the_size_has_no_cost() -> None:
    table = catalogue.backbone_table(image_size=(12, 10)).set_index("name")
    assert set(table["size"]) == {"12x10"}
    assert table.loc["fashion_cnn", "parameters"] > 0
    assert np.isnan(table.loc["iresnet18", "parameters"])


def test_names_are_taken_at_their_word() -> None:
    table = catalogue.backbone_table(["torchvision:squeezenet1_1", "smallresnet"], 8, 32)
    assert list(table["name"]) == ["torchvision:squeezenet1_1", "smallresnet"]
    assert table["heads"][0] == ""
    for names, size, hint in (
        (["smalresnet"], None, "did you mean 'smallresnet'"),
        (["smallresnet"], 8, "at least 16 x 16"),
        (["tim:x"], 32, "did you mean 'timm'"),
        (None, 4, "at least"),
    ):
        with pytest.raises(wb.WorkbenchError, match=hint):
            catalogue.backbone_table(names, 8, size)


def test_every_loss_has_its_row() -> None:
    table = catalogue.loss_table()
    assert list(table.columns) == ["name", "kind", "formula", "defaults", "paper"]
    assert sorted(table["name"]) == wb.losses.names()
    assert (table[["formula", "paper"]] != "").all(axis=None)
    arcface = table.set_index("name").loc["arcface"]
    assert arcface["kind"] == "loss"
    assert arcface["formula"] == "s cos(theta + m)"
    assert arcface["defaults"] == "s=64, m=0.5, easy_margin=False"
    assert "CVPR 2019" in arcface["paper"]


def test_the_documentation_holds_the_table_of_losses() -> None:
    made = catalogue.markdown(catalogue.loss_table())
    written = (ROOT / "docs" / "guide" / "losses.md").read_text(encoding="utf-8")
    if f"\n{made}\n\n" not in written:
        code = "from workbench import catalogue; print(catalogue.markdown(catalogue.loss_table()))"
        pytest.fail(
            "the table in docs/LOSSES.md is out of date; replace it with the output of: "
            f"python -c '{code}'"
        )


def test_a_table_as_markdown_keeps_its_columns() -> None:
    table = pd.DataFrame({"name": ["a", "b"], "formula": ["|x| m", ""], "size": [1, 2]})
    assert catalogue.markdown(table).splitlines() == [
        "| name | formula | size |",
        "| --- | --- | --- |",
        r"| `a` | `\|x\| m` | 1 |",
        "| `b` |  | 2 |",
    ]


@pytest.mark.usefixtures("one_of_mine")
def test_what_a_notebook_registers_is_in_the_tables() -> None:
    backbone = catalogue.backbone_table(["mine"], 4).iloc[0]
    assert (backbone["parameters"], backbone["multiply_adds"], backbone["size"]) == (
        12,
        12,
        "112x112",
    )
    assert (backbone["heads"], backbone["paper"]) == ("", "")
    loss = catalogue.loss_table().set_index("name").loc["my_loss"]
    assert tuple(loss) == ("loss", "", "", "")
