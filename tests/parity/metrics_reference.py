"""Writes the metrics computed by other libraries as references; needs torch and these libraries.

    python tests/parity/metrics_reference.py --out FILE.npz

For each case in `metric_cases.CASES`, it writes `CASE/names`, one line LIBRARY/SCORE each, and `CASE/values`, float64.
The libraries are torchmetrics, scikit-learn and segmentation_models_pytorch.

The libraries differ in the score of a class for which it is undefined: 0, 1, or exclusion from averages. In flaxseg it
is NaN and excluded from averages; therefore
- the scores of single classes are NaN where the denominator is 0;
- averages over classes are the library's own where it excludes such classes, and otherwise the mean of its scores of
  the remaining classes;
- averages over images are the library's own where all images contain all classes, and otherwise the mean over the
  classes that each image contains.
Without valid pixels, where libraries return 0 or 1 or fail, all references are NaN.
Probabilities of 1, for which torchmetrics has a separate bin, are replaced by the next smaller number.
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


def class_scores(name: str, values: np.ndarray) -> Scores:
    """Returns the scores of single classes by name."""
    return {f"{name}/{index}": float(value) for index, value in enumerate(values)}


def torchmetrics_scores(logits: np.ndarray, label: np.ndarray) -> Scores:
    """Returns the scores of torchmetrics."""
    classes = logits.shape[-1]
    options = {"num_classes": classes, "ignore_index": IGNORED}
    probabilities = torch.from_numpy(logits).double().softmax(-1).movedim(-1, 1)
    prediction, target = probabilities.argmax(1), torch.from_numpy(label).long()
    valid = target != IGNORED
    true, predicted = (torch.bincount(x[valid], minlength=classes) for x in (target, prediction))
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
        found |= class_scores(name, single) | {f"micro_{name}": score(average="micro")}
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


def sklearn_scores(logits: np.ndarray, label: np.ndarray) -> Scores:
    """Returns the scores of scikit-learn."""
    valid = label != IGNORED
    true, predicted = label[valid], logits.argmax(-1)[valid]
    functions: dict[str, Callable[..., float]] = {
        "dice": sklearn.metrics.f1_score,
        "precision": sklearn.metrics.precision_score,
        "recall": sklearn.metrics.recall_score,
    }
    found = {}
    for name, function in functions.items():
        score = functools.partial(function, true, predicted, labels=np.arange(logits.shape[-1]), zero_division=np.nan)
        found |= {f"mean_{name}": score(average="macro"), f"weighted_{name}": score(average="weighted")}
        found |= class_scores(name, score(average=None)) | {f"micro_{name}": score(average="micro")}
    present = np.union1d(true, predicted)
    for average, name in (("macro", "mean_iou"), ("weighted", "weighted_iou"), ("micro", "micro_iou")):
        found[name] = sklearn.metrics.jaccard_score(true, predicted, labels=present, average=average)
    found["accuracy"] = sklearn.metrics.accuracy_score(true, predicted)
    found["kappa"] = sklearn.metrics.cohen_kappa_score(true, predicted)
    return {name: float(value) for name, value in found.items()}


def smp_scores(logits: np.ndarray, label: np.ndarray) -> Scores:
    """Returns the scores of segmentation_models_pytorch."""
    stats = smp.get_stats(
        torch.from_numpy(logits.argmax(-1)), torch.from_numpy(label).long(),
        mode="multiclass", ignore_index=IGNORED, num_classes=logits.shape[-1],
    )  # fmt: skip
    class_sizes = (stats[0] + stats[2]).sum(0).tolist()
    functions = {
        "iou": smp.iou_score, "dice": smp.f1_score, "precision": smp.positive_predictive_value, "recall": smp.recall
    }  # fmt: skip
    found = {}
    for name, function in functions.items():
        score = functools.partial(function, *stats, zero_division=np.nan)
        whole = functools.partial(function, *(x.sum(0, keepdim=True) for x in stats), zero_division=np.nan)
        single, per_image = whole(reduction="none")[0], score(reduction="none")
        found |= class_scores(name, single.numpy()) | {f"micro_{name}": score(reduction="micro")}
        found[f"mean_{name}"] = single.nanmean() if single.isnan().any() else score(reduction="macro")
        if not single.isnan().any():
            found[f"weighted_{name}"] = score(reduction="weighted", class_weights=class_sizes)
        if name in ("iou", "dice"):
            all_present = not per_image.isnan().any()
            found[f"per_image/mean_{name}"] = (
                score(reduction="macro-imagewise") if all_present else per_image.nanmean(1).mean()
            )
            found[f"per_image/class_mean_{name}"] = per_image.nanmean(0).nanmean()
            found[f"per_image/micro_{name}"] = score(reduction="micro-imagewise")
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    """Parses the flags and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    libraries = {"torchmetrics": torchmetrics_scores, "sklearn": sklearn_scores, "smp": smp_scores}
    written = {}
    for case in CASES:
        logits, label = logits_and_label(case)
        # Without valid pixels the libraries' values are meaningless; the names are those of another case.
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
