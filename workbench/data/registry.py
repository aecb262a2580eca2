"""The tables of sources and benchmarks, and the names `KIND:PATH` that lead into them."""

from __future__ import annotations

import os
from pathlib import Path

from workbench.data.benchmark import Benchmark, ClosedSet, Identification, draw_pairs
from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError, unknown_name
from workbench.registry import Registry

SOURCES: Registry[Dataset] = Registry("data source")
BENCHMARKS: Registry[Benchmark | ClosedSet | Identification] = Registry("benchmark")


def open(spec: str) -> Dataset:
    """Open a training set by name.

    Args:
        spec: `folder:DIR`, `recordio:DIR`, `orl`, `fashion-mnist`, `synthfaces` (200 synthetic people x 40 pictures, rendered
            when first opened), `synthfaces-mini` (20 x 10), `synthfaces-large` (10,000 x 50), any other size as
            `synthfaces:500x20,seed=3,size=64`, or any source registered since.

    Raises:
        WorkbenchError: unknown kind (the nearest is suggested), missing or damaged files.
    """
    kind, path = _split(spec)
    if kind not in SOURCES.names():
        if kind in BENCHMARKS.names():
            raise WorkbenchError(f"{spec!r} is a benchmark of pairs without identities; it can be evaluated, not trained on")
        raise unknown_name("data source", kind, SOURCES.names())
    return SOURCES.create(kind, path=path)


def benchmark(spec: str) -> Benchmark | ClosedSet | Identification:
    """Open a benchmark by name.

    Args:
        spec: `bin:FILE` (InsightFace pack), `pairs:PAIRS.TXT@ROOT` (LFW list; ROOT a folder or zip), `orl`,
            `fashion-mnist`, `synthfaces-wild`, `-frontal`, `-pose`, `-age`, `-light`, `-occlusion`, `-invariance` or `-id`
            (synthetic people whom no training set holds), or a training source such as `folder:DIR`, from which pairs are
            drawn (`draw_pairs`).

    Raises:
        WorkbenchError: unknown kind (the nearest is suggested), missing or damaged files.
    """
    kind, path = _split(spec)
    if kind in BENCHMARKS.names():
        return BENCHMARKS.create(kind, path=path)
    if kind in SOURCES.names():
        return draw_pairs(SOURCES.create(kind, path=path))
    raise unknown_name("benchmark", kind, {*BENCHMARKS.names(), *SOURCES.names()})


def _split(spec: str) -> tuple[str, str]:
    if not isinstance(spec, str) or not spec:
        raise WorkbenchError(f"data are named KIND or KIND:PATH, e.g. 'folder:photos', got {spec!r}")
    kind, _, path = spec.partition(":")
    if kind not in {*SOURCES.names(), *BENCHMARKS.names()} and os.path.exists(os.path.expanduser(spec)):
        raise WorkbenchError(f"{spec!r} is a path; say what it is, e.g. 'folder:{spec}' or 'recordio:{spec}'")
    return kind, path


def existing(path: str, kind: str, what: str) -> Path:
    """The path behind `KIND:`, with `~` expanded.

    Args:
        what: "folder" or "file".

    Raises:
        WorkbenchError: empty, missing, or a file where a folder is meant.
    """
    if not path:
        raise WorkbenchError(f"{kind}: needs a path behind the colon, {kind}:{what.upper()}")
    found = os.path.expanduser(path)  # os.path answers no where pathlib raises: a name too long, a user who is not there
    if not (os.path.isdir(found) if what == "folder" else os.path.isfile(found)):
        raise WorkbenchError(f"{kind}:{path}: no such {what}")
    return Path(found)
