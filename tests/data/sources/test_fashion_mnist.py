"""Fashion-MNIST: valid and damaged IDX files, and the error without internet access."""

from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

from workbench import data
from workbench.data.sources import fashion_mnist
from workbench.data.sources.fashion_mnist import read_idx


def idx(*shape: int, size: int | None = None, kind: int = 8) -> bytes:
    count = int(np.prod(shape)) if size is None else size
    return (
        bytes([0, 0, kind, len(shape)])
        + struct.pack(f">{len(shape)}I", *shape)
        + bytes(i % 10 for i in range(count))
    )


def four_files(folder: Path, images: int = 20, labels: int = 20) -> Path:
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images, 28, 28))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_an_idx_file_is_read(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / ("a.gz" if zipped else "a")
    file.write_bytes(gzip.compress(idx(2, 3, 4)) if zipped else idx(2, 3, 4))
    pixels = read_idx(file, dimensions=3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, (np.arange(24) % 10).reshape(2, 3, 4))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00\x08",
        idx(2, 3, 4)[:10],
        idx(2, 3, 4)[:-1],
        idx(2, 3, 4) + b"x",
        idx(2, 3, 4, kind=9),
        idx(24),
        idx(2, 3, 4, 1),
        b"x" + idx(2, 3, 4),
        idx(2**31, 2**31, 4, size=0),
        idx(2**32 - 1, 2**32 - 1, 2**32 - 1, size=8),
    ],
)
def test_a_damaged_idx_file_is_an_error(
    content: bytes, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    for name, written in (("a", content), ("a.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(written)
        with complaint(tmp_path / name):
            read_idx(tmp_path / name, dimensions=3)


def test_a_damaged_gzip_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    whole = gzip.compress(idx(2, 3, 4))
    for content in (whole[:-9], whole[:15], idx(2, 3, 4), whole[:12] + b"\xff" * 8 + whole[20:]):
        (tmp_path / "a.gz").write_bytes(content)
        with complaint("a.gz"):
            read_idx(tmp_path / "a.gz", dimensions=3)
    with complaint("b.gz", "No such file"):
        read_idx(tmp_path / "b.gz", dimensions=3)


def test_pictures_and_labels_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", four_files(tmp_path / "fashion"))
    train = data.open("fashion-mnist")
    assert (train.name, len(train), train.num_identities) == ("fashion-mnist", 20, 10)
    assert train.identity_names[9] == "Ankle boot"
    assert train[11].identity == 1
    assert train[11].image.shape == (3, 28, 28)
    assert bool((train[11].image == train[11].image[:1]).all())


def test_fewer_labels_than_pictures_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", four_files(tmp_path / "fashion", labels=19))
    with complaint("fashion-mnist"):
        data.open("fashion-mnist")


def test_an_unknown_part_is_refused(complaint: Callable[..., Any]) -> None:
    with complaint("did you mean 'test'"):
        data.open("fashion-mnist:tset")


@pytest.mark.skipif(
    not fashion_mnist.DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_the_real_set_has_ten_even_classes() -> None:
    train, test = data.open("fashion-mnist"), data.benchmark("fashion-mnist")
    assert isinstance(test, data.ClosedSet)
    assert np.bincount(train.identities).tolist() == [6000] * 10
    assert np.bincount(test.dataset.identities).tolist() == [1000] * 10
    assert test.name == "fashion-mnist"
    assert train[0].image.shape == (3, 28, 28)
    assert (
        train.identity_names[train[0].identity] == "Ankle boot"
    )  # the first image that its authors show


def fake_torchvision(monkeypatch: pytest.MonkeyPatch, download: Callable[..., Any]) -> None:
    module = ModuleType("torchvision.datasets")
    module.FashionMNIST = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)


@pytest.mark.parametrize(
    "error",
    [URLError("Name or service\nnot known"), RuntimeError("Error downloading"), TimeoutError()],
)
def test_without_internet_the_error_says_what_to_do(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    fake_torchvision(monkeypatch, fail)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nothing")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    with complaint(
        "cannot be downloaded", "dataset-fashion-mnist", tmp_path / "cache" / "FashionMNIST" / "raw"
    ):
        data.open("fashion-mnist")


def test_it_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(root: str, download: bool) -> None:
        calls.append((root, download))
        four_files(Path(root) / "FashionMNIST" / "raw")

    fake_torchvision(monkeypatch, download)
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nothing")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    assert len(data.open("fashion-mnist")) == len(data.open("fashion-mnist:test")) == 20
    assert calls == [(str(tmp_path / "cache"), True)]
