"""The embeddings of a set of images in a file, for other programs: `np.load` reads it, and nothing in it can run."""

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
from workbench.evaluation.model import embedding_length, load_model
from workbench.evaluation.protocol import FLIPS, Flip
from workbench.files import atomic_path, check_writable

Arrays = dict[str, NDArray[Any]]
Source = data.Dataset | data.Benchmark | data.ClosedSet | data.Identification | data.Templates
PARTS = ("pairs", "same", "folds", "gallery", "probes", "distractors", "templates", "media")
"""What is taken over of a benchmark, to score it elsewhere."""


@dataclass(frozen=True)
class Embeddings:
    """What a run makes of a set of images.

    Attributes:
        embeddings: (N, D) float32, not normalised; 2 D numbers where the mirror image's are put behind.
        identities: (N,) int64 who is on each image; -1 where it is not known.
        identity_names: their names, where known.
        files: N names of files, or None where the source does not tell.
        parts: arrays of a benchmark, such as pairs (P, 2), same (P,) and folds (P,); of bin:FILE pair i is images 2 i and 2 i + 1.
        made: how: run, step, source, flip, image scaling.
    """

    embeddings: NDArray[np.float32]
    identities: Integers
    identity_names: tuple[str, ...] = ()
    files: tuple[str, ...] | None = None
    parts: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """Write an .npz: embeddings, identities, identity_names, files and parts where known, and `made` as JSON text.

        Raises:
            WorkbenchError: the name does not end in .npz, or the file cannot be written.
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
    device: str = "auto",
    batch_size: int = 128,
    broken: Broken = "stop",
    out: str | Path | None = None,
    progress: bool = True,
) -> Embeddings:
    """Embed all images of a training source or benchmark.

    Args:
        run: run directory.
        source: a spec of either (where it is both, the training source), or an opened one.
        flip: what is done with the mirror image: its embedding added ("add"), put behind ("concatenate"), or nothing ("none").
        device: auto, cpu, cuda, ...
        batch_size: images at once.
        broken: at an image that cannot be read "stop", or "skip": all are read once before they are embedded, and the others
            embedded, with the parts of a benchmark that need no other. `made` names what is left out.
        out: file to write, as `Embeddings.save` does; that it can be written is looked at before anything is embedded.
        progress: show a bar.

    Raises:
        WorkbenchError: no such run or source, no model saved yet, broken images (or, with "skip", half of them or more),
            embeddings that are not finite, or `out` cannot be written.
    """
    if out is not None:
        check_out(out)
    if broken not in get_args(Broken):
        raise unknown_name("way with broken images", broken, get_args(Broken))
    if flip not in FLIPS:
        raise WorkbenchError(f"flip must be one of {', '.join(FLIPS)}, got {flip!r}")
    opened = runs.open(run)
    given = (
        (data.open(source) if data.is_source(source) else data.benchmark(source))
        if isinstance(source, str)
        else source
    )
    target = given.dataset if isinstance(given, data.ClosedSet) else given
    model = load_model(opened, device)
    every = np.arange(len(target.images))
    if out is not None:
        check_writable(Path(out).parent, len(every) * 4 * embedding_length(model, flip))
    unreadable = (
        data.find_unreadable(target.images, every, f"{target.name}: reading" * progress)
        if broken == "skip"
        else {}
    )
    numbers = np.setdiff1d(every, list(unreadable))
    kept = target if isinstance(target, data.Dataset) else data.without(target, unreadable)
    images = kept.faces if isinstance(kept, data.Templates) else kept.images
    title = f"{opened.name}: embeddings of {target.name}" if progress else ""
    found = model.embed(images, numbers.tolist(), flip, batch_size, title)
    identities, files = getattr(kept, "identities", None), kept.attributes.get("file")
    made: dict[str, Any] = {
        "run": opened.name,
        "step": model.step,
        "source": source if isinstance(source, str) else target.name,
        "fingerprint": target.fingerprint(),
        "flip": FLIPS[flip],
        "image scaling": model.scaling,
        "normalised": False,
    }
    if unreadable:
        made["left out"] = [
            {"number": number, "image": where, "reason": why}
            for number, (where, why) in unreadable.items()
        ]
    embeddings = Embeddings(
        found,
        np.full(len(found), -1, dtype=np.int64) if identities is None else identities[numbers],
        tuple(getattr(kept, "identity_names", ())),
        None if files is None else tuple(str(files[number]) for number in numbers),
        _parts(kept, numbers),
        made,
    )
    if out is not None:
        embeddings.save(out)
    return embeddings


def _parts(
    target: data.Dataset | data.Benchmark | data.Identification | data.Templates,
    numbers: Integers,
) -> Arrays:
    """What a benchmark is made of, in numbers of rows: those of the images `numbers`, which alone are embedded."""
    row = np.full(len(target.images), -1, dtype=np.int64)
    row[numbers] = np.arange(len(numbers))
    parts = {part: getattr(target, part) for part in PARTS if hasattr(target, part)}
    of_rows = ("templates", "media") if isinstance(target, data.Templates) else ()
    of_numbers = (
        ("pairs",) if isinstance(target, data.Benchmark) else ("gallery", "probes", "distractors")
    )
    parts |= {part: values[numbers] for part, values in parts.items() if part in of_rows}
    return parts | {part: row[values] for part, values in parts.items() if part in of_numbers}


def load_embeddings(path: str | Path) -> Embeddings:
    """Read what `Embeddings.save` wrote.

    Raises:
        WorkbenchError: missing, damaged, or no such file.
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
    except Exception as error:  # a broken archive raises OSError, ValueError, BadZipFile, zlib.error, struct.error, ...
        reason = " ".join(str(error).split())[:160]
        raise WorkbenchError(
            f"{path}: holds no embeddings ({reason}); expected an .npz of `workbench embed`"
        ) from None


def check_out(path: str | Path) -> Path:
    """A path that embeddings can be written to, before they are computed.

    Raises:
        WorkbenchError: it does not end in .npz, or its folder is not there.
    """
    out = Path(path)
    if out.suffix != ".npz":
        raise WorkbenchError(
            f"{out}: embeddings are written as .npz; give a name such as {out.with_suffix('.npz').name}"
        )
    if not out.parent.is_dir():
        raise WorkbenchError(f"{out.parent}: no such folder to write {out.name} into")
    return out
