"""The head: each embedding's own class against all others, for any number of classes.

A softmax loss needs two numbers of an embedding: the product with its own class centre, and the log-sum-exp of the logits of
all other classes. `plain` has the (N, C) logits in memory at once and reads as the textbook does. `Streamed` goes through the
classes chunk by chunk and gives the same to float32 rounding. Sampled, either of them sees a random part of the other classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import WorkbenchError

HeadName = Literal["auto", "plain", "streamed", "sampled"]
Others = Callable[[Tensor, Tensor], Tensor]
"""(N, K) cosines to other classes, (N, 1) cosine to the own one -> what stands in place of the former, element by element."""
Reduction = Literal["log_sum_exp", "softplus"]

SHORTEST = 1e-4
"""A shorter vector counts as one without direction. In float16 the derivative of a direction, 1 / length, times a scale of
64 would overflow not far below."""
PLAIN_LOGITS = 2**21
"""`auto` streams from this many logits on: 8 MB, of which plain training holds six or so."""


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1 in the same directions: (..., D) -> (..., D). One shorter than `SHORTEST` becomes 0, and its
    derivative too: its cosines are 0, and it does not swamp the gradient of the batch."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(
        lengths <= SHORTEST, 0.0, vectors / lengths.clamp_min(SHORTEST)
    )  # NaN stays NaN


def cosines(directions: Tensor, weight: Tensor) -> Tensor:
    """(N, D) unit vectors, (C, D) class centres -> (N, C) cosines; of (C, K, D) sub-centres the nearest one's."""
    # Rounding can leave a product of unit vectors at 1 + 1e-7, where sin theta is not defined.
    products = F.linear(directions, unit(weight).flatten(0, -2)).clamp(-1.0, 1.0)
    return (
        products if weight.ndim == 2 else products.view(len(directions), *weight.shape[:2]).amax(2)
    )


def sample_classes(labels: Tensor, num_classes: int, rate: float) -> tuple[Tensor, Tensor]:
    """The batch's own classes and as many others, drawn at random, as make `rate` of all.

    An et al., "Partial FC: Training 10 million identities on a single machine", ICCV workshops 2021, section 3.3.

    Returns:
        (K,) numbers of the classes, sorted, and the labels as positions among them.
    """
    order = torch.rand(num_classes, device=labels.device)
    order[labels] = 2.0
    count = max(math.ceil(rate * num_classes), int((order == 2.0).sum()))
    rows = order.topk(count, sorted=False).indices.sort().values
    return rows, torch.searchsorted(rows, labels)


def plain(
    queries: Tensor,
    weight: Tensor,
    labels: Tensor,
    scale: float | Tensor,
    bias: Tensor | None,
    others: Others | None,
    normalised: bool,
    reduction: Reduction,
) -> tuple[Tensor, Tensor]:
    """Own product and the reduced logits of the other classes, by the book.

    Args:
        queries: (N, D) embeddings; of length 1 where `normalised`.
        weight: (C, D) class centres, or (C, K, D) sub-centres.
        labels: (N,).
        scale: a number, or an (N, 1) or () tensor: logit = scale * product + bias.
        bias: (C,).
        others: what a loss makes of the other classes' products before that; None: nothing.
        normalised: products are cosines, with the class centres brought to length 1.
        reduction: how the other classes' logits become one number: their log-sum-exp, or the sum of log(1 + exp(logit)).

    Returns:
        (N,) products with the own class centre, without scale and bias; (N,) reduced logits, -inf or 0 where there is no
        other class.
    """
    products = cosines(queries, weight) if normalised else F.linear(queries, weight)
    own = products.gather(1, labels[:, None])
    shaped = products if others is None else others(products, own.detach())
    logits = scale * shaped if bias is None else scale * shaped + bias
    logits = logits.scatter(1, labels[:, None], -torch.inf)
    return own[:, 0], logits.logsumexp(1) if reduction == "log_sum_exp" else F.softplus(logits).sum(
        1
    )


class Streamed(torch.autograd.Function):
    """`plain` for (C, D) class centres, a chunk of classes at a time, in memory that hardly depends on N x C.

    The log-sum-exp is put together from those of the chunks. Backward needs the products again: where the batch is not
    larger than D, they wait in the memory of the gradient of the class centres, which is overwritten chunk by chunk as it
    is read (N <= D numbers a class for D); else they are computed a second time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        weight: Tensor,
        labels: Tensor,
        scale: float | Tensor,
        bias: Tensor | None,
        others: Others | None,
        normalised: bool,
        reduction: Reduction,
    ) -> tuple[Tensor, Tensor]:
        can_wait = ctx.needs_input_grad[1] and queries.shape[0] <= weight.shape[1]
        held = torch.empty_like(weight, memory_format=torch.contiguous_format) if can_wait else None
        own_weight = weight[labels]
        own = (queries * (unit(own_weight) if normalised else own_weight)).sum(1)
        own = own.clamp(-1.0, 1.0) if normalised else own
        inverse = weight.new_ones(len(weight))
        rest = torch.full_like(own, -torch.inf if reduction == "log_sum_exp" else 0.0)
        for part in _chunks(queries, weight):
            if normalised:
                lengths = torch.linalg.vector_norm(weight[part], dim=1)
                inverse[part] = torch.where(lengths <= SHORTEST, 0.0, lengths.reciprocal())
            products = _held(held, part, queries)
            torch.mm(queries, weight[part].T, out=products)
            logits = _logits(
                products,
                inverse[part],
                own,
                scale,
                None if bias is None else bias[part],
                others,
                normalised,
            )
            _fill_own(logits, labels, part, -torch.inf)
            if reduction == "log_sum_exp":
                rest = torch.logaddexp(rest, logits.logsumexp(1))
            else:
                rest += F.softplus(logits).sum(1)
        ctx.save_for_backward(
            queries,
            weight,
            labels,
            scale if isinstance(scale, Tensor) else None,
            bias,
            own,
            rest,
            inverse,
        )
        ctx.rest_of = (None if isinstance(scale, Tensor) else scale, others, normalised, reduction)
        ctx.held = held
        return own, rest

    @staticmethod
    def backward(ctx: Any, own_gradient: Tensor, rest_gradient: Tensor) -> Any:
        if torch.is_grad_enabled():  # create_graph=True
            raise WorkbenchError(
                "a streamed head has no second derivatives; give the loss head 'plain'"
            )
        queries, weight, labels, scale_tensor, bias, own, rest, inverse = ctx.saved_tensors
        number, others, normalised, reduction = ctx.rest_of
        scale = scale_tensor if number is None else number
        wants_queries, wants_weight, _, wants_scale, wants_bias = ctx.needs_input_grad[:5]
        held, ctx.held = (
            ctx.held,
            None,
        )  # a second backward through the same graph computes the products again
        query_gradient = torch.zeros_like(queries)
        weight_gradient = (
            None if not wants_weight else torch.empty_like(weight) if held is None else held
        )
        scale_gradient = queries.new_zeros(len(queries), 1)
        bias_gradient = torch.zeros_like(bias) if wants_bias else None
        rest = torch.where(rest.isinf(), 0.0, rest)  # of a class without others
        for part in _chunks(queries, weight):
            products = _held(held, part, queries)
            if held is None:
                torch.mm(queries, weight[part].T, out=products)
            logits = _logits(
                products,
                inverse[part],
                own,
                scale,
                None if bias is None else bias[part],
                others,
                normalised,
            )
            _fill_own(logits, labels, part, -torch.inf)
            slope = (
                logits.sub_(rest[:, None]).exp_()
                if reduction == "log_sum_exp"
                else logits.sigmoid_()
            )
            if bias_gradient is not None:
                bias_gradient[part] = rest_gradient @ slope
            if wants_scale:
                shaped = _shaped(products * inverse[part], own, others, normalised)
                scale_gradient += (slope * shaped).sum(1, keepdim=True) * rest_gradient[:, None]
            slope *= rest_gradient[:, None] * scale
            if others is not None:
                slope = _through(slope, products * inverse[part], own, others, normalised)
            _fill_own(slope, labels, part, own_gradient)
            if normalised:  # of w / |w|, what points along w falls away
                along = (slope * products).sum(0) * inverse[part].pow(3)
                slope *= inverse[part]
            if weight_gradient is not None:
                target = weight_gradient[part]
                if normalised:
                    torch.mul(weight[part], along.neg_()[:, None], out=target)
                    target.addmm_(slope.T, queries)
                else:
                    torch.mm(slope.T, queries, out=target)
            if wants_queries:
                query_gradient.addmm_(slope, weight[part])
        if wants_scale:
            scale_gradient = scale_gradient if scale.ndim else scale_gradient.sum()
        return (
            query_gradient if wants_queries else None,
            weight_gradient,
            None,
            scale_gradient if wants_scale else None,
            bias_gradient,
            None,
            None,
            None,
        )


def streamed(*arguments: Any) -> tuple[Tensor, Tensor]:
    """`plain`, streamed: the same arguments and results."""
    queries, weight, *others = arguments
    if not torch.is_grad_enabled():
        weight = weight.detach()  # so that no memory waits for a gradient
    own, rest = Streamed.apply(queries, weight, *others)
    return own, rest


def _chunks(queries: Tensor, weight: Tensor) -> Iterator[slice]:
    # A chunk's logits and class centres should stay in a CPU's cache, and be much for a GPU to do at a time.
    step = 2048 if queries.device.type == "cpu" else max(2**26 // max(len(queries), 1), 1024)
    for begin in range(0, len(weight), step):
        yield slice(begin, min(begin + step, len(weight)))


def _held(held: Tensor | None, part: slice, queries: Tensor) -> Tensor:
    """Where the (N, K) products of a chunk wait for backward: the beginning of the chunk's share of the gradient."""
    count = part.stop - part.start
    if held is None:
        return queries.new_empty(len(queries), count)
    return held[part].view(-1)[: len(queries) * count].view(len(queries), count)


def _logits(
    products: Tensor,
    inverse: Tensor,
    own: Tensor,
    scale: float | Tensor,
    bias: Tensor | None,
    others: Others | None,
    normalised: bool,
) -> Tensor:
    """Of (N, K) products with class centres of lengths 1 / `inverse`, a new tensor."""
    if others is None and not isinstance(scale, Tensor):
        logits = products * (inverse * scale)  # at once: each time through a chunk counts
    else:
        logits = _shaped(products * inverse, own, others, normalised) * scale
    return logits if bias is None else logits.add_(bias)


def _shaped(products: Tensor, own: Tensor, others: Others | None, normalised: bool) -> Tensor:
    if others is None:
        return products
    return others(products.clamp(-1.0, 1.0) if normalised else products, own[:, None])


def _through(
    slope: Tensor, products: Tensor, own: Tensor, others: Others, normalised: bool
) -> Tensor:
    """The derivative with respect to what `others` gives -> with respect to the products."""
    with torch.enable_grad():
        inner = products.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_shaped(inner, own, others, normalised), inner, slope)
    return gradient


def _fill_own(values: Tensor, labels: Tensor, part: slice, with_what: float | Tensor) -> None:
    """Write into (N, K) values, in place, at each row's own class if it is in this chunk; without asking the device where."""
    column = labels - part.start
    inside = ((column >= 0) & (column < values.shape[1]))[:, None]
    column = column.clamp(0, values.shape[1] - 1)[:, None]
    filling = (
        with_what[:, None]
        if isinstance(with_what, Tensor)
        else torch.full_like(values[:, :1], with_what)
    )
    values.scatter_(1, column, torch.where(inside, filling, values.gather(1, column)))
