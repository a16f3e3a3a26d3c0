"""The images with the lowest and the highest IoU, with their labels, predictions and errors."""

from collections.abc import Sequence

import numpy as np

from flaxseg.data.resize import resize_label
from flaxseg.data.types import IGNORE_LABEL, Color
from flaxseg.metrics.ratios import ratio
from flaxseg.report.drawing import error_color
from flaxseg.report.page.bars import swatch
from flaxseg.report.page.content import PageContent, ShownImage
from flaxseg.report.page.html import Html, data, element, join, percent
from flaxseg.report.page.layers import encode_layers

_PANELS = ("Image", "Label", "Prediction", "Errors")
_MAX_LEGEND = 40


def examples(content: PageContent) -> Html | None:
    """Returns the section of the worst and the best images; None if there are none."""
    groups = [("Worst images", "w", content.worst), ("Best images", "b", content.best)]
    parts = [
        join(
            element("h3", title),
            element(
                "div",
                *(_example(image, content, number, f"{letter}{number}") for number, image in enumerate(images, 1)),
                class_="examples",
            ),
        )
        for title, letter, images in groups
        if images
    ]
    if not parts:
        return None
    return element("section", element("h2", "Images"), legend(content.class_names, content.palette), *parts)


def legend(class_names: Sequence[str], palette: Sequence[Color]) -> Html:
    """Returns the names of the classes beside their colors, and what errors and ignored pixels look like."""
    entries = [join(swatch(color), name) for color, name in zip(palette, class_names, strict=True)][:_MAX_LEGEND]
    entries += [Html("\u2026")] if len(class_names) > _MAX_LEGEND else []
    entries.append(join(swatch(error_color(palette)), "wrong"))
    entries.append(join(element("i", class_="swatch ignored"), "ignored"))
    return element("ul", *(element("li", entry) for entry in entries), class_="legend")


def _example(shown: ShownImage, content: PageContent, rank: int, key: str) -> Html:
    size, (image, *layers) = encode_layers(shown.image, shown.label, shown.prediction, content.palette)
    whole = {"width": size[1], "height": size[0], "preserveAspectRatio": "none"}
    # The image is in the page only once: the other panels refer to it.
    bases = [element("image", id=key, href=image, **whole), *[element("use", href=f"#{key}")] * 3]
    panels = []
    for title, base, layer in zip(_PANELS, bases, [None, *layers], strict=True):
        above = element("image", href=layer, **whole) if layer else None
        label = f"{title} of {shown.id}"
        svg = element("svg", base, above, viewBox=f"0 0 {size[1]} {size[0]}", role="img", aria_label=label)
        panels.append(element("div", svg, element("span", title), class_="panel"))
    height, width = shown.label.shape
    return element(
        "figure",
        element(
            "figcaption",
            element("span", element("span", rank, class_="rank"), shown.id, class_="id", title=shown.id),
            element("span", "IoU ", element("b", data(shown.iou)), " \u00b7 Dice ", data(shown.dice), class_="figures"),
        ),
        element("div", *panels, class_="panels"),
        element("p", f"{width} \u00d7 {height} pixels. ", _error(shown, content.class_names), class_="note"),
        class_="card example",
    )


def _error(shown: ShownImage, names: Sequence[str]) -> Html:
    """Returns the fraction of wrong pixels, and the most frequent error among them."""
    label = shown.label
    prediction = resize_label(shown.prediction, (label.shape[0], label.shape[1]))
    valid = label != IGNORE_LABEL
    wrong = valid & (label != prediction)
    if not wrong.any():
        return Html("All labeled pixels are correct.")
    pairs, counts = np.unique(label[wrong].astype(int) * 256 + prediction[wrong], return_counts=True)
    true, predicted = divmod(int(pairs[counts.argmax()]), 256)
    fraction, largest = (percent(float(ratio(count, valid.sum()))) for count in (wrong.sum(), counts.max()))
    return join(
        f"{fraction} of the labeled pixels are wrong; most often ", element("b", names[true]), " is predicted as ",
        element("b", names[predicted]), f" ({largest}).",
    )  # fmt: skip
