"""Importing checkpoints of PyTorch: what is loaded, and that no code of the file is run."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench import runs
from workbench.evaluation import load_model
from workbench.weights.state_dict import read_checkpoint

DIM = 8
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def r18() -> Weights:
    """arcface_torch's r18 with short embeddings, weights drawn at random."""
    torch.manual_seed(0)
    net = wb.backbones.create("iresnet18", embedding_dim=DIM, image_size=112)
    net(torch.randn(2, 3, 112, 112))  # moves the running statistics
    return net.state_dict()


@pytest.fixture(scope="module")
def small() -> Weights:
    torch.manual_seed(0)
    return wb.backbones.create("smallresnet", embedding_dim=DIM, image_size=16).state_dict()


def _stored(tmp_path: Path, content: Any, name: str = "backbone.pth") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


def _imported(path: Path, **options: Any) -> runs.Run:
    return wb.import_model(path, runs_dir=path.parent / "runs", **options)


def _refused(path: Path, complaint: Any, *texts: str, **options: Any) -> None:
    before = sorted(path.parent.rglob("*"))
    with complaint(*texts):
        _imported(path, **options)
    assert sorted(path.parent.rglob("*")) == before


def _prefixed(weights: Weights, prefix: str) -> Weights:
    return {f"{prefix}{key}": value for key, value in weights.items()}


WRAPPED: dict[str, Callable[[Weights], Any]] = {
    "backbone.pth": lambda weights: weights,
    "data parallel": lambda weights: _prefixed(weights, "module."),
    "compiled and parallel": lambda weights: OrderedDict(_prefixed(weights, "module._orig_mod.")),
    "checkpoint_gpu_0.pt": lambda weights: {
        "epoch": 3,
        "global_step": 400,
        "state_dict_backbone": _prefixed(weights, "module."),
        "state_dict_softmax_fc": {"weight": torch.zeros(4, DIM)},
        "state_optimizer": {
            "state": {0: {"momentum_buffer": torch.zeros(3)}},
            "param_groups": [{"lr": 0.1}],
        },
    },
    "half precision": lambda weights: {
        key: value.half() if value.is_floating_point() else value for key, value in weights.items()
    },
    "without counters": lambda weights: {
        key: value for key, value in weights.items() if "num_batches" not in key
    },
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=list(WRAPPED))
def test_arcface_torch_weights_become_a_finished_run(
    tmp_path: Path, r18: Weights, wrap: Callable[[Weights], Any], request: pytest.FixtureRequest
) -> None:
    run = _imported(_stored(tmp_path, wrap(r18)), channels="bgr", name="theirs")
    assert run.path == tmp_path / "runs" / "theirs"
    assert run.state == "finished"
    assert run.config == {
        "loss": "imported",
        "backbone": "iresnet18",
        "embedding_dim": DIM,
        "image_size": 112,
        "pixel_mean": 127.5,
        "pixel_std": 127.5,
        "channels": "bgr",
        "imported": "backbone.pth",
    }
    assert run.environment["imported"]["bytes"] == (tmp_path / "backbone.pth").stat().st_size
    assert len(run.environment["imported"]["sha256"]) == 64
    assert sorted(path.name for path in run.path.iterdir()) == sorted(
        [runs.CONFIG, runs.ENVIRONMENT, runs.MODEL, runs.STATUS]
    )
    model = load_model(run, "cpu")
    assert (model.loss, model.centres, model.step, model.channels) == (None, None, None, "bgr")
    half = request.node.callspec.id == "half precision"
    for key, value in model.net.state_dict().items():
        if "num_batches" not in key:
            torch.testing.assert_close(
                value, r18[key], rtol=1e-3 if half else 0.0, atol=1e-3 if half else 0.0
            )


def test_any_registered_backbone_is_recognised_and_can_be_named(
    tmp_path: Path, small: Weights
) -> None:
    path = _stored(tmp_path, {"state_dict": _prefixed(small, "model.")})
    for options in ({}, {"backbone": "smallresnet"}):
        run = _imported(path, image_size=16, pixel_mean=0.0, pixel_std=255.0, **options)
        assert run.name.startswith("imported-smallresnet")
        assert (run.config["backbone"], run.config["pixel_mean"], run.config["pixel_std"]) == (
            "smallresnet",
            0.0,
            255.0,
        )
        assert (run.config["image_size"], run.config["channels"]) == (16, "rgb")
    assert [other.name for other in runs.list(tmp_path / "runs")] == [
        "imported-smallresnet-2",
        "imported-smallresnet",
    ]


def test_an_oblong_input(tmp_path: Path) -> None:
    net = wb.backbones.create("smallresnet", embedding_dim=DIM, image_size=(32, 16))
    run = _imported(_stored(tmp_path, net.state_dict()), image_size=(32, 16))
    assert run.config["image_size"] == [32, 16]
    assert load_model(run, "cpu").embed([np.zeros((32, 16, 3), np.uint8)]).shape == (1, DIM)


def test_the_order_of_the_colours_is_the_networks(tmp_path: Path, small: Weights) -> None:
    path = _stored(tmp_path, small)
    rgb, bgr = (
        load_model(_imported(path, image_size=16, channels=order), "cpu")
        for order in ("rgb", "bgr")
    )
    images = list(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8))
    swapped = [np.ascontiguousarray(image[:, :, ::-1]) for image in images]
    np.testing.assert_allclose(bgr.embed(swapped), rgb.embed(images), atol=1e-5)
    assert not np.allclose(bgr.embed(images), rgb.embed(images), atol=1e-2)


# What is refused


class _Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.target)!r}, 'w').close()",)

    def __init__(self, target: Path) -> None:
        self.target = target


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "inside a state_dict"])
def test_a_hostile_pickle_runs_no_code_and_leaves_nothing(
    tmp_path: Path, small: Weights, form: str, complaint: Any
) -> None:
    target, path = tmp_path / "owned", tmp_path / "backbone.pth"
    bad = _Hostile(target)
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(bad))
    else:
        torch.save(
            small | {"last": bad} if form.startswith("inside") else bad,
            path,
            _use_new_zipfile_serialization=form != "legacy",
        )
    _refused(path, complaint, "backbone.pth", "refused" if form != "bare pickle" else "")
    assert not target.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_whole_networks_are_refused(tmp_path: Path, complaint: Any) -> None:
    _refused(
        _stored(tmp_path, nn.Linear(3, 3)),
        complaint,
        "contains the Python object torch.nn",
        "state_dict",
    )
    torch.jit.script(nn.Linear(3, 3)).save(tmp_path / "model.pt")
    _refused(tmp_path / "model.pt", complaint, "a TorchScript program", "state_dict")


@pytest.mark.parametrize(
    "content", [b"", b"Dear Sir or Madam", b"PK\x03\x04 and so on", b"\x80\x02}q\x00.", None]
)
def test_a_file_that_is_no_checkpoint_is_one_line(
    tmp_path: Path, small: Weights, content: bytes | None, complaint: Any
) -> None:
    path = _stored(tmp_path, small)
    path.write_bytes(path.read_bytes()[:-3000] if content is None else content)
    _refused(path, complaint, "backbone.pth")


def test_damaged_checkpoints_are_one_line_at_worst(
    tmp_path: Path, mutate: Callable[[bytes, int], bytes], at_worst_complaint: Any
) -> None:
    path = _stored(tmp_path, {"weight": torch.ones(2, 3), "bias": torch.ones(2)})
    whole = path.read_bytes()
    for seed in range(200):
        path.write_bytes(mutate(whole, seed))
        with at_worst_complaint("backbone.pth"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.ones(3)], "contains a list"),
        (torch.ones(3), "contains a Tensor"),
        ({}, "contains no state_dict"),
        ({"epoch": 3, "lr": 0.1}, "its keys are epoch, lr"),
        ({f"number {n}": n for n in range(9)}, "and 6 more"),
        ({"state_dict": {}}, "contains no state_dict"),
        ({"a": torch.ones(2).to_sparse()}, "contains no state_dict"),
        ({"a": torch.empty(2, device="meta")}, "contains no state_dict"),
        ({"a": torch.tensor(1.0)}, "fits no known backbone"),
        ({1: torch.ones(2)}, "fits no known backbone"),
        ({"\x1b[2J\nweight": torch.ones(2)}, "unexpected [2J weight"),
    ],
)
def test_a_checkpoint_without_usable_weights_is_one_line(
    tmp_path: Path, content: Any, said: str, complaint: Any
) -> None:
    _refused(_stored(tmp_path, content), complaint, said)


def test_weights_that_are_no_numbers_are_named(
    tmp_path: Path, small: Weights, complaint: Any
) -> None:
    for value in (float("nan"), float("inf")):
        bad = dict(small) | {"head.4.running_var": torch.full((DIM,), value)}
        _refused(
            _stored(tmp_path, bad),
            complaint,
            "1 of 125 tensors hold NaN or infinity (head.4.running_var)",
            image_size=16,
        )


def test_a_file_that_claims_to_be_more_than_it_is_is_refused_unread(
    tmp_path: Path, small: Weights, complaint: Any
) -> None:
    path = _stored(tmp_path, small | {"zeros": torch.zeros(10**6)})
    packed = tmp_path / "packed.pth"
    with (
        zipfile.ZipFile(path) as plain,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as smaller,
    ):
        for entry in plain.infolist():
            smaller.writestr(entry.filename, plain.read(entry))
    _refused(packed, complaint, "packed.pth: refused", "more than the file has", image_size=16)


def test_one_number_repeated_without_end_is_no_weight(tmp_path: Path, complaint: Any) -> None:
    _refused(
        _stored(tmp_path, {"a": torch.zeros(1).expand(10**12)}), complaint, "contains no state_dict"
    )


def test_whole_numbers_are_not_taken_for_weights(
    tmp_path: Path, small: Weights, complaint: Any
) -> None:
    quantised = small | {"head.3.weight": small["head.3.weight"].to(torch.int8)}
    _refused(
        _stored(tmp_path, quantised),
        complaint,
        "not floating point head.3.weight (torch.int8)",
        image_size=16,
    )


def test_a_depth_that_is_not_known_is_told_by_its_blocks(
    tmp_path: Path, r18: Weights, complaint: Any
) -> None:
    deeper = r18 | {
        key.replace("layer3.1.", "layer3.2."): value
        for key, value in r18.items()
        if key.startswith("layer3.1.")
    }
    said = (
        "fits no known backbone, its blocks are 2-2-3-2, the nearest is 'iresnet18'",
        "unexpected layer3.2.bn1.weight",
        "more",
    )
    _refused(_stored(tmp_path, deeper), complaint, *said)


def test_missing_and_additional_weights_are_named(
    tmp_path: Path, r18: Weights, complaint: Any
) -> None:
    changed = {key: value for key, value in r18.items() if key != "prelu.weight"} | {
        "extra.weight": torch.ones(DIM)
    }
    _refused(_stored(tmp_path, changed), complaint, "missing prelu.weight; unexpected extra.weight")


def test_the_backbone_that_it_does_fit_is_suggested(
    tmp_path: Path, r18: Weights, complaint: Any
) -> None:
    path = _stored(tmp_path, r18)
    _refused(
        path,
        complaint,
        "does not fit 'iresnet34', but 'iresnet18'",
        "missing layer1.2.",
        backbone="iresnet34",
    )
    _refused(path, complaint, "did you mean 'iresnet18'", backbone="iresnet-18")


def test_another_size_of_images_is_suspected(tmp_path: Path, r18: Weights, complaint: Any) -> None:
    said = (
        "of another shape fc.weight 8x25088 instead of 8x8192",
        "images of another size, set --image-size",
    )
    _refused(_stored(tmp_path, r18), complaint, *said, image_size=64)
    _refused(tmp_path / "backbone.pth", complaint, *said, image_size=64, backbone="iresnet18")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": "bgrr"}, "did you mean 'bgr'"),
        ({"pixel_std": 0.0}, "pixel_std"),
        ({"pixel_std": float("nan")}, "pixel_std"),
        ({"pixel_mean": float("inf")}, "pixel_mean"),
        ({"image_size": 0}, "size"),
        ({"image_size": 4, "backbone": "smallresnet"}, "needs images of at least"),
        ({"image_size": "big"}, "image_size"),
        ({"name": "a/b", "image_size": 16}, "run name"),
    ],
)
def test_options_out_of_range_are_one_line(
    tmp_path: Path, small: Weights, options: dict[str, Any], said: str, complaint: Any
) -> None:
    _refused(_stored(tmp_path, small), complaint, said, **options)


def test_a_file_that_is_not_there(tmp_path: Path, complaint: Any) -> None:
    _refused(tmp_path / "backbone.pth", complaint, "no such file")
    _refused(tmp_path, complaint, "no such file")


def test_a_failure_to_write_leaves_no_run(
    tmp_path: Path, small: Weights, monkeypatch: pytest.MonkeyPatch, complaint: Any
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    path = _stored(tmp_path, small)
    monkeypatch.setattr("workbench.exchange.importing.save_file", full)
    with complaint("No space left on device"):
        _imported(path, image_size=16)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_full_disk_is_found_out_before_and_leaves_nothing(
    tmp_path: Path, small: Weights, monkeypatch: pytest.MonkeyPatch, complaint: Any
) -> None:
    path = _stored(tmp_path, small)
    monkeypatch.setattr("workbench.files.free_bytes", lambda folder: 2**20 + 1000)
    _refused(path, complaint, "MiB are free on this disk", "free some space", image_size=16)


def test_one_number_a_channel_is_stored_as_a_list(
    tmp_path: Path, small: Weights, complaint: Any
) -> None:
    path = _stored(tmp_path, small)
    run = _imported(
        path, image_size=16, pixel_mean=(123.675, 116.28, 103.53), pixel_std=[58.395, 57.12, 57.375]
    )
    assert (run.config["pixel_mean"], run.config["pixel_std"]) == (
        [123.675, 116.28, 103.53],
        [58.395, 57.12, 57.375],
    )
    model = load_model(run, "cpu")
    assert (model.pixel_mean, model.pixel_std) == (
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
    )
    with complaint("pixel_std must be a positive number, or a list of three"):
        _imported(path, image_size=16, pixel_std=(1.0, 2.0))


def test_an_output_is_chosen_in_onnx_files_alone(
    tmp_path: Path, small: Weights, complaint: Any
) -> None:
    _refused(
        _stored(tmp_path, small),
        complaint,
        "--output is for ONNX files",
        output="embeddings",
        image_size=16,
    )


# The run among others


def test_an_imported_run_is_not_trained_on(tmp_path: Path, small: Weights, complaint: Any) -> None:
    run = _imported(_stored(tmp_path, small), image_size=16)
    for start in (
        lambda: wb.train(resume=run),
        lambda: wb.train(run.path / runs.CONFIG),
        lambda: wb.train(run.config),
    ):
        with complaint("cannot be trained or resumed"):
            start()
    config = wb.TrainConfig(data="orl", image_size=16, runs_dir=str(tmp_path / "runs"))
    assert wb.experiments.find(config) is None


def test_closed_sets_are_refused_and_pairs_are_not(
    tmp_path: Path, identity_folder: Path, small: Weights, complaint: Any
) -> None:
    shutil.copytree(identity_folder / "ann", identity_folder / "dan")
    run = _imported(_stored(tmp_path, small), image_size=16)
    options: dict[str, Any] = {
        "bootstrap": 0,
        "with_projection": False,
        "device": "cpu",
        "progress": False,
    }
    with complaint("was imported, so what it was trained on is not known"):
        wb.evaluate(run, "train", **options)
    closed = wb.data.ClosedSet(wb.data.open(f"folder:{identity_folder}"))
    with complaint("was imported, so what it was trained on is not known"):
        wb.evaluate(run, closed, **options)
    assert wb.evaluate(run, f"folder:{identity_folder}", **options).name == "people"
    table = wb.evaluation.leaderboard([run])
    assert table[["run", "loss", "backbone"]].values.tolist() == [
        [run.name, "imported", "smallresnet"]
    ]
