"""Scores equal those of torchmetrics, scikit-learn and segmentation_models_pytorch, stored in `golden.npz`.

`make parity` recomputes the references and writes the file.
"""

from pathlib import Path

import numpy as np
import pytest
from compare_metrics import IS_ACCURACY, SAME, TOLERANCE, differences
from metric_cases import CASES

from flaxseg.metrics import SCORES

REFERENCE = np.load(Path(__file__).parent / "golden.npz")


@pytest.mark.parametrize("case", CASES)
def test_scores_equal_the_references(case):
    wrong = {name: far for name, far in differences(case, REFERENCE).items() if far > TOLERANCE}
    assert not wrong, f"{case}: differences from the references {wrong}; see tests/parity/metrics_reference.py"


def test_every_score_has_a_reference():
    names = {name.partition("/")[2] for name in str(REFERENCE["mixed/names"]).split("\n")}
    expected = {*SCORES, "per_image/miou", "per_image/mean_dice", "per_image/micro_iou", "per_image/class_miou"}
    expected |= {"calibration/ece", "calibration/mce"}
    assert {SAME.get(name, name) for name in expected - {"pixel_accuracy"}} | set(IS_ACCURACY) <= names
