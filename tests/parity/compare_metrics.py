"""Compares flaxseg's metrics with the references that `metrics_reference.py` wrote, and prints a table.

    python tests/parity/compare_metrics.py FILE.npz [--golden FILE.npz]

The table shows the largest difference of each score over all cases in `metric_cases.CASES`. With `--golden`, the
references are also written to a file for the ordinary tests, provided that nothing differs.
"""

import argparse
import functools
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from metric_cases import CASES, logits_and_label

from flaxseg import metrics
from flaxseg.metrics import Calibration, ConfusionMatrix, PerImage
from flaxseg.metrics.ratios import defined_mean, ratio

TOLERANCE = 1e-6

SAME = {
    "miou": "mean_iou",
    "fwiou": "weighted_iou",
    "per_image/miou": "per_image/mean_iou",
    "per_image/class_miou": "per_image/class_mean_iou",
}
"""Names of scores in flaxseg and in the references, where they differ."""

IS_ACCURACY = ("accuracy", "micro_dice", "micro_precision", "micro_recall", "weighted_recall")
"""Scores that all equal `pixel_accuracy`, because each pixel has one class."""


@functools.partial(jax.jit, static_argnames="num_classes")
def measure(logits: jax.Array, label: jax.Array, num_classes: int) -> tuple[ConfusionMatrix, PerImage, Calibration]:
    """Returns the metrics that other libraries have, too."""
    output = {"logits": logits, "label": label, "prediction": logits.argmax(-1), "num_classes": num_classes}
    kinds = ConfusionMatrix, PerImage, Calibration
    return tuple(kind.from_model_output(**output) for kind in kinds)  # type: ignore[return-value]


def scores(case: str) -> dict[str, float]:
    """Returns all scores of a case, by the names in the reference."""
    logits, label = logits_and_label(case)
    confusion, per_image, calibration = (m.to_host() for m in measure(logits, label, logits.shape[-1]))
    found = confusion.compute() | per_image.compute() | calibration.compute()
    found |= dict.fromkeys(IS_ACCURACY, found["pixel_accuracy"])
    found |= {theirs: found[ours] for ours, theirs in SAME.items()}
    for name in ("iou", "dice", "precision", "recall"):
        found |= {f"{name}/{k}": value for k, value in enumerate(getattr(metrics, name)(np.asarray(confusion.counts)))}
    # Dice pooled over the classes of an image equals its pixel accuracy.
    correct, pixels = per_image.rows.sum(1)[:, :2].T
    found["per_image/micro_dice"] = defined_mean(ratio(correct, pixels))
    found["per_image/class_mean_dice"] = defined_mean(per_image.class_dice())
    return found


def differences(case: str, reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the difference of each score from the reference; inf if only one of the two is defined."""
    found, names = scores(case), str(reference[f"{case}/names"]).split("\n")
    found_differences = {}
    for name, expected in zip(names, reference[f"{case}/values"], strict=True):
        value = found[name.partition("/")[2]]
        both_undefined = np.isnan(value) and np.isnan(expected)
        found_differences[name] = 0.0 if both_undefined else float(np.nan_to_num(abs(value - expected), nan=np.inf))
    return found_differences


def main() -> int:
    """Parses the flags and prints the table; returns the exit status, 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path)
    parser.add_argument("--golden", type=Path)
    flags = parser.parse_args()
    reference = np.load(flags.references)
    largest: dict[str, float] = {}
    for case in CASES:
        for name, value in differences(case, reference).items():
            name = name if not name[-1].isdigit() else name.rpartition("/")[0]
            largest[name] = max(largest.get(name, 0.0), value)
    for name, value in sorted(largest.items()):
        print(f"{name:40}{value:12.1e}" + "  DIFFERS" * (value > TOLERANCE))
    failed = max(largest.values()) > TOLERANCE
    if flags.golden and not failed:
        np.savez_compressed(flags.golden, **reference)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
