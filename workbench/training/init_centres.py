"""Taking over the class centres of an earlier training, by the names of the identities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench import losses
from workbench.data import Dataset, parts
from workbench.finite import check_tensors
from workbench.training.config import TrainConfig
from workbench.training.init_sources import Source

CENTRES = "weight"
"""Name of the class centres of a classification loss."""


def take_over_centres(
    source: Source, config: TrainConfig, loss: losses.Loss, dataset: Dataset, is_new_head: bool
) -> tuple[int, str]:
    """Loads the class centres of the identities that both training sets have.

    Sub-centres, and the biases of a loss of the same name, are taken over as well. Other class
    centres keep their random values.

    Args:
        source: The weights of the earlier training.
        config: The settings.
        loss: The loss, which is changed.
        dataset: The training set.
        is_new_head: Whether the layer that makes the embedding begins with random weights.

    Returns:
        The number of these identities, and, if it is 0, the reason.

    Raises:
        WorkbenchError: if class centres of the source are not finite.
    """
    obstacle = _obstacle(source, config, loss, dataset, is_new_head)
    names = source.identity_names
    if obstacle or names is None:
        return 0, obstacle
    rows, source_rows = matches(dataset.identity_names, names)
    if not len(rows):
        return 0, "no identity has the same name in both training sets"
    state = loss.state_dict()
    for name in _shared(source, config, loss, dataset, names):
        filled = state[name].clone()
        filled[rows.to(filled.device)] = source.loss_tensors[name][source_rows].to(filled)
        state[name] = filled
    check_tensors(state, f"init {source.name!r}", "set init_centres: false")
    loss.load_state_dict(state)
    return len(rows), ""


def per_class(loss: losses.Loss, num_classes: int) -> dict[str, Tensor]:
    """Returns the weights and statistics of a loss that have a row for each class.

    Args:
        loss: The loss.
        num_classes: Number of classes.

    Returns:
        The tensors by name: class centres, sub-centres, biases and the like.

    Example:
        >>> import workbench as wb
        >>> loss = wb.losses.create("softmax", embedding_dim=4, num_classes=3)
        >>> {name: tuple(tensor.shape) for name, tensor in per_class(loss, 3).items()}
        {'weight': (3, 4), 'bias': (3,)}
    """
    return {
        name: tensor
        for name, tensor in loss.state_dict().items()
        if tensor.ndim and tensor.shape[0] == num_classes
    }


def matches(names: Sequence[str], source_names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Finds the names that two lists have in common.

    Args:
        names: The first list, without repetitions.
        source_names: The second list, without repetitions.

    Returns:
        (K,) positions of the K common names in the first list, in ascending order, and (K,)
        positions of the same names in the second.

    Example:
        >>> matches(["anna", "bert", "carl"], ["carl", "anna"])
        (tensor([0, 2]), tensor([1, 0]))
    """
    position = {name: number for number, name in enumerate(source_names)}
    pairs = [(row, position[name]) for row, name in enumerate(names) if name in position]
    both = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _obstacle(
    source: Source, config: TrainConfig, loss: losses.Loss, dataset: Dataset, is_new_head: bool
) -> str:
    """Returns the reason why no class centres can be taken over; empty if they can."""
    names = source.identity_names
    if not source.loss_tensors:
        return "the source has none"
    if is_new_head:
        return "a layer that makes the embedding is new"
    if names is None:
        return "the names of the identities of the source are not known"
    if CENTRES not in _shared(source, config, loss, dataset, names):
        return f"those of {source.loss} have another shape"
    if not _are_comparable(source, config, dataset, names):
        return "the names of the identities are numbers, which mean others in other data"
    return ""


def _shared(
    source: Source,
    config: TrainConfig,
    loss: losses.Loss,
    dataset: Dataset,
    source_names: Sequence[str],
) -> list[str]:
    """Returns the names of the tensors with a row for each class that both losses have."""
    return [
        name
        for name, tensor in per_class(loss, dataset.num_identities).items()
        if name in source.loss_tensors
        and source.loss_tensors[name].shape == (len(source_names), *tensor.shape[1:])
        # The meaning of biases and statistics depends on the loss.
        and (name == CENTRES or source.loss == config.loss)
    ]


def _are_comparable(
    source: Source, config: TrainConfig, dataset: Dataset, source_names: Sequence[str]
) -> bool:
    """Whether equal names mean the same identity.

    Numbers mean the same identities only in parts of the same data.
    """
    if not all(name.isdecimal() for name in source_names):
        return True
    if source.fingerprint and source.fingerprint == dataset.fingerprint():
        return True
    return bool(source.data) and _origins(source.data) == _origins(config.data)


def _origins(spec: str) -> set[tuple[str, str]]:
    """Returns the kinds and paths in a spec, without the options that select parts."""
    return {(part.kind, str(part.source[1])) for part in parts(spec)}
