"""Losses and their gradients equal the reference values in `golden.npz`.

`tests/parity/losses_reference.py` computes them, and `tests/parity/compare_losses.py` writes the file.
"""

from pathlib import Path

import numpy as np
import pytest
from compare_losses import TOLERANCE, differences
from loss_cases import CASES, WITHOUT_REFERENCE
from representatives import representatives

from flaxseg.losses import LOSSES

ONE_PER_LOSS = {case.loss: name for name, case in reversed(CASES.items())}.values()


@pytest.fixture(scope="module")
def golden():
    return np.load(Path(__file__).parent / "golden.npz")


def test_every_loss_is_compared_with_a_reference(golden):
    assert {case.loss for case in CASES.values()} == set(LOSSES) - WITHOUT_REFERENCE
    assert set(golden.files) == {f"{name}/{key}" for name in CASES for key in ("value", "gradient")}


@pytest.mark.parametrize("name", representatives(CASES, ONE_PER_LOSS))
def test_value_and_gradient_equal_the_reference(name, golden):
    found = differences(name, golden)
    assert found["value"] <= TOLERANCE
    assert found["gradient"] <= TOLERANCE
