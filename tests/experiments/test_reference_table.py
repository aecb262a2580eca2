"""The table of the reference runs says what differs from softmax over seeds, and what does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import Complaint
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from workbench.experiments import against_baseline, reference
from workbench.experiments.reference.reporting import TABLE


def figures_of(cells: dict[tuple[str, str], list[float]], dimension: int = 128) -> pd.DataFrame:
    """Returns figures as `wb.reference.figures` does."""
    return pd.DataFrame(
        [
            {
                "run": run,
                "loss": run,
                "dimension": dimension,
                "seed": seed,
                "ships": seed == 0,
                "figure": figure,
                "value": value,
            }
            for (run, figure), values in cells.items()
            for seed, value in enumerate(values)
        ]
    )


CELLS = {
    ("softmax", "synthfaces-pose"): [0.880, 0.884, 0.888],
    ("softmax", "angle_own"): [50.0, 50.2, 50.4],
    ("softmax", "synthfaces-light"): [0.900, 0.910, 0.890],
    ("arcface", "synthfaces-pose"): [0.920, 0.924, 0.928],
    ("arcface", "angle_own"): [35.0, 35.2, 35.4],
    ("arcface", "synthfaces-light"): [0.905, 0.905, 0.892],
    ("triplet", "synthfaces-pose"): [0.820, 0.824, 0.828],
    ("triplet", "angle_own"): [60.0, 60.2, 60.4],
    ("triplet", "synthfaces-light"): [0.901, 0.909, 0.890],
}


def test_the_table_marks_what_differs_from_softmax() -> None:
    lines = reference.table(figures_of(CELLS)).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:5]]
    assert cells[0] == ["loss", "pose, %", "light, %", "angle to own centre, °"]
    assert cells[2] == ["softmax", "88.4 ± 0.4", "90.0 ± 1.0", "50.2 ± 0.2"]
    assert cells[3] == ["arcface", "**92.4 ± 0.4**", "90.1 ± 0.8", "**35.2 ± 0.2**"]
    assert cells[4] == ["triplet", "*82.4 ± 0.4*", "90.0 ± 1.0", "*60.2 ± 0.2*"]
    assert "over 3 seeds" in lines[-1]
    assert "for the 2 comparisons of a column" in lines[-1]
    assert lines[-1].endswith("No loss differs significantly from softmax in: light.")


def test_runs_of_short_embeddings_are_not_in_the_table() -> None:
    flat = figures_of({("arcface-2d", "synthfaces-pose"): [0.6]}, dimension=2)
    both = pd.concat([figures_of(CELLS), flat])
    assert reference.table(both) == reference.table(figures_of(CELLS))


def test_a_single_seed_allows_no_claim() -> None:
    one = {key: values[:1] for key, values in CELLS.items()}
    text = reference.table(figures_of(one))
    assert "92.0 (1 seed)" in text
    assert "differences may be due to the seed alone" in text
    assert "*" not in text
    assert "Bold" not in text


def test_a_table_of_nothing(complaint: Complaint) -> None:
    with complaint("no figures of reference runs"):
        reference.table(figures_of({("arcface-2d", "synthfaces-pose"): [0.6]}, dimension=2))
    with complaint("no such figures"):
        reference.plot(figures_of(CELLS), ["synthfaces-frontal"])


def test_the_figure_shows_the_table() -> None:
    fig = reference.plot(figures_of(CELLS), ["synthfaces-pose", "angle_own"])
    titles = [axis.title.text for axis in (fig.layout.xaxis, fig.layout.xaxis2)]
    assert titles == ["pose, %", "angle to own centre, °"]
    drawn = [(list(trace.x), trace.y[0]) for trace in fig.data]
    assert (pytest.approx([92.0, 92.4, 92.8]), "arcface") in drawn
    assert reference.plot(figures_of(CELLS)).layout.xaxis3.title.text == "angle to own centre, °"


def test_every_column_says_its_unit_and_which_way_is_better() -> None:
    for figure, column in TABLE.items():
        assert (column.factor == 100) == column.title.endswith("%") == figure.startswith("synth")
        assert abs(column.is_better) == 1


# A place in a document


def test_the_table_takes_its_place_in_a_document(tmp_path: Path, complaint: Complaint) -> None:
    page = tmp_path / "page.md"
    assert not reference.write_table(page, "new")
    page.write_text("no place")
    assert not reference.write_table(page, "new")
    page.write_text(f"a\n{reference.BEGIN}\nold\n{reference.END}\nb\n")
    for _ in range(2):
        assert reference.write_table(page, "new\n")
        assert page.read_text() == f"a\n{reference.BEGIN}\n\nnew\n\n{reference.END}\nb\n"
    page.write_text(f"{reference.BEGIN}\nold")
    with complaint(page, "but no line"):
        reference.write_table(page, "new")
    assert page.read_text() == f"{reference.BEGIN}\nold"


# The test against one row


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=6), min_size=2, max_size=5),
)
def test_the_test_is_that_of_welch_with_holms_adjustment(groups: list[list[float]]) -> None:
    spreads = [np.var(group, ddof=1) for group in groups]
    if min(spreads) < 1e-12:
        return
    tests = against_baseline({(str(n), "pose"): group for n, group in enumerate(groups)}, "0")
    by_scipy = [stats.ttest_ind(group, groups[0], equal_var=False) for group in groups[1:]]
    adjusted = stats.false_discovery_control  # not Holm: only to be sure that ours is stricter
    p_values = [float(one.pvalue) for one in by_scipy]
    assert [tests[str(n), "pose"].p_value for n in range(1, len(groups))] == pytest.approx(
        _holm(p_values), rel=1e-6, abs=1e-12
    )
    for n, one in enumerate(by_scipy, 1):
        low, high = one.confidence_interval()
        assert tests[str(n), "pose"].interval == pytest.approx((low, high), rel=1e-6, abs=1e-9)
    assert (np.array(_holm(p_values)) >= adjusted(p_values) - 1e-12).all()


def _holm(p_values: list[float]) -> list[float]:
    """The definition: the i-th smallest of K times K + 1 - i, made ascending, at most 1."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def test_columns_are_adjusted_by_themselves_and_need_two_runs(complaint: Complaint) -> None:
    figures = {
        ("softmax", "pose"): [0.1, 0.2, 0.3],
        ("arcface", "pose"): [0.6, 0.7, 0.8],
        ("arcface", "age"): [0.6, 0.7],
        ("softmax", "light"): [0.1],
        ("arcface", "light"): [0.6, 0.7],
    }
    tests = against_baseline(figures, "softmax")
    assert list(tests) == [("arcface", "pose")]
    assert tests["arcface", "pose"].significant
    with complaint("unknown row 'softmx'", "did you mean 'softmax'?"):
        against_baseline(figures, "softmx")


def test_equal_runs_do_not_differ() -> None:
    equal = {(row, "pose"): [0.5, 0.5] for row in ("softmax", "arcface")}
    assert against_baseline(equal, "softmax")["arcface", "pose"].p_value == 1
