"""Embeddings in a file: what is in it, that it comes back, and that nothing in it is pickled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from workbench import data, runs
from workbench.evaluation import Embeddings, arcface_torch, embed, embedding, load_embeddings
from workbench.evaluation.model import Model


class Net(nn.Module):
    """The mean of each colour, and of the left half's."""

    embedding_dim = 6
    image_size = (8, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images.mean(dim=(2, 3)), images[..., :4].mean(dim=(2, 3))], dim=1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    """A run whose network is known, so that none has to be trained."""
    made = Model(Net(), None, None, 127.5, 128.0, torch.device("cpu"), 70, "bgr")  # type: ignore[arg-type]
    monkeypatch.setattr(embedding, "load_model", lambda opened, device, weights: made)
    return runs.create(tmp_path / "runs", "a", {"loss": "arcface"})


def _expected(pictures: Any, sides: tuple[int, ...] = (1, -1)) -> Any:
    found = []
    for side in sides:
        pixels = (
            np.stack([picture[:, ::side, ::-1] for picture in pictures]).astype(np.float32) - 127.5
        ) / 128
        found.append(
            np.concatenate([pixels.mean(axis=(1, 2)), pixels[:, :, :4].mean(axis=(1, 2))], axis=1)
        )
    return found


def _pictures(count: int) -> list[Any]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8))


def test_a_data_set_is_embedded_with_who_is_on_it(run: runs.Run, identity_folder: Path) -> None:
    found = embed(run, f"folder:{identity_folder}", progress=False)
    assert found.embeddings.shape == (6, 6)
    assert found.embeddings.dtype == np.float32
    assert found.identities.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.identity_names == ("ann", "bob", "cid")
    assert found.made == {
        "run": "a",
        "step": 70,
        "source": f"folder:{identity_folder}",
        "fingerprint": data.open(f"folder:{identity_folder}").fingerprint(),
        "flip": "embeddings of image and mirror image added",
        "weights": "last step",
        "image scaling": "(x - 127.5) / 128, BGR, 8 x 8",
        "normalised": False,
    }


@pytest.mark.parametrize("flip", ["none", "add", "concatenate"])
def test_embeddings_are_the_networks(run: runs.Run, flip: Any) -> None:
    pictures = _pictures(5)
    dataset = data.Dataset(
        "five",
        pictures,
        np.array([0, 0, 1, 1, 1]),
        ["x", "y"],
        {"file": [f"{i}.png" for i in range(5)]},
    )
    found = embed(run, dataset, flip=flip, batch_size=2, progress=False)
    plain, mirrored = _expected(pictures)
    expected = {
        "none": plain,
        "add": plain + mirrored,
        "concatenate": np.concatenate([plain, mirrored], axis=1),
    }[flip]
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-6)
    assert found.files == ("0.png", "1.png", "2.png", "3.png", "4.png")
    assert found.made["source"] == "five"


def test_a_benchmark_brings_its_pairs_so_that_it_can_be_scored_elsewhere(
    run: runs.Run, tmp_path: Path
) -> None:
    pairs, same = np.arange(40).reshape(20, 2), np.arange(20) % 2 == 0
    benchmark = data.Benchmark("pack", _pictures(40), pairs, same, np.repeat(np.arange(10), 2))
    embed(run, benchmark, progress=False).save(tmp_path / "pack.npz")
    with np.load(tmp_path / "pack.npz", allow_pickle=False) as archive:
        assert archive["identities"].tolist() == [-1] * 40
        assert "files" not in archive
        np.testing.assert_array_equal(archive["pairs"], pairs)
        found = arcface_torch.evaluate(archive["embeddings"], archive["same"])
    assert 0 <= found.accuracy.mean() <= 1


def test_other_kinds_of_benchmarks_bring_their_parts(run: runs.Run) -> None:
    identities = np.array([0, 0, 1, 1, 2])
    among = data.Identification(
        "among", _pictures(5), identities, np.array([0, 2]), np.array([1, 3]), np.array([4])
    )
    assert set(embed(run, among, progress=False).parts) == {"gallery", "probes", "distractors"}
    closed = data.ClosedSet(data.Dataset("five", _pictures(5), identities, ["x", "y", "z"]))
    assert embed(run, closed, progress=False).identities.tolist() == identities.tolist()
    templates = data.Templates(
        "media",
        _pictures(5),
        identities,
        identities,
        np.array([[0, 1], [0, 2]]),
        np.array([False, True]),
    )
    assert set(embed(run, templates, progress=False).parts) == {
        "templates",
        "media",
        "pairs",
        "same",
    }


def _some(files: tuple[str, ...] | None = ("å.png", "b c.png")) -> Embeddings:
    made = {"run": "a", "step": None, "normalised": False}
    return Embeddings(
        np.eye(2, 3, dtype=np.float32),
        np.array([1, 0]),
        ("ö", "y"),
        files,
        {"same": np.array([True])},
        made,
    )


@pytest.mark.parametrize("files", [None, ("å.png", "b c.png")])
def test_what_is_written_comes_back(files: tuple[str, ...] | None, tmp_path: Path) -> None:
    given = _some(files)
    found = load_embeddings(given.save(tmp_path / "out.npz"))
    for field, value in vars(given).items():
        np.testing.assert_equal(getattr(found, field), value, err_msg=field)
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_nothing_in_the_file_is_pickled(tmp_path: Path) -> None:
    with np.load(_some().save(tmp_path / "out.npz"), allow_pickle=False) as archive:
        assert all(archive[name].dtype.kind in "fibU" for name in archive.files)
        assert json.loads(str(archive["made"]))["run"] == "a"


@pytest.mark.parametrize(
    ("name", "said"),
    [("out.csv", "out.npz"), ("out", ".npz"), ("no/such/out.npz", "no such folder")],
)
def test_a_place_that_cannot_be_written_to_is_one_readable_line(
    name: str, said: str, tmp_path: Path, complaint: Any
) -> None:
    with complaint(said):
        _some().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Any
) -> None:
    before = _some().save(tmp_path / "out.npz").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with complaint("cannot be written", "No space left"):
        _some().save(tmp_path / "out.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]
    assert (tmp_path / "out.npz").read_bytes() == before


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "another archive": lambda path: np.savez(path, x=np.zeros(3)),
    "objects": lambda path: np.savez(
        path, embeddings=np.array([{}], dtype=object), identities=np.zeros(1), allow_pickle=True
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_file_is_one_readable_line(
    damage: Callable[[Path], Any], tmp_path: Path, complaint: Any
) -> None:
    path = _some().save(tmp_path / "out.npz")
    damage(path)
    with complaint("holds no embeddings", "workbench embed"):
        load_embeddings(path)


@pytest.mark.parametrize(
    ("source", "said"), [("foldr:x", "did you mean"), ("folder:nowhere", "no such folder")]
)
def test_an_unknown_source_is_one_readable_line(
    run: runs.Run, source: str, said: str, complaint: Any
) -> None:
    with complaint(said):
        embed(run, source, progress=False)


def test_an_unknown_flip_is_one_readable_line(run: runs.Run, complaint: Any) -> None:
    with complaint("flip must be one of none, add, concatenate"):
        embed(run, SimpleNamespace(), flip="mirror")  # type: ignore[arg-type]
