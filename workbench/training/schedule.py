"""What changes with the step, as pure functions of it, so that a resumed run needs no state to go on."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def learning_rate(step: int, total: int, warmup: int, peak: float) -> float:
    """Linear rise to `peak` over `warmup` steps, then half a cosine down to (nearly) 0 at `total`.

    Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, eq. 5, without restarts.

    Args:
        step: number of the step, 0..total-1.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def margin_ramp(step: int, ramp: int) -> float:
    """Share of the margin in force: 0 at first, 1 from step `ramp` on."""
    return 1.0 if step >= ramp else step / ramp


def order_of_epoch(count: int, epoch: int, seed: int) -> NDArray[np.int64]:
    """The order in which epoch number `epoch` visits `count` images."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def order_by_shard(
    shard_of: NDArray[np.int64], epoch: int, seed: int, open_shards: int = 4
) -> NDArray[np.int64]:
    """The order in which epoch number `epoch` visits images of which only those of a few files can be at hand.

    The files take turns in a random order, `open_shards` at a time, and the images of these are shuffled together.

    Args:
        shard_of: (N,) number of the file that holds each image; -1 for one that is always at hand, which comes at any turn.
        open_shards: files that are at hand at the same time.

    Returns:
        (N,) numbers of images.
    """
    rng = np.random.default_rng([seed, epoch])
    turn = rng.permutation(int(shard_of.max(initial=0)) + 1) // open_shards
    shuffled = rng.permutation(len(shard_of))
    turn_of, at_hand = turn[shard_of[shuffled]], shard_of[shuffled] < 0
    turn_of[at_hand] = rng.integers(turn.max() + 1, size=np.count_nonzero(at_hand))
    return shuffled[np.argsort(turn_of, kind="stable")]


def order_by_identity(
    identities: NDArray[np.int64],
    images_per_identity: int,
    batch_size: int,
    length: int,
    epoch: int,
    seed: int,
) -> NDArray[np.int64]:
    """The order in which epoch number `epoch` visits images when batches are made of P identities with K images each.

    Hermans et al., "In defense of the triplet loss for person re-identification", 2017, section 2 ("PK batches"). All
    identities take turns, each round in a new random order, K images at a time from their own shuffled images; an
    identity that has shown all begins again, within a turn too if it has fewer than K (see `without_copies`). So all identities
    are shown equally often, however many images they have, and a batch never holds an identity twice where there are P of them.

    Args:
        identities: (N,) identity of each image, 0..C-1, every number in use.
        images_per_identity: K.
        batch_size: P K.
        length: images wanted, a multiple of the batch size.

    Returns:
        (length,) numbers of images; each K of them, and each P K of them, belong together.
    """
    rng = np.random.default_rng([seed, epoch])
    counts = np.bincount(identities)
    shuffled = rng.permutation(len(identities))
    by_identity = shuffled[np.argsort(identities[shuffled], kind="stable")]
    begin = np.cumsum(counts) - counts

    people, turns = batch_size // images_per_identity, length // images_per_identity
    rounds: list[NDArray[np.int64]] = []
    for begun in range(0, turns, len(counts)):
        order = rng.permutation(len(counts))
        if (
            begun % people
        ):  # the round before left a batch half full: who is in it already waits for the next
            waiting = np.isin(order, rounds[-1][-(begun % people) :])
            order = np.concatenate([order[~waiting], order[waiting]])
        rounds.append(order)
    turn = np.concatenate(rounds)[:turns]
    shown = np.repeat(np.arange(len(rounds)), len(counts))[:turns] * images_per_identity
    place = (shown[:, None] + np.arange(images_per_identity)) % counts[turn][:, None]
    return by_identity[begin[turn][:, None] + place].ravel()


def without_copies(images: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """A batch without the images that it holds more than once, as it does where an identity has fewer than K.

    A loss that compares images of one identity would take an image and its copy for two pictures of a person.

    Args:
        images: (N, ...).
        numbers: (N,) number of each image.

    Returns:
        Both, (M, ...) and (M,) with M <= N, in the order of their first places; the same tensors where nothing is left out.
    """
    _, first = np.unique(numbers.numpy(), return_index=True)
    if len(first) == len(numbers):
        return images, numbers
    keep = torch.from_numpy(np.sort(first))
    return images[keep].contiguous(memory_format=torch.channels_last), numbers[keep]


def seed_of_step(step: int, seed: int) -> int:
    """Seed of the augmentation of one step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
