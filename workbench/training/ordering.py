"""The order of the images and the seeds of the augmentation, as pure functions of epoch or step.

A checkpoint need not store any state of these functions: their results depend only on their
arguments.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def order_of_epoch(count: int, epoch: int, seed: int) -> NDArray[np.int64]:
    """Returns the random order of the images in an epoch.

    Args:
        count: Number of images.
        epoch: Number of the epoch, from 0.
        seed: The setting `seed`.

    Returns:
        (count,) numbers of the images.
    """
    return np.random.default_rng([seed, epoch]).permutation(count)


def order_by_shard(
    shard_of: NDArray[np.int64], epoch: int, seed: int, open_shards: int = 4
) -> NDArray[np.int64]:
    """Returns the order of the images in an epoch if only a few shards fit on the disk at a time.

    The shards are put into a random order and processed in groups of `open_shards`. The images of
    a group are shuffled together.

    Args:
        shard_of: (N,) number of the shard that contains each image; -1 for images that are always
            available, which are assigned to a random group.
        epoch: Number of the epoch, from 0.
        seed: The setting `seed`.
        open_shards: Number of shards in a group.

    Returns:
        (N,) numbers of the images.
    """
    rng = np.random.default_rng([seed, epoch])
    group_of_shard = rng.permutation(int(shard_of.max(initial=0)) + 1) // open_shards
    shuffled = rng.permutation(len(shard_of))
    group = group_of_shard[shard_of[shuffled]]
    always_available = shard_of[shuffled] < 0
    count = np.count_nonzero(always_available)
    group[always_available] = rng.integers(group_of_shard.max() + 1, size=count)
    return shuffled[np.argsort(group, kind="stable")]


def order_by_identity(
    identities: NDArray[np.int64],
    images_per_identity: int,
    batch_size: int,
    length: int,
    epoch: int,
    seed: int,
) -> NDArray[np.int64]:
    """Returns the order of the images in an epoch of batches with P identities and K images each.

    These are the "PK batches" of Hermans et al., "In defense of the triplet loss for person
    re-identification", 2017, section 2. The identities are visited in rounds, each round in a new
    random order, and each visit takes the next K of the identity's own shuffled images. After its
    last image, an identity starts again with its first one. An identity with fewer than K images
    does so within one visit, which then contains copies (see `without_copies`). Therefore all
    identities are visited equally often, however many images they have. A batch never contains an
    identity twice if there are at least P identities.

    Args:
        identities: (N,) identity of each image, 0..C-1; every identity has at least one image.
        images_per_identity: K.
        batch_size: P * K.
        length: Number of images in the epoch, a multiple of the batch size.
        epoch: Number of the epoch, from 0.
        seed: The setting `seed`.

    Returns:
        (length,) numbers of the images. Each group of K consecutive images shows one identity,
        and each group of P * K consecutive images is a batch.
    """
    rng = np.random.default_rng([seed, epoch])
    counts = np.bincount(identities)
    shuffled = rng.permutation(len(identities))
    by_identity = shuffled[np.argsort(identities[shuffled], kind="stable")]
    begin = np.cumsum(counts) - counts

    identities_per_batch = batch_size // images_per_identity
    visits = length // images_per_identity
    rounds: list[NDArray[np.int64]] = []
    for visits_before in range(0, visits, len(counts)):
        order = rng.permutation(len(counts))
        in_open_batch = visits_before % identities_per_batch
        if in_open_batch:
            # The last round ended within a batch. The identities in that batch are moved to the
            # end of this round, so that the batch does not contain them twice.
            repeated = np.isin(order, rounds[-1][-in_open_batch:])
            order = np.concatenate([order[~repeated], order[repeated]])
        rounds.append(order)
    visited = np.concatenate(rounds)[:visits]
    shown_before = np.repeat(np.arange(len(rounds)), len(counts))[:visits] * images_per_identity
    position = shown_before[:, None] + np.arange(images_per_identity)
    position %= counts[visited][:, None]
    return by_identity[begin[visited][:, None] + position].ravel()


def without_copies(images: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Removes repeated images from a batch.

    A batch of `order_by_identity` repeats images of identities that have fewer than K. A loss that
    compares images of one identity must not treat an image and its copy as a genuine pair.

    Args:
        images: (N, C, H, W) images.
        numbers: (N,) number of each image.

    Returns:
        The first occurrence of each image, (M, C, H, W), and the numbers, (M,). If no image is
        repeated, these are the arguments themselves.
    """
    _, first = np.unique(numbers.numpy(), return_index=True)
    if len(first) == len(numbers):
        return images, numbers
    keep = torch.from_numpy(np.sort(first))
    return images[keep].contiguous(memory_format=torch.channels_last), numbers[keep]


def seed_of_step(step: int, seed: int) -> int:
    """Returns the seed of the augmentation in a step.

    Args:
        step: Number of the step, from 0.
        seed: The setting `seed`.
    """
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
