"""Embeds a set of images into an .npz file, which other programs read with `np.load`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from workbench import data, runs
from workbench.arrays import Integers
from workbench.data.dataset import Broken
from workbench.errors import WorkbenchError, unknown_name
from workbench.evaluation.model import Weights, embedding_length, load_model
from workbench.evaluation.protocol import FLIPS, Flip
from workbench.files import atomic_path, check_writable

Arrays = dict[str, NDArray[Any]]
Source = data.Dataset | data.Benchmark | data.Labelled | data.Identification | data.Templates
_Whole = data.Dataset | data.Benchmark | data.Identification | data.Templates
PARTS = ("pairs", "same", "folds", "gallery", "probes", "distractors", "templates", "media")
"""Arrays of a benchmark that are stored with the embeddings, so that it can be scored elsewhere."""


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a set of images by one run.

    Attributes:
        embeddings: (N, D) float32, not normalised; (N, 2 D) if the embedding of the mirror image is
            concatenated.
        identities: (N,) identity of each image; -1 where unknown.
        identity_names: names of the identities, if known.
        files: N file names; None if the source has none.
        parts: arrays of a benchmark, such as pairs (P, 2), same (P,) and folds (P,), which refer to
            rows of `embeddings`.
        made: how the embeddings were made: run, step, source, flip, image scaling.
    """

    embeddings: NDArray[np.float32]
    identities: Integers
    identity_names: tuple[str, ...] = ()
    files: tuple[str, ...] | None = None
    parts: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """Write the embeddings to an .npz file.

        It holds embeddings, identities, identity_names, files (if known), the parts of a benchmark,
        and `made` as JSON text.

        Args:
            path: file to write; its name must end in .npz.

        Returns:
            The path of the file.

        Raises:
            WorkbenchError: if the name does not end in .npz, or the file cannot be written.

        Example:
            >>> import numpy as np
            >>> import tempfile
            >>> embeddings = Embeddings(np.ones((2, 3), np.float32), np.array([0, 1]))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     load_embeddings(embeddings.save(f"{folder}/two.npz")).embeddings.shape
            (2, 3)
        """
        out = check_out(path)
        arrays: dict[str, NDArray[Any]] = {
            "embeddings": self.embeddings,
            "identities": self.identities,
            **self.parts,
        }
        arrays |= {
            "identity_names": np.array(self.identity_names, dtype=str),
            "made": np.array(json.dumps(dict(self.made))),
        }
        if self.files is not None:
            arrays["files"] = np.array(self.files, dtype=str)
        with atomic_path(out) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        return out


def embed(
    run: str | Path | runs.Run,
    source: str | Source,
    *,
    flip: Flip = "add",
    weights: Weights = "auto",
    device: str = "auto",
    batch_size: int = 128,
    broken: Broken = "stop",
    out: str | Path | None = None,
    progress: bool = True,
) -> Embeddings:
    """Embed all images of a training source or benchmark.

    Args:
        run: run directory.
        source: spec of a training source or benchmark (the training source, if the spec names
            both), or an opened one.
        flip: the embedding of the mirror image is added ("add"), concatenated ("concatenate") or
            not used ("none").
        weights: "auto" uses the moving average of the weights if the run has one, "averaged"
            demands it, and "last" uses the weights of the last step.
        device: "auto", "cpu", "cuda", ...
        batch_size: images per batch.
        broken: "stop" raises an error at the first image that cannot be read; "skip" reads all
            images first and leaves out those that cannot be read, together with the parts of a
            benchmark that need them. `made` names the images that are left out.
        out: file to write, as by `Embeddings.save`; whether it can be written is checked first.
        progress: whether a progress bar is shown.

    Returns:
        The embeddings.

    Raises:
        WorkbenchError: if there is no such run or source, if no model is saved yet, if images
            cannot be read (with "skip": half of them or more), if embeddings are not finite, or if
            `out` cannot be written.
    """
    if out is not None:
        check_out(out)
    if broken not in get_args(Broken):
        raise unknown_name("value of broken", broken, get_args(Broken))
    if flip not in FLIPS:
        raise WorkbenchError(f"flip must be one of {', '.join(FLIPS)}, got {flip!r}")
    opened, whole = runs.open(run), _opened(source)
    model = load_model(opened, device, weights)
    every = np.arange(len(whole.images))
    if out is not None:
        check_writable(Path(out).parent, len(every) * 4 * embedding_length(model, flip))
    unreadable: dict[int, tuple[str, str]] = {}
    if broken == "skip":
        title = f"{whole.name}: reading" if progress else ""
        unreadable = data.find_unreadable(whole.images, every, title)
    numbers = np.setdiff1d(every, list(unreadable))
    kept = whole if isinstance(whole, data.Dataset) else data.without(whole, unreadable)
    images = kept.faces if isinstance(kept, data.Templates) else kept.images
    title = f"{opened.name}: embeddings of {whole.name}" if progress else ""
    made: dict[str, Any] = {
        "run": opened.name,
        "step": model.step,
        "source": source if isinstance(source, str) else whole.name,
        "fingerprint": whole.fingerprint(),
        "flip": FLIPS[flip],
        "weights": "moving average" if model.averaged else "last step",
        "image scaling": model.scaling,
        "normalised": False,
    }
    if unreadable:
        made["left out"] = [
            {"number": number, "image": where, "reason": reason}
            for number, (where, reason) in unreadable.items()
        ]
    embeddings = Embeddings(
        model.embed(images, numbers.tolist(), flip, batch_size, title),
        _identities(kept, numbers),
        tuple(getattr(kept, "identity_names", ())),
        _files(kept, numbers),
        _parts(kept, numbers),
        made,
    )
    if out is not None:
        embeddings.save(out)
    return embeddings


def _opened(source: str | Source) -> _Whole:
    """Open a source by its spec; a closed set stands for its data set."""
    if isinstance(source, str):
        source = data.open(source) if data.is_source(source) else data.benchmark(source)
    return source.dataset if isinstance(source, data.Labelled) else source


def _identities(source: _Whole, numbers: Integers) -> Integers:
    """Return the identities of the embedded images; -1 where the source does not know them."""
    identities = source.identities
    if identities is None:
        return np.full(len(numbers), -1, dtype=np.int64)
    return identities[numbers]


def _files(source: _Whole, numbers: Integers) -> tuple[str, ...] | None:
    """Return the file names of the embedded images; None if the source has none."""
    files = source.attributes.get("file")
    return None if files is None else tuple(str(files[number]) for number in numbers)


def _parts(source: _Whole, numbers: Integers) -> Arrays:
    """Return the arrays of a benchmark, with rows of embeddings in place of numbers of images."""
    row = np.full(len(source.images), -1, dtype=np.int64)
    row[numbers] = np.arange(len(numbers))
    parts = {part: getattr(source, part) for part in PARTS if hasattr(source, part)}
    per_image: tuple[str, ...] = ()
    image_numbers: tuple[str, ...] = ("gallery", "probes", "distractors")
    if isinstance(source, data.Templates):
        per_image = ("templates", "media")
    elif isinstance(source, data.Benchmark):
        image_numbers = ("pairs",)
    for part, values in parts.items():
        if part in per_image:
            parts[part] = values[numbers]
        elif part in image_numbers:
            parts[part] = row[values]
    return parts


def load_embeddings(path: str | Path) -> Embeddings:
    """Read a file that `Embeddings.save` wrote.

    Args:
        path: the .npz file.

    Returns:
        The embeddings.

    Raises:
        WorkbenchError: if the file is missing, damaged or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        return Embeddings(
            arrays["embeddings"],
            arrays["identities"],
            tuple(arrays["identity_names"].tolist()),
            tuple(arrays["files"].tolist()) if "files" in arrays else None,
            {part: arrays[part] for part in PARTS if part in arrays},
            json.loads(str(arrays["made"])),
        )
    # A damaged archive raises OSError, ValueError, BadZipFile, zlib.error, struct.error, ...
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(
            f"{path}: holds no embeddings ({reason}); expected an .npz of `workbench embed`"
        ) from None


def check_out(path: str | Path) -> Path:
    """Check that a file of embeddings can be written, before they are computed.

    Args:
        path: file to write.

    Returns:
        The path.

    Raises:
        WorkbenchError: if it does not end in .npz, or its folder does not exist.
    """
    out = Path(path)
    if out.suffix != ".npz":
        raise WorkbenchError(
            f"{out}: embeddings are written as .npz; choose a name such as "
            f"{out.with_suffix('.npz').name}"
        )
    if not out.parent.is_dir():
        raise WorkbenchError(f"{out.parent}: no such folder to write {out.name} into")
    return out
