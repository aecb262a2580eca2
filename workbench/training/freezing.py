"""Stages of a backbone that are not trained at first, and frozen batch statistics."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.backbones import Backbone
from workbench.errors import WorkbenchError


class Freezer:
    """Freezes the first stages of a backbone for a number of steps, and batch normalisation.

    The weights of a frozen stage get no gradient, so that they do not change, and its batch
    normalisation uses its running statistics, which do not change either. What is frozen is a
    function of the step, so that a resumed training needs no further state.

    Args:
        net: The backbone.
        optimizer: The optimiser of its weights.
        steps: Number of steps for which the stages are frozen, >= 0.
        stages: Number of frozen stages, counted from the input; None for all but the last one,
            which makes the embedding.
        batch_norm: Whether the running statistics of the whole backbone are frozen in all steps.
        whole: Whether the whole backbone is frozen in all steps, because only the heads of tasks
            are trained. The loop computes it without gradient.

    Raises:
        WorkbenchError: If the backbone has no more stages than should be frozen.

    Example:
        >>> import torch, workbench as wb
        >>> net = wb.backbones.create("iresnet18", embedding_dim=8, image_size=16)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> freezer = Freezer(net, optimizer, steps=100, stages=2, batch_norm=False)
        >>> freezer.apply(99)
        >>> net.conv1.weight.requires_grad, net.bn1.training, net.fc.weight.requires_grad
        (False, False, True)
        >>> freezer.apply(100)
        >>> net.conv1.weight.requires_grad, net.bn1.training
        (True, True)
    """

    def __init__(
        self,
        net: Backbone,
        optimizer: torch.optim.Optimizer,
        steps: int,
        stages: int | None,
        batch_norm: bool,
        whole: bool = False,
    ) -> None:
        all_stages = net.stages()
        count = len(all_stages) - 1 if stages is None else stages
        if steps and not 1 <= count < len(all_stages):
            names = ", ".join(stage.name for stage in all_stages)
            raise WorkbenchError(
                f"freeze_stages is {count}, but {type(net).__name__} has {len(all_stages)} stages "
                f"({names}), of which at most {len(all_stages) - 1} can be frozen"
            )
        self.net, self.optimizer, self.steps, self.whole = net, optimizer, steps, whole
        self.is_frozen: bool | None = None
        frozen = all_stages[:count] if steps else []
        # Weights that are fixed by an option of the backbone stay fixed afterwards.
        self.parameters = [
            parameter
            for stage in frozen
            for parameter in stage.parameters
            if parameter.requires_grad
        ]
        self.stage_modules = [module for stage in frozen for module in stage.modules]
        self.norms = [layer for layer in net.modules() if isinstance(layer, _BatchNorm)]
        if not batch_norm:
            self.norms = []

    def apply(self, step: int) -> None:
        """Sets what is trained in a step, and puts the rest of the backbone into training mode.

        Args:
            step: Number of steps done before this one.
        """
        if self.whole:
            self.net.eval()
            return
        is_frozen = step < self.steps
        if self.net.training and self.is_frozen == is_frozen:
            return  # nothing has changed since the last step
        self.is_frozen = is_frozen
        for parameter in self.parameters:
            parameter.requires_grad_(not is_frozen)
        if not is_frozen:
            self._begin_momentum()
        self.net.train()
        modules: list[nn.Module] = [*self.norms, *(self.stage_modules if is_frozen else [])]
        for module in modules:
            module.eval()

    def _begin_momentum(self) -> None:
        """Gives the weights that were frozen a momentum of 0.

        The fused SGD of PyTorch cannot update weights that have a momentum together with weights
        that have none yet.
        """
        thawed = set(self.parameters)
        for group in self.optimizer.param_groups:
            if not (isinstance(self.optimizer, torch.optim.SGD) and group["momentum"]):
                continue
            for parameter in thawed.intersection(group["params"]):
                state = self.optimizer.state[parameter]
                state.setdefault("momentum_buffer", torch.zeros_like(parameter))
