"""The head of a classification loss: compares each embedding with all class centres.

A softmax loss needs two numbers for each embedding: the product with its target class centre, and
the log-sum-exp of the logits of all non-target classes. This module computes them in two ways.
`plain` holds the (N, C) matrix of logits in memory. `streamed` processes the classes in chunks and
returns the same values up to float32 rounding. With `sample_classes`, both can be restricted to a
random sample of the classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from workbench.errors import WorkbenchError

HeadName = Literal["auto", "plain", "streamed", "sampled"]
"""Names of the heads; see `ClassificationLoss.use_head`."""
NonTargetFunction = Callable[[Tensor, Tensor], Tensor]
"""Replaces the (N, K) cosines to non-target classes, given the (N, 1) cosines to the target class.
It acts element by element and returns (N, K) values."""
Reduction = Literal["log_sum_exp", "softplus"]
"""How the non-target logits are reduced to one number for each embedding."""

MIN_LENGTH = 1e-4
"""A vector that is not longer than this is treated as having no direction: the derivative of the
direction, 1 / length, is multiplied by the scale of the logits and could overflow in float16."""
MAX_PLAIN_LOGITS = 2**21
"""The head `auto` is streamed for more logits than this. They take 8 MB in float32, and training
with the head `plain` holds about six tensors of that size."""


def unit(vectors: Tensor) -> Tensor:
    """Scales vectors to length 1.

    A vector not longer than `MIN_LENGTH` becomes 0, and so does its derivative. Its cosines are
    therefore 0, and it does not dominate the gradient of the batch. NaN stays NaN.

    Args:
        vectors: (..., D) vectors.

    Returns:
        (..., D) vectors of length 1 or 0.

    Example:
        >>> import torch
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(lengths <= MIN_LENGTH, 0.0, vectors / lengths.clamp_min(MIN_LENGTH))


def cosines(directions: Tensor, centres: Tensor) -> Tensor:
    """Returns the cosine of each direction to each class centre.

    Args:
        directions: (N, D) vectors of length 1.
        centres: (C, D) class centres of any length, or (C, K, D) with K sub-centres for each class.

    Returns:
        (N, C) cosines in [-1, 1]. With sub-centres, each is the cosine to the nearest sub-centre.

    Example:
        >>> import torch
        >>> cosines(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]]))
        tensor([[1., 0.]])
    """
    # Rounding can give a product of two unit vectors of 1 + 1e-7, for which sin theta is undefined.
    products = F.linear(directions, unit(centres).flatten(0, -2)).clamp(-1.0, 1.0)
    if centres.ndim == 2:
        return products
    return products.view(len(directions), *centres.shape[:2]).amax(2)


def sample_classes(labels: Tensor, num_classes: int, rate: float) -> tuple[Tensor, Tensor]:
    """Samples classes at random, always including the target classes of the batch.

    An et al., "Partial FC: Training 10 million identities on a single machine", ICCV workshops
    2021, section 3.3.

    Args:
        labels: (N,) int64 classes of the batch.
        num_classes: Number C of classes.
        rate: Share of the classes to sample, 0..1. If the batch has more target classes than that,
            the sample consists of the target classes.

    Returns:
        The (K,) sampled classes in ascending order, and the (N,) positions of the labels in them.

    Example:
        >>> import torch
        >>> sample_classes(torch.tensor([7, 2, 7]), num_classes=10, rate=0.2)
        (tensor([2, 7]), tensor([1, 0, 1]))
    """
    order = torch.rand(num_classes, device=labels.device)
    order[labels] = 2.0
    count = max(math.ceil(rate * num_classes), int((order == 2.0).sum()))
    classes = order.topk(count, sorted=False).indices.sort().values
    return classes, torch.searchsorted(classes, labels)


def plain(
    embeddings: Tensor,
    centres: Tensor,
    labels: Tensor,
    scale: float | Tensor,
    bias: Tensor | None,
    non_target: NonTargetFunction | None,
    normalised: bool,
    reduction: Reduction,
) -> tuple[Tensor, Tensor]:
    """Computes target products and reduced non-target logits from the whole (N, C) matrix.

    The logit of class j is `scale * product_j + bias_j`.

    Args:
        embeddings: (N, D) embeddings, of length 1 if `normalised`.
        centres: (C, D) class centres, or (C, K, D) sub-centres.
        labels: (N,) int64 target classes.
        scale: Scale of the logits: a number, or a tensor of shape () or (N, 1).
        bias: (C,) biases, or None for no bias.
        non_target: Function that replaces the products with non-target classes before they are
            scaled, or None to use them unchanged.
        normalised: Whether the class centres are scaled to length 1, so that products are cosines.
        reduction: "log_sum_exp" for the log-sum-exp of the non-target logits, "softplus" for the
            sum of log(1 + exp(logit)) over them.

    Returns:
        The (N,) products with the target class centre, without scale and bias, and the (N,) reduced
        non-target logits. Without any non-target class the latter are -inf or 0.

    Example:
        >>> import torch
        >>> embeddings, centres = torch.tensor([[1.0, 0.0]]), torch.eye(2)
        >>> plain(embeddings, centres, torch.tensor([0]), 2.0, None, None, True, "log_sum_exp")
        (tensor([1.]), tensor([0.]))
    """
    products = cosines(embeddings, centres) if normalised else F.linear(embeddings, centres)
    target = products.gather(1, labels[:, None])
    replaced = products if non_target is None else non_target(products, target.detach())
    logits = scale * replaced if bias is None else scale * replaced + bias
    logits = logits.scatter(1, labels[:, None], -torch.inf)
    if reduction == "log_sum_exp":
        return target[:, 0], logits.logsumexp(1)
    return target[:, 0], F.softplus(logits).sum(1)


class Streamed(torch.autograd.Function):
    """Computes the same as `plain` for (C, D) class centres, one chunk of classes at a time.

    The memory needed hardly depends on N x C. The log-sum-exp is accumulated over the chunks.
    The backward pass needs the products again. If the batch is not larger than D, the forward pass
    stores them in the memory of the gradient of the class centres: a class has N products, and its
    gradient has D numbers. Backward overwrites each chunk of that memory after reading it. For
    larger batches, backward computes the products a second time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        centres: Tensor,
        labels: Tensor,
        scale: float | Tensor,
        bias: Tensor | None,
        non_target: NonTargetFunction | None,
        normalised: bool,
        reduction: Reduction,
    ) -> tuple[Tensor, Tensor]:
        """Returns what `plain` returns for the same arguments."""
        stored = None
        if ctx.needs_input_grad[1] and embeddings.shape[0] <= centres.shape[1]:
            stored = torch.empty_like(centres, memory_format=torch.contiguous_format)
        target = _target_products(embeddings, centres[labels], normalised)
        inverse_lengths = centres.new_ones(len(centres))
        reduced = torch.full_like(target, -torch.inf if reduction == "log_sum_exp" else 0.0)
        for chunk in _chunks(embeddings, centres):
            if normalised:
                lengths = torch.linalg.vector_norm(centres[chunk], dim=1)
                inverse_lengths[chunk] = torch.where(
                    lengths <= MIN_LENGTH, 0.0, lengths.reciprocal()
                )
            products = _product_buffer(stored, chunk, embeddings)
            torch.mm(embeddings, centres[chunk].T, out=products)
            logits = _logits(
                products,
                inverse_lengths[chunk],
                target,
                scale,
                None if bias is None else bias[chunk],
                non_target,
                normalised,
            )
            _fill_target(logits, labels, chunk, -torch.inf)
            if reduction == "log_sum_exp":
                reduced = torch.logaddexp(reduced, logits.logsumexp(1))
            else:
                reduced += F.softplus(logits).sum(1)
        scale_tensor = scale if isinstance(scale, Tensor) else None
        scale_number = None if isinstance(scale, Tensor) else scale
        ctx.save_for_backward(
            embeddings, centres, labels, scale_tensor, bias, target, reduced, inverse_lengths
        )
        ctx.constants = (scale_number, non_target, normalised, reduction)
        ctx.stored = stored
        return target, reduced

    @staticmethod
    def backward(ctx: Any, target_gradient: Tensor, reduced_gradient: Tensor) -> Any:
        """Returns the gradients of the embeddings, class centres, scale and bias."""
        if torch.is_grad_enabled():  # create_graph=True
            raise WorkbenchError(
                "a streamed head has no second derivatives; give the loss head 'plain'"
            )
        embeddings, centres, labels, scale_tensor, bias, *results = ctx.saved_tensors
        target, reduced, inverse_lengths = results
        scale_number, non_target, normalised, reduction = ctx.constants
        scale = scale_tensor if scale_number is None else scale_number
        needs_embeddings, needs_centres, _, needs_scale, needs_bias = ctx.needs_input_grad[:5]
        # The stored products are overwritten below. A second backward pass computes them again.
        stored = ctx.stored
        ctx.stored = None
        embedding_gradient = torch.zeros_like(embeddings)
        centre_gradient = stored
        if needs_centres and stored is None:
            centre_gradient = torch.empty_like(centres)
        scale_gradient = embeddings.new_zeros(len(embeddings), 1)
        bias_gradient = torch.zeros_like(bias) if needs_bias else None
        # Without a non-target class the log-sum-exp is -inf; any finite value gives a slope of 0.
        reduced = torch.where(reduced.isinf(), 0.0, reduced)
        for chunk in _chunks(embeddings, centres):
            products = _product_buffer(stored, chunk, embeddings)
            if stored is None:
                torch.mm(embeddings, centres[chunk].T, out=products)
            logits = _logits(
                products,
                inverse_lengths[chunk],
                target,
                scale,
                None if bias is None else bias[chunk],
                non_target,
                normalised,
            )
            _fill_target(logits, labels, chunk, -torch.inf)
            # Step by step, `slope` becomes the derivative with respect to the logits, the replaced
            # products, the cosines, and finally the products.
            slope = _slope_of_reduction(logits, reduced, reduction)
            if bias_gradient is not None:
                bias_gradient[chunk] = reduced_gradient @ slope
            if needs_scale:
                replaced = _replace(
                    products * inverse_lengths[chunk], target, non_target, normalised
                )
                scale_gradient += (slope * replaced).sum(1, keepdim=True) * (
                    reduced_gradient[:, None]
                )
            slope *= reduced_gradient[:, None] * scale
            if non_target is not None:
                slope = _slope_before_replacing(
                    slope, products * inverse_lengths[chunk], target, non_target, normalised
                )
            _fill_target(slope, labels, chunk, target_gradient)
            parallel = None
            if normalised:
                # Moving a class centre along itself does not change its direction, so that part of
                # the gradient is subtracted.
                parallel = (slope * products).sum(0) * inverse_lengths[chunk].pow(3)
                slope *= inverse_lengths[chunk]
            if centre_gradient is not None:
                _write_centre_gradient(
                    centre_gradient[chunk], slope, embeddings, centres[chunk], parallel
                )
            if needs_embeddings:
                embedding_gradient.addmm_(slope, centres[chunk])
        if needs_scale and not scale.ndim:
            scale_gradient = scale_gradient.sum()
        return (
            embedding_gradient if needs_embeddings else None,
            centre_gradient,
            None,
            scale_gradient if needs_scale else None,
            bias_gradient,
            None,
            None,
            None,
        )


def streamed(
    embeddings: Tensor,
    centres: Tensor,
    labels: Tensor,
    scale: float | Tensor,
    bias: Tensor | None,
    non_target: NonTargetFunction | None,
    normalised: bool,
    reduction: Reduction,
) -> tuple[Tensor, Tensor]:
    """Computes the same as `plain` in chunks of classes.

    The memory needed hardly depends on the number of classes. Second derivatives and the transforms
    of `torch.func` are not supported.

    Args:
        embeddings: (N, D) embeddings, of length 1 if `normalised`.
        centres: (C, D) class centres. Sub-centres are not supported.
        labels: As in `plain`.
        scale: As in `plain`.
        bias: As in `plain`.
        non_target: As in `plain`. It is called again in the backward pass, and a parameter in it
            gets no gradient.
        normalised: As in `plain`.
        reduction: As in `plain`.

    Returns:
        As `plain`, equal up to float32 rounding.

    Example:
        >>> import torch
        >>> embeddings, centres = torch.tensor([[1.0, 0.0]]), torch.eye(2)
        >>> streamed(embeddings, centres, torch.tensor([0]), 2.0, None, None, True, "log_sum_exp")
        (tensor([1.]), tensor([0.]))
    """
    if not torch.is_grad_enabled():
        centres = centres.detach()  # so that no memory is reserved for a gradient
    target, reduced = Streamed.apply(
        embeddings, centres, labels, scale, bias, non_target, normalised, reduction
    )
    return target, reduced


def sum_of_non_targets(
    embeddings: Tensor,
    centres: Tensor,
    labels: Tensor,
    scale: float | Tensor,
    bias: Tensor | None,
    non_target: NonTargetFunction | None,
    normalised: bool,
) -> Tensor:
    """Returns the sum of the logits of all non-target classes, which label smoothing needs.

    Without `non_target` and sub-centres the logits are linear in the class centres, so the sum is
    a product with the sum of the class centres. Otherwise the logits are computed in chunks of
    classes, and again in the backward pass if there are many.

    Args:
        embeddings: (N, D) embeddings, of length 1 if `normalised`.
        centres: (C, D) class centres, or (C, K, D) sub-centres.
        labels: (N,) int64 target classes.
        scale: As in `plain`.
        bias: As in `plain`.
        non_target: As in `plain`.
        normalised: As in `plain`.

    Returns:
        (N,) sums. Without any non-target class they are 0.

    Example:
        >>> import torch
        >>> embeddings, centres = torch.tensor([[0.6, 0.8]]), torch.eye(2)
        >>> sum_of_non_targets(embeddings, centres, torch.tensor([0]), 2.0, None, None, True)
        tensor([1.6000])
    """
    if non_target is None and centres.ndim == 2:
        weights = centres.new_ones(len(centres))
        if normalised:
            lengths = torch.linalg.vector_norm(centres, dim=1)
            weights = torch.where(lengths <= MIN_LENGTH, 0.0, 1.0 / lengths.clamp_min(MIN_LENGTH))
        target = weights[labels] * (embeddings * centres[labels]).sum(1)
        products = (embeddings @ (weights @ centres) - target)[:, None]
        logits = scale * products
        return logits[:, 0] if bias is None else logits[:, 0] + bias.sum() - bias[labels]
    target = _target_cosines(embeddings, centres, labels, normalised).detach()
    step = max(MAX_PLAIN_LOGITS // max(len(embeddings), 1), 1)
    total = embeddings.new_zeros(len(embeddings))
    for begin in range(0, len(centres), step):
        chunk = slice(begin, begin + step)
        biases = None if bias is None else bias[chunk]
        arguments = (embeddings, centres[chunk], labels - begin, scale, biases)
        options = (target[:, None], non_target, normalised)
        if step >= len(centres):
            total = total + _sum_of_chunk(*arguments, *options)
        else:
            total = total + checkpoint(
                _sum_of_chunk, *arguments, *options, use_reentrant=False, preserve_rng_state=False
            )
    return total


def _target_cosines(
    embeddings: Tensor, centres: Tensor, labels: Tensor, normalised: bool
) -> Tensor:
    """Returns the (N,) products with the target class centre, the largest one of sub-centres."""
    target_centres = unit(centres[labels]) if normalised else centres[labels]
    products = torch.einsum("n...d,nd->n...", target_centres, embeddings)
    products = products if centres.ndim == 2 else products.amax(1)
    return products.clamp(-1.0, 1.0) if normalised else products


def _sum_of_chunk(
    embeddings: Tensor,
    centres: Tensor,
    column: Tensor,
    scale: float | Tensor,
    bias: Tensor | None,
    target: Tensor,
    non_target: NonTargetFunction | None,
    normalised: bool,
) -> Tensor:
    """Returns the (N,) sums of the logits of a chunk of classes, without the target class.

    `column` is the (N,) position of the target class in the chunk, out of range if it is not there.
    """
    products = cosines(embeddings, centres) if normalised else F.linear(embeddings, centres)
    logits = scale * (products if non_target is None else non_target(products, target))
    logits = logits if bias is None else logits + bias
    is_target = column[:, None] == torch.arange(len(centres), device=column.device)
    return torch.where(is_target, 0.0, logits).sum(1)


def _chunks(embeddings: Tensor, centres: Tensor) -> Iterator[slice]:
    """Yields slices that together cover all classes."""
    # On a CPU the logits and class centres of a chunk should fit into its cache. A GPU needs larger
    # chunks to be fully used.
    step = 2048
    if embeddings.device.type != "cpu":
        step = max(2**26 // max(len(embeddings), 1), 1024)
    for begin in range(0, len(centres), step):
        yield slice(begin, min(begin + step, len(centres)))


def _product_buffer(stored: Tensor | None, chunk: slice, embeddings: Tensor) -> Tensor:
    """Returns memory for the (N, K) products of a chunk: the start of its share of `stored`."""
    count = chunk.stop - chunk.start
    if stored is None:
        return embeddings.new_empty(len(embeddings), count)
    return stored[chunk].view(-1)[: len(embeddings) * count].view(len(embeddings), count)


def _target_products(embeddings: Tensor, target_centres: Tensor, normalised: bool) -> Tensor:
    """Returns the (N,) products of embeddings with their (N, D) target class centres."""
    if not normalised:
        return (embeddings * target_centres).sum(1)
    return (embeddings * unit(target_centres)).sum(1).clamp(-1.0, 1.0)


def _logits(
    products: Tensor,
    inverse_lengths: Tensor,
    target: Tensor,
    scale: float | Tensor,
    bias: Tensor | None,
    non_target: NonTargetFunction | None,
    normalised: bool,
) -> Tensor:
    """Returns the (N, K) logits of a chunk as a new tensor.

    `inverse_lengths` are the (K,) reciprocal lengths of the class centres.
    """
    if non_target is None and not isinstance(scale, Tensor):
        # Multiplying the (N, K) matrix once instead of twice saves time.
        logits = products * (inverse_lengths * scale)
    else:
        logits = _replace(products * inverse_lengths, target, non_target, normalised) * scale
    return logits if bias is None else logits.add_(bias)


def _replace(
    products: Tensor, target: Tensor, non_target: NonTargetFunction | None, normalised: bool
) -> Tensor:
    """Applies the function for non-target classes, if there is one, to (N, K) products."""
    if non_target is None:
        return products
    return non_target(products.clamp(-1.0, 1.0) if normalised else products, target[:, None])


def _slope_of_reduction(logits: Tensor, reduced: Tensor, reduction: Reduction) -> Tensor:
    """Returns the derivative of the reduced logits with respect to (N, K) logits, in place."""
    if reduction == "softplus":
        return logits.sigmoid_()
    return logits.sub_(reduced[:, None]).exp_()


def _slope_before_replacing(
    slope: Tensor,
    products: Tensor,
    target: Tensor,
    non_target: NonTargetFunction,
    normalised: bool,
) -> Tensor:
    """Propagates the derivative back from the result of `non_target` to the products."""
    with torch.enable_grad():
        inputs = products.detach().requires_grad_()
        replaced = _replace(inputs, target, non_target, normalised)
        (gradient,) = torch.autograd.grad(replaced, inputs, slope)
    return gradient


def _write_centre_gradient(
    gradient: Tensor, slope: Tensor, embeddings: Tensor, centres: Tensor, parallel: Tensor | None
) -> None:
    """Writes the gradient of a chunk of (K, D) class centres into `gradient`."""
    if parallel is None:
        torch.mm(slope.T, embeddings, out=gradient)
    else:
        torch.mul(centres, parallel.neg()[:, None], out=gradient)
        gradient.addmm_(slope.T, embeddings)


def _fill_target(values: Tensor, labels: Tensor, chunk: slice, fill: float | Tensor) -> None:
    """Writes `fill` in place into the target column of each row of (N, K) values.

    Rows whose target class lies outside the chunk stay unchanged. The CPU does not wait for a GPU
    here.
    """
    column = labels - chunk.start
    inside = ((column >= 0) & (column < values.shape[1]))[:, None]
    column = column.clamp(0, values.shape[1] - 1)[:, None]
    filling = fill[:, None] if isinstance(fill, Tensor) else torch.full_like(values[:, :1], fill)
    values.scatter_(1, column, torch.where(inside, filling, values.gather(1, column)))
