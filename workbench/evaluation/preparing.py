"""Checks whether an evaluation is possible, and loads what it needs."""

from __future__ import annotations

from workbench import data
from workbench.evaluation.evaluators import EvaluationContext, Target, evaluator_of
from workbench.evaluation.model import Weights, load_model
from workbench.evaluation.protocol import Protocol
from workbench.evaluation.sources import Sources
from workbench.files import check_writable


def prepared_context(
    sources: Sources,
    target: Target,
    left_out: data.LeftOut,
    *,
    protocol: Protocol,
    folder: str,
    weights: Weights = "auto",
    device: str,
    batch_size: int,
    bootstrap: int,
    progress: bool,
) -> EvaluationContext:
    """Checks whether a benchmark can be evaluated and the result stored, and loads the model.

    Args:
        sources: opens the training set of the run.
        target: benchmark without what needs an unreadable image.
        left_out: images of the benchmark that cannot be read.
        protocol: how embeddings are compared.
        folder: name of the folder of the run directory in which the result is stored.
        weights: which weights of the run are used, as in `load_model`.
        device: "auto", "cpu", "cuda", ...
        batch_size: images per batch.
        bootstrap: resamples for 95 % intervals of identification.
        progress: whether progress bars are shown.

    Returns:
        The context of the evaluation.

    Raises:
        WorkbenchError: if the benchmark cannot be evaluated with this protocol, if no model is
            saved yet, or if the folder cannot be written to.
    """
    run, evaluator = sources.run, evaluator_of(target)
    evaluator.check(target, protocol)
    model = load_model(run, device, weights)
    check_writable(run.path / folder, evaluator.stored_bytes(target, model))
    return EvaluationContext(
        run=run,
        model=model,
        protocol=protocol,
        training_set=sources.training_set,
        left_out=left_out,
        batch_size=batch_size,
        bootstrap=bootstrap,
        title=f"{run.name} on {target.name}" if progress else "",
    )
