"""Benchmarks that are read from files, one format a file; importing this package registers them."""

from __future__ import annotations

from workbench.data.benchmarks import (  # noqa: F401  (importing a benchmark registers it)
    attributes,
    cfp,
    ijb,
    megaface,
    named_packs,
    pairs,
    prepared,
    verification_pack,
)
