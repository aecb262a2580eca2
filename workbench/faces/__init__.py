"""Detects faces in images, and aligns them to the crop that recognition networks expect.

The weights of the default detector come with an installed package: nothing is downloaded, and
OpenCV is not needed.
"""

from workbench.faces.aligned import AlignedFace, align, align_face
from workbench.faces.alignment import (
    Fit,
    can_be_aligned,
    crop,
    fit,
    template,
    transform,
    warp,
)
from workbench.faces.centerface import CenterFace
from workbench.faces.detection import check_detector, detect, detect_many
from workbench.faces.detectors import DETECTORS, Detector, detectors, register
from workbench.faces.face import Face, choose
from workbench.faces.quality import PROFILE, Quality, quality
from workbench.faces.retinaface import RetinaFace
from workbench.faces.yunet import YuNet
from workbench.geometry import ARCFACE

__all__ = [
    "ARCFACE",
    "DETECTORS",
    "PROFILE",
    "AlignedFace",
    "CenterFace",
    "Detector",
    "Face",
    "Fit",
    "Quality",
    "RetinaFace",
    "YuNet",
    "align",
    "align_face",
    "can_be_aligned",
    "check_detector",
    "choose",
    "crop",
    "detect",
    "detect_many",
    "detectors",
    "fit",
    "quality",
    "register",
    "template",
    "transform",
    "warp",
]
