"""NaN and infinity are named, whole numbers are passed over."""

from __future__ import annotations

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.finite import check_tensors, not_finite


def test_finite_tensors_pass() -> None:
    check_tensors(
        {"a": torch.zeros(2), "count": torch.tensor(3), "empty": torch.zeros(0)}, "here", "do that"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_tensors_that_are_not_finite_are_named(dtype: torch.dtype, value: float) -> None:
    tensors = {f"t{number}": torch.tensor([1.0, value], dtype=dtype) for number in range(5)} | {
        "good": torch.ones(1)
    }
    assert not_finite(tensors) == ["t0", "t1", "t2", "t3", "t4"]
    with pytest.raises(
        WorkbenchError,
        match=r"^here: 5 of 6 tensors hold NaN or infinity \(t0, t1, t2 and 2 more\); do that$",
    ):
        check_tensors(tensors, "here", "do that")
