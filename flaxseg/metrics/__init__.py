"""Metrics: integer counts that are exact under ignored pixels, padding, and any split into batches and devices.

Each is a CLU metric: `from_model_output` measures a batch on the device, under jit; `to_host`, `merge` and `compute`
accumulate a dataset on the host.
"""

from flaxseg.metrics.boundary import Boundary
from flaxseg.metrics.calibration import Calibration, Reliability
from flaxseg.metrics.confusion import ConfusionMatrix
from flaxseg.metrics.cross_entropy import CrossEntropy
from flaxseg.metrics.per_image import PerImage
from flaxseg.metrics.scores import (
    SCORES,
    cohen_kappa,
    dice,
    frequency_weighted_iou,
    iou,
    mean_dice,
    mean_iou,
    mean_precision,
    mean_recall,
    micro_iou,
    per_class_table,
    pixel_accuracy,
    precision,
    recall,
    weighted_dice,
    weighted_precision,
)
from flaxseg.metrics.surface import SurfaceDistance

__all__ = [
    "METRICS",
    "SCORES",
    "Boundary",
    "Calibration",
    "ConfusionMatrix",
    "CrossEntropy",
    "PerImage",
    "Reliability",
    "SurfaceDistance",
    "cohen_kappa",
    "dice",
    "frequency_weighted_iou",
    "iou",
    "mean_dice",
    "mean_iou",
    "mean_precision",
    "mean_recall",
    "micro_iou",
    "per_class_table",
    "pixel_accuracy",
    "precision",
    "recall",
    "weighted_dice",
    "weighted_precision",
]

METRICS: dict[str, type[Boundary] | type[Calibration] | type[CrossEntropy] | type[PerImage] | type[SurfaceDistance]] = {
    "per_image": PerImage,
    "boundary": Boundary,
    "surface": SurfaceDistance,
    "calibration": Calibration,
    "cross_entropy": CrossEntropy,
}
"""Metrics that can be measured in addition to the confusion matrix, by name."""
