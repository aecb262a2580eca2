"""Fixtures that several test files use, and what `make test` leaves to `make test-all`.

`make test` deselects the tests marked `slow` and loads the Hypothesis profile `quick`, under which
each test with random examples, and each fuzzing test, runs a fifth of its examples.
`make test-all` and a plain `pytest` run everything.
"""

from __future__ import annotations

import os

# Several worker processes with several threads each would slow each other down. PyTorch reads
# this variable once, when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from helpers import CommandResult, Complaint, RunCommand, in_proportion
from PIL import Image

from workbench.errors import WorkbenchError

SLOW_SECONDS = 1200
"""Time limit of a test marked `slow`; the limit of the others is in pyproject.toml."""

hypothesis.settings.register_profile("quick", max_examples=20)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Adjusts the number of random examples to the profile that is loaded.

    A number in `@settings(max_examples=...)` would otherwise override that of the profile.
    """
    test = getattr(item, "obj", None)
    own = getattr(test, "_hypothesis_internal_use_settings", None)
    if own is None or getattr(test, "examples_are_adjusted", False):
        return
    if own.max_examples != hypothesis.settings.default.max_examples:
        adjusted = hypothesis.settings(own, max_examples=in_proportion(own.max_examples))
        test._hypothesis_internal_use_settings = adjusted
    test.examples_are_adjusted = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives slow tests more time, and runs them first so that no worker waits for one at
    the end.
    """
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def workbench_data() -> Path:
    """The folder of real files (LFW, packs, RecordIO) on which some readers are tested."""
    folder = os.environ.get("WORKBENCH_DATA")
    if not folder:
        pytest.skip("WORKBENCH_DATA is not set: it names the folder of real files")
    return Path(folder)


@pytest.fixture(scope="session")
def complaint() -> Complaint:
    """`with complaint("a", "b"):` expects a WorkbenchError of one line that contains both texts."""

    @contextmanager
    def expect(*texts: object) -> Iterator[None]:
        with pytest.raises(WorkbenchError) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 600
        for text in texts:
            assert str(text) in message

    return expect


@pytest.fixture(scope="session")
def at_worst_complaint() -> Complaint:
    """`with at_worst_complaint("a"):` accepts success, or a WorkbenchError that contains the text.

    The error must be one line; any other exception fails the test.
    """

    @contextmanager
    def expect(text: str) -> Iterator[None]:
        message = text
        try:
            yield
        except WorkbenchError as error:
            message = str(error)
        assert "\n" not in message
        assert text in message

    return expect


@pytest.fixture(scope="session")
def mutate() -> Callable[[bytes, int], bytes]:
    """`mutate(data, seed)` changes, inserts or removes a few bytes.

    Sometimes it cuts off the end.
    """

    def change(data: bytes, seed: int) -> bytes:
        rng = random.Random(seed)
        changed = bytearray(data)
        for _ in range(rng.randrange(6)):
            at = rng.randrange(len(changed))
            match rng.randrange(4):
                case 0:
                    changed[at] = rng.choice(
                        (0x00, 0x7F, 0xFF, changed[at] ^ (1 << rng.randrange(8)))
                    )
                case 1:
                    changed[at] = rng.randrange(256)
                case 2:
                    changed.insert(at, rng.randrange(256))
                case _:
                    del changed[at : at + rng.randrange(1, 5)]
        return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.3 else changed)

    return change


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> RunCommand:
    """`run_command("train --data x")` runs `workbench train --data x` in this process.

    A single text is split at its spaces. Several arguments, and a list, are taken as they are.
    """
    from workbench import cli

    def run(*arguments: object) -> CommandResult:
        if len(arguments) == 1:
            (only,) = arguments
            arguments = tuple(only.split() if isinstance(only, str) else only)
        monkeypatch.setattr(sys, "argv", ["workbench", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return CommandResult(int(ended.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture
def pca_for_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes a PCA in place of UMAP, which compiles for 20 s."""
    from workbench.evaluation import projection

    monkeypatch.setattr(projection, "_umap", lambda unit, seed: projection.pca(unit)[0])


@pytest.fixture
def modest_memory() -> Iterator[None]:
    """Fails a test that allocates more than 600 MB at once; the test files are far smaller."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 600e6


@pytest.fixture
def identity_folder(tmp_path: Path) -> Path:
    """people/{ann,bob,cid}/{0,1}.png, 12 x 10 pixels; each image has one colour of its own."""
    root = tmp_path / "people"
    for person, name in enumerate(("ann", "bob", "cid")):
        (root / name).mkdir(parents=True)
        for number in range(2):
            pixels = np.full((10, 12, 3), (40 * person, 100 * number, 50), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def tiny_onnx() -> Callable[..., Any]:
    """`tiny_onnx(shape=("n", 3, 16, 16))` builds an ONNX model that returns 5 numbers an image.

    The model averages the image over squares of 4 pixels and multiplies the result by a matrix.
    `before` names layers that are put in front: `Sub` subtracts 127.5, and `Mul` multiplies by
    1 / 127.5. With a shape that ends in 3, the images have the shape (N, H, W, 3).
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def made(
        shape: tuple[Any, ...] = ("n", 3, 16, 16),
        before: tuple[str, ...] = (),
        flat: tuple[int, ...] = (0, 48),
        seed: int = 0,
    ) -> onnx.ModelProto:
        weights = np.random.default_rng(seed).normal(size=(48, 5)).astype(np.float32)
        numbers = {"Sub": 127.5, "Mul": 1 / 127.5}
        constants = [
            numpy_helper.from_array(np.array(number, dtype=np.float32), kind)
            for kind, number in numbers.items()
        ]
        constants += [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array(flat, dtype=np.int64), "flat"),
        ]
        nodes, value = [], "images"
        for number, kind in enumerate(
            (*before, *(["Transpose"] if shape[3] == 3 and shape[1] != 3 else []))
        ):
            options: dict[str, Any] = {"perm": (0, 3, 1, 2)} if kind == "Transpose" else {}
            inputs = [value, kind] if kind in numbers else [value]
            value = f"value{number}"
            nodes.append(helper.make_node(kind, inputs, [value], **options))
        nodes += [
            helper.make_node(
                "AveragePool", [value], ["pooled"], kernel_shape=(4, 4), strides=(4, 4)
            ),
            helper.make_node("Reshape", ["pooled", "flat"], ["flattened"]),
            helper.make_node("MatMul", ["flattened", "weights"], ["embeddings"]),
        ]
        taken = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
        given = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, (None, 5))
        graph = helper.make_graph(nodes, "tiny", [taken], [given], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    return made
