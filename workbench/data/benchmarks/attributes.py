"""`attributes:SPEC` - estimates the attributes of a data set's images, such as gender and age.

`utkface:PATH` as a benchmark means the same as `attributes:utkface:PATH`, because the images of
UTKFace have attributes but no identities.
"""

from __future__ import annotations

from workbench.data.benchmark import Attributes
from workbench.data.registry import BENCHMARKS, open, parts
from workbench.errors import WorkbenchError

WITHOUT_PEOPLE = ("utkface", "packed", "fashion-mnist")
"""Sources whose identities are not people but another label, such as the gender."""


@BENCHMARKS.register("attributes")
def open_attributes(path: str) -> Attributes:
    """Opens the data sets of a spec as a benchmark of their attributes.

    Args:
        path: the spec, as `open` takes it.

    Returns:
        The benchmark.

    Raises:
        WorkbenchError: if the data sets cannot be opened, or their images have no attributes.
    """
    if not path:
        raise WorkbenchError("attributes: needs a data set after the colon, as attributes:orl")
    dataset = open(path)
    has_people = not any(part.kind in WITHOUT_PEOPLE for part in parts(path))
    benchmark = Attributes(dataset, dataset.note, has_people)
    if not benchmark.columns:
        raise WorkbenchError(
            f"attributes:{path}: the images of {dataset.name} have no attributes; sources with "
            "attributes are e.g. utkface:DIR, celeba:ROOT and synthfaces"
        )
    return benchmark


@BENCHMARKS.register("utkface")
def open_utkface_benchmark(path: str) -> Attributes:
    """Opens UTKFace as a benchmark of gender, age and race.

    Args:
        path: the folder or archive, and options, as the source `utkface` takes them.

    Raises:
        WorkbenchError: as the source.
    """
    return open_attributes(f"utkface:{path}")
