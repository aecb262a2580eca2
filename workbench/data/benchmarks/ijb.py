"""`ijb:DIR` - IJB-B or IJB-C as InsightFace distributes them: loose crops, landmarks and templates.

Whitelam et al., "IARPA Janus Benchmark-B face dataset", CVPR Workshops 2017; Maze et al., "IARPA
Janus Benchmark-C: face dataset and protocol", ICB 2018.

    DIR/meta/ijbc_face_tid_mid.txt           lines "FILE TEMPLATE MEDIUM"
    DIR/meta/ijbc_name_5pts_score.txt        lines "FILE X1 Y1 ... X5 Y5 SCORE", for the same files
                                             in the same order
    DIR/meta/ijbc_template_pair_label.txt    lines "TEMPLATE TEMPLATE LABEL"
    DIR/loose_crop/FILE                      images, which are aligned by the landmarks

The files of IJB-B are called ijbb_....
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workbench.data.io.list_files import Place
from workbench.data.io.paths import with_options
from workbench.data.io.readers import Files
from workbench.data.io.tables import line_of, read_table
from workbench.data.registry import BENCHMARKS, existing
from workbench.data.templates import Templates, usable
from workbench.errors import WorkbenchError

NAMES = {"ijbb": "ijb-b", "ijbc": "ijb-c"}
OPTIONS = ("norm", "score")
SWITCHES = {"yes": True, "no": False}


@BENCHMARKS.register("ijb")
def open_ijb(path: str) -> Templates:
    """Open IJB-B or IJB-C, for the verification of the listed pairs of templates (1:1).

    IJB-B lists 8 million pairs, and IJB-C 15.7 million.

    Args:
        path: The folder with `meta` and `loose_crop`, or the folder that contains it under the name
            `IJBB` or `IJBC`. The option `,norm=no` normalises embeddings before they are averaged
            over a template. The option `,score=no` does not weight them by the detector's score.

    Returns:
        The benchmark, named "ijb-b" or "ijb-c" and by the options that are "no".

    Raises:
        WorkbenchError: If a file or an image is missing, a line does not have the format, the files
            contradict each other, or an option is neither "yes" nor "no".

    Example:
        >>> from workbench import data
        >>> templates = data.benchmark("ijb:IJB_release/IJBC,score=no")  # doctest: +SKIP
        >>> templates.name  # doctest: +SKIP
        'ijb-c-without-score'
    """
    folder, options = with_options(path, "ijb", OPTIONS)
    for name, value in options.items():
        if value not in SWITCHES:
            raise WorkbenchError(f"ijb:{path}: {name}={value[:40]!r}, expected yes or no")
    enabled = {name: SWITCHES[options.get(name, "yes")] for name in OPTIONS}
    root, kind = _find(existing(folder, "ijb", "folder"))
    crops = root / "loose_crop"
    if not crops.is_dir():
        raise WorkbenchError(f"{crops}: no such folder; it must contain the images")
    place = Place(crops, loose=True)
    faces_file = root / "meta" / f"{kind}_face_tid_mid.txt"
    scores_file = root / "meta" / f"{kind}_name_5pts_score.txt"
    pairs_file = root / "meta" / f"{kind}_template_pair_label.txt"
    listed = _read_images(faces_file, scores_file, place)
    notes = []
    on_a_line = int(np.isnan(listed.landmarks).any(axis=(1, 2)).sum())
    if on_a_line:
        notes.append(f"{on_a_line:,} images have landmarks on a line and are not aligned")
    first, second, labels = read_table(pairs_file, ["whole", "whole", "whole"])
    repeated = _check_pairs(pairs_file, first, second, labels, np.unique(listed.templates))
    if repeated:
        notes.append(f"{repeated:,} pairs are listed more than once")
    disabled = [f"without-{name}" for name in OPTIONS if not enabled[name]]
    return Templates(
        "-".join([NAMES[kind], *disabled]),
        Files(crops, _files(place, faces_file, listed.names)),
        listed.templates,
        listed.media,
        np.column_stack([first, second]),
        labels == 1,
        listed.detector_scores if enabled["score"] else None,
        listed.landmarks,
        enabled["norm"],
        note="; ".join(notes),
    )


def _find(folder: Path) -> tuple[Path, str]:
    """Find the folder with meta/ and loose_crop/, and whether it holds "ijbb" or "ijbc".

    It is the folder itself, or a folder IJBB or IJBC in it.
    """
    roots = [folder, *(folder / kind.upper() for kind in NAMES)]
    candidates = [
        (root, kind)
        for root in roots
        for kind in NAMES
        if (root / "meta" / f"{kind}_face_tid_mid.txt").is_file()
    ]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise WorkbenchError(
            f"{folder}: contains both IJB-B and IJB-C; give the folder of one of them"
        )
    raise WorkbenchError(
        f"{folder}: contains neither meta/ijbb_face_tid_mid.txt nor meta/ijbc_face_tid_mid.txt"
    )


class _ListedImages(NamedTuple):
    """What the files in meta/ state about M images; each array has a row for each image.

    Landmarks are NaN where they lie on a line, because an image cannot be aligned by those.
    """

    names: NDArray[Any]
    templates: NDArray[np.int64]
    media: NDArray[np.int64]
    landmarks: NDArray[np.float64]
    detector_scores: NDArray[np.float64]


def _read_images(faces_file: Path, scores_file: Path, place: Place) -> _ListedImages:
    """Read ijbc_face_tid_mid.txt and ijbc_name_5pts_score.txt, and check them."""
    names, templates, media = read_table(faces_file, ["text", "whole", "whole"])
    scored_names, *numbers = read_table(scores_file, ["text", *["number"] * 11])
    _check_names(faces_file, names, templates, scores_file, scored_names, place)
    landmarks = np.column_stack(numbers[:10]).reshape(-1, 5, 2)
    detector_scores = numbers[10]
    _check_rows(
        scores_file,
        (detector_scores >= 0) & np.isfinite(detector_scores),
        "the score, in the last column, must be a finite number of at least 0",
    )
    _check_rows(scores_file, np.isfinite(landmarks).all(axis=(1, 2)), "a landmark is not finite")
    landmarks[~usable(landmarks)] = np.nan
    return _ListedImages(names, templates, media, landmarks, detector_scores)


# Checks


def _check_names(
    faces_file: Path,
    names: NDArray[Any],
    templates: NDArray[np.int64],
    scores_file: Path,
    scored_names: NDArray[Any],
    place: Place,
) -> None:
    """Check that both files have the same names, and that no image is twice in one template."""
    if len(names) != len(scored_names):
        raise WorkbenchError(
            f"{scores_file}: {len(scored_names):,} lines for {len(names):,} in {faces_file.name}; "
            "both must list the same images"
        )
    different = np.flatnonzero(names != scored_names)
    if len(different):
        row = int(different[0])
        raise WorkbenchError(
            f"{scores_file}, line {line_of(scores_file, row)}: {str(scored_names[row])[:80]!r}, "
            f"where {faces_file.name} has {str(names[row])[:80]!r}; both must list the images in "
            "the same order"
        )
    first_row: dict[tuple[str, int], int] = {}
    for row, (name, template) in enumerate(zip(names.tolist(), templates.tolist(), strict=True)):
        unusual = "\\" in name or ":" in name or name.startswith("/") or ".." in name.split("/")
        if unusual and place.find(name) is None and place.leads_out(name):
            raise WorkbenchError(
                f"{faces_file}, line {line_of(faces_file, row)}: {name[:80]!r} may lead out of the "
                "folder loose_crop"
            )
        first = first_row.setdefault((name, template), row)
        if first != row:
            raise WorkbenchError(
                f"{faces_file}, line {line_of(faces_file, row)}: {name[:80]!r} is in template "
                f"{template} already, by line {line_of(faces_file, first)}"
            )


def _check_pairs(
    file: Path,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    labels: NDArray[np.int64],
    templates: NDArray[np.int64],
) -> int:
    """Check the pairs of templates.

    Args:
        file: The list, for error messages.
        first: (P,) number of the first template of each pair.
        second: (P,) number of the second template of each pair.
        labels: (P,) label of each pair.
        templates: The numbers of all templates that have images, ascending.

    Returns:
        The number of pairs that repeat an earlier one.
    """
    _check_rows(
        file,
        (labels == 0) | (labels == 1),
        "the label, in the last column, must be 1 (same person) or 0",
    )
    _check_rows(file, first != second, "a template is paired with itself")
    positions = []
    for column in (first, second):
        position = np.searchsorted(templates, column).clip(max=len(templates) - 1)
        unknown = np.flatnonzero(templates[position] != column)
        if len(unknown):
            row = int(unknown[0])
            raise WorkbenchError(
                f"{file}, line {line_of(file, row)}: no image is in template {column[row]}"
            )
        positions.append(position)
    # A number for each unordered pair, so that equal pairs are neighbours when they are sorted.
    keys = np.minimum(*positions) * len(templates) + np.maximum(*positions)
    order = np.argsort(keys, kind="stable")
    repeats = np.flatnonzero(np.diff(keys[order]) == 0)
    contradictions = repeats[labels[order[repeats]] != labels[order[repeats + 1]]]
    if len(contradictions):
        earlier, row = (int(order[contradictions[0] + offset]) for offset in (0, 1))
        raise WorkbenchError(
            f"{file}, line {line_of(file, row)}: labelled {labels[row]}, but line "
            f"{line_of(file, earlier)} has the same pair with {labels[earlier]}"
        )
    return len(repeats)


def _check_rows(file: Path, good: NDArray[np.bool_], complaint: str) -> None:
    """Raise an error for the first row of a table that is not good."""
    if not good.all():
        row = int(np.argmin(good))
        raise WorkbenchError(f"{file}, line {line_of(file, row)}: {complaint}")


def _files(place: Place, faces_file: Path, names: NDArray[Any]) -> list[str]:
    """Find the image file of each name."""
    # The folder is listed once, which is faster than half a million calls to the file system.
    existing_names = {entry.name for entry in os.scandir(place.root)}
    file_of: dict[str, str] = {}
    missing: dict[str, int] = {}
    for row, name in enumerate(names.tolist()):
        if name in file_of or name in missing:
            continue
        file = name if name in existing_names else place.find(name)
        if file is None:
            missing[name] = row
        else:
            file_of[name] = file
    if missing:
        first = next(iter(missing))
        missing[first] = line_of(faces_file, missing[first])
        raise place.missing(faces_file, missing, len(names))
    return [file_of[name] for name in names.tolist()]
