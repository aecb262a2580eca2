"""Data: `open(spec)` opens training sets, `benchmark(spec)` what runs are evaluated on.

A spec is `KIND:PATH` or a known name. Each kind of source has a file in `sources/`, and each kind
of benchmark a file in `benchmarks/`. torch is imported only when a sample or a batch is asked for.
"""

from __future__ import annotations

from workbench.data import benchmarks, rendered, sources  # noqa: F401  (importing registers)
from workbench.data.benchmark import (
    Attributes,
    Benchmark,
    ClosedSet,
    Identification,
    Labelled,
    all_pairs,
    balanced_folds,
    consecutive_folds,
    draw_pairs,
)
from workbench.data.benchmarks.megaface import draw_identification
from workbench.data.benchmarks.prepared import open_without, prepare, unprepared
from workbench.data.dataset import Dataset, Images, Sample
from workbench.data.inspect.augmented import augmented
from workbench.data.inspect.contact_sheet import contact_sheet
from workbench.data.io.commands import stored_names
from workbench.data.io.not_listed import LeftOutWarning
from workbench.data.jobs.aligning import Alignment, align
from workbench.data.joining import exclude, join, overlap, subset
from workbench.data.leaving_out import LeftOut, find_unreadable, lost_parts, without
from workbench.data.registry import (
    BENCHMARKS,
    SOURCES,
    Part,
    benchmark,
    is_drawn,
    is_source,
    open,
    parts,
    same_source,
)
from workbench.data.rendered.synthfaces import render
from workbench.data.stored import open_stored
from workbench.data.templates import Templates

__all__ = [
    "BENCHMARKS",
    "SOURCES",
    "Alignment",
    "Attributes",
    "Benchmark",
    "ClosedSet",
    "Dataset",
    "Identification",
    "Images",
    "Labelled",
    "LeftOut",
    "LeftOutWarning",
    "Part",
    "Sample",
    "Templates",
    "align",
    "all_pairs",
    "augmented",
    "balanced_folds",
    "benchmark",
    "consecutive_folds",
    "contact_sheet",
    "draw_identification",
    "draw_pairs",
    "exclude",
    "find_unreadable",
    "is_drawn",
    "is_source",
    "join",
    "lost_parts",
    "open",
    "open_stored",
    "open_without",
    "overlap",
    "parts",
    "prepare",
    "render",
    "same_source",
    "stored_names",
    "subset",
    "unprepared",
    "without",
]
