"""Evaluation: `evaluate(run, benchmark)` measures a run, `verification(...)` scored pairs.

What needs torch (`evaluate`, `embed`, `load_model`) is imported when it is first used, so that
stored results are read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from workbench.evaluation import arcface_torch, templates
from workbench.evaluation.angles import Angles, similarity, to_centres, to_identity_means
from workbench.evaluation.attributes import (
    AttributesResult,
    ClassEstimates,
    NumberEstimates,
    class_estimates,
    number_estimates,
)
from workbench.evaluation.calibration import (
    Calibration,
    Share,
    Verdict,
    calibration_names,
    caveats,
    load_calibration,
)
from workbench.evaluation.closed_set import ClosedSetResult, closed_set
from workbench.evaluation.evaluators import (
    EvaluationContext,
    Evaluator,
    Measurement,
    evaluates,
)
from workbench.evaluation.identification import IdentificationResult, identification
from workbench.evaluation.invariance import FACTORS, Gaps, InvarianceCurve, invariance
from workbench.evaluation.kinds import Headline, Result, register_result
from workbench.evaluation.leaderboard import leaderboard
from workbench.evaluation.open_set import FPIRS, OpenSetResult, open_set
from workbench.evaluation.paired import Difference, clearly_best, differences, paired_difference
from workbench.evaluation.projection import Projection, project
from workbench.evaluation.protocol import PRESETS, Protocol
from workbench.evaluation.results import (
    invariance_curves,
    load_angles,
    load_gaps,
    load_projection,
    load_result,
)
from workbench.evaluation.snapshots import (
    PairAngles,
    Snapshot,
    SnapshotSet,
    SnapshotVerification,
    aligned_maps,
    load_snapshot,
    load_snapshots,
    over_epochs,
    snapshot_sets,
)
from workbench.evaluation.streaming import StreamedResult, all_pairs_roc, stream_roc
from workbench.evaluation.verification import FARS, VerificationResult, roc, verification

if TYPE_CHECKING:
    from workbench.evaluation.calibrating import calibrate, compare_photos
    from workbench.evaluation.embedding import Embeddings, embed, load_embeddings
    from workbench.evaluation.evaluate import evaluate
    from workbench.evaluation.model import Model, load_model

__all__ = [
    "FACTORS",
    "FARS",
    "FPIRS",
    "PRESETS",
    "Angles",
    "AttributesResult",
    "Calibration",
    "ClassEstimates",
    "ClosedSetResult",
    "Difference",
    "Embeddings",
    "EvaluationContext",
    "Evaluator",
    "Gaps",
    "Headline",
    "IdentificationResult",
    "InvarianceCurve",
    "Measurement",
    "Model",
    "NumberEstimates",
    "OpenSetResult",
    "PairAngles",
    "Projection",
    "Protocol",
    "Result",
    "Share",
    "Snapshot",
    "SnapshotSet",
    "SnapshotVerification",
    "StreamedResult",
    "Verdict",
    "VerificationResult",
    "aligned_maps",
    "all_pairs_roc",
    "arcface_torch",
    "calibrate",
    "calibration_names",
    "caveats",
    "class_estimates",
    "clearly_best",
    "closed_set",
    "compare_photos",
    "differences",
    "embed",
    "evaluate",
    "evaluates",
    "identification",
    "invariance",
    "invariance_curves",
    "leaderboard",
    "load_angles",
    "load_calibration",
    "load_embeddings",
    "load_gaps",
    "load_model",
    "load_projection",
    "load_result",
    "load_snapshot",
    "load_snapshots",
    "number_estimates",
    "open_set",
    "over_epochs",
    "paired_difference",
    "project",
    "register_result",
    "roc",
    "similarity",
    "snapshot_sets",
    "stream_roc",
    "templates",
    "to_centres",
    "to_identity_means",
    "verification",
]

_WITH_TORCH = {
    "calibrate": "calibrating",
    "compare_photos": "calibrating",
    "evaluate": "evaluate",
    "Model": "model",
    "load_model": "model",
    "Embeddings": "embedding",
    "embed": "embedding",
    "load_embeddings": "embedding",
}


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        value = getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
        # The module evaluate.py would otherwise hide the function of the same name.
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
