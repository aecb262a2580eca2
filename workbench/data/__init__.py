"""Data: `open(spec)` for training sets, `benchmark(spec)` for what runs are measured on.

Specs are `KIND:PATH` or a known name; each kind has a file of its own in this folder. Nothing here needs torch until a
sample or a batch is asked for.
"""

from __future__ import annotations

from workbench.data import (  # noqa: F401  (they register)
    fashion_mnist,
    folder,
    orl,
    pairs,
    recordio,
    synthfaces,
    synthfaces_benchmarks,
    verification_pack,
)
from workbench.data.benchmark import Benchmark, ClosedSet, Identification, consecutive_folds, draw_pairs
from workbench.data.contact_sheet import contact_sheet
from workbench.data.dataset import Dataset, Images, Sample
from workbench.data.registry import BENCHMARKS, SOURCES, benchmark, open
from workbench.data.synthfaces import render

__all__ = [
    "BENCHMARKS",
    "SOURCES",
    "Benchmark",
    "ClosedSet",
    "Dataset",
    "Identification",
    "Images",
    "Sample",
    "benchmark",
    "consecutive_folds",
    "contact_sheet",
    "draw_pairs",
    "open",
    "render",
]
