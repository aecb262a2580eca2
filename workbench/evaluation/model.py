"""Loads the trained model of a run directory, to embed images; independent of the training code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench import backbones, losses, runs
from workbench.arrays import Floats, Integers
from workbench.backbones.base import as_size
from workbench.data import Images
from workbench.data.batches import CHANNELS, batches, to_network
from workbench.data.dataset import HINT, image_name
from workbench.devices import resolve_device
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.protocol import Flip
from workbench.finite import check_tensors
from workbench.scaling import PerChannel, formula, per_channel
from workbench.tasks import ClassesHead, Head, from_description

Weights = Literal["auto", "averaged", "last"]
"""Which weights of a run are used; see `load_model`."""


@dataclass(frozen=True)
class Model:
    """Backbone and class centres of a run, in evaluation mode.

    Attributes:
        net: the backbone.
        loss: the loss with its class centres; None if it is not registered, as a loss defined in a
            notebook, or if the model was imported.
        centres: (C, D) learned class centres; None if the loss has none, as the triplet loss.
        pixel_mean: mean with which the run scales its input: one number, or one per channel in the
            order of `channels`.
        pixel_std: standard deviation with which the run scales its input, likewise.
        device: device of the network.
        step: number of training steps; None if unknown.
        channels: order of the colour channels of its input, "rgb" or "bgr".
        heads: heads of the run's tasks, such as gender and age, by name; empty without tasks.
        averaged: whether the weights of the backbone are their moving average over the training,
            and not those of the last step.
    """

    net: backbones.Backbone
    loss: losses.Loss | None
    centres: NDArray[np.float32] | None
    pixel_mean: PerChannel
    pixel_std: PerChannel
    device: torch.device
    step: int | None = None
    channels: str = "rgb"
    heads: Mapping[str, Head] = field(default_factory=dict)
    averaged: bool = False

    @property
    def scaling(self) -> str:
        """Description of how an image is prepared for the network, for the protocol."""
        height, width = self.net.image_size
        scaled = formula(self.pixel_mean, self.pixel_std)
        return f"{scaled}, {self.channels.upper()}, {height} x {width}"

    @torch.inference_mode()
    def embed(
        self,
        images: Images,
        order: Sequence[int] | None = None,
        flip: Flip = "add",
        batch_size: int = 128,
        progress: str = "",
    ) -> NDArray[np.float32]:
        """Embed images, in float32 whatever precision the run was trained with.

        Args:
            images: reader of images; images of another size are resized.
            order: numbers of the images to embed; by default all.
            flip: "add" adds the embedding of the mirror image, as arcface_torch does; "concatenate"
                concatenates it, as SphereFace does; "none" does not use it.
            batch_size: images per batch.
            progress: title of a progress bar; empty for none.

        Returns:
            (N, D) embeddings, or (N, 2 D) if concatenated; finite, not normalised, none of length
            0.

        Raises:
            WorkbenchError: if an image cannot be read, or its embedding is not finite or has length
                0; the message names the image.
        """
        numbers = range(len(images)) if order is None else order
        result = np.empty((len(numbers), embedding_length(self, flip)), dtype=np.float32)
        done = 0
        with tqdm(
            total=len(numbers),
            desc=progress,
            unit="image",
            disable=not progress,
            dynamic_ncols=True,
        ) as bar:
            for batch, of_batch in _read(images, numbers, self.net.image_size, batch_size):
                pixels = to_network(
                    batch.to(self.device), self.pixel_mean, self.pixel_std, self.channels
                )
                embeddings = self._embed_batch(pixels, flip)
                part = result[done : done + len(batch)] = embeddings.float().cpu().numpy()
                _check_embeddings(part, of_batch.tolist(), images)
                done += len(batch)
                bar.update(len(batch))
        return result

    def _embed_batch(self, pixels: Tensor, flip: Flip) -> Tensor:
        """Embed a batch of prepared images, with or without their mirror images."""
        embeddings: Tensor = self.net(pixels)
        if flip == "none":
            return embeddings
        mirrored: Tensor = self.net(pixels.flip(-1).contiguous(memory_format=torch.channels_last))
        if flip == "add":
            return embeddings + mirrored
        return torch.cat([embeddings, mirrored], dim=1)

    @torch.inference_mode()
    def classify(self, embeddings: NDArray[np.float32]) -> Integers:
        """Predict the class with the highest logit, without margin. Labels are not an input.

        Args:
            embeddings: (N, D) embeddings.

        Returns:
            (N,) classes.

        Raises:
            WorkbenchError: if the loss is not registered, or has no class centres.
        """
        if self.loss is None:
            raise WorkbenchError(
                "the run's loss is not registered; import the file that registers it to predict "
                "classes"
            )
        if not isinstance(self.loss, losses.ClassificationLoss):
            raise WorkbenchError(
                "the run's loss has no class centres to predict classes with; use `nearest_mean`, "
                "which needs none"
            )
        parts = torch.split(torch.from_numpy(embeddings).to(self.device), 1024)
        classes = torch.cat([self.loss.predicted_class(part) for part in parts])
        predicted: Integers = classes.cpu().numpy()
        return predicted

    @torch.inference_mode()
    def estimate(self, embeddings: NDArray[np.float32]) -> dict[str, Estimate]:
        """Estimate the attributes for which the run has a task.

        Args:
            embeddings: (N, D) embeddings, to which those of the mirrored images may be added: their
                length does not matter.

        Returns:
            The estimates by the names of the tasks.
        """
        inputs = torch.from_numpy(embeddings).to(self.device)
        estimates = {}
        for task, head in self.heads.items():
            outputs = head(inputs)
            numbers, classes, probabilities = head.estimate(outputs), None, None
            names: tuple[str, ...] = ()
            if isinstance(head, ClassesHead):
                probabilities = head.probabilities(outputs).cpu().numpy()
                classes = probabilities.argmax(axis=1)
                names = tuple(head.classes)
            estimates[task] = Estimate(
                classes,
                names,
                probabilities,
                None if numbers is None else numbers.double().cpu().numpy(),
            )
        return estimates


class Estimate(NamedTuple):
    """The estimates of one task for N images.

    Attributes:
        classes: (N,) numbers of the most probable classes; None if the task has no classes.
        class_names: names of the C classes; empty if the task has no classes.
        probabilities: (N, C) probabilities of the classes; None if the task has no classes.
        numbers: (N,) estimated numbers, such as ages; None if the task estimates none.
    """

    classes: Integers | None
    class_names: tuple[str, ...]
    probabilities: NDArray[np.float32] | None
    numbers: Floats | None


def embedding_length(model: Model, flip: Flip) -> int:
    """Return the length of the embeddings that `Model.embed` returns."""
    return model.net.embedding_dim * (2 if flip == "concatenate" else 1)


def _read(
    images: Images, order: Sequence[int], size: tuple[int, int], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches; the error for an image that cannot be read says how to leave it out."""
    try:
        yield from batches(images, order, size, batch_size)
    except WorkbenchError as error:
        raise WorkbenchError(f"{error}; {HINT}") from None


def _check_embeddings(
    embeddings: NDArray[np.float32], numbers: Sequence[int], images: Images
) -> None:
    """Check a batch of embeddings; every figure is computed from embeddings that passed this check.

    Raises:
        WorkbenchError: if one is not finite, or has length 0 and so no direction.
    """
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        where = image_name(images, numbers[int(np.argmin(finite))])
        raise WorkbenchError(
            f"{where}: the network's embedding of this image holds NaN or infinity; the network is "
            "damaged, its training diverged (train again with a lower lr), or its input is scaled "
            "differently than in training"
        )
    has_direction = embeddings.any(axis=1)
    if not has_direction.all():
        where = image_name(images, numbers[int(np.argmin(has_direction))])
        raise WorkbenchError(
            f"{where}: the network's embedding of this image is 0 throughout, so it has no "
            "direction and cannot be compared; the training diverged, e.g. with too high an lr"
        )


def load_model(run: runs.Run, device: str = "auto", weights: Weights = "auto") -> Model:
    """Load the model of a run: model.safetensors with the network in config.yaml, or model.onnx.

    Args:
        run: run directory.
        device: "auto", "cpu", "cuda", ...
        weights: "averaged" loads the moving average of the backbone's weights, which a run has if
            it was trained with the setting `ema`; "last" loads the weights of the last step; and
            "auto" loads the average if there is one, else the last weights.

    Returns:
        The model, in evaluation mode.

    Raises:
        WorkbenchError: if no model is saved yet, the file is damaged, weights are not finite or do
            not fit the network, if config.yaml was changed since the training, or if the run has
            no averaged weights.
    """
    averaged = _uses_average(run, weights)
    path = run.model_path
    if not path.is_file():
        raise WorkbenchError(f"{path}: missing; the run ({run.state}) has saved no model yet")
    if path.name == runs.ONNX_MODEL:
        return _from_onnx(run, path, resolve_device(device))
    tensors, metadata = _read_file(path)
    if averaged:  # this file has the weights of the backbone only
        tensors |= _read_file(run.path / runs.AVERAGED_MODEL)[0]
    _check_unchanged(run, metadata)
    net, loss = _create(run, path, tensors, metadata)
    mean, std, channels = _checked_scaling(run)
    _fill(net, "backbone", tensors, run)
    weight = tensors.get("loss.weight")
    if loss is not None:
        if weight is None and isinstance(loss, losses.ClassificationLoss):
            raise _no_centres(path)
        _fill(loss, "loss", tensors, run)
    heads = _heads(run, path, tensors, metadata)
    centres = loss.centres.detach() if isinstance(loss, losses.ClassificationLoss) else weight
    if (
        centres is not None and centres.ndim != 2
    ):  # with sub-centres, of a loss that is not registered
        centres = None
    on_device = resolve_device(device)
    step = metadata.get("step", "")
    return Model(
        net=net.to(on_device).to(memory_format=torch.channels_last).eval(),
        loss=None if loss is None else loss.to(on_device).eval(),
        centres=None if centres is None else centres.float().cpu().numpy(),
        pixel_mean=mean,
        pixel_std=std,
        device=on_device,
        step=int(step) if step.isdigit() else None,
        channels=channels,
        heads={name: head.to(on_device).eval() for name, head in heads.items()},
        averaged=averaged,
    )


def _heads(
    run: runs.Run, path: Path, tensors: dict[str, Tensor], metadata: Mapping[str, str]
) -> dict[str, Head]:
    """Create the heads of the tasks that the metadata describe, with their weights."""
    if runs.TASKS not in metadata:
        return {}
    try:
        heads = from_description(metadata[runs.TASKS])
    except WorkbenchError as error:
        raise WorkbenchError(f"{path}: its metadata {runs.TASKS!r} are {error}") from None
    for name, head in heads.items():
        if head.embedding_dim != run.config.get("embedding_dim"):
            raise WorkbenchError(
                f"{path}: task {name!r} takes embeddings of length {head.embedding_dim}, the "
                f"backbone's have length {run.config.get('embedding_dim')}"
            )
        _fill(head, f"{runs.TASKS}.{name}", tensors, run)
    return heads


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file of weights, which are finite, and its metadata."""
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WorkbenchError(f"{path}: not a safetensors file ({error})") from None
    check_tensors(tensors, str(path), _DIVERGED)
    return tensors, metadata


def _uses_average(run: runs.Run, weights: Weights) -> bool:
    """Returns whether `load_model` loads the moving average of the weights."""
    if weights not in get_args(Weights):
        raise unknown_name("value of weights", weights, get_args(Weights))
    has_average = (run.path / runs.AVERAGED_MODEL).is_file()
    if weights == "averaged" and not has_average:
        raise WorkbenchError(
            f"{run.path}: has no averaged weights, because it was not trained with the setting "
            "ema; use the weights of the last step"
        )
    return has_average and weights != "last"


def _create(
    run: runs.Run, path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[backbones.Backbone, losses.Loss | None]:
    """Create the network and the loss in config.yaml; the loss is None if not registered."""
    config, weight = run.config, tensors.get("loss.weight")
    needed = ("backbone", "loss", "image_size", "pixel_mean", "pixel_std")
    if missing := [key for key in needed if key not in config]:
        raise WorkbenchError(f"{run.path / runs.CONFIG}: lacks {', '.join(missing)}")
    if ("embedding_dim" not in config) if weight is None else (weight.ndim not in (2, 3)):
        raise _no_centres(path)
    # The shape of class centres is (C, D), or (C, K, D) with sub-centres. Without class centres, C
    # is in the file's metadata, if the loss needs it.
    num_classes = int(metadata.get("num_classes", "1")) if weight is None else weight.shape[0]
    embedding_dim = config["embedding_dim"] if weight is None else weight.shape[-1]
    size: Any = config["image_size"]
    try:
        net = backbones.create(
            config["backbone"],
            embedding_dim=embedding_dim,
            image_size=tuple(size) if isinstance(size, list) else size,
            **backbones.without_fetching(config.get("backbone_options", {})),
        )
        if not losses.is_known(config["loss"]):
            return net, None
        loss = losses.create(
            config["loss"],
            embedding_dim=embedding_dim,
            num_classes=num_classes,
            **config.get("loss_options", {}),
        )
    except (TypeError, ValueError) as error:  # WorkbenchError is a ValueError
        raise _wrong_config(run, error) from None
    return net, loss


def _wrong_config(run: runs.Run, error: Exception) -> WorkbenchError:
    """Return the error for a setting in config.yaml that cannot be used."""
    return WorkbenchError(f"{run.path / runs.CONFIG}: {' '.join(str(error).split())}")


def _checked_scaling(run: runs.Run) -> tuple[PerChannel, PerChannel, str]:
    """Return mean, standard deviation and channel order of a run's input."""
    try:
        return _scaling(run.config)
    except (TypeError, ValueError) as error:  # WorkbenchError is a ValueError
        raise _wrong_config(run, error) from None


_DIVERGED = "the training has diverged; train again, e.g. with a lower lr or a longer warm-up"


def _check_unchanged(run: runs.Run, metadata: Mapping[str, str]) -> None:
    """Check that config.yaml is the one with which the weights were trained.

    Files of older versions do not record their settings, and pass.

    Raises:
        WorkbenchError: if a setting differs on which the network's input or shape depends.
    """
    try:
        stored = json.loads(metadata.get(runs.MADE_WITH, "{}"))
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        raise WorkbenchError(
            f"{run.model_path}: its metadata {runs.MADE_WITH!r} is not a JSON object, so the file "
            "is damaged; train again"
        )
    now = runs.made_with(run.config)
    if differing := [key for key, value in now.items() if key in stored and stored[key] != value]:
        key = differing[0]
        rest = f" (and {', '.join(differing[1:])})" if differing[1:] else ""
        raise WorkbenchError(
            f"{run.path / runs.CONFIG}: {key} is {now[key]!r}, but {run.model_path.name} was "
            f"trained with {stored[key]!r}{rest}; restore the old value, or train a new run with "
            "the new one"
        )


def _from_onnx(run: runs.Run, path: Path, device: torch.device) -> Model:
    """Load the model of a run that was imported as an ONNX file."""
    from workbench.evaluation.onnx_network import OnnxNetwork

    try:
        content, size = path.read_bytes(), run.config["image_size"]
        image_size = as_size(tuple(size) if isinstance(size, list) else size)
        mean, std, channels = _scaling(run.config)
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError) as error:  # WorkbenchError is a ValueError
        raise _wrong_config(run, error) from None
    net = OnnxNetwork(content, str(path), image_size, device, run.config.get("output"))
    net.check_scaling(mean, std, str(run.path / runs.CONFIG))
    return Model(net.eval(), None, None, mean, std, device, None, channels)


def _scaling(config: Mapping[str, Any]) -> tuple[PerChannel, PerChannel, str]:
    """Return mean, standard deviation and channel order; runs of older versions are all RGB."""
    channels = config.get("channels", "rgb")
    if channels not in CHANNELS:
        raise unknown_name("order of channels", channels, CHANNELS)
    mean = per_channel(config["pixel_mean"], "pixel_mean")
    return mean, per_channel(config["pixel_std"], "pixel_std", positive=True), channels


def _no_centres(path: Path) -> WorkbenchError:
    return WorkbenchError(f"{path}: has no class centres (tensor 'loss.weight' of shape (C, D))")


def _fill(module: nn.Module, part: str, tensors: dict[str, Tensor], run: runs.Run) -> None:
    """Load the tensors of one part, such as "backbone" or "tasks.gender", into its module."""
    own = {
        key.removeprefix(f"{part}."): value
        for key, value in tensors.items()
        if key.startswith(f"{part}.")
    }
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(
            f"{run.path / runs.MODEL}: does not fit {run.config.get(part, part)!r} ({reason})"
        ) from None
