"""Losses: `names()` lists them, `create(name, ...)` makes one, `register(name)` adds your own."""

from __future__ import annotations

from workbench.losses.adacos import AdaCos
from workbench.losses.adaface import AdaFace
from workbench.losses.arcface import ArcFace
from workbench.losses.base import ClassificationLoss, Loss, MarginSoftmax, Reweighting, Term
from workbench.losses.center import Center
from workbench.losses.circle import Circle
from workbench.losses.combined import Combined
from workbench.losses.compose import create, head_scale, is_known, names
from workbench.losses.contrastive import Contrastive
from workbench.losses.cosface import CosFace
from workbench.losses.curricularface import CurricularFace
from workbench.losses.curves import curves, slopes
from workbench.losses.elasticface import ElasticFace
from workbench.losses.focal import Focal
from workbench.losses.guessing import Guess
from workbench.losses.magface import MagFace
from workbench.losses.mhe import MHE
from workbench.losses.mv_softmax import MVSoftmax
from workbench.losses.normface import NormFace
from workbench.losses.ohem import OHEM
from workbench.losses.registry import LOSSES, PARTS, register, register_part
from workbench.losses.softmax import Softmax
from workbench.losses.sphereface import SphereFace
from workbench.losses.sphereface2 import SphereFace2
from workbench.losses.sphereface_r import SphereFaceR
from workbench.losses.subcenter_arcface import SubCenterArcFace
from workbench.losses.triplet import Triplet
from workbench.losses.unified_threshold import UnifiedThreshold

__all__ = [
    "LOSSES",
    "MHE",
    "OHEM",
    "PARTS",
    "AdaCos",
    "AdaFace",
    "ArcFace",
    "Center",
    "Circle",
    "ClassificationLoss",
    "Combined",
    "Contrastive",
    "CosFace",
    "CurricularFace",
    "ElasticFace",
    "Focal",
    "Guess",
    "Loss",
    "MVSoftmax",
    "MagFace",
    "MarginSoftmax",
    "NormFace",
    "Reweighting",
    "Softmax",
    "SphereFace",
    "SphereFace2",
    "SphereFaceR",
    "SubCenterArcFace",
    "Term",
    "Triplet",
    "UnifiedThreshold",
    "create",
    "curves",
    "head_scale",
    "is_known",
    "names",
    "register",
    "register_part",
    "slopes",
]
