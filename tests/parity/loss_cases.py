"""The logits, labels and options with which losses and their references are compared; needs only numpy."""

from typing import Any, NamedTuple

import numpy as np

SHAPE = (2, 4, 5)
"""The shape of the labels: [B, H, W]."""

INPUTS = ("random", "ignored", "absent", "confident", "one_class", "all_ignored")
"""The inputs for each case, by name; see `logits_and_label`."""

WITHOUT_REFERENCE = {"boundary", "cldice"}
"""Losses of the positions of pixels, which none of the reference libraries has; they have tests by hand."""


class Case(NamedTuple):
    """A loss with options, for logits of `num_classes` classes."""

    loss: str
    options: dict[str, Any] = {}  # noqa: RUF012
    num_classes: int = 3


WEIGHTS = (1.0, 2.5, 0.5)

CASES = {
    "cross_entropy": Case("cross_entropy"),
    "cross_entropy weighted": Case("cross_entropy", {"class_weights": WEIGHTS}),
    "cross_entropy smoothed": Case("cross_entropy", {"class_weights": WEIGHTS, "label_smoothing": 0.2}),
    "cross_entropy evenly smoothed": Case("cross_entropy", {"label_smoothing": 0.1}),
    "binary_cross_entropy": Case("binary_cross_entropy", num_classes=1),
    "binary_cross_entropy smoothed": Case("binary_cross_entropy", {"label_smoothing": 0.1}, num_classes=1),
    "binary_cross_entropy weighted": Case("binary_cross_entropy", {"pos_weight": WEIGHTS}),
    "focal": Case("focal"),
    "focal weighted": Case("focal", {"gamma": 1.5, "class_weights": WEIGHTS}),
    "binary_focal": Case("binary_focal"),
    "binary_focal one class": Case("binary_focal", {"gamma": 1.5, "alpha": 0.25}, num_classes=1),
    "ohem_cross_entropy": Case("ohem_cross_entropy"),
    "ohem_cross_entropy at least": Case("ohem_cross_entropy", {"threshold": 0.05, "min_kept": 0.3}),
    "ohem_cross_entropy weighted": Case("ohem_cross_entropy", {"threshold": 0.4, "class_weights": WEIGHTS}),
    "poly_cross_entropy": Case("poly_cross_entropy"),
    "poly_cross_entropy weighted": Case("poly_cross_entropy", {"epsilon": -0.5, "class_weights": WEIGHTS}),
    "dice": Case("dice"),
    "dice weighted": Case("dice", {"smooth": 1.0, "class_weights": WEIGHTS}),
    "dice present": Case("dice", {"present_only": True, "class_weights": WEIGHTS}),
    "generalized_dice": Case("generalized_dice"),
    "log_cosh_dice": Case("log_cosh_dice"),
    "jaccard": Case("jaccard"),
    "jaccard weighted": Case("jaccard", {"smooth": 0.5, "class_weights": WEIGHTS}),
    "soft_iou": Case("soft_iou"),
    "tversky": Case("tversky"),
    "tversky weighted": Case("tversky", {"alpha": 0.6, "beta": 0.2, "smooth": 1.0, "class_weights": WEIGHTS}),
    "focal_tversky": Case("focal_tversky"),
    "focal_tversky sharp": Case("focal_tversky", {"gamma": 0.5, "alpha": 0.5, "beta": 0.5}),
    "mcc": Case("mcc", num_classes=2),
    "mcc of three": Case("mcc"),
    "lovasz_softmax": Case("lovasz_softmax"),
    "lovasz_softmax per picture": Case("lovasz_softmax", {"per_image": True}),
    "lovasz_hinge": Case("lovasz_hinge", num_classes=1),
    "lovasz_hinge per picture": Case("lovasz_hinge", {"per_image": True}, num_classes=2),
}
"""The cases by name; the name starts with the loss."""


def logits_and_label(name: str, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits, float32[2, 4, 5, K], and labels, uint8[2, 4, 5], for a name in INPUTS.

    `ignored` has ignored pixels, `absent` none of the last class, `confident` logits of about 40, `one_class` only
    pixels of the first class, and `all_ignored` only ignored pixels.
    """
    generator = np.random.default_rng([INPUTS.index(name), num_classes])
    logits = generator.normal(size=(*SHAPE, num_classes)).astype(np.float32)
    # A single logit distinguishes class 1 from class 0.
    label = generator.integers(max(num_classes, 2), size=SHAPE).astype(np.uint8)
    if name == "ignored":
        label[generator.random(SHAPE) < 0.3] = 255
    elif name == "absent":
        label %= max(num_classes, 2) - 1
    elif name == "confident":
        logits *= 20
    elif name == "one_class":
        label[:] = 0
    elif name == "all_ignored":
        label[:] = 255
    return logits, label
