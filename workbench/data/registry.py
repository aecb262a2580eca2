"""The tables of sources and benchmarks, and the names `KIND:PATH` that lead into them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from workbench.data.benchmark import Benchmark, ClosedSet, Identification, draw_pairs
from workbench.data.dataset import Dataset
from workbench.data.joining import apply, join, parse_options
from workbench.data.templates import Templates
from workbench.errors import WorkbenchError, unknown_name
from workbench.registry import Registry

SOURCES: Registry[Dataset] = Registry("data source")
BENCHMARKS: Registry[Benchmark | ClosedSet | Identification | Templates] = Registry("benchmark")


def open(spec: str) -> Dataset:
    """Open a training set by name.

    Args:
        spec: `folder:DIR`, `recordio:DIR`, `tfrecord:FILE`, `packed:PREFIX`, `webdataset:PATTERN`, `pack:DIR`, `utkface:DIR`,
            `celeba:ROOT`, `lfw-people:ROOT`, `orl`, `fashion-mnist`, `synthfaces` (200 synthetic people x 40 pictures, rendered
            when first opened), `synthfaces-mini` (20 x 10), `synthfaces-large` (10,000 x 50), any other size as
            `synthfaces:500x20,seed=3,size=64`, or any source registered since. Behind an @ a part is cut out:
            `@100x20` (100 identities with at most 20 images each, * for all), `@min=5` (identities with at least 5 images),
            `@exclude=FILE` (without the names in a list), `@seed=1` (of the draw), with commas between them. Several sets with
            + between them are joined: `folder:a@100x20+recordio:b`.

    Raises:
        WorkbenchError: unknown kind or option (the nearest is suggested), missing or damaged files.
    """
    _check(spec)
    return join([_open_part(part) for part in parts(spec)])


def benchmark(spec: str) -> Benchmark | ClosedSet | Identification | Templates:
    """Open a benchmark by name.

    Args:
        spec: `lfw`, `cfp_fp`, `cfp_ff`, `agedb_30`, `calfw`, `cplfw` (InsightFace's packs, from the usual places or as
            `lfw:FOLDER`), `bin:FILE` (any such pack), `pairs:PAIRS.TXT@ROOT` (LFW list, or "PATH_A PATH_B LABEL" a line;
            ROOT a folder or zip), `cfp:DIR` (frontal against profile, `cfp:DIR,protocol=ff` frontal alone), `ijb:DIR` (templates
            of IJB-B or IJB-C; `,norm=no` and `,score=no` take away weights of embeddings), `orl`,
            `megaface:PROBES@DISTRACTORS` (people of one set among images of another),
            `fashion-mnist`, `synthfaces-wild`, `-frontal`, `-pose`, `-age`, `-light`, `-occlusion`, `-invariance` or `-id`
            (synthetic people whom no training set holds), or training sources such as `folder:DIR@min=4`, from which pairs
            are drawn (`draw_pairs`). `cropped:SPEC` and
            `aligned:SPEC` are a benchmark of pairs whose faces are found first, and cut out or aligned.

    Raises:
        WorkbenchError: unknown kind (the nearest is suggested), missing or damaged files.
    """
    _check(spec)
    if is_drawn(spec):
        return draw_pairs(open(spec))
    kind, _, path = spec.partition(":")
    if kind not in BENCHMARKS.names():
        known = {*BENCHMARKS.names(), *SOURCES.names()}
        raise unknown_name(
            "benchmark",
            next((part.kind for part in parts(spec) if part.kind not in known), kind),
            known,
        )
    return BENCHMARKS.create(kind, path=path)


@dataclass(frozen=True)
class Part:
    """One data set of a spec: `KIND:PATH@OPTIONS`."""

    kind: str
    path: str
    options: str = ""

    @property
    def source(self) -> tuple[str, Path]:
        """Kind and place, so that folder:a and folder:./a/ are the same."""
        return self.kind, Path(os.path.expanduser(self.path)).resolve()


def parts(spec: str) -> list[Part]:
    """The data sets of a spec. Whether they are there is not looked at.

    A + divides only where a known source follows, and an @ only where everything behind it are options: both can be in a path.
    What is the path of a file or folder as it stands is not divided at all.
    """
    kind, _, path = spec.partition(":")
    if kind in SOURCES.names() and _exists(path):
        return [Part(kind, path)]
    kinds = "|".join(map(re.escape, sorted(SOURCES.names(), key=len, reverse=True)))
    return [_part(text) for text in re.split(rf"\+(?=(?:{kinds})(?:[:@+]|$))", spec)]


def is_source(spec: str) -> bool:
    """Whether a spec is of data sets with identities, which can be trained on."""
    return all(part.kind in SOURCES.names() for part in parts(spec))


def is_drawn(spec: str) -> bool:
    """Whether `benchmark` draws pairs from the data sets of a spec, as they are no benchmark themselves."""
    found = parts(spec)
    of_its_own = len(found) == 1 and not found[0].options and found[0].kind in BENCHMARKS.names()
    return is_source(spec) and not of_its_own


def same_source(spec: str, other: str) -> bool:
    """Whether two specs have a data set in common, or parts of one."""
    return bool({part.source for part in parts(spec)} & {part.source for part in parts(other)})


def _part(text: str) -> Part:
    kind, _, options = text.partition("@")
    if kind in SOURCES.names():
        return Part(kind, "", options)
    for at in (match.start() for match in re.finditer("@", text)):
        kind, _, path = text[:at].partition(":")
        with suppress(WorkbenchError):
            if kind in SOURCES.names() and parse_options(text[at + 1 :]):
                return Part(kind, path, text[at + 1 :])
    kind, *behind = re.split("[:@]", text, maxsplit=1)
    return Part(kind, "".join(behind))


def _open_part(part: Part) -> Dataset:
    if part.kind not in SOURCES.names():
        if part.kind in BENCHMARKS.names():
            spec = f"{part.kind}:{part.path}".rstrip(":")
            raise WorkbenchError(
                f"{spec!r} is a benchmark, to be evaluated on; here a data set is wanted, e.g. folder:DIR"
            )
        raise unknown_name("data source", part.kind, SOURCES.names())
    options = parse_options(part.options) if part.options else None
    try:
        opened = SOURCES.create(part.kind, path=part.path)
    except WorkbenchError as error:
        raise _slip(part) or error from None
    return apply(opened, options) if options else opened


def _slip(part: Part) -> WorkbenchError | None:
    """What is misspelt in a path that could not be opened: another data set behind a +, or options behind an @."""
    for word, colon in re.findall(r"\+([A-Za-z][\w-]*)(:|(?=[@+]|$))", part.path):
        if word in BENCHMARKS.names():
            return WorkbenchError(
                f"{word!r} is a benchmark; only data sets with identities can be joined by +"
            )
        if colon or get_close_matches(word, SOURCES.names(), n=1, cutoff=0.75):
            return unknown_name("data source", word, SOURCES.names())
    before, plus, behind = part.path.rpartition("+")
    if plus and _exists(before):
        return WorkbenchError(
            f"{behind!r} behind the + is no data set; join them as {part.kind}:{before}+KIND:PATH"
        )
    before, at, behind = part.path.rpartition("@")
    if at and part.options and _exists(before):
        return WorkbenchError(
            f"{part.kind}:{before}: all options stand behind one @, @{behind},{part.options}"
        )
    looks = any(re.match(r"[0-9*]+x|[A-Za-z]+=", field) for field in behind.split(","))
    if at and (looks or not before or _exists(before)):
        try:
            parse_options(behind)
        except WorkbenchError as error:
            return WorkbenchError(f"{part.kind}:{part.path}: {error}")
    return None


def _check(spec: str) -> None:
    if not isinstance(spec, str) or not spec:
        raise WorkbenchError(
            f"data are named KIND or KIND:PATH, e.g. 'folder:photos', got {spec!r}"
        )
    if spec.partition(":")[0] not in {*SOURCES.names(), *BENCHMARKS.names()} and _exists(spec):
        raise WorkbenchError(
            f"{spec!r} is a path; say what it is, e.g. 'folder:{spec}' or 'recordio:{spec}'"
        )


def _exists(path: str) -> bool:
    return bool(path) and os.path.exists(os.path.expanduser(path))


def existing(path: str, kind: str, what: str) -> Path:
    """The path behind `KIND:`, with `~` expanded.

    Args:
        what: "folder" or "file".

    Raises:
        WorkbenchError: empty, missing, or a file where a folder is meant.
    """
    if not path:
        raise WorkbenchError(f"{kind}: needs a path behind the colon, {kind}:{what.upper()}")
    found = os.path.expanduser(
        path
    )  # os.path answers no where pathlib raises: a name too long, a user who is not there
    if not (os.path.isdir(found) if what == "folder" else os.path.isfile(found)):
        other = "file" if what == "folder" else "folder"
        reason = f"is a {other}, expected a {what}" if os.path.exists(found) else f"no such {what}"
        raise WorkbenchError(
            f"{kind}:{path}: {reason}{'; unpack it' * (found.endswith('.zip') and os.path.isfile(found))}"
        )
    return Path(found)
