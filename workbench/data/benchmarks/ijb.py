"""`ijb:DIR` - IJB-B or IJB-C as InsightFace gives them out: loose crops with landmarks, templates, and pairs of templates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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
SWITCHES = {"yes": True, "no": False}


@BENCHMARKS.register("ijb")
def open_ijb(path: str) -> Templates:
    """Verification of the listed pairs of templates (1:1), 8 million in IJB-B and 15.7 million in IJB-C.

    DIR/meta/ijbc_face_tid_mid.txt       lines "FILE TEMPLATE MEDIUM"
    DIR/meta/ijbc_name_5pts_score.txt    lines "FILE X1 Y1 ... X5 Y5 SCORE", of the same files in the same order
    DIR/meta/ijbc_template_pair_label.txt    lines "TEMPLATE TEMPLATE LABEL"
    DIR/loose_crop/FILE                  pictures, which are aligned by the landmarks

    `ijb:DIR,norm=no` pools embeddings at length 1, `ijb:DIR,score=no` does not weigh them by the detector's score.
    """
    folder, options = with_options(path, "ijb", ("norm", "score"))
    for name, value in options.items():
        if value not in SWITCHES:
            raise WorkbenchError(f"ijb:{path}: {name}={value[:40]!r}, expected yes or no")
    keep_norm, weigh = (SWITCHES[options.get(name, "yes")] for name in ("norm", "score"))
    root, kind = _find(existing(folder, "ijb", "folder"))
    faces, scores, pairs = (
        root / "meta" / f"{kind}_{part}.txt"
        for part in ("face_tid_mid", "name_5pts_score", "template_pair_label")
    )
    if not (root / "loose_crop").is_dir():
        raise WorkbenchError(f"{root / 'loose_crop'}: no such folder; it must hold the pictures")
    place = Place(root / "loose_crop", loose=True)
    names, templates, media = read_table(faces, ["text", "whole", "whole"])
    listed, *numbers = read_table(scores, ["text", *["number"] * 11])
    _check_names(faces, names, templates, scores, listed, place)
    landmarks, detector_scores = np.column_stack(numbers[:10]).reshape(-1, 5, 2), numbers[10]
    _check_rows(
        scores,
        (detector_scores >= 0) & np.isfinite(detector_scores),
        "the score, in the last column, is no number from 0 on",
    )
    _check_rows(scores, np.isfinite(landmarks).all(axis=(1, 2)), "a landmark is not finite")
    good = usable(landmarks)
    landmarks[~good] = np.nan
    notes = (
        []
        if good.all()
        else [f"{(~good).sum():,} images have landmarks on a line and are not aligned"]
    )
    first, second, labels = read_table(pairs, ["whole", "whole", "whole"])
    again = _check_pairs(pairs, first, second, labels, np.unique(templates))
    notes += [f"{again:,} pairs are listed more than once"] if again else []
    files = _files(place, faces, names)
    parts = [
        NAMES[kind],
        *(
            f"without-{name}"
            for name in ("norm", "score")
            if not SWITCHES[options.get(name, "yes")]
        ),
    ]
    return Templates(
        "-".join(parts),
        Files(root / "loose_crop", files),
        templates,
        media,
        np.column_stack([first, second]),
        labels == 1,
        detector_scores if weigh else None,
        landmarks,
        keep_norm,
        note="; ".join(notes),
    )


def _find(folder: Path) -> tuple[Path, str]:
    """The folder with meta/ and loose_crop/, which may be a folder IJBB or IJBC in it, and whether it is ijbb or ijbc."""
    roots = [folder, *(folder / kind.upper() for kind in NAMES)]
    found = [
        (root, kind)
        for root in roots
        for kind in NAMES
        if (root / "meta" / f"{kind}_face_tid_mid.txt").is_file()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise WorkbenchError(
            f"{folder}: holds both IJB-B and IJB-C; name one of them, each in a folder of its own"
        )
    raise WorkbenchError(
        f"{folder}: neither meta/ijbb_face_tid_mid.txt nor meta/ijbc_face_tid_mid.txt is in it"
    )


# Checks


def _check_names(
    faces: Path,
    names: NDArray[Any],
    templates: NDArray[np.int64],
    scores: Path,
    listed: NDArray[Any],
    place: Place,
) -> None:
    if len(names) != len(listed):
        raise WorkbenchError(
            f"{scores}: {len(listed):,} lines for {len(names):,} in {faces.name}; they must be of the same files"
        )
    if len(different := np.flatnonzero(names != listed)):
        row = int(different[0])
        raise WorkbenchError(
            f"{scores}, line {line_of(scores, row)}: {str(listed[row])[:80]!r}, where {faces.name} has {str(names[row])[:80]!r}; "
            "they must be in the same order"
        )
    seen: dict[tuple[str, int], int] = {}
    for row, (name, template) in enumerate(zip(names.tolist(), templates.tolist(), strict=True)):
        odd = "\\" in name or ":" in name or name.startswith("/") or ".." in name.split("/")
        if odd and place.find(name) is None and place.leads_out(name):
            raise WorkbenchError(
                f"{faces}, line {line_of(faces, row)}: {name[:80]!r} may lead out of the folder loose_crop"
            )
        if seen.setdefault((name, template), row) != row:
            before = line_of(faces, seen[name, template])
            raise WorkbenchError(
                f"{faces}, line {line_of(faces, row)}: {name[:80]!r} is in template {template} already, by line {before}"
            )


def _check_pairs(
    file: Path,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    labels: NDArray[np.int64],
    known: NDArray[np.int64],
) -> int:
    """How many pairs repeat others."""
    _check_rows(
        file,
        (labels == 0) | (labels == 1),
        "the label, in the last column, is neither 1 (same person) nor 0",
    )
    _check_rows(file, first != second, "a template is paired with itself")
    places = []
    for column in (first, second):
        place = np.searchsorted(known, column).clip(max=len(known) - 1)
        unknown = np.flatnonzero(known[place] != column)
        if len(unknown):
            row = int(unknown[0])
            raise WorkbenchError(
                f"{file}, line {line_of(file, row)}: no image is in template {column[row]}"
            )
        places.append(place)
    keys = np.minimum(*places) * len(known) + np.maximum(*places)
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(np.diff(keys[order]) == 0)
    disagree = again[labels[order[again]] != labels[order[again + 1]]]
    if len(disagree):
        row, before = int(order[disagree[0] + 1]), int(order[disagree[0]])
        raise WorkbenchError(
            f"{file}, line {line_of(file, row)}: labelled {labels[row]}, but line {line_of(file, before)} has the same pair "
            f"with {labels[before]}"
        )
    return len(again)


def _check_rows(file: Path, good: NDArray[np.bool_], complaint: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise WorkbenchError(f"{file}, line {line_of(file, row)}: {complaint}")


def _files(place: Place, faces: Path, names: NDArray[Any]) -> list[str]:
    """The picture of each line."""
    there = {
        entry.name for entry in os.scandir(place.root)
    }  # one look at the folder, not one at each of half a million files
    found: dict[str, str] = {}
    missing: dict[str, int] = {}
    for row, name in enumerate(names.tolist()):
        if name in found or name in missing:
            continue
        file = name if name in there else place.find(name)
        if file is None:
            missing[name] = row
        else:
            found[name] = file
    if missing:
        first = next(iter(missing))
        missing[first] = line_of(faces, missing[first])
        raise place.missing(faces, missing, len(names))
    return [found[name] for name in names.tolist()]
