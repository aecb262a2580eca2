"""A trained model as a run directory holds it, ready to embed images. Knows nothing of the trainer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench import backbones, losses, runs
from workbench.arrays import Integers
from workbench.backbones.base import as_size
from workbench.data import Images
from workbench.data.batches import CHANNELS, batches, to_network
from workbench.data.dataset import HINT, image_name
from workbench.devices import resolve_device
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.protocol import Flip
from workbench.finite import check_tensors
from workbench.scaling import PerChannel, formula, per_channel


@dataclass(frozen=True)
class Model:
    """Backbone and class centres of a run, in evaluation mode.

    Attributes:
        net: the backbone.
        loss: the loss with its class centres; None where it is not registered here, as one that a notebook defined, and where
            the model was imported.
        centres: (C, D) learned class centres; None where the loss has none, as the triplet loss.
        pixel_mean, pixel_std: how the run scaled its input; one number, or one for each channel in the order of `channels`.
        step: training steps that it has seen.
        channels: order of the colours in its input, "rgb" or "bgr".
    """

    net: backbones.Backbone
    loss: losses.Loss | None
    centres: NDArray[np.float32] | None
    pixel_mean: PerChannel
    pixel_std: PerChannel
    device: torch.device
    step: int | None = None
    channels: str = "rgb"

    @property
    def scaling(self) -> str:
        """What is done with an image before the network sees it, to be printed beside figures."""
        height, width = self.net.image_size
        return f"{formula(self.pixel_mean, self.pixel_std)}, {self.channels.upper()}, {height} x {width}"

    @torch.inference_mode()
    def embed(
        self,
        images: Images,
        order: Sequence[int] | None = None,
        flip: Flip = "add",
        batch_size: int = 128,
        progress: str = "",
    ) -> NDArray[np.float32]:
        """Embed images, in float32 whatever the run was trained in.

        Args:
            images: reader; pictures of another size are fitted.
            order: numbers of the images wanted; all by default.
            flip: "add" sums the embeddings of the image and its mirror image, as arcface_torch does, "concatenate" puts the
                latter behind the former, as SphereFace does; "none" leaves it out.
            progress: title of a progress bar; none if empty.

        Returns:
            (N, D), or (N, 2 D) if concatenated; finite, not normalised, none of length 0.

        Raises:
            WorkbenchError: an image cannot be read, or its embedding is not finite or of length 0; the message names the image.
        """
        numbers = range(len(images)) if order is None else order
        found = np.empty((len(numbers), embedding_length(self, flip)), dtype=np.float32)
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
                embeddings = self.net(pixels)
                if flip != "none":
                    mirrored = self.net(
                        pixels.flip(-1).contiguous(memory_format=torch.channels_last)
                    )
                    embeddings = (
                        embeddings + mirrored
                        if flip == "add"
                        else torch.cat([embeddings, mirrored], dim=1)
                    )
                part = found[done : done + len(batch)] = embeddings.float().cpu().numpy()
                _check_embeddings(part, of_batch.tolist(), images)
                done += len(batch)
                bar.update(len(batch))
        return found

    @torch.inference_mode()
    def classify(self, embeddings: NDArray[np.float32]) -> Integers:
        """(N, D) -> (N,) class of the highest logit, without margin. Labels are never an input.

        Raises:
            WorkbenchError: the loss is not registered here, or has no class centres.
        """
        if self.loss is None:
            raise WorkbenchError(
                "the run's loss is not known here; import what registers it to predict classes"
            )
        if not isinstance(self.loss, losses.ClassificationLoss):
            raise WorkbenchError(
                "the run's loss has no class centres to predict classes with; `nearest_mean` does without"
            )
        parts = torch.split(torch.from_numpy(embeddings).to(self.device), 1024)
        classes = torch.cat([self.loss.predicted_class(part) for part in parts])
        found: Integers = classes.cpu().numpy()
        return found


def embedding_length(model: Model, flip: Flip) -> int:
    """Numbers in an embedding that `Model.embed` makes."""
    return model.net.embedding_dim * (2 if flip == "concatenate" else 1)


def _read(
    images: Images, order: Sequence[int], size: tuple[int, int], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an order; the error of an image that cannot be read says how to go on."""
    try:
        yield from batches(images, order, size, batch_size)
    except WorkbenchError as error:
        raise WorkbenchError(f"{error}; {HINT}") from None


def _check_embeddings(
    embeddings: NDArray[np.float32], numbers: Sequence[int], images: Images
) -> None:
    """Every figure is computed of embeddings that went through here, so this is the one place to find out what is none.

    Raises:
        WorkbenchError: one is not finite, or has no direction as its length is 0.
    """
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        where = image_name(images, numbers[int(np.argmin(finite))])
        raise WorkbenchError(
            f"{where}: the network's embedding of this image holds NaN or infinity, so nothing can be said of it; the network is "
            "damaged, its training went wrong (train again with a lower lr), or its input is scaled in another way than in training"
        )
    directed = embeddings.any(axis=1)
    if not directed.all():
        where = image_name(images, numbers[int(np.argmin(directed))])
        raise WorkbenchError(
            f"{where}: the network's embedding of this image is 0 throughout, so that it has no direction and cannot be compared; "
            "the training went wrong, e.g. by a too high lr"
        )


def load_model(run: runs.Run, device: str = "auto") -> Model:
    """Load a run's model.safetensors into the network that its config.yaml names, or its model.onnx.

    Raises:
        WorkbenchError: no weights yet, a damaged file, weights or buffers that are not finite, weights that do not fit the
            network, or a config.yaml that was changed since they were trained.
    """
    path = run.model_path
    if not path.is_file():
        raise WorkbenchError(f"{path}: missing; the run ({run.state}) has saved no model yet")
    if path.name == runs.ONNX_MODEL:
        return _from_onnx(run, path, resolve_device(device))
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WorkbenchError(f"{path}: not a safetensors file ({error})") from None
    check_tensors(tensors, str(path), _DIVERGED)
    config = run.config
    _check_unchanged(run, metadata)
    missing = [
        key
        for key in ("backbone", "loss", "image_size", "pixel_mean", "pixel_std")
        if key not in config
    ]
    weight = tensors.get("loss.weight")
    if missing:
        raise WorkbenchError(f"{run.path / runs.CONFIG}: lacks {', '.join(missing)}")
    if ("embedding_dim" not in config) if weight is None else (weight.ndim not in (2, 3)):
        raise _no_centres(path)
    # Without class centres the file's metadata say C, where it matters. Between C and D there may be sub-centres.
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
        loss = None
        if losses.is_known(config["loss"]):
            options = config.get("loss_options", {})
            loss = losses.create(
                config["loss"], embedding_dim=embedding_dim, num_classes=num_classes, **options
            )
        mean, std, channels = _scaling(config)
    except (TypeError, ValueError) as error:  # WorkbenchError is a ValueError
        raise WorkbenchError(f"{run.path / runs.CONFIG}: {' '.join(str(error).split())}") from None
    _fill(net, "backbone", tensors, run)
    if loss is not None:
        if weight is None and isinstance(loss, losses.ClassificationLoss):
            raise _no_centres(path)
        _fill(loss, "loss", tensors, run)
    centres = loss.centres.detach() if isinstance(loss, losses.ClassificationLoss) else weight
    where = resolve_device(device)
    return Model(
        net.to(where).to(memory_format=torch.channels_last).eval(),
        None if loss is None else loss.to(where).eval(),
        None if centres is None or centres.ndim != 2 else centres.float().cpu().numpy(),
        mean,
        std,
        where,
        int(step) if (step := metadata.get("step", "")).isdigit() else None,
        channels,
    )


_DIVERGED = "the training has diverged; train again, e.g. with a lower lr or a longer warm-up"


def _check_unchanged(run: runs.Run, metadata: Mapping[str, str]) -> None:
    """Compare config.yaml with what the weights say they were trained with; files of older versions say nothing.

    Raises:
        WorkbenchError: a setting differs that the network's input or shape depends on.
    """
    try:
        stored = json.loads(metadata.get(runs.MADE_WITH, "{}"))
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        raise WorkbenchError(
            f"{run.model_path}: its metadata {runs.MADE_WITH!r} is damaged, no JSON object; train again"
        )
    now = runs.made_with(run.config)
    if differing := [key for key, value in now.items() if key in stored and stored[key] != value]:
        key = differing[0]
        rest = f" (and {', '.join(differing[1:])})" if differing[1:] else ""
        raise WorkbenchError(
            f"{run.path / runs.CONFIG}: {key} is {now[key]!r}, but {run.model_path.name} was trained with "
            f"{stored[key]!r}{rest}; put the old value back, or train a new run with the new one"
        )


def _from_onnx(run: runs.Run, path: Path, device: torch.device) -> Model:
    from workbench.evaluation.onnx_network import OnnxNetwork

    try:
        content, size = path.read_bytes(), run.config["image_size"]
        image_size = as_size(tuple(size) if isinstance(size, list) else size)
        mean, std, channels = _scaling(run.config)
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError) as error:  # WorkbenchError is a ValueError
        raise WorkbenchError(f"{run.path / runs.CONFIG}: {' '.join(str(error).split())}") from None
    net = OnnxNetwork(content, str(path), image_size, device, run.config.get("output"))
    net.check_scaling(mean, std, str(run.path / runs.CONFIG))
    return Model(net.eval(), None, None, mean, std, device, None, channels)


def _scaling(config: Mapping[str, Any]) -> tuple[PerChannel, PerChannel, str]:
    """Mean, standard deviation and order of the channels of a run's input; runs from before there were others are RGB."""
    channels = config.get("channels", "rgb")
    if channels not in CHANNELS:
        raise unknown_name("order of channels", channels, CHANNELS)
    mean = per_channel(config["pixel_mean"], "pixel_mean")
    return mean, per_channel(config["pixel_std"], "pixel_std", positive=True), channels


def _no_centres(path: Path) -> WorkbenchError:
    return WorkbenchError(f"{path}: has no class centres (tensor 'loss.weight' of shape (C, D))")


def _fill(module: nn.Module, part: str, tensors: dict[str, Tensor], run: runs.Run) -> None:
    """Load the tensors of this part ("backbone" or "loss") into the module."""
    own = {
        key.removeprefix(f"{part}."): value
        for key, value in tensors.items()
        if key.startswith(f"{part}.")
    }
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        what = " ".join(str(error).split())[:160]
        raise WorkbenchError(
            f"{run.path / runs.MODEL}: does not fit {run.config[part]!r} ({what})"
        ) from None
