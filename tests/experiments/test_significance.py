"""The claims about settings hold as often as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from scored import scored

from workbench.evaluation import VerificationResult, closed_set, identification, verification
from workbench.experiments import compare, pooled_sd, seeds_needed, significance


def _groups(rng: Any, *qualities: float, seeds: int = 3) -> dict[tuple[str, str], list[Any]]:
    return {
        (str(number), "r18"): [scored(rng, quality) for _ in range(seeds)]
        for number, quality in enumerate(qualities)
    }


def test_the_test_over_seeds_is_welchs() -> None:
    rng = np.random.default_rng(0)
    groups = _groups(rng, 2.5, 2.0)
    groups["1", "r18"].append(scored(rng, 2.0))
    (one,) = compare(groups, resamples=50)
    first, second = ([run.accuracy for run in groups[key]] for key in groups)
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert one.on_benchmark is not None
    assert one.on_benchmark.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    sign = 1 if one.first == "0" else -1
    assert sorted(sign * np.array(one.on_benchmark.interval)) == pytest.approx([*interval])
    assert one.difference == pytest.approx(abs(np.mean(first) - np.mean(second)))
    assert one.seeds == ((3, 4) if one.first == "0" else (4, 3))


def test_p_values_are_adjusted_over_all_comparisons_of_a_benchmark() -> None:
    rng = np.random.default_rng(1)
    groups = _groups(rng, 3.0, 2.0, 2.0)
    other_column = {("0", "r50"): groups["0", "r18"], ("1", "r50"): groups["1", "r18"]}
    single = compare({key: groups[key] for key in list(groups)[:2]}, resamples=50)[0]
    several = compare(groups | other_column, resamples=50)
    assert len(several) == 4
    assert {one.column for one in several} == {"r18", "r50"}
    same = [one for one in several if {one.first, one.second} == {"0", "1"}]
    assert len(same) == 2
    for one in same:
        assert one.on_benchmark.p_value >= 2 * single.on_benchmark.p_value
        assert one.on_benchmark.interval == single.on_benchmark.interval


def test_the_bootstrap_over_people_is_the_plain_one() -> None:
    """Resampling people by hand, one copy of the pairs after the other, gives the same variance."""
    rng = np.random.default_rng(2)
    runs = [scored(rng, 1.5, people=12, pairs=120) for _ in range(2)]
    decisions = significance._decisions(runs)
    assert decisions is not None
    ours = significance._resampled(decisions, decisions.people, 4000, np.random.default_rng(0))
    people = np.arange(12)
    pairs = [tuple(pair) for pair in runs[0].people]
    by_hand = []
    for _ in range(1500):
        times = np.bincount(rng.choice(people, 12), minlength=12)
        copies = np.array([times[a] if a == b else times[a] * times[b] for a, b in pairs])
        chosen = np.repeat(np.arange(len(pairs)), copies)
        same = runs[0].same[chosen]
        if not 0 < same.sum() < len(same):
            continue
        right = decisions.right[:, chosen]
        by_hand.append((right[:, same].mean(1) + right[:, ~same].mean(1)) / 2)
    expected = np.cov(np.array(by_hand).T) * 12 / 11
    variances = np.diag(expected)
    assert np.diag(np.cov(ours.T)) == pytest.approx(variances, rel=0.15)
    assert np.cov(ours.T) == pytest.approx(expected, abs=0.15 * variances.max())


def test_without_people_single_pairs_are_drawn() -> None:
    rng, same = np.random.default_rng(3), np.arange(100) % 2 == 0
    runs = {
        (name, ""): [verification(rng.normal(2 * same), same, intervals=False) for _ in range(2)]
        for name in "ab"
    }
    (one,) = compare(runs, resamples=50)
    assert one.on_people is None
    assert one.people is None
    assert one.beyond_benchmark == one.on_pairs


def test_a_wider_claim_is_never_more_certain() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        (one,) = compare(_groups(rng, 2.2, 2.0, seeds=2), resamples=50)
        for wider in (one.on_people, one.on_pairs):
            assert wider.p_value >= one.on_benchmark.p_value
            assert wider.interval[0] <= one.on_benchmark.interval[0]
            assert wider.interval[1] >= one.on_benchmark.interval[1]


def test_one_seed_allows_no_claim() -> None:
    rng = np.random.default_rng(5)
    groups = _groups(rng, 4.0, 1.0, seeds=1)
    (one,) = compare(groups)
    assert (one.on_benchmark, one.on_people, one.on_pairs, one.seeds_needed) == (None,) * 4
    assert "no claim" in one.verdict
    groups["1", "r18"] = []
    assert compare(groups) == []
    assert compare({}) == []


def test_searches_and_closed_sets() -> None:
    rng = np.random.default_rng(6)
    labels = np.repeat(np.arange(10), 3)

    def search(noise: float) -> Any:
        embeddings = np.eye(10)[labels] + noise * rng.normal(size=(30, 10))
        first = np.arange(30) % 3 == 0
        return identification(
            embeddings[~first],
            embeddings[first],
            rng.normal(size=(5, 10)),
            labels[~first],
            labels[first],
            bootstrap=0,
        )

    def classes(share: float) -> Any:
        right = rng.random(40) < share
        return closed_set(np.zeros(40, int), np.where(right, 0, 1), ["a", "b"])

    for make, people in ((search, 10), (classes, None)):
        groups = {
            (name, ""): [make(level) for _ in range(3)] for name, level in (("a", 0.2), ("b", 0.6))
        }
        (one,) = compare(groups, resamples=50)
        assert one.on_benchmark is not None
        assert (one.on_people is None) == (people is None)
        assert one.people == people


def test_the_verdicts() -> None:
    rng = np.random.default_rng(7)
    assert compare(_groups(rng, 2.0, 2.0))[0].verdict == "cannot be told apart"
    assert compare(_groups(rng, 5.0, 0.5))[0].verdict == "0 is better, on other people too"
    test = significance.DifferenceTest((0.01, 0.02), 0.01)
    unsure = significance.DifferenceTest((-0.01, 0.04), 0.3)
    one = significance.Comparison("a", "b", "", 0.015, (3, 3), test, unsure, None, 9, 5)
    assert one.verdict == "a is better on this benchmark; on other people they cannot be told apart"
    alone = significance.Comparison("a", "b", "", 0.015, (3, 3), test, None, None, None, 5)
    assert alone.verdict == "a is better on this benchmark"


def test_equal_runs_are_no_difference() -> None:
    rng = np.random.default_rng(8)
    run = scored(rng, 2.0)
    (one,) = compare({("a", ""): [run, run], ("b", ""): [run, run]}, resamples=50)
    assert one.difference == 0
    assert one.on_benchmark.p_value == 1


@pytest.mark.parametrize(("effect", "count"), [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17)])
def test_the_number_of_seeds_is_that_of_power_tables(effect: float, count: int) -> None:
    """Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, table 2.4.1, and
    G*Power."""
    assert seeds_needed(effect, 1.0) == count


def test_the_number_of_seeds_at_the_edges() -> None:
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(0.01, float("nan")) is None
    assert seeds_needed(0.01, 0.0) == 2
    assert seeds_needed(100.0, 0.01) == 2
    assert seeds_needed(1e-6, 1.0) is None
    large = seeds_needed(0.05, 1.0)
    assert large == pytest.approx(2 * 2.8**2 / 0.05**2, rel=0.01)


def test_the_pooled_standard_deviation() -> None:
    groups = [[1.0, 3.0], [2.0, 4.0, 9.0], [7.0]]
    pooled = np.sqrt((np.var(groups[0], ddof=1) + 2 * np.var(groups[1], ddof=1)) / 3)
    assert pooled_sd(groups) == pytest.approx(pooled)
    assert np.isnan(pooled_sd([[1.0], []]))


class World:
    """Benchmarks of people and runs with seeds, all with random effects on the scores."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.people, self.pairs = 40, 240
        self.same = np.arange(self.pairs) % 2 == 0
        self.folds = np.arange(self.pairs) * 10 // self.pairs

    def results(self, losses: int, seeds: int) -> dict[tuple[str, str], list[VerificationResult]]:
        """Draws a benchmark and the results of equally good losses on it."""
        draw = self.rng
        first = 4 * self.folds + draw.integers(0, 4, self.pairs)
        other = 4 * self.folds + (first + draw.integers(1, 4, self.pairs)) % 4
        who = np.column_stack([first, np.where(self.same, first, other)])

        def effect(sd: float) -> Any:
            of_person = draw.normal(0, sd, self.people)[who].mean(1)
            return np.where(self.same, 1, -1) * of_person + draw.normal(0, sd, self.pairs)

        common = effect(0.5)
        groups = {}
        for loss in range(losses):
            of_loss = effect(0.3)
            groups[str(loss), ""] = [
                verification(
                    common + of_loss + effect(0.3) + draw.normal(2.4, 0.3) * self.same,
                    self.same,
                    self.folds,
                    people=who,
                    intervals=False,
                )
                for _ in range(seeds)
            ]
        return groups


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 6])
def test_equal_losses_are_called_different_in_about_5_percent_of_the_cases(seeds: int) -> None:
    """On new people; the narrower claim is about one benchmark, on which they may differ."""
    world, cases = World(seeds), 400
    found = [
        compare(world.results(2, seeds), resamples=150)[0].on_people.p_value < 0.05
        for _ in range(cases)
    ]
    assert 0.015 <= np.mean(found) <= 0.075


@pytest.mark.slow
def test_any_of_six_equal_losses_is_called_different_in_at_most_about_5_percent() -> None:
    world, cases = World(0), 150
    found = [
        any(one.on_people.p_value < 0.05 for one in compare(world.results(6, 4), resamples=100))
        for _ in range(cases)
    ]
    assert np.mean(found) <= 0.09
