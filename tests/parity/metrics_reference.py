"""Writes what metrics of other libraries give, to compare with; runs where torch is installed.

    python tests/parity/metrics_reference.py --out FILE.npz

For each case of `metric_cases.CASES`: `CASE/names`, a line LIBRARY/SCORE each, scores by their names here, and
`CASE/values`, float64. Libraries are torchmetrics, scikit-learn and segmentation_models_pytorch.

They differ from here, and from one another, in what a class is worth that cannot be scored: 0, 1, or left out. Here it
is NaN and left out of averages, so
- single classes are NaN where what the score divides by is 0;
- averages over classes are the libraries' own where these leave such classes out, and otherwise the mean of their
  single classes that are left;
- averages over pictures are the library's own where all pictures have all classes, and otherwise the mean over what
  each picture has.
Without a counted pixel, where libraries give 0 or 1 or fail, everything is NaN here.
Probabilities of 1, which torchmetrics puts into a bin of their own, are given to it as the next smaller number.
"""

import argparse
import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import segmentation_models_pytorch.metrics as smp
import sklearn.metrics
import torch
import torchmetrics.functional.classification as tm
from metric_cases import CASES, logits_and_label

IGNORED = 255

Scores = dict[str, float]


def spread(name: str, values: np.ndarray) -> Scores:
    """Returns the values of single classes by name."""
    return {f"{name}/{index}": float(value) for index, value in enumerate(values)}


def of_torchmetrics(logits: np.ndarray, label: np.ndarray) -> Scores:
    """Returns the scores of torchmetrics."""
    classes = logits.shape[-1]
    options = {"num_classes": classes, "ignore_index": IGNORED}
    probabilities = torch.from_numpy(logits).double().softmax(-1).movedim(-1, 1)
    prediction, target = probabilities.argmax(1), torch.from_numpy(label).long()
    counted = target != IGNORED
    true, predicted = (torch.bincount(x[counted], minlength=classes) for x in (target, prediction))
    defined = {
        "iou": true + predicted > 0,
        "dice": true + predicted > 0,
        "precision": predicted > 0,
        "recall": true > 0,
    }
    functions = {
        "iou": tm.multiclass_jaccard_index,
        "dice": tm.multiclass_f1_score,
        "precision": tm.multiclass_precision,
        "recall": tm.multiclass_recall,
    }
    found = {}
    for name, function in functions.items():
        score = functools.partial(function, prediction, target, **options)
        single = torch.where(defined[name], score(average="none"), torch.nan).numpy()
        found |= spread(name, single) | {f"micro_{name}": score(average="micro")}
        if defined[name].equal(defined["iou"]):
            found[f"mean_{name}"] = score(average="macro")
        if name != "precision" or not (true[predicted == 0] > 0).any():
            found[f"weighted_{name}"] = score(average="weighted")
        found.setdefault(f"mean_{name}", np.nanmean(single))
    found["accuracy"] = tm.multiclass_accuracy(prediction, target, average="micro", **options)
    found["kappa"] = tm.multiclass_cohen_kappa(prediction, target, **options)
    below_one = probabilities.clamp(max=np.nextafter(1, 0))
    for name, norm in (("calibration/ece", "l1"), ("calibration/mce", "max")):
        found[name] = tm.multiclass_calibration_error(below_one, target, n_bins=15, norm=norm, **options)
    return {name: float(value) for name, value in found.items()}


def of_sklearn(logits: np.ndarray, label: np.ndarray) -> Scores:
    """Returns the scores of scikit-learn."""
    counted = label != IGNORED
    true, predicted = label[counted], logits.argmax(-1)[counted]
    functions: dict[str, Callable[..., float]] = {
        "dice": sklearn.metrics.f1_score,
        "precision": sklearn.metrics.precision_score,
        "recall": sklearn.metrics.recall_score,
    }
    found = {}
    for name, function in functions.items():
        score = functools.partial(function, true, predicted, labels=np.arange(logits.shape[-1]), zero_division=np.nan)
        found |= {f"mean_{name}": score(average="macro"), f"weighted_{name}": score(average="weighted")}
        found |= spread(name, score(average=None)) | {f"micro_{name}": score(average="micro")}
    present = np.union1d(true, predicted)
    for average, name in (("macro", "mean_iou"), ("weighted", "weighted_iou"), ("micro", "micro_iou")):
        found[name] = sklearn.metrics.jaccard_score(true, predicted, labels=present, average=average)
    found["accuracy"] = sklearn.metrics.accuracy_score(true, predicted)
    found["kappa"] = sklearn.metrics.cohen_kappa_score(true, predicted)
    return {name: float(value) for name, value in found.items()}


def of_smp(logits: np.ndarray, label: np.ndarray) -> Scores:
    """Returns the scores of segmentation_models_pytorch."""
    stats = smp.get_stats(
        torch.from_numpy(logits.argmax(-1)), torch.from_numpy(label).long(),
        mode="multiclass", ignore_index=IGNORED, num_classes=logits.shape[-1],
    )  # fmt: skip
    shares = (stats[0] + stats[2]).sum(0).tolist()
    functions = {
        "iou": smp.iou_score, "dice": smp.f1_score, "precision": smp.positive_predictive_value, "recall": smp.recall
    }  # fmt: skip
    found = {}
    for name, function in functions.items():
        score = functools.partial(function, *stats, zero_division=np.nan)
        whole = functools.partial(function, *(x.sum(0, keepdim=True) for x in stats), zero_division=np.nan)
        single, pictures = whole(reduction="none")[0], score(reduction="none")
        found |= spread(name, single.numpy()) | {f"micro_{name}": score(reduction="micro")}
        found[f"mean_{name}"] = single.nanmean() if single.isnan().any() else score(reduction="macro")
        if not single.isnan().any():
            found[f"weighted_{name}"] = score(reduction="weighted", class_weights=shares)
        if name in ("iou", "dice"):
            all_there = not pictures.isnan().any()
            found[f"per_image/mean_{name}"] = (
                score(reduction="macro-imagewise") if all_there else pictures.nanmean(1).mean()
            )
            found[f"per_image/class_mean_{name}"] = pictures.nanmean(0).nanmean()
            found[f"per_image/micro_{name}"] = score(reduction="micro-imagewise")
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    """Reads the flags and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    libraries = {"torchmetrics": of_torchmetrics, "sklearn": of_sklearn, "smp": of_smp}
    written = {}
    for case in CASES:
        logits, label = logits_and_label(case)
        # All libraries have the same names in every case; without a pixel none of their values means anything.
        given = (logits, label) if (label != IGNORED).any() else logits_and_label("mixed")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = {f"{lib}/{k}": v for lib, scores in libraries.items() for k, v in scores(*given).items()}
        values = np.array(list(found.values()))
        written[f"{case}/names"] = np.array("\n".join(found))
        written[f"{case}/values"] = values if given[1] is label else np.full_like(values, np.nan)
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(flags.out, **written)


if __name__ == "__main__":
    main()
