"""Reports of evaluations: one pass over a dataset, and an HTML page of what it found."""

import dataclasses
import datetime
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxseg.data.sources.wrappers import record_sizes
from flaxseg.data.types import SegmentationDataset
from flaxseg.deploy.files import write_file
from flaxseg.deploy.predictor import Predictor
from flaxseg.deploy.saved import SavedModel
from flaxseg.deploy.trained import read_curve, read_record
from flaxseg.errors import check_integer
from flaxseg.inference.description import installed_versions
from flaxseg.inference.scoring import EvalMetrics
from flaxseg.metrics import Calibration, PerImage
from flaxseg.models.pretrained.licenses import NOT_STATED, read_license
from flaxseg.report.page.content import Curve, ImageScores, PageContent, ShownImage
from flaxseg.report.page.page import html_page

_NEEDED = ("per_image", "calibration")
"""The metrics that a report shows in addition to the confusion matrix."""

_CURVES = {
    "Training loss": "train/loss",
    "Evaluation cross-entropy": "eval/cross_entropy/mean",
    "mIoU during training": "eval/miou",
    "Learning rate": "train/learning_rate",
}

_EVALUATION_SECTIONS = ("data", "eval")


@dataclasses.dataclass(frozen=True)
class ReportedEvaluation:
    """An evaluation that a report can be written of.

    Attributes:
      model: the network.
      dataset: the dataset.
      scores: its scores, with those that the report needs.
      requested: the same scores, with the metrics that were asked for alone.
      sizes: int64[N, 2], the height and width of each label.
      settings: the arguments `resolution`, `whole` and `batch_size` of `Predictor.evaluate`.
    """

    model: Predictor
    dataset: SegmentationDataset
    scores: EvalMetrics
    requested: EvalMetrics
    sizes: np.ndarray
    settings: Mapping[str, Any]


def evaluate_for_report(
    model: Predictor,
    dataset: SegmentationDataset,
    *,
    metrics: Sequence[str] = (),
    num_threads: int = -1,
    **settings: Any,
) -> ReportedEvaluation:
    """Evaluates a network in one pass, with everything that a report shows.

    Args:
      model: the network, from `flaxseg.load`.
      dataset: as for `Predictor.evaluate`.
      metrics: as for `Predictor.evaluate`; the scores per image and the calibration are always computed.
      num_threads: as for `Predictor.evaluate`.
      **settings: `resolution`, `whole` and `batch_size`, as for `Predictor.evaluate`.

    Raises:
      ArgumentError, DataError: as for `Predictor.evaluate`.
    """
    source = record_sizes(dataset.source)
    scores = model.evaluate(
        dataclasses.replace(dataset, source=source),
        metrics=tuple(dict.fromkeys([*metrics, *_NEEDED])),
        num_threads=num_threads,
        **settings,
    )
    # In the order of the scores, in which they are printed.
    others = {name: metric for name, metric in scores.others.items() if name in metrics}
    requested = EvalMetrics(scores.confusion, others)
    return ReportedEvaluation(model, dataset, scores, requested, source.sizes, settings)


def write_report(
    path: str | Path,
    evaluation: ReportedEvaluation,
    *,
    data: str,
    config: Mapping[str, Any] | None = None,
    command: str = "",
    images: int = 8,
) -> None:
    """Writes an evaluation as one HTML page, which needs no other file and no network.

    Args:
      path: the file; replaced if it exists.
      evaluation: from `evaluate_for_report`.
      data: what the dataset is called.
      config: the configuration to show; None: the one that the network was trained with, if it is recorded. Of a
        network whose training is not recorded, only its sections `data` and `eval` are shown.
      command: the command to show; "" for none.
      images: the number of the worst and of the best images that are shown; 0 for none.

    Raises:
      ArgumentError: a negative number of images.
      DataError: an image cannot be read again, or the file cannot be written.
    """
    check_integer("images", images, 0)
    page = html_page(page_content(evaluation, data=data, config=config, command=command, images=images))
    write_file(Path(path), page.encode())


def page_content(
    evaluation: ReportedEvaluation,
    *,
    data: str,
    config: Mapping[str, Any] | None = None,
    command: str = "",
    images: int = 8,
) -> PageContent:
    """Returns what the report of an evaluation shows; see `write_report` for the arguments."""
    model, dataset, scores = evaluation.model, evaluation.dataset, evaluation.scores
    per_image, calibration = scores.others["per_image"], scores.others["calibration"]
    assert isinstance(per_image, PerImage) and isinstance(calibration, Calibration)
    # Padding completes the last batch.
    rows = per_image.rows[: len(dataset.source)]
    valid = np.flatnonzero(rows.any((1, 2)))
    iou, dice = per_image.image_iou(), per_image.image_dice()
    order = valid[np.argsort(iou[valid], kind="stable")].tolist()
    # Of few images, each is shown once: the lower half as the worst, the upper as the best.
    worst = order[: min(images, -(-len(order) // 2))]
    best = order[::-1][: min(images, len(order) // 2)]
    shown = dict(zip([*worst, *best], _shown_images(evaluation, [*worst, *best], iou, dice), strict=True))
    today = datetime.date.today()
    return PageContent(
        title=model.name,
        network=_network(model),
        data=data,
        created=f"{today.day} {today:%B %Y}",
        facts=_facts(evaluation),
        class_names=model.classes,
        palette=model.palette,
        scores=scores.compute(),
        counts=np.asarray(scores.confusion.to_host().counts),
        intervals=per_image.intervals(),
        images=ImageScores(
            [dataset.source.example_id(index) for index in valid.tolist()],
            iou[valid],
            dice[valid],
            evaluation.sizes[valid],
        ),
        images_of_class=(rows[..., 1] > 0).sum(0),
        reliability=calibration.reliability(),
        worst=[shown[index] for index in worst],
        best=[shown[index] for index in best],
        curves=_curves(model.members),
        licenses={member.name: _license(member) for member in model.members},
        versions=_versions(model.members[0]),
        command=command,
        config=_config(model.members[0], config),
    )


def _shown_images(
    evaluation: ReportedEvaluation, indices: Sequence[int], iou: np.ndarray, dice: np.ndarray
) -> list[ShownImage]:
    dataset = evaluation.dataset
    found = []
    for index, prediction in zip(
        indices, evaluation.model.evaluated_labels(dataset, indices, **evaluation.settings), strict=True
    ):
        example = dataset.source[index]
        scores = float(iou[index]), float(dice[index])
        found.append(ShownImage(example["id"], *scores, example["image"], example["label"], prediction))
    return found


def _network(model: Predictor) -> str:
    """Returns the architectures and encoders of a network or an ensemble in a few words."""
    names = []
    for member in model.members:
        encoder = member.description.options.get("encoder")
        names.append(f"{member.description.name} with {encoder}" if encoder else member.description.name)
    together = ", ".join(dict.fromkeys(names))
    return together if len(names) == 1 else f"Ensemble of {len(names)}: {together}"


def _facts(evaluation: ReportedEvaluation) -> dict[str, str]:
    described = evaluation.model.description
    height, width = described.image_size
    scaled = "" if described.scale == 1 else f", scaled by {described.scale:g}"
    is_native = evaluation.settings.get("resolution", "native") == "native"
    facts = {
        "Classes": f"{described.num_classes}",
        "Images resized": f"to {width} \u00d7 {height}" if described.resize == "stretch" else f"no{scaled}",
        "Scored at": "native resolution" if is_native else f"{width} \u00d7 {height}",
    }
    steps = [member.step for member in evaluation.model.members if member.step is not None]
    return facts | ({"Training step": ", ".join(f"{step:,}" for step in steps)} if steps else {})


def _curves(members: Sequence[SavedModel]) -> dict[str, list[Curve]]:
    """Returns the logged numbers of the runs that networks come from."""
    found = {
        title: [Curve(member.name, *read_curve(member, name), member.step) for member in members]
        for title, name in _CURVES.items()
    }
    with_rows = {title: [curve for curve in curves if len(curve.steps)] for title, curves in found.items()}
    return {title: curves for title, curves in with_rows.items() if curves}


def _config(member: SavedModel, config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Returns the configuration to show; without a recorded training only what an evaluation depends on."""
    recorded = read_record(member).config
    if config is None or recorded:
        return recorded if config is None else config
    return {name: config[name] for name in _EVALUATION_SECTIONS if name in config}


def _license(member: SavedModel) -> str:
    """Returns the license of a network's weights, and where they, or those that its training began with, come from."""
    card = member.folder / "README.md" if member.folder else None
    stated = str(read_license(card.read_text("utf-8", "replace"))) if card and card.is_file() else NOT_STATED
    described = member.description
    own = stated if stated != NOT_STATED else described.license or NOT_STATED
    if not described.source:
        return own
    origin = f"from {described.source}"
    return f"{own}, {origin}" if own == described.license else f"{own}, {origin} ({described.license or NOT_STATED})"


def _versions(member: SavedModel) -> dict[str, str]:
    trained = member.description.versions
    versions = {
        name: f"{version}, trained with {trained[name]}" if trained.get(name, version) != version else version
        for name, version in installed_versions().items()
    }
    device = jax.local_devices()[0]
    kind = ", ".join(dict.fromkeys([device.platform, device.device_kind]))
    return versions | {"Python": platform.python_version(), "Device": kind}
