"""Writes the losses computed by other libraries as references; needs torch and segmentation_models_pytorch.

    python tests/parity/losses_reference.py --out FILE.npz

For each case in `loss_cases.CASES`, with all its inputs, it writes `CASE/value`, float64[N], and `CASE/gradient` with
respect to the logits, float32[N, B, H, W, K]. Both are NaN where the reference is undefined, which is possible only
without valid pixels. Everything is computed in float64, except the Lovasz losses, which are implemented for float32.

References are losses of torch and segmentation_models_pytorch or, where neither has the loss, the paper's formula.
Libraries have different denominators in the presence of ignored pixels: SoftBCEWithLogitsLoss and SoftCrossEntropyLoss
of segmentation_models_pytorch divide by the number of all pixels; flaxseg and torch divide by the number of valid
pixels. For these two losses, the references are therefore sums divided by the number of valid pixels.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from loss_cases import CASES, INPUTS, logits_and_label
from segmentation_models_pytorch import losses as smp
from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits
from torch import Tensor

IGNORED = 255

UNDEFINED = torch.tensor(torch.nan)
"""The loss without valid pixels, for which a library returns 1, as if all pixels were wrong."""


def valid_pixels(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the logits [N, K] and labels [N] of the pixels that are not ignored."""
    return logits[label != IGNORED], label[label != IGNORED]


def one_hot(label: Tensor, num_classes: int) -> Tensor:
    """Returns one-hot targets, float64[N, K]; for a single class, the labels 0 and 1."""
    return label[:, None].double() if num_classes == 1 else F.one_hot(label, num_classes).double()


def channels_first(logits: Tensor) -> Tensor:
    """Returns logits [B, H, W, K] as [B, K, H, W]."""
    return logits.permute(0, 3, 1, 2)


def cross_entropy(logits, label, class_weights=None, label_smoothing=0.0):
    weight = None if class_weights is None else torch.tensor(class_weights).double()
    return F.cross_entropy(
        channels_first(logits), label, weight=weight, ignore_index=IGNORED, label_smoothing=label_smoothing
    )


def soft_cross_entropy(logits, label, label_smoothing):
    loss = smp.SoftCrossEntropyLoss(reduction="sum", smooth_factor=label_smoothing, ignore_index=IGNORED)
    return loss(channels_first(logits), label) / (label != IGNORED).sum()


def binary_cross_entropy(logits, label, label_smoothing=None, pos_weight=None):
    num_classes, ignored = logits.shape[-1], label == IGNORED
    target = torch.full(logits.shape, IGNORED).double()
    target[~ignored] = one_hot(label[~ignored], num_classes)
    weight = None if pos_weight is None else torch.tensor(pos_weight).double()
    loss = smp.SoftBCEWithLogitsLoss(
        reduction="sum", smooth_factor=label_smoothing, ignore_index=IGNORED, pos_weight=weight
    )
    return loss(logits, target) / ((~ignored).sum() * num_classes)


def focal(logits, label, gamma=2.0, class_weights=(1.0, 1.0, 1.0)):
    logits, label = valid_pixels(logits, label)
    weight = torch.tensor(class_weights).double()[label]
    loss = softmax_focal_loss_with_logits(logits, label, gamma=gamma, reduction="none")
    return (weight * loss).sum() / weight.sum()


def binary_focal(logits, label, gamma=2.0, alpha=None):
    mode = "binary" if logits.shape[-1] == 1 else "multiclass"
    return smp.FocalLoss(mode, gamma=gamma, alpha=alpha, ignore_index=IGNORED)(channels_first(logits), label)


def ohem_cross_entropy(logits, label, threshold=0.7, min_kept=1 / 16, class_weights=(1.0, 1.0, 1.0)):
    logits, label = valid_pixels(logits, label)
    loss, weight = F.cross_entropy(logits, label, reduction="none"), torch.tensor(class_weights).double()[label]
    order = loss.detach().argsort(descending=True)
    number = max(int(np.ceil(min_kept * len(label))), int((torch.exp(-loss) < threshold).sum()))
    kept = order[:number]
    return (weight * loss)[kept].sum() / weight[kept].sum()


def poly_cross_entropy(logits, label, epsilon=1.0, class_weights=(1.0, 1.0, 1.0)):
    logits, label = valid_pixels(logits, label)
    loss, weight = F.cross_entropy(logits, label, reduction="none"), torch.tensor(class_weights).double()[label]
    return (weight * (loss + epsilon * (1 - torch.exp(-loss)))).sum() / weight.sum()


def overlap(kind):
    """Returns the reference for a loss of segmentation_models_pytorch that averages over classes."""

    def reference(logits, label, present_only=False, class_weights=None, **options):
        classes = [int(k) for k in label.unique() if k != IGNORED] if present_only else None
        loss = kind("multiclass", classes=classes, class_weights=class_weights, ignore_index=IGNORED, **options)
        return loss(channels_first(logits), label)

    return reference


def tversky(logits, label, alpha=0.3, beta=0.7, **options):
    return overlap(smp.TverskyLoss)(logits, label, alpha=alpha, beta=beta, **options)


def focal_tversky(logits, label, gamma=4 / 3, alpha=0.3, beta=0.7):
    # The library raises the mean over classes to the power; with a single class, the mean is the loss of that class.
    classes = [int(k) for k in label.unique() if k != IGNORED]
    options = {"ignore_index": IGNORED, "alpha": alpha, "beta": beta, "gamma": 1 / gamma}
    losses = [smp.TverskyLoss("multiclass", classes=[k], **options)(channels_first(logits), label) for k in classes]
    return sum(losses, start=logits.sum() * 0) / logits.shape[-1]


def generalized_dice(logits, label):
    logits, label = valid_pixels(logits, label)
    if not len(label):
        return UNDEFINED
    # The libraries have generalized Dice only as a metric of predicted classes, not of probabilities.
    p, target = logits.softmax(-1), one_hot(label, logits.shape[-1])
    weight = torch.where(target.sum(0) > 0, target.sum(0) ** -2.0, 0.0)
    return 1 - 2 * (weight * (p * target).sum(0)).sum() / (weight * (p + target).sum(0)).sum()


def log_cosh_dice(logits, label):
    return torch.log(torch.cosh(overlap(smp.DiceLoss)(logits, label)))


def soft_iou(logits, label):
    losses = [
        smp.JaccardLoss("multiclass", classes=[int(k)], ignore_index=IGNORED)(x[None], y[None])
        for x, y in zip(channels_first(logits), label, strict=True)
        for k in y.unique()
        if k != IGNORED
    ]
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def mcc(logits, label):
    logits, label = valid_pixels(logits, label)
    if not len(label):
        return UNDEFINED
    if logits.shape[-1] == 2:
        return smp.MCCLoss()((logits[:, 1] - logits[:, 0]).sigmoid()[None], label[None])
    p, target = logits.softmax(-1), one_hot(label, logits.shape[-1])
    return torch.stack([smp.MCCLoss()(p[None, :, k], target[None, :, k]) for k in range(logits.shape[-1])]).mean()


def lovasz_softmax(logits, label, per_image=False):
    return smp.LovaszLoss("multiclass", per_image=per_image, ignore_index=IGNORED)(
        channels_first(logits).float(), label
    )


def lovasz_hinge(logits, label, per_image=False):
    score = logits[..., 0] if logits.shape[-1] == 1 else logits[..., 1] - logits[..., 0]
    return smp.LovaszLoss("binary", per_image=per_image, ignore_index=IGNORED)(score.float(), label)


REFERENCES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "cross_entropy evenly smoothed": soft_cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "focal": focal,
    "binary_focal": binary_focal,
    "ohem_cross_entropy": ohem_cross_entropy,
    "poly_cross_entropy": poly_cross_entropy,
    "dice": overlap(smp.DiceLoss),
    "generalized_dice": generalized_dice,
    "log_cosh_dice": log_cosh_dice,
    "jaccard": overlap(smp.JaccardLoss),
    "soft_iou": soft_iou,
    "tversky": tversky,
    "focal_tversky": focal_tversky,
    "mcc": mcc,
    "lovasz_softmax": lovasz_softmax,
    "lovasz_hinge": lovasz_hinge,
}
"""References by the name of a case, or else by the name of its loss."""


def value_and_gradient(name: str, input_name: str) -> tuple[float, np.ndarray]:
    """Returns the reference value and gradient of a case for an input; NaN where undefined."""
    case = CASES[name]
    logits, label = logits_and_label(input_name, case.num_classes)
    x = torch.from_numpy(logits).double().requires_grad_()
    value = REFERENCES.get(name, REFERENCES[case.loss])(x, torch.from_numpy(label).long(), **case.options)
    # Without valid pixels, some losses return a Python 0 or an empty tensor.
    value = torch.as_tensor(value)
    gradient = torch.autograd.grad(value.sum(), x)[0].numpy() if value.requires_grad else np.zeros(x.shape)
    value = value.item() if value.numel() == 1 else np.nan
    if np.isfinite(value) and np.isfinite(gradient).all():
        return value, gradient
    if input_name != "all_ignored":
        raise ValueError(f"{name}: the reference is {value} for {input_name}")
    return np.nan, np.full_like(gradient, np.nan)


def main() -> None:
    """Parses the flags and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    found = {}
    for name in CASES:
        values, gradients = zip(*(value_and_gradient(name, input_name) for input_name in INPUTS), strict=True)
        found |= {f"{name}/value": np.array(values), f"{name}/gradient": np.array(gradients, np.float32)}
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(flags.out, **found)


if __name__ == "__main__":
    main()
