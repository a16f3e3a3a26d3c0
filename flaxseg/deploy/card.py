"""The model card of an exported folder: the README.md that the Hugging Face hub shows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flaxseg.deploy.card_usage import usage
from flaxseg.deploy.trained import TrainingRecord
from flaxseg.inference.description import ModelDescription
from flaxseg.models.pretrained.hub import PREFIX
from flaxseg.models.pretrained.licenses import NOT_STATED

_SHOWN_SCORES = ("miou", "mean_dice", "pixel_accuracy", "fwiou", "micro_iou", "mean_precision", "mean_recall", "kappa")
_SHOWN_SECTIONS = ("data", "augment", "optimizer", "loss", "train")
_NO_LICENSE = f"{NOT_STATED} (`flaxseg export --license=NAME` states it)"


def model_card(
    description: ModelDescription, record: TrainingRecord, report: Mapping[str, Any], *, license: str | None = None
) -> str:
    """Returns the text of a model card: how to use the files, the classes, data, scores, checks and configuration.

    Args:
      description: the exported network.
      record: what is known about its training.
      report: what `export_network` returns.
      license: the license of the weights, as the hub names it, such as "cc-by-4.0"; None: that of the published weights
        that they come from, or not stated.
    """
    license = license or description.license or None
    sections = (
        _metadata(description, license),
        _title(description, license),
        usage(description, report),
        _classes(description),
        _training(record),
        _scores(record),
        _checks(report),
        _configuration(description, record),
    )
    return "\n\n".join(filter(None, sections)) + "\n"


def _metadata(given: ModelDescription, license: str | None) -> str:
    lines = ["---", "library_name: flaxseg", "pipeline_tag: image-segmentation"]
    # What the hub knows as a license is one word; published weights may add its name and address.
    stated = license.split()[0].rstrip(",") if license and license != NOT_STATED else ""
    lines += [f"license: {stated}"] if stated else []
    lines += [f"base_model: {given.source.removeprefix(PREFIX).partition('@')[0]}"] if _is_on_hub(given) else []
    return "\n".join([*lines, "tags:", "- semantic-segmentation", "- jax", "- flax", "---"])


def _title(given: ModelDescription, license: str | None) -> str:
    encoder = given.options.get("encoder")
    name = f"{given.name} with encoder {encoder}" if encoder else given.name
    kind = f"{given.channels} channels" if given.channels != 3 else "RGB"
    version = given.versions.get("flaxseg")
    kind_of_image = "images" if given.resize == "stretch" else "crops"
    size = f"{kind_of_image} of {given.image_size[0]} x {given.image_size[1]} pixels"
    stated = _plain(license) if license and license != NOT_STATED else _NO_LICENSE
    training = f", trained with flaxseg {version} on {size}" if version or not given.source else ""
    return (
        f"# {name}\n\nA semantic-segmentation network for {kind} images, with {given.num_classes} classes{training}."
        f"\n\nLicense of the weights: {stated}." + _origin(given)
    )


def _origin(given: ModelDescription) -> str:
    if not given.source:
        return ""
    license = _plain(given.license or NOT_STATED)
    return f"\n\nThey are, or were initialized with, the weights of {_plain(given.source)} (license: {license})."


def _is_on_hub(given: ModelDescription) -> bool:
    return given.source.startswith(PREFIX) and given.source.isprintable()


def _classes(given: ModelDescription) -> str:
    rows = [
        (index, _plain(name), "#{:02x}{:02x}{:02x}".format(*color))
        for index, (name, color) in enumerate(zip(given.class_names, given.palette, strict=True))
    ]
    return "## Classes\n\n" + _table(("index", "class", "color"), rows)


def _training(record: TrainingRecord) -> str:
    if not record.data and not record.config:
        return "## Data\n\nNot recorded."
    name = record.config.get("data", {}).get("name")
    lines = [f"Dataset: {_plain(name)}."] if name else []
    lines += [f"{split}: {count:,} examples." for split, count in record.data.items()]
    if record.step is not None:
        lines.append(f"The weights are those of step {record.step:,}.")
    return "## Data\n\n" + "\n".join(f"- {line}" for line in lines)


def _scores(record: TrainingRecord) -> str:
    rows = [(name, f"{record.scores[name]:.4f}") for name in _SHOWN_SCORES if name in record.scores]
    if not rows:
        return "## Scores\n\nNot recorded."
    return "## Scores\n\nOn the evaluation split, in training's own evaluation:\n\n" + _table(("score", "value"), rows)


_ONLY_TO_COMPARE = (
    "The mIoU was measured on {}, cropped, padded or resized to sizes that the file accepts, only to compare the file "
    "with the network; the scores of the network are those above."
)


def _checks(report: Mapping[str, Any]) -> str:
    entries = report["formats"].values()
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("file", lambda entry: f"`{entry['file']}`"),
        ("size", lambda entry: f"{entry['bytes'] / 1e6:.1f} MB"),
        ("largest difference", lambda entry: f"{entry['largest_difference']:.2g}"),
        ("largest logit", lambda entry: f"{entry['largest_logit']:.3g}"),
        ("pixels of another class", lambda entry: f"{entry['differing_pixels']:,} of {entry['pixels']:,}"),
    ]
    if any(entry.get("miou_before") is not None for entry in entries):
        columns += [
            ("mIoU of the network", lambda entry: _score(entry.get("miou_before"))),
            ("mIoU of the file", lambda entry: _score(entry.get("miou_after"))),
        ]
    table = _table([name for name, _ in columns], [[cell(entry) for _, cell in columns] for entry in entries])
    notes = [_ONLY_TO_COMPARE.format(report["compared_on"])] if len(columns) > 5 else []
    notes += [
        f"`{entry['file']}` takes one image size only: {_plain(entry['note'])}." for entry in entries if "note" in entry
    ]
    return "\n\n".join(
        [
            "## Checks",
            "Each file was loaded by its own runtime and compared with the network in float32 on "
            f"{_plain(report['compared_on'])}. Weights are stored as {report['weights']}.",
            table,
            *notes,
        ]
    )


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _configuration(description: ModelDescription, record: TrainingRecord) -> str:
    options = [(f"`{key}`", f"`{value}`") for key, value in description.options.items()]
    rows = [(f"`{key}`", f"`{value}`") for key, value in _leaves(record.config) if value not in ("", None, [], {})]
    text = "## Network\n\n" + _table(("option", "value"), options) if options else ""
    return text + ("\n\n## Configuration\n\n" + _table(("key", "value"), rows) if rows else "")


def _leaves(config: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for section in _SHOWN_SECTIONS:
        values = config.get(section)
        if isinstance(values, Mapping):
            # A path of the computer that trained the network is nobody else's business. Either `steps` or `epochs` has
            # an effect.
            hidden = ("dir", "cache", "epochs" if values.get("steps") else "steps")
            yield from ((f"{section}.{key}", value) for key, value in values.items() if key not in hidden)
        elif values is not None:
            yield section, values


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _plain(text: Any) -> str:
    """Returns text on one line that Markdown shows as it is."""
    return " ".join(str(text).split()).replace("<", "&lt;")
