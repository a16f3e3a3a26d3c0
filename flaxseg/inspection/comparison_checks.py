"""Checks that compare the training split with the evaluation split."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from flaxseg.data.statistics import Statistics
from flaxseg.inspection.duplicates import exact_matches, near_matches
from flaxseg.inspection.findings import Finding, Setting, abbreviate
from flaxseg.inspection.split_checks import channel_settings

_RARE = 0.05
"""Class weights are suggested when a class covers less than this fraction of the valid pixels."""


def check_missing_classes(
    train: Statistics, evaluation: Statistics, class_names: Sequence[str], *, layout: Mapping[str, Any] | None = None
) -> list[Finding]:
    """Reports classes that do not occur in one of the splits, or in either; one class alone in `train` is an error.

    Args:
      train: the statistics of the training split.
      evaluation: the statistics of the evaluation split.
      class_names: the name of each class.
      layout: for a published dataset, the options with which `folder` reads other images in its layout.
    """
    in_train = train.occurrences > 0
    in_eval = evaluation.occurrences > 0
    found = []
    if in_train.sum() == 1:
        only = class_names[int(np.argmax(in_train))]
        text = f"train: only one class, {only}, occurs in the masks, so there is nothing to distinguish"
        found.append(Finding("error", f"{text}; check which mask values are classes"))
    nowhere = ~in_eval & ~in_train
    for missing, text in (
        (in_eval & ~in_train, "occur in eval but never in train, so they cannot be learned"),
        (nowhere, "never occur"),
        (~in_eval & in_train, "never occur in eval, so they have no scores, or an IoU of 0 if they are predicted"),
    ):
        names = [name for name, is_missing in zip(class_names, missing, strict=True) if is_missing]
        if names:
            warning = f"{len(names)} of {len(class_names)} classes {text}: {abbreviate(names)}"
            if missing is nowhere and layout and nowhere.mean() > 0.5:
                found.append(_own_classes_finding(warning, class_names, ~nowhere, layout))
            else:
                found.append(Finding("warning", warning))
    return found


def _own_classes_finding(
    text: str, class_names: Sequence[str], occurs: np.ndarray, layout: Mapping[str, Any]
) -> Finding:
    """Reports that the images may be none of the published dataset, whose names their classes then have wrongly."""
    present = [name for name, is_present in zip(class_names, occurs, strict=True) if is_present]
    shown = abbreviate([name for name in present if name != "background"])
    text += (
        f". These are the names of a published dataset: check that the masks show {shown or 'what they say'}. Images "
        "and classes of your own in the same layout are read by the dataset `folder`"
    )
    names = tuple(name if name == "background" else f"NAME_{i}" for i, name in enumerate(present))
    when = "if the classes are your own; replace the names by theirs"
    return Finding("warning", text, (Setting(when, {"config": "folder", **layout, "class_names": names}),))


def check_class_balance(train: Statistics, class_names: Sequence[str]) -> list[Finding]:
    """Reports a class that covers only a small part of the valid pixels."""
    fractions = train.class_fractions
    present = fractions[fractions > 0]
    if len(present) < 2 or present.min() >= _RARE:
        return []
    rarest = int(np.argmin(np.where(fractions > 0, fractions, 2)))
    text = (
        f"train: the class {class_names[int(np.argmax(fractions))]} covers {fractions.max():.2%} of the valid pixels "
        f"and {class_names[rarest]} {fractions[rarest]:.2%}; class weights help to learn rare classes sooner"
    )
    return [Finding("note", text)]


def check_matching_channels(train: Statistics, evaluation: Statistics, *, options: Collection[str]) -> list[Finding]:
    """Reports images of the evaluation split that have another number of channels than those of the training split.

    Args:
      train: the statistics of the training split.
      evaluation: the statistics of the evaluation split.
      options: names of the dataset's options that settings may suggest.
    """
    train_channels, eval_channels = (", ".join(map(str, np.unique(split.channels))) for split in (train, evaluation))
    if train_channels == eval_channels:
        return []
    found = {*train.channels.tolist(), *evaluation.channels.tolist()}
    text = f"images have {train_channels} channels in train and {eval_channels} in eval; a network takes one number"
    return [Finding("error", f"{text}: convert the images", channel_settings(options, found))]


def check_leakage(train: Statistics, evaluation: Statistics) -> list[Finding]:
    """Reports evaluation images that equal or resemble a training image."""
    found = []
    exact = exact_matches(train, evaluation)
    if exact:
        text = f"{len(exact)} of {len(evaluation.ids)} eval images are also in train, pixel for pixel, which inflates "
        found.append(Finding("warning", f"{text}the scores: {_pairs(exact)}"))
    near = near_matches(train, evaluation)
    if near:
        text = f"{len(near)} eval images resemble a train image, as scaled copies and neighboring video frames do "
        found.append(Finding("note", f"{text}(a guess from difference hashes): {_pairs(near)}"))
    return found


def _pairs(matches: Sequence[tuple[str, str]]) -> str:
    return abbreviate([f"{evaluation} (train: {train})" for train, evaluation in matches])
