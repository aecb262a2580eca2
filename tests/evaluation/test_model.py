"""Loading a run's network, and embedding with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Complaint
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from workbench import backbones, data, losses, runs
from workbench.evaluation import Model, load_model, similarity

SIZE, DIM, CLASSES = 16, 8, 5
AVERAGED = runs.AVERAGED_MODEL
CONFIG: dict[str, Any] = {
    "data": "folder:nowhere",
    "backbone": "smallresnet",
    "backbone_options": {"width": 8},
    "loss": "arcface",
    "loss_options": {"s": 16.0, "m": 0.3},
    "image_size": SIZE,
    "pixel_mean": 127.5,
    "pixel_std": 64.0,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A run directory with a network as it is before training."""
    run = runs.create(tmp_path_factory.mktemp("runs"), "a", CONFIG)
    torch.manual_seed(0)
    net = backbones.create("smallresnet", embedding_dim=DIM, image_size=SIZE, width=8)
    loss = losses.create("arcface", embedding_dim=DIM, num_classes=CLASSES)
    tensors = {f"backbone.{key}": value for key, value in net.state_dict().items()}
    tensors |= {f"loss.{key}": value for key, value in loss.state_dict().items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, run.path / runs.MODEL)
    return run


@pytest.fixture(scope="module")
def model(made: runs.Run) -> Model:
    return load_model(made, "cpu")


@pytest.fixture
def run(made: runs.Run, tmp_path: Path) -> runs.Run:
    """A copy to be damaged."""
    return runs.open(shutil.copytree(made.path, tmp_path / "a"))


def _images(count: int = 7, size: int = SIZE) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def test_weights_and_scaling_are_those_of_the_run(made: runs.Run, model: Model) -> None:
    tensors = load_file(made.path / runs.MODEL)
    np.testing.assert_array_equal(model.centres, tensors["loss.weight"].numpy())
    for key, value in model.net.state_dict().items():
        assert torch.equal(value, tensors[f"backbone.{key}"]), key
    assert (model.pixel_mean, model.pixel_std) == (127.5, 64.0)
    assert not model.net.training
    assert model.loss is not None
    assert not model.loss.training


def test_without_flip_an_embedding_is_what_the_network_says_of_the_scaled_image(
    model: Model,
) -> None:
    images = _images(3)
    pixels = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() - 127.5) / 64.0
    with torch.inference_mode():
        expected = model.net(pixels).numpy()
    np.testing.assert_allclose(model.embed(images, flip="none"), expected, atol=1e-5)


def test_colours_are_in_the_order_of_the_run_and_rgb_in_old_ones(
    run: runs.Run, model: Model
) -> None:
    assert (model.channels, "channels" in run.config) == ("rgb", False)
    (run.path / runs.CONFIG).write_text(str(CONFIG | {"channels": "bgr"}))
    loaded, images = load_model(runs.open(run.path), "cpu"), _images()
    assert loaded.channels == "bgr"
    swapped = [np.ascontiguousarray(image[:, :, ::-1]) for image in images]
    np.testing.assert_allclose(loaded.embed(swapped), model.embed(images), atol=1e-5)
    assert not np.allclose(loaded.embed(images), model.embed(images), atol=1e-3)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_each_channel_may_have_its_own_scaling(run: runs.Run, model: Model, channels: str) -> None:
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    settings = {"channels": channels, "pixel_mean": mean, "pixel_std": std}
    (run.path / runs.CONFIG).write_text(json.dumps(CONFIG | settings))
    loaded, images = load_model(runs.open(run.path), "cpu"), _images()
    assert (
        loaded.scaling
        == f"(x - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375], {channels.upper()}, 16 x 16"
    )
    ordered = np.stack(images)[..., ::-1] if channels == "bgr" else np.stack(images)
    scaled = torch.from_numpy(
        ((ordered - np.array(mean)) / np.array(std)).astype(np.float32)
    ).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = model.net(scaled).numpy()
    np.testing.assert_allclose(loaded.embed(images, flip="none"), expected, atol=1e-5)


def test_flip_adds_the_embedding_of_the_mirror_image(model: Model) -> None:
    images = _images()
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
    plain, mirror, added = (
        model.embed(images, flip="none"),
        model.embed(mirrored, flip="none"),
        model.embed(images, flip="add"),
    )
    np.testing.assert_allclose(added, plain + mirror, atol=1e-5)
    assert not np.allclose(plain, mirror)
    np.testing.assert_allclose(model.embed(mirrored, flip="add"), added, atol=1e-5)


def test_the_size_of_batches_does_not_matter(model: Model) -> None:
    np.testing.assert_allclose(
        model.embed(_images(), batch_size=2), model.embed(_images(), batch_size=99), atol=1e-5
    )


def test_only_the_images_asked_for_are_embedded_in_that_order(model: Model) -> None:
    whole = model.embed(_images())
    np.testing.assert_allclose(model.embed(_images(), [4, 0, 4]), whole[[4, 0, 4]], atol=1e-5)
    assert model.embed(_images(), []).shape == (0, DIM)


def test_pictures_of_another_size_are_fitted(model: Model) -> None:
    assert np.isfinite(model.embed(_images(2, size=23))).all()


def test_a_class_is_that_of_the_nearest_centre(model: Model) -> None:
    assert model.classify(model.centres * 3).tolist() == list(range(CLASSES))


def test_similarity_of_a_thing_with_itself_is_one() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32) * 1e3
    np.testing.assert_allclose(similarity(vectors, vectors), 1.0, atol=1e-12)
    np.testing.assert_allclose(similarity(vectors, -2 * vectors), -1.0, atol=1e-12)
    assert np.abs(similarity(vectors, vectors)).max() <= 1.0


def test_similarity_is_the_cosine() -> None:
    np.testing.assert_allclose(
        similarity(np.array([[1.0, 0], [1, 1], [0, 0]]), np.array([[0.0, 3], [1, 0], [1, 0]])),
        [0, 0.5**0.5, 0],
    )


# Damage


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _retensor(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "has saved no model yet"),
    "empty": (lambda path: path.write_bytes(b""), "not a safetensors file"),
    "cut off": (_cut, "not a safetensors file"),
    "something else": (
        lambda path: path.write_bytes(b"\x80\x04}q\x00." * 40),
        "not a safetensors file",
    ),
    "huge header": (lambda path: path.write_bytes(b"\xff" * 8 + b"{}"), "not a safetensors file"),
    "no centres": (_retensor(lambda tensors: tensors.pop("loss.weight")), "no class centres"),
    "flat centres": (
        _retensor(lambda tensors: tensors.update({"loss.weight": torch.ones(8)})),
        "no class centres",
    ),
    "short centres": (
        _retensor(lambda tensors: tensors.update({"loss.weight": torch.ones(5, 7)})),
        "does not fit 'smallresnet'",
    ),
    "layer gone": (
        _retensor(lambda tensors: tensors.pop(sorted(tensors)[0])),
        "does not fit 'smallresnet'",
    ),
    "layer too many": (
        _retensor(lambda tensors: tensors.update({"backbone.extra": torch.ones(1)})),
        "does not fit 'smallresnet'",
    ),
    "no dimensions": (
        _retensor(lambda tensors: tensors.update({"loss.weight": torch.ones(5, 0)})),
        "embedding_dim",
    ),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_model_is_one_readable_line(
    run: runs.Run, damage: Callable[[Path], Any], said: str, complaint: Any
) -> None:
    damage(run.path / runs.MODEL)
    with complaint(said):
        load_model(run, "cpu")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backbone": "smalresnet"}, "did you mean 'smallresnet'"),
        ({"image_size": None}, "lacks image_size"),
        ({"backbone_options": {"width": 16}}, "does not fit 'smallresnet'"),
        ({"backbone_options": {"wide": 16}}, "did you mean 'width'"),
        ({"loss_options": {"margin": 0.3}}, "margin"),
        ({"channels": "gbr"}, "order of channels 'gbr'"),
        ({"channels": ["rgb"]}, "unknown order of channels"),
        ({"pixel_mean": [1.0, 2.0]}, "pixel_mean must be a number, or a list of three"),
        ({"pixel_std": [1.0, 2.0, 0.0]}, "pixel_std must be a positive number, or a list of three"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_one_readable_line(
    run: runs.Run, settings: dict[str, Any], said: str, complaint: Any
) -> None:
    changed = {key: value for key, value in (CONFIG | settings).items() if value is not None}
    (run.path / runs.CONFIG).write_text(str(changed))  # a Python dict is YAML too
    with complaint(said):
        load_model(runs.open(run.path), "cpu")


def test_a_run_whose_loss_is_not_known_here_can_still_embed(
    run: runs.Run, model: Model, complaint: Any
) -> None:
    (run.path / runs.CONFIG).write_text(str(CONFIG | {"loss": "of_a_notebook"}))
    loaded = load_model(runs.open(run.path), "cpu")
    np.testing.assert_array_equal(loaded.centres, model.centres)
    np.testing.assert_array_equal(loaded.embed(_images()), model.embed(_images()))
    with complaint("loss is not registered"):
        loaded.classify(loaded.centres)


def test_an_unknown_device_is_one_readable_line(made: runs.Run, complaint: Any) -> None:
    with complaint("cdua"):
        load_model(made, "cdua")


@pytest.mark.parametrize(
    ("loss", "options"),
    [("subcenter_arcface", {"sub_centres": 2}), ("normface+center+ohem", {"ohem": {"keep": 0.5}})],
)
def test_sub_centres_and_compositions_are_loaded(
    run: runs.Run, loss: str, options: dict[str, Any]
) -> None:
    known = losses.create(loss, embedding_dim=DIM, num_classes=CLASSES, **options)
    assert isinstance(known, losses.ClassificationLoss)
    weights = {
        key: value
        for key, value in load_file(run.path / runs.MODEL).items()
        if key.startswith("backbone.")
    }
    save_file(
        weights | {f"loss.{key}": value.contiguous() for key, value in known.state_dict().items()},
        run.path / runs.MODEL,
    )
    runs.write_text(
        run.path / runs.CONFIG, json.dumps(run.config | {"loss": loss, "loss_options": options})
    )  # YAML too
    model = load_model(runs.open(run.path), "cpu")
    assert model.centres is not None
    np.testing.assert_array_equal(model.centres, known.centres.numpy(force=True))
    assert model.classify(model.centres * 3).tolist() == list(range(CLASSES))


def test_a_loss_without_class_centres_may_have_parts_with_some(run: runs.Run) -> None:
    known = losses.create("triplet+center", embedding_dim=DIM, num_classes=CLASSES)
    weights = {
        key: value
        for key, value in load_file(run.path / runs.MODEL).items()
        if key.startswith("backbone.")
    }
    weights |= {f"loss.{key}": value for key, value in known.state_dict().items()}
    save_file(weights, run.path / runs.MODEL, metadata={"num_classes": str(CLASSES)})
    changed = {"loss": "triplet+center", "loss_options": {}, "embedding_dim": DIM}
    runs.write_text(run.path / runs.CONFIG, json.dumps(run.config | changed))
    assert load_model(runs.open(run.path), "cpu").centres is None


def test_pretrained_weights_are_not_fetched_to_be_overwritten() -> None:
    assert backbones.without_fetching({"pretrained": True, "dropout": 0.1}) == {
        "pretrained": False,
        "dropout": 0.1,
    }
    assert backbones.without_fetching({"width": 8}) == {"width": 8}


# Numbers that are none, and settings that are no longer those of the weights


def _changed(
    run: runs.Run, change: Callable[[str, torch.Tensor], torch.Tensor], **metadata: str
) -> runs.Run:
    """The run with other weights, all of which go through `change` with their name."""
    tensors = load_file(run.path / runs.MODEL)
    changed = {key: change(key, value).contiguous() for key, value in tensors.items()}
    save_file(changed, run.path / runs.MODEL, metadata=metadata)
    return runs.open(run.path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["running_var", "loss.weight"])
def test_weights_and_buffers_that_are_not_finite_are_named(
    run: runs.Run, value: float, name: str, complaint: Any
) -> None:
    (bad,) = [key for key in load_file(run.path / runs.MODEL) if name in key][:1]
    damaged = _changed(
        run, lambda key, tensor: torch.full_like(tensor, value) if key == bad else tensor
    )
    with complaint(runs.MODEL, "1 of", bad, "diverged", "lower lr"):
        load_model(damaged, "cpu")


def test_an_embedding_that_is_not_finite_names_its_image(
    run: runs.Run, identity_folder: Path, complaint: Any
) -> None:
    exploding = _changed(run, lambda key, tensor: tensor * 1e30 if tensor.ndim > 1 else tensor)
    loaded, images = load_model(exploding, "cpu"), data.open(f"folder:{identity_folder}").images
    with complaint("bob/1.png: the network's embedding of this image holds NaN or infinity"):
        loaded.embed(images, [3, 4], batch_size=1)


class _Colour(torch.nn.Module):
    """The mean of each colour, which is 0 for black."""

    embedding_dim, image_size = 3, (SIZE, SIZE)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def test_an_embedding_without_a_direction_names_its_image(
    model: Model, tmp_path: Path, complaint: Any
) -> None:
    for person, colour in (("ann", 90), ("bob", 0)):
        (tmp_path / person).mkdir()
        for number in range(2):
            Image.fromarray(
                np.full((SIZE, SIZE, 3), colour if number else 90, dtype=np.uint8)
            ).save(tmp_path / person / f"{number}.png")
    black = replace(model, net=_Colour(), pixel_mean=0.0)
    images = data.open(f"folder:{tmp_path}").images
    assert black.embed(images, [0, 1, 2]).all()
    with complaint("bob/1.png: the network's embedding of this image is 0 throughout"):
        black.embed(images)


@pytest.mark.parametrize(
    ("setting", "value", "was"),
    [
        ("image_size", 32, "[16, 16]"),
        ("image_size", [16, 32], "[16, 16]"),
        ("channels", "bgr", "'rgb'"),
        ("pixel_mean", 0.0, "127.5"),
        ("pixel_std", 255.0, "64.0"),
        ("backbone", "resnet18", "'smallresnet'"),
        ("backbone_options", {"width": 16}, "{'width': 8}"),
        ("loss", "cosface", "'arcface'"),
    ],
)
def test_a_setting_that_was_changed_after_training_is_named_with_both_values(
    run: runs.Run, setting: str, value: Any, was: str, complaint: Any
) -> None:
    trained = _changed(run, lambda _, tensor: tensor, made_with=json.dumps(runs.made_with(CONFIG)))
    load_model(trained, "cpu")
    (run.path / runs.CONFIG).write_text(json.dumps(CONFIG | {setting: value}))
    with complaint(runs.CONFIG, f"{setting} is", f"was trained with {was}"):
        load_model(runs.open(run.path), "cpu")


def test_settings_that_the_weights_do_not_depend_on_may_change(run: runs.Run) -> None:
    _changed(run, lambda _, tensor: tensor, made_with=json.dumps(runs.made_with(CONFIG)))
    (run.path / runs.CONFIG).write_text(
        json.dumps(CONFIG | {"image_size": [SIZE, SIZE], "data": "folder:moved", "channels": "rgb"})
    )
    load_model(runs.open(run.path), "cpu")


@pytest.mark.parametrize("said", ["{", "3", "[]"])
def test_damaged_metadata_are_one_readable_line(run: runs.Run, said: str, complaint: Any) -> None:
    with complaint(runs.MODEL, "metadata 'made_with' is not a JSON object"):
        load_model(_changed(run, lambda _, tensor: tensor, made_with=said), "cpu")


def test_weights_of_an_onnx_file_that_are_nan_are_named(
    tmp_path: Path, tiny_onnx: Callable[..., Any], complaint: Any
) -> None:
    graph = tiny_onnx()
    weights = next(tensor for tensor in graph.graph.initializer if tensor.name == "weights")
    values = np.frombuffer(weights.raw_data, dtype=np.float32).copy()
    values[7] = np.nan
    weights.raw_data = values.tobytes()
    run = runs.create(tmp_path, "o", CONFIG | {"backbone": runs.ONNX, "loss": runs.IMPORTED})
    run.model_path.write_bytes(graph.SerializeToString())
    with complaint(runs.ONNX_MODEL, "NaN"):
        load_model(run, "cpu")


def test_the_averaged_weights_of_a_run_are_used_unless_the_last_ones_are_asked_for(
    run: runs.Run,
) -> None:
    last = load_model(run, "cpu")
    assert not last.averaged
    tensors = {
        f"backbone.{key}": value * 1.5 if value.is_floating_point() else value
        for key, value in last.net.state_dict().items()
    }
    save_file({key: value.contiguous() for key, value in tensors.items()}, run.path / AVERAGED)
    model = load_model(run, "cpu")
    assert model.averaged
    for key, value in model.net.state_dict().items():
        assert torch.equal(value, tensors[f"backbone.{key}"])
    np.testing.assert_array_equal(model.centres, last.centres)
    again = load_model(run, "cpu", weights="last")
    assert not again.averaged
    for key, value in again.net.state_dict().items():
        assert torch.equal(value, last.net.state_dict()[key])


def test_averaged_weights_that_are_damaged_are_refused(run: runs.Run, complaint: Complaint) -> None:
    (run.path / AVERAGED).write_bytes(b"not a file of weights")
    with complaint(AVERAGED, "not a safetensors file"):
        load_model(run, "cpu")
