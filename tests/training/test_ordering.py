from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workbench.training.ordering import (
    order_by_identity,
    order_by_shard,
    order_of_epoch,
    seed_of_step,
)


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own() -> None:
    orders = [order_of_epoch(50, epoch, seed) for epoch, seed in ((0, 0), (1, 0), (0, 1), (1, 1))]
    for order in orders:
        assert sorted(order) == list(range(50))
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(orders[1], order_of_epoch(50, 1, 0))


def _identities(counts: list[int], seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    together=st.integers(1, 5),
    people=st.integers(1, 8),
    batches=st.integers(1, 12),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 2**63 - 1),
)
def test_batches_by_identity(
    counts: list[int], together: int, people: int, batches: int, epoch: int, seed: int
) -> None:
    identities = _identities(counts)
    size = people * together
    order = order_by_identity(identities, together, size, batches * size, epoch, seed)
    assert order.shape == (batches * size,)
    np.testing.assert_array_equal(
        order, order_by_identity(identities, together, size, batches * size, epoch, seed)
    )
    groups = order.reshape(batches, people, together)
    who = identities[groups]
    assert (who == who[..., :1]).all()  # K of one identity
    for batch in who[..., 0]:
        assert len(set(batch.tolist())) == min(
            people, len(counts)
        )  # P of them, while there are as many
    for group, identity in zip(groups.reshape(-1, together), who[..., 0].ravel(), strict=True):
        shown = np.bincount(np.unique(group, return_inverse=True)[1])
        assert len(shown) == min(together, counts[identity])  # no image twice that need not be
        assert shown.max() - shown.min() <= 1
    turns = np.bincount(who[..., 0].ravel(), minlength=len(counts))
    if batches * people >= len(counts):
        assert turns.max() - turns.min() <= (
            1 if people <= len(counts) else 2
        )  # all identities equally often
    seen = np.bincount(order, minlength=len(identities))
    for identity in range(len(counts)):
        own = seen[identities == identity]
        assert own.max() - own.min() <= 1  # and each of its images


def test_batches_by_identity_differ_between_epochs_and_seeds() -> None:
    identities = _identities([8] * 10)
    orders = [
        order_by_identity(identities, 4, 16, 80, epoch, seed)
        for epoch, seed in ((0, 0), (1, 0), (0, 1), (1, 1))
    ]
    assert len({tuple(order) for order in orders}) == 4
    for order in orders:
        assert sorted(order) == list(range(80))  # two turns of 4 show all 8


def test_over_some_epochs_a_person_with_many_images_shows_them_all() -> None:
    identities = _identities([40] + [2] * 9)
    seen = np.concatenate(
        [order_by_identity(identities, 4, 16, 48, epoch, 0) for epoch in range(60)]
    )
    assert set(seen) == set(range(len(identities)))


def test_every_step_has_a_seed_of_its_own_that_torch_takes() -> None:
    seeds = [seed_of_step(step, seed) for step in range(100) for seed in range(5)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds[0] == seed_of_step(0, 0)


@settings(deadline=None)
@given(
    shard_of=st.lists(st.integers(0, 12), max_size=60).map(
        lambda shards: np.array(shards, dtype=np.int64)
    ),
    epoch=st.integers(0, 3),
    open_shards=st.integers(1, 14),
)
def test_few_shards_are_at_hand_at_a_time(
    shard_of: NDArray[np.int64], epoch: int, open_shards: int
) -> None:
    order = order_by_shard(shard_of, epoch, 7, open_shards)
    assert sorted(order) == list(range(len(shard_of)))
    np.testing.assert_array_equal(order, order_by_shard(shard_of, epoch, 7, open_shards))
    visited = shard_of[order]
    opened = {shard: np.flatnonzero(visited == shard) for shard in set(visited.tolist())}
    for places in opened.values():
        assert len(set(visited[places[0] : places[-1] + 1].tolist())) <= open_shards


def test_images_at_hand_come_at_any_turn() -> None:
    shard_of = np.concatenate([np.repeat(np.arange(10), 50), np.full(1000, -1)])
    order = order_by_shard(shard_of, 0, 3, 2)
    assert sorted(order) == list(range(1500))
    visited = shard_of[order]
    fetched = visited[visited >= 0].reshape(5, 100)  # two shards of 50 images a turn
    assert [len(set(turn.tolist())) for turn in fetched] == [2] * 5
    assert all(40 < np.count_nonzero(part < 0) < 95 for part in visited.reshape(-1, 100))
    assert sorted(order_by_shard(np.full(5, -1), 0, 3)) == list(range(5))


def test_shards_and_their_images_come_in_another_order_each_epoch() -> None:
    shard_of = np.repeat(np.arange(40), 25)
    orders = [order_by_shard(shard_of, epoch, seed) for epoch, seed in ((0, 0), (1, 0), (0, 1))]
    for order in orders:
        assert sorted(order) == list(range(1000))
        batches = shard_of[order].reshape(-1, 100)
        assert all(len(set(batch.tolist())) == 4 for batch in batches)
        assert (np.diff(order) < 0).mean() == pytest.approx(0.5, abs=0.1)
    assert len({order.tobytes() for order in orders}) == 3
    assert len({tuple(sorted(set(shard_of[order[:100]].tolist()))) for order in orders}) == 3
