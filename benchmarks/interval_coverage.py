"""How often intervals cover the truth, and equal models are told apart.

`python benchmarks/interval_coverage.py --help` lists the options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _command import add_out, between, new_parser, report, run_script
from _machine import machine
from scipy.special import ndtr, ndtri
from tqdm.auto import tqdm

from workbench.arrays import Bools, Floats, Integers
from workbench.errors import WorkbenchError
from workbench.evaluation import (
    VerificationResult,
    clearly_best,
    load_embeddings,
    paired_difference,
    verification,
)
from workbench.evaluation.intervals import standard_error, t_quantile
from workbench.evaluation.verification import SortedPairs, auc_standard_error

FARS = (0.1, 0.01, 0.001)
FIGURES = ("accuracy", "auc", "eer", *(f"tar@{far:g}" for far in FARS))
FOLDS = 10
POOL_SEED = 10**6
"""Of the people that the truth is computed of; far from the seeds of the data sets."""
EFFECT = 2.5
"""Distance of genuine from impostor scores, in their standard deviations, in the settings with
person effects.
"""

PARTS = {
    "intervals": "how often each kind of interval covers the truth",
    "paired": "how often `paired_difference` calls two equally good models apart, and two that "
    "are not",
    "many": "how often one of six equally good models is called the best",
}
SETTINGS = {
    "faces": "embeddings of 100 people x 12 images, 10 folds of disjoint people, 300 + 300 "
    "pairs each",
    "effects": "50 people, whose effects make 40 % of the variance of scores, 10 folds of 300 "
    "+ 300 pairs",
    "independent-300": "300 + 300 independent pairs, scores 4.6 standard deviations apart",
    "independent-50": "50 + 50 independent pairs, scores 2.5 standard deviations apart",
}
METHODS = {
    "workbench": "what `verification` gives",
    "folds, t": "delete-one-fold jackknife, estimate +- t x standard error",
    "people, t": "delete-one-person jackknife (with at most 100 people), estimate +- t x "
    "standard error",
    "people": "percentile bootstrap over people, the weights of both multiplied (pigeonhole "
    "bootstrap, Owen 2007)",
    "subsets": "percentile bootstrap over people, a pair counting as often as its first person "
    "(Bolle et al. 2004)",
    "pairs": "percentile bootstrap over pairs, within each fold and kind",
    "DeLong": "AUC of independent pairs +- 1.96 standard errors (DeLong et al. 1988)",
}


class Pairs(NamedTuple):
    """One simulated benchmark."""

    scores: Floats
    same: Bools
    folds: Integers
    people: Integers
    """(P, 2)"""


def main(arguments: list[str] | None = None) -> int:
    """Simulates, prints a table, writes a JSON file with --out, and returns the exit code."""
    return run_script(_parser(), lambda options: report(options, simulate, table), arguments)


def _parser() -> argparse.ArgumentParser:
    lists = (("parts", PARTS), ("settings", SETTINGS), ("methods", METHODS))
    epilog = "\n".join(
        line
        for title, what in lists
        for line in (f"{title}:", *(f"  {k:17}{v}" for k, v in what.items()))
    )
    parser = new_parser(__doc__, epilog)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all"
    )
    parser.add_argument(
        "--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="default: all"
    )
    parser.add_argument(
        "--datasets",
        type=between(1, 10**6),
        default=200,
        help="benchmarks of each setting (default: 200)",
    )
    parser.add_argument(
        "--resamples",
        type=between(0, 10**6),
        default=200,
        help="of a bootstrap; 0 leaves these out (default: 200)",
    )
    parser.add_argument(
        "--embeddings",
        type=Path,
        help="instead of the settings: 100 people at a time of an .npz that `workbench embed` "
        "wrote",
    )
    parser.add_argument(
        "--seed", type=between(0, 10**5), default=0, help="of the simulation (default: 0)"
    )
    add_out(parser)
    return parser


def simulate(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the figures of the parts that were asked for."""
    figures: dict[str, Any] = {
        "machine": machine("numpy", "scipy"),
        "datasets": options.datasets,
        "resamples": options.resamples,
    }
    if "intervals" in options.parts:
        settings = ["real"] if options.embeddings is not None else options.settings
        figures["intervals"] = {
            name: coverage(_setting(name, options.embeddings), options, name) for name in settings
        }
    if "paired" in options.parts:
        figures["paired"] = paired(options)
    if "many" in options.parts:
        figures["many"] = many(options)
    return figures


# Benchmarks whose truth is known


class Setting(NamedTuple):
    """How benchmarks are drawn, and the figures of the population they are drawn from."""

    draw: Callable[[np.random.Generator], Pairs]
    truth: dict[str, float]


def _setting(name: str, embeddings: Path | None) -> Setting:
    if name == "real":
        assert embeddings is not None
        return _real(embeddings)
    if name == "faces":
        rng = np.random.default_rng(POOL_SEED)
        pools = [pairs_of(some_people(rng, 400, 6), rng, 2, 2000) for _ in range(100)]
        return Setting(
            lambda rng: pairs_of(some_people(rng, 100, 12), rng, FOLDS, 300), _truth_of_pool(pools)
        )
    if name == "effects":
        return Setting(
            lambda rng: with_person_effects(rng, Effects(50, 0.4), 300)[0], _normal_truth(EFFECT)
        )
    count, apart = (300, 4.6) if name == "independent-300" else (50, 2.5)
    return Setting(lambda rng: independent(rng, count, apart), _normal_truth(apart))


def _real(path: Path) -> Setting:
    """People of a run's embeddings, drawn without replacement for each benchmark.

    The truth is that of all of them.
    """
    found = load_embeddings(path)
    count = np.bincount(found.identities[found.identities >= 0])
    fewest = 6
    usable = np.flatnonzero(count >= fewest)
    if len(usable) < 200:
        raise WorkbenchError(
            f"{path}: {len(usable)} people with at least {fewest} images, 200 are needed to "
            f"draw 100 at a time"
        )
    images = int(count[usable].min())
    vectors = found.embeddings / np.linalg.norm(found.embeddings, axis=1, keepdims=True)
    of_person = np.stack(
        [vectors[np.flatnonzero(found.identities == person)[:images]] for person in usable]
    ).astype(np.float64)

    def draw(rng: np.random.Generator) -> Pairs:
        return pairs_of(of_person[rng.choice(len(of_person), 100, replace=False)], rng, FOLDS, 300)

    rng = np.random.default_rng(POOL_SEED)
    pools = [pairs_of(of_person[rng.permutation(len(of_person))], rng, 2, 4000) for _ in range(50)]
    return Setting(draw, _truth_of_pool(pools))


def some_people(rng: np.random.Generator, people: int, images: int, dim: int = 48) -> Floats:
    """(people, images, dim) unit vectors around a direction a person.

    People differ in spread, and some look alike.
    """
    spread = 1.15 * np.exp(rng.normal(0, 0.25, people))
    centre = rng.normal(size=(people, dim))
    centre[:, :6] *= 1.8
    vectors = centre[:, None] + spread[:, None, None] * rng.normal(size=(people, images, dim))
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def pairs_of(vectors: Floats, rng: np.random.Generator, folds: int, per_fold: int) -> Pairs:
    """Pairs as `workbench.data.draw_pairs` makes them: folds with disjoint people, evenly over
    people and over couples.
    """
    people, images = vectors.shape[:2]
    order = rng.permutation(people)
    within = np.array([(a, b) for a in range(images) for b in range(a)])
    parts: list[Pairs] = []
    for fold in range(folds):
        here = order[fold::folds]
        couples = np.array([(a, b) for place, a in enumerate(here) for b in here[place + 1 :]])
        for same, groups in ((True, np.stack([here, here], axis=1)), (False, couples)):
            each = -(-per_fold // len(groups))
            if same:
                chosen = np.concatenate(
                    [within[rng.permutation(len(within))[:each]] for _ in groups]
                )
            else:
                cells = np.concatenate(
                    [
                        rng.choice(images * images, min(each, images * images), replace=False)
                        for _ in groups
                    ]
                )
                chosen = np.stack([cells // images, cells % images], axis=1)
            who = np.repeat(groups, len(chosen) // len(groups), axis=0)
            kept = rng.permutation(len(who))[:per_fold]
            who, chosen = who[kept], chosen[kept]
            scores = np.einsum(
                "pd,pd->p", vectors[who[:, 0], chosen[:, 0]], vectors[who[:, 1], chosen[:, 1]]
            )
            parts.append(Pairs(scores, np.full(len(who), same), np.full(len(who), fold), who))
    return _joined(parts)


class Effects(NamedTuple):
    """What scores are a sum of, as shares of their variance; the rest is noise of the pair.

    Attributes:
        people: number of people.
        of_people: share that is due to the people, and alike for all models.
        of_model: share that is due to the people and differs from model to model.
        of_pairs: share that is due to the pair, and alike for all models.
    """

    people: int
    of_people: float
    of_model: float = 0.0
    of_pairs: float = 0.0


def with_person_effects(
    rng: np.random.Generator, effects: Effects, per_fold: int, models: int = 1, gain: float = 0.0
) -> list[Pairs]:
    """The same pairs scored by one model or by several.

    Args:
        models: number of models.
        gain: how much further apart the first model holds genuine and impostor scores.

    Returns:
        The pairs with the scores of each model.
    """
    people = effects.people
    order = rng.permutation(people)
    sides: list[tuple[Integers, bool, int]] = []
    for fold in range(FOLDS):
        here = order[fold::FOLDS]
        couples = np.array([(a, b) for place, a in enumerate(here) for b in here[place + 1 :]])
        turn = np.arange(per_fold)
        sides.append((np.stack([here, here], axis=1)[turn % len(here)], True, fold))
        sides.append((couples[turn % len(couples)], False, fold))
    who = np.concatenate([pairs for pairs, _, _ in sides])
    same = np.repeat([kind for _, kind, _ in sides], per_fold)
    folds = np.repeat([fold for _, _, fold in sides], per_fold)
    shared = _person_effect(rng, who, same, people, effects.of_people) + rng.normal(
        0, effects.of_pairs**0.5, len(same)
    )
    found = []
    for number in range(models):
        own = _person_effect(rng, who, same, people, effects.of_model)
        noise = rng.normal(
            0, (1 - effects.of_people - effects.of_model - effects.of_pairs) ** 0.5, len(same)
        )
        apart = EFFECT + (gain if number == 0 else 0.0)
        found.append(Pairs(np.where(same, apart, 0.0) + shared + own + noise, same, folds, who))
    return found


def _person_effect(
    rng: np.random.Generator, who: Integers, same: Bools, people: int, share: float
) -> Floats:
    """(P,) effects with variance `share`: of a person on genuine pairs, the sum of two people's on
    impostor pairs.
    """
    genuine = rng.normal(0, share**0.5, people)
    impostor = rng.normal(0, (share / 2) ** 0.5, people)
    effect: Floats = np.where(same, genuine[who[:, 0]], impostor[who[:, 0]] + impostor[who[:, 1]])
    return effect


def independent(rng: np.random.Generator, count: int, apart: float) -> Pairs:
    """`count` genuine and as many impostor pairs of people who are in no other pair."""
    same = np.arange(2 * count) < count
    folds = np.tile(np.arange(count) * FOLDS // count, 2)
    who = np.arange(4 * count).reshape(-1, 2)
    who[same, 1] = who[same, 0]
    return Pairs(rng.normal(np.where(same, apart, 0.0), 1.0), same, folds, who)


def _joined(parts: list[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _truth_of_pool(pools: list[Pairs]) -> dict[str, float]:
    """Figures of very many pairs, at the threshold that is best for them."""
    pool = _joined(pools)
    pairs = SortedPairs(pool.scores, pool.same, np.zeros(len(pool.same), dtype=np.int64))
    ones = np.ones(len(pool.same))
    far, tar = pairs.curve(ones)
    rates = verification(pool.scores, pool.same, 2, fars=FARS, intervals=False)
    accuracy = float(np.max((tar + 1 - far) / 2))
    return {"accuracy": accuracy, "auc": rates.auc, "eer": rates.eer} | {
        f"tar@{far:g}": rates.tar_at_far[far] for far in FARS
    }


def _normal_truth(apart: float) -> dict[str, float]:
    """Figures of scores that are normally distributed with variance 1."""
    accuracy = float(ndtr(apart / 2))
    rates = {f"tar@{far:g}": float(ndtr(apart + ndtri(far))) for far in FARS}
    return {"accuracy": accuracy, "auc": float(ndtr(apart / 2**0.5)), "eer": 1 - accuracy} | rates


# Intervals


def coverage(setting: Setting, given: argparse.Namespace, name: str) -> dict[str, Any]:
    """Share of benchmarks whose interval covers the truth, and mean width, by method and figure."""
    covered: dict[str, dict[str, list[bool]]] = {}
    width: dict[str, dict[str, list[float]]] = {}
    estimates: dict[str, list[float]] = {figure: [] for figure in FIGURES}
    for number in tqdm(range(given.datasets), desc=name, dynamic_ncols=True):
        rng = np.random.default_rng([given.seed, number])
        pairs = setting.draw(rng)
        result = verification(pairs.scores, pairs.same, pairs.folds, people=pairs.people, fars=FARS)
        for figure, value in _figures(result).items():
            estimates[figure].append(value)
        for method, intervals in _by_method(pairs, result, given.resamples, rng).items():
            for figure, (low, high) in intervals.items():
                covered.setdefault(method, {}).setdefault(figure, []).append(
                    bool(low <= setting.truth[figure] <= high)
                )
                width.setdefault(method, {}).setdefault(figure, []).append(float(high - low))
    return {
        "truth": setting.truth,
        "mean estimate": {figure: float(np.mean(values)) for figure, values in estimates.items()},
        "covered": {
            method: {key: float(np.mean(one)) for key, one in rows.items()}
            for method, rows in covered.items()
        },
        "mean width": {
            method: {key: float(np.mean(one)) for key, one in rows.items()}
            for method, rows in width.items()
        },
    }


def _figures(result: VerificationResult) -> dict[str, float]:
    rates = {f"tar@{far:g}": tar for far, tar in result.tar_at_far.items()}
    return {"accuracy": result.accuracy, "auc": result.auc, "eer": result.eer} | rates


Intervals = Mapping[str, tuple[float, float]]


def _by_method(
    pairs: Pairs, result: VerificationResult, resamples: int, rng: np.random.Generator
) -> dict[str, Intervals]:
    table = SortedPairs(pairs.scores, pairs.same, pairs.folds)
    _, person = np.unique(pairs.people, return_inverse=True)
    who = person.reshape(-1, 2)[table.order]
    people = int(who.max()) + 1

    def figures(weights: Floats) -> list[float]:
        summary = table.figures(weights, FARS).summary
        return [summary[figure] for figure in FIGURES]

    estimate = np.array([_figures(result)[figure] for figure in FIGURES])
    without_fold = [
        figures((table.folds != fold).astype(float)) for fold in range(int(table.folds.max()) + 1)
    ]
    found: dict[str, Intervals] = {
        "workbench": result.intervals,
        "folds, t": _symmetric(estimate, np.array(without_fold)),
    }
    if people <= 100:
        without_person = [figures((who != one).all(axis=1).astype(float)) for one in range(people)]
        found["people, t"] = _symmetric(estimate, np.array(without_person))
    reach = 1.96 * auc_standard_error(pairs.scores, pairs.same)
    found["DeLong"] = {"auc": (result.auc - reach, result.auc + reach)}
    if resamples:
        weightings = {"people": _people_weights, "subsets": _subset_weights}
        for method, weigh in weightings.items():
            draws = [figures(weigh(rng, who, table.same, people)) for _ in range(resamples)]
            found[method] = _percentiles(np.array(draws))
        strata = [
            np.flatnonzero((table.folds == fold) & kind)
            for fold in range(FOLDS)
            for kind in (table.same, ~table.same)
        ]
        found["pairs"] = _percentiles(
            np.array([figures(_pair_weights(rng, strata, len(who))) for _ in range(resamples)])
        )
    return found


def _symmetric(estimate: Floats, without: Floats) -> Intervals:
    reach = t_quantile(len(without) - 1) * standard_error(without)
    return {
        figure: (float(value - r), float(value + r))
        for figure, value, r in zip(FIGURES, estimate, reach, strict=True)
    }


def _percentiles(draws: Floats) -> Intervals:
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    return {figure: (float(a), float(b)) for figure, a, b in zip(FIGURES, low, high, strict=True)}


def _drawn(rng: np.random.Generator, count: int) -> Floats:
    """How often each of `count` is drawn, in as many draws."""
    return rng.multinomial(count, np.full(count, 1 / count)).astype(np.float64)


def _people_weights(rng: np.random.Generator, who: Integers, same: Bools, people: int) -> Floats:
    times = _drawn(rng, people)
    weights: Floats = np.where(same, times[who[:, 0]], times[who[:, 0]] * times[who[:, 1]])
    return weights if weights[same].any() and weights[~same].any() else np.ones(len(same))


def _subset_weights(rng: np.random.Generator, who: Integers, same: Bools, people: int) -> Floats:
    weights: Floats = _drawn(rng, people)[who[:, 0]]
    return weights if weights[same].any() and weights[~same].any() else np.ones(len(same))


def _pair_weights(rng: np.random.Generator, strata: list[Integers], count: int) -> Floats:
    weights = np.zeros(count)
    for members in strata:
        weights[members] = _drawn(rng, len(members))
    return weights


# Comparisons

COMPARED = {
    "independent pairs": Effects(people=600, of_people=0.0, of_pairs=0.3),
    "100 people, 5 % of the variance by model": Effects(100, 0.3, of_model=0.05, of_pairs=0.3),
    "100 people, 20 % of the variance by model": Effects(100, 0.3, of_model=0.2, of_pairs=0.3),
}
GAIN = 0.15
"""How much further apart the better of two models holds the scores: about one point of accuracy."""


def paired(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Share of benchmarks in which a difference is called clear: false alarms (equal models) and
    power (one is better).
    """
    found: dict[str, dict[str, float]] = {}
    for title, effects in COMPARED.items():
        clear: dict[str, list[bool]] = {"false alarms": [], "power": [], "disjoint intervals": []}
        for number in tqdm(range(given.datasets), desc=f"paired, {title}", dynamic_ncols=True):
            for kind, gain in (("false alarms", 0.0), ("power", GAIN)):
                rng = np.random.default_rng([given.seed, number, int(gain > 0)])
                one, other = _results(with_person_effects(rng, effects, 300, models=2, gain=gain))
                clear[kind].append(paired_difference(one, other).clear)
                if gain:
                    clear["disjoint intervals"].append(
                        one.intervals["accuracy"][0] > other.intervals["accuracy"][1]
                    )
        found[title] = {kind: float(np.mean(values)) for kind, values in clear.items()}
    return found


def many(given: argparse.Namespace) -> dict[str, float]:
    """Share of benchmarks in which one of six equally good models is called the best."""
    effects = COMPARED["100 people, 5 % of the variance by model"]
    called: dict[str, list[bool]] = {
        "some pair is clear, not corrected": [],
        "called the best, corrected (Holm)": [],
    }
    for number in tqdm(range(given.datasets), desc="six equal models", dynamic_ncols=True):
        rng = np.random.default_rng([given.seed, number, 2])
        results = {
            str(n): result
            for n, result in enumerate(_results(with_person_effects(rng, effects, 300, models=6)))
        }
        called["called the best, corrected (Holm)"].append(clearly_best(results) is not None)
        couples = [(a, b) for a in results for b in results if a < b]
        called["some pair is clear, not corrected"].append(
            any(paired_difference(results[a], results[b]).clear for a, b in couples)
        )
    return {key: float(np.mean(values)) for key, values in called.items()}


def _results(models: list[Pairs]) -> list[VerificationResult]:
    return [
        verification(one.scores, one.same, one.folds, people=one.people, fars=FARS)
        for one in models
    ]


def table(found: dict[str, Any]) -> list[str]:
    """The figures for people."""
    facts = found["machine"]
    lines = [
        f"{facts['cpu']}, {facts['cores']} cores, load before {facts['load_before']}, "
        f"{facts['date']}"
    ]
    for name, row in found.get("intervals", {}).items():
        lines += [
            "",
            f"{name}: {SETTINGS.get(name, '100 people at a time of the embeddings given')}",
        ]
        lines += [
            f"share of 95 % intervals that cover the truth, in {found['datasets']} benchmarks; "
            f"in brackets their mean width"
        ]
        lines += [f"{'':12}" + "".join(f"{figure:>15}" for figure in FIGURES)]
        for key in ("truth", "mean estimate"):
            lines += [f"{key:14}" + "".join(f"{row[key][figure]:13.4f}  " for figure in FIGURES)]
        for method in (method for method in METHODS if method in row["covered"]):
            cells = [
                f"{row['covered'][method][figure]:7.1%} ({row['mean width'][method][figure]:.3f})"
                if figure in row["covered"][method]
                else ""
                for figure in FIGURES
            ]
            lines += [f"{method:12}" + "".join(f"{cell:>15}" for cell in cells)]
    for title, rates in found.get("paired", {}).items():
        told = ", ".join(f"{kind} {rate:.1%}" for kind, rate in rates.items())
        lines += ["", f"two models, {title}: {told}"]
    if "many" in found:
        lines += [
            "",
            "six equally good models: "
            + ", ".join(f"{key} {rate:.1%}" for key, rate in found["many"].items()),
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
