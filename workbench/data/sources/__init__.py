"""Sources of training sets, one format a file; importing this package registers them."""

from __future__ import annotations

from workbench.data.sources import (  # noqa: F401  (they register)
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
