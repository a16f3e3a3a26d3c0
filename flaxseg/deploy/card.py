"""The model card of an exported folder: the README.md that the Hugging Face hub shows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flaxseg.deploy.trained import TrainedNetwork

_SHOWN_SCORES = ("miou", "mean_dice", "pixel_accuracy", "fwiou", "micro_iou", "mean_precision", "mean_recall", "kappa")
_SHOWN_SECTIONS = ("data", "augment", "optimizer", "loss", "train")


def model_card(network: TrainedNetwork, report: Mapping[str, Any], *, license: str | None = None) -> str:
    """Returns the text of a model card: how to use the files, the classes, data, scores, checks and configuration.

    Args:
      network: the exported network.
      report: what `export_network` returns.
      license: the license of the weights, as the hub names it, such as "cc-by-4.0"; None: not stated.
    """
    sections = (
        _metadata(license),
        _title(network, license),
        _usage(report),
        _classes(network),
        _training(network),
        _scores(network),
        _checks(report),
        _configuration(network),
    )
    return "\n\n".join(filter(None, sections)) + "\n"


def _metadata(license: str | None) -> str:
    lines = ["---", "library_name: flaxseg", "pipeline_tag: image-segmentation"]
    lines += [f"license: {license}"] if license else []
    return "\n".join([*lines, "tags:", "- semantic-segmentation", "- jax", "- flax", "---"])


def _title(network: TrainedNetwork, license: str | None) -> str:
    given = network.description
    encoder = given.options.get("encoder")
    name = f"{given.name} with encoder {encoder}" if encoder else given.name
    kind = f"{given.channels} channels" if given.channels != 3 else "RGB"
    return (
        f"# {name}\n\nA semantic-segmentation network for {kind} images, with {given.num_classes} classes, trained "
        f"with flaxseg {given.versions.get('flaxseg', '')} on images of {given.image_size[0]} x "
        f"{given.image_size[1]} pixels.\n\nLicense of the weights: {license or 'not stated'}."
    )


_USAGE = {
    "safetensors": """\
import flaxseg

model = flaxseg.load("FOLDER")
mask = model(image)  # uint8[H, W], class indices
""",
    "stablehlo": """\
import jax
from flaxseg.deploy.stablehlo import read_stablehlo

predict = jax.jit(read_stablehlo("FOLDER/model.stablehlo"))
{output} = predict(image)
""",
    "onnx": """\
import onnxruntime

session = onnxruntime.InferenceSession("FOLDER/model.onnx")
({output},) = session.run(None, {{"image": image}})
""",
}


def _usage(report: Mapping[str, Any]) -> str:
    parts = ["## Use"]
    for name, entry in report["formats"].items():
        code = _USAGE[name].format(output=entry["output"])
        parts.append(f"`{entry['file']}`:\n\n```python\n{code}```")
        if name != "safetensors":
            given = report["input"]
            parts.append(
                f"The input is `{given['layout']}` with values {given['values']}, of size: {entry['image_size']}; the "
                f"output is the {entry['output']}."
            )
    return "\n\n".join(parts)


def _classes(network: TrainedNetwork) -> str:
    given = network.description
    rows = [
        (index, _plain(name), "#{:02x}{:02x}{:02x}".format(*color))
        for index, (name, color) in enumerate(zip(given.class_names, given.palette, strict=True))
    ]
    return "## Classes\n\n" + _table(("index", "class", "color"), rows)


def _training(network: TrainedNetwork) -> str:
    if not network.data and not network.config:
        return "## Data\n\nNot recorded."
    name = network.config.get("data", {}).get("name")
    lines = [f"Dataset: {_plain(name)}."] if name else []
    lines += [f"{split}: {count:,} examples." for split, count in network.data.items()]
    if network.step is not None:
        lines.append(f"The weights are those of step {network.step:,}.")
    return "## Data\n\n" + "\n".join(f"- {line}" for line in lines)


def _scores(network: TrainedNetwork) -> str:
    rows = [(name, f"{network.scores[name]:.4f}") for name in _SHOWN_SCORES if name in network.scores]
    if not rows:
        return "## Scores\n\nNot recorded."
    return "## Scores\n\nOn the evaluation split, in training's own evaluation:\n\n" + _table(("score", "value"), rows)


def _checks(report: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{entry['file']}`",
            f"{entry['bytes'] / 1e6:.1f} MB",
            f"{entry['largest_difference']:.2g}",
            f"{entry['largest_logit']:.3g}",
            f"{entry['differing_pixels']:,} of {entry['pixels']:,}",
        )
        for entry in report["formats"].values()
    ]
    header = ("file", "size", "largest difference", "largest logit", "pixels of another class")
    return (
        f"## Checks\n\nEach file was loaded by its own runtime and compared with the network in float32 on "
        f"{_plain(report['compared_on'])}. Weights are stored as {report['weights']}.\n\n" + _table(header, rows)
    )


def _configuration(network: TrainedNetwork) -> str:
    options = [(f"`{key}`", f"`{value}`") for key, value in network.description.options.items()]
    rows = [(f"`{key}`", f"`{value}`") for key, value in _leaves(network.config) if value not in ("", None, [], {})]
    text = "## Network\n\n" + _table(("option", "value"), options) if options else ""
    return text + ("\n\n## Configuration\n\n" + _table(("key", "value"), rows) if rows else "")


def _leaves(config: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for section in _SHOWN_SECTIONS:
        values = config.get(section)
        if isinstance(values, Mapping):
            # A path of the computer that trained the network is nobody else's business.
            yield from ((f"{section}.{key}", value) for key, value in values.items() if key not in ("dir", "cache"))
        elif values is not None:
            yield section, values


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _plain(text: Any) -> str:
    """Returns text on one line that Markdown shows as it is."""
    return " ".join(str(text).split()).replace("<", "&lt;")
