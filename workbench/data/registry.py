"""The registries of sources and benchmarks, and the specs `KIND:PATH` that name their entries."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from workbench.data.benchmark import Benchmark, Identification, Labelled, draw_pairs
from workbench.data.dataset import Dataset
from workbench.data.joining import apply, join, parse_options
from workbench.data.templates import Templates
from workbench.errors import WorkbenchError, unknown_name
from workbench.registry import Registry

SOURCES: Registry[Dataset] = Registry("data source")
BENCHMARKS: Registry[Benchmark | Labelled | Identification | Templates] = Registry("benchmark")


def open(spec: str) -> Dataset:
    """Opens a training set by its spec.

    The sources are:

    - `folder:DIR`, one folder per identity; `folder:DIR,list=FILE`, the images of a list
    - `recordio:DIR`, `tfrecord:FILE`, `packed:PREFIX`, `webdataset:PATTERN` and `pack:DIR`, packed
      formats
    - `utkface:DIR`, `celeba:ROOT`, `lfw-people:ROOT`, `orl` and `fashion-mnist`, published sets
    - `synthfaces` (200 synthetic people x 40 images, rendered when first opened),
      `synthfaces-mini` (20 x 10), `synthfaces-large` (10,000 x 50), and any other size as
      `synthfaces:500x20,seed=3,size=64`
    - any source that was registered in `SOURCES`

    Options after an @, separated by commas, select a part of a source: `@100x20` (100 identities
    with at most 20 images each, * for all), `@min=5` (identities with at least 5 images),
    `@exclude=FILE` (without the names in a list) and `@seed=1` (seed of the draw). A + between
    sources joins them: `folder:a@100x20+recordio:b`.

    Args:
        spec: `KIND:PATH`, or several of them.

    Returns:
        The data set.

    Raises:
        WorkbenchError: if the kind or an option is unknown (the most similar one is suggested), or
            files are missing or damaged.

    Example:
        >>> from workbench import data
        >>> dataset = data.open("synthfaces-mini")  # doctest: +SKIP
        >>> dataset  # doctest: +SKIP
        <Dataset synthfaces-mini: 200 images of 20 identities>
    """
    _check(spec)
    return join([_open_part(part) for part in parts(spec)])


def benchmark(spec: str) -> Benchmark | Labelled | Identification | Templates:
    """Opens a benchmark by its spec.

    The benchmarks are:

    - `lfw`, `cfp_fp`, `cfp_ff`, `agedb_30`, `calfw` and `cplfw`, InsightFace's packs, which are
      searched for in the usual folders or in FOLDER, as in `lfw:FOLDER`; `bin:FILE`, any such pack
    - `pairs:PAIRS.TXT@ROOT`, a list in LFW's format or of lines "PATH_A PATH_B LABEL"; ROOT is a
      folder or a zip archive
    - `cfp:DIR`, frontal against profile; `cfp:DIR,protocol=ff`, only frontal
    - `ijb:DIR`, templates of IJB-B or IJB-C; `,norm=no` and `,score=no` disable weights of
      embeddings
    - `megaface:PROBES@DISTRACTORS`, people of one data set among images of another one
    - `orl` and `fashion-mnist`
    - `synthfaces-wild`, `-frontal`, `-pose`, `-age`, `-light`, `-occlusion`, `-invariance` and
      `-id`, synthetic people that are in no training set; `synthfaces-pose:seed=7` has others, on
      which settings can be chosen
    - `synthfaces-attributes`, `utkface:PATH` and `attributes:SPEC`, images whose attributes, such
      as gender and age, are estimated
    - a training source, such as `folder:DIR@min=4`, from which pairs are drawn (`draw_pairs`)
    - `cropped:SPEC` and `aligned:SPEC`, a benchmark whose faces are first detected, and then
      cropped or aligned

    Args:
        spec: `KIND:PATH`.

    Returns:
        The benchmark.

    Raises:
        WorkbenchError: if the kind is unknown (the most similar one is suggested), or files are
            missing or damaged.

    Example:
        >>> from workbench import data
        >>> lfw = data.benchmark("bin:faces_emore/lfw.bin")  # doctest: +SKIP
        >>> lfw  # doctest: +SKIP
        <Benchmark lfw: 3,000 genuine and 3,000 impostor pairs>
    """
    _check(spec)
    if is_drawn(spec):
        return draw_pairs(open(spec))
    kind, _, path = spec.partition(":")
    if kind not in BENCHMARKS.names():
        kinds = {*BENCHMARKS.names(), *SOURCES.names()}
        unknown = [part.kind for part in parts(spec) if part.kind not in kinds]
        raise unknown_name("benchmark", unknown[0] if unknown else kind, kinds)
    return BENCHMARKS.create(kind, path=path)


@dataclass(frozen=True)
class Part:
    """One data set of a spec, `KIND:PATH@OPTIONS`.

    Attributes:
        kind: name of the source.
        path: what follows the colon; empty if there is none.
        options: what follows the @; empty if there is none.
    """

    kind: str
    path: str
    options: str = ""

    @property
    def source(self) -> tuple[str, Path]:
        """Kind and resolved path, which are the same for folder:a and folder:./a/."""
        return self.kind, Path(os.path.expanduser(self.path)).resolve()


def parts(spec: str) -> list[Part]:
    """Splits a spec into its data sets, which do not have to exist.

    A path may contain + and @. A + only separates data sets if the name of a source follows, and an
    @ only begins options if everything after it is an option. A path that exists as it stands is
    not split at all.

    Args:
        spec: as `open` takes it.

    Example:
        >>> from workbench.data import parts
        >>> [part.kind for part in parts("folder:a@100x20+recordio:b")]
        ['folder', 'recordio']
    """
    kind, _, path = spec.partition(":")
    if kind in SOURCES.names() and _exists(path):
        return [Part(kind, path)]
    kinds = "|".join(map(re.escape, sorted(SOURCES.names(), key=len, reverse=True)))
    return [_part(text) for text in re.split(rf"\+(?=(?:{kinds})(?:[:@+]|$))", spec)]


def is_source(spec: str) -> bool:
    """Returns whether a spec names data sets with identities, which a run can be trained on.

    Example:
        >>> from workbench.data import is_source
        >>> is_source("folder:faces"), is_source("lfw")
        (True, False)
    """
    return all(part.kind in SOURCES.names() for part in parts(spec))


def is_drawn(spec: str) -> bool:
    """Returns whether `benchmark` draws pairs from the data sets of a spec.

    It does so for data sets that are not benchmarks themselves.

    Example:
        >>> from workbench.data import is_drawn
        >>> is_drawn("folder:faces"), is_drawn("orl")
        (True, False)
    """
    data_sets = parts(spec)
    first = data_sets[0]
    is_benchmark = len(data_sets) == 1 and not first.options and first.kind in BENCHMARKS.names()
    return is_source(spec) and not is_benchmark


def same_source(spec: str, other: str) -> bool:
    """Returns whether two specs have a data set in common, or parts of one data set.

    Example:
        >>> from workbench.data import same_source
        >>> same_source("folder:a@10x5", "folder:a@min=3+folder:b")
        True
    """
    return bool({part.source for part in parts(spec)} & {part.source for part in parts(other)})


def _part(text: str) -> Part:
    """Parses `KIND:PATH@OPTIONS`."""
    kind, _, options = text.partition("@")
    if kind in SOURCES.names():
        return Part(kind, "", options)
    for at in (match.start() for match in re.finditer("@", text)):
        kind, _, path = text[:at].partition(":")
        with suppress(WorkbenchError):
            if kind in SOURCES.names() and parse_options(text[at + 1 :]):
                return Part(kind, path, text[at + 1 :])
    kind, *rest = re.split("[:@]", text, maxsplit=1)
    return Part(kind, "".join(rest))


def _open_part(part: Part) -> Dataset:
    if part.kind not in SOURCES.names():
        if part.kind in BENCHMARKS.names():
            spec = f"{part.kind}:{part.path}".rstrip(":")
            raise WorkbenchError(
                f"{spec!r} is a benchmark, which runs are evaluated on; "
                "a data set is needed here, e.g. folder:DIR"
            )
        raise unknown_name("data source", part.kind, SOURCES.names())
    options = parse_options(part.options) if part.options else None
    try:
        dataset = SOURCES.create(part.kind, path=part.path)
    except WorkbenchError as error:
        raise _mistake_in_path(part) or error from None
    return apply(dataset, options) if options else dataset


def _mistake_in_path(part: Part) -> WorkbenchError | None:
    """Returns an error that names the likely mistake in a path that cannot be opened.

    The path may contain a misspelt data set after a +, or misspelt options after an @.
    """
    return _mistake_after_plus(part) or _mistake_after_at(part)


def _mistake_after_plus(part: Part) -> WorkbenchError | None:
    for word, colon in re.findall(r"\+([A-Za-z][\w-]*)(:|(?=[@+]|$))", part.path):
        if word in BENCHMARKS.names():
            return WorkbenchError(
                f"{word!r} is a benchmark; only data sets with identities can be joined by +"
            )
        if colon or get_close_matches(word, SOURCES.names(), n=1, cutoff=0.75):
            return unknown_name("data source", word, SOURCES.names())
    before, plus, after = part.path.rpartition("+")
    if plus and _exists(before):
        return WorkbenchError(
            f"{after!r} after the + is not a data set; join them as {part.kind}:{before}+KIND:PATH"
        )
    return None


def _mistake_after_at(part: Part) -> WorkbenchError | None:
    before, at, after = part.path.rpartition("@")
    if not at:
        return None
    if part.options and _exists(before):
        return WorkbenchError(
            f"{part.kind}:{before}: all options must follow one @, @{after},{part.options}"
        )
    seems_options = any(re.match(r"[0-9*]+x|[A-Za-z]+=", field) for field in after.split(","))
    if seems_options or not before or _exists(before):
        try:
            parse_options(after)
        except WorkbenchError as error:
            return WorkbenchError(f"{part.kind}:{part.path}: {error}")
    return None


def _check(spec: str) -> None:
    if not isinstance(spec, str) or not spec:
        raise WorkbenchError(f"expected KIND or KIND:PATH, e.g. 'folder:photos', got {spec!r}")
    if spec.partition(":")[0] not in {*SOURCES.names(), *BENCHMARKS.names()} and _exists(spec):
        raise WorkbenchError(
            f"{spec!r} is a path; say what it is, e.g. 'folder:{spec}' or 'recordio:{spec}'"
        )


def _exists(path: str) -> bool:
    return bool(path) and os.path.exists(os.path.expanduser(path))


def existing(path: str, kind: str, what: str) -> Path:
    """Returns the path after `KIND:`, with `~` expanded.

    Args:
        path: the path in the spec.
        kind: name of the source or benchmark, for error messages.
        what: "folder" or "file".

    Raises:
        WorkbenchError: if the path is empty, does not exist, or is a file where a folder is
            expected or the other way round.
    """
    if not path:
        raise WorkbenchError(f"{kind}: needs a path after the colon, {kind}:{what.upper()}")
    # pathlib raises an error for a name that is too long or an unknown user; os.path does not.
    expanded = os.path.expanduser(path)
    is_file = os.path.isfile(expanded)
    if is_file if what == "file" else os.path.isdir(expanded):
        return Path(expanded)
    other = "file" if what == "folder" else "folder"
    reason = f"is a {other}, expected a {what}" if os.path.exists(expanded) else f"no such {what}"
    hint = "; unpack it" if is_file and expanded.endswith(".zip") else ""
    raise WorkbenchError(f"{kind}:{path}: {reason}{hint}")
