"""Models that installed Python packages contain, by the names under which they are imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench import runs
from workbench.data.batches import to_network
from workbench.errors import WorkbenchError, missing_extra
from workbench.exchange.imported_network import ImportedNetwork, Scaling
from workbench.faces.weights import file_of_package
from workbench.registry import Registry

if TYPE_CHECKING:
    import onnx

PACKAGED: Registry[ImportedNetwork] = Registry("packaged model")
"""Functions without arguments that read a model from an installed package."""

DLIB_FILE = "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
TOLERANCE = 1e-4
"""Largest difference allowed between the embeddings of onnxruntime and those of dlib."""
_NOTES = [
    "the network is that of dlib's face_recognition_model_v1; its author released the weights into "
    "the public domain (CC0)",
    "dlib's face chip is cut from ArcFace's 112 x 112 crop; the lowest 11 of its 101 "
    "rows are outside that crop and filled with the mean colour",
    "trained by its author on about 3 million photos of 7,485 people, none of whom is in LFW",
]


@PACKAGED.register("dlib")
def read_dlib() -> ImportedNetwork:
    """Reads dlib's face recognition network from the package face-recognition-models.

    The network is rewritten as an ONNX file that takes ArcFace's crops. Before that, its embeddings
    of noise are compared with those that dlib itself computes.

    King, "High quality face recognition with deep metric learning", dlib's blog, 2017.

    Raises:
        WorkbenchError: if a package of the extra `reference` is missing, if the file of the weights
            is damaged, or if embeddings differ by more than 1e-4.
    """
    for package in ("dlib", "onnx"):
        if find_spec(package) is None:
            raise missing_extra(package, "reference", "importing dlib's network")
    path = file_of_package("face-recognition-models", DLIB_FILE)
    if path is None:
        raise missing_extra("face-recognition-models", "reference", "importing dlib's network")
    from workbench.exchange import dlib_graph
    from workbench.exchange.dlib_file import EMBEDDING_DIM, read_weights

    weights = read_weights(path)
    difference = _difference_to_dlib(dlib_graph.network(weights, takes_chips=True), path)
    if not difference <= TOLERANCE:  # this is also true for NaN
        raise WorkbenchError(
            f"{path}: not imported: embeddings differ from dlib's by {difference:.1e}, more than "
            f"{TOLERANCE:g}; reinstall the package face-recognition-models"
        )
    return ImportedNetwork(
        settings={
            "backbone": runs.ONNX,
            "embedding_dim": EMBEDDING_DIM,
            "image_size": (dlib_graph.CROP, dlib_graph.CROP),
        },
        content=dlib_graph.network(weights).SerializeToString(),
        scaling=Scaling(dlib_graph.PIXEL_MEAN, dlib_graph.PIXEL_STD),
        notes=[*_NOTES, f"largest difference to dlib's own embeddings: {difference:.1e}"],
        source=path,
    )


def _difference_to_dlib(model: onnx.ModelProto, path: Path) -> float:
    """Returns the largest difference between embeddings of the ONNX model and those of dlib.

    Args:
        model: the network that takes dlib's face chips.
        path: file of the weights.
    """
    import dlib

    from workbench.evaluation.onnx_network import OnnxNetwork
    from workbench.exchange.dlib_graph import CHIP, PIXEL_MEAN, PIXEL_STD

    chips = np.random.default_rng(0).integers(0, 256, (2, CHIP, CHIP, 3), dtype=np.uint8)
    expected = dlib.face_recognition_model_v1(str(path)).compute_face_descriptor(list(chips))
    net = OnnxNetwork(model.SerializeToString(), str(path))
    images = to_network(torch.from_numpy(chips).permute(0, 3, 1, 2), PIXEL_MEAN, PIXEL_STD)
    return float(np.abs(net(images).numpy() - np.array(expected)).max())
