"""Sources of training sets, one format a file; importing this package registers all of them."""

from __future__ import annotations

from workbench.data.sources import (  # noqa: F401  (importing a source registers it)
    fashion_mnist,
    folder,
    orl,
    pack,
    packed,
    recordio,
    tfrecord,
    torchvision_sets,
    utkface,
    webdataset,
)
