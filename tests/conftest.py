"""What several tests share: real data where they are, small made-up folders, and how a readable error looks."""

from __future__ import annotations

import os

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # before torch is imported: as many threads as processes get in each other's way
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench.errors import WorkbenchError

Complaint = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="session")
def workbench_data() -> Path:
    """The folder of real files (LFW, packs, RecordIO) that some formats are checked against."""
    folder = os.environ.get("WORKBENCH_DATA")
    if not folder:
        pytest.skip("WORKBENCH_DATA is not set: it names the folder of real files")
    return Path(folder)


@pytest.fixture(scope="session")
def complaint() -> Complaint:
    """`with complaint("a", "b"):` expects a WorkbenchError of one readable line that contains every text."""

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
    """`with at_worst_complaint("a"):` lets a WorkbenchError of one line pass if it contains the text, and nothing else."""

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
    """`mutate(data, seed)`: a few bytes changed, inserted or removed, sometimes the end cut off."""

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
def modest_memory() -> Iterator[None]:
    """Fails a test that allocates more than 600 MB at once; no file in the tests is a hundredth of that."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 600e6


@pytest.fixture
def identity_folder(tmp_path: Path) -> Path:
    """people/{ann,bob,cid}/{0,1}.png, 12 x 10 pixels, each picture of one colour of its own."""
    root = tmp_path / "people"
    for person, name in enumerate(("ann", "bob", "cid")):
        (root / name).mkdir(parents=True)
        for number in range(2):
            pixels = np.full((10, 12, 3), (40 * person, 100 * number, 50), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def tiny_onnx() -> Callable[..., Any]:
    """`tiny_onnx(shape=("n", 3, 16, 16))`: an ONNX model from images to embeddings of length 5, made by hand.

    The image is averaged in squares of 4 pixels, and these are weighed. `before` holds names of layers put in front, `Sub` and
    `Mul` with the numbers 127.5 and 1 / 127.5. An axis 3 of 3 makes it (N, H, W, 3).
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
