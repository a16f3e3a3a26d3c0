"""The page as a whole: its numbers are those of the scores, and no name in it becomes markup."""

import dataclasses

import numpy as np
import pytest
from report_pages import nodes, pairs, parse_page

from flaxseg import metrics
from flaxseg.metrics import Calibration, ConfusionMatrix, PerImage, Reliability
from flaxseg.metrics.calibration import EDGES
from flaxseg.report.page.content import Curve, ImageScores, PageContent, ShownImage
from flaxseg.report.page.page import html_page

HOSTILE = (
    '<script>alert("1")</script>',
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "</style></svg>&amp;'{}",
    "a\x00\ud800\u202eb",
)


def make_content(names=("sky", "road", "never"), images=12, **changed):
    """Returns what the report of random predictions shows; the last class never occurs."""
    rng, classes = np.random.default_rng(0), len(names)
    pairs_ = rng.integers(0, 90, (images, classes, classes)) + 200 * np.eye(classes, dtype=int)
    pairs_[:, -1] = pairs_[:, :, -1] = 0
    counts = pairs_.sum(0)
    per_image = PerImage((np.stack([np.diagonal(pairs_, axis1=1, axis2=2), pairs_.sum(2), pairs_.sum(1)], axis=-1),))
    fraction = np.array([0] * 10 + [1, 2, 3, 4, 6]) / 16
    confidence, accuracy = (np.where(fraction > 0, values, np.nan) for values in (EDGES[1:] - 0.03, EDGES[1:] - 0.08))
    label = rng.integers(0, classes, (20, 30)).astype(np.uint8)
    label[:5] = 255
    ids = tuple(f"image {index} of {names[0]}" for index in range(images))
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    shown = [ShownImage(f"image {i} of {names[0]}", 0.25, 0.5, image, label, (label + i) % classes) for i in range(2)]
    content = PageContent(
        title=names[0],
        network=names[0],
        data=names[0],
        created="1 January 2030",
        facts={names[0]: names[0]},
        class_names=names,
        palette=[(i, 2 * i % 256, 3 * i % 256) for i in range(classes)],
        scores={
            **ConfusionMatrix(counts).compute(),
            **per_image.compute(),
            "calibration/ece": 0.05,
            "calibration/mce": 1 / 3,
        },
        counts=counts,
        intervals=per_image.intervals(),
        images=ImageScores(ids, per_image.image_iou(), per_image.image_dice(), rng.integers(20, 900, (images, 2))),
        images_of_class=np.arange(classes),
        reliability=Reliability(confidence, accuracy, fraction),
        worst=shown[:1],
        best=shown[1:],
        curves={names[0]: [Curve(names[0], np.arange(1, 4), np.array([0.5, 0.25, 0.125]), 2)] * 2},
        licenses={names[0]: names[0]},
        versions={"flaxseg": names[0]},
        command=names[0],
        config={"data": {names[0]: names[0], "empty": ""}, "seed": 3},
    )
    return dataclasses.replace(content, **changed)


@pytest.fixture(scope="module")
def content():
    return make_content()


@pytest.fixture(scope="module")
def page(content):
    return parse_page(html_page(content))


def values(node):
    return [float(each.attributes["value"]) for each in node.all("data") if each.attributes["value"]]


def test_every_score_is_on_the_page_to_the_last_digit(content, page):
    found = pairs(page)
    for name, score in content.scores.items():
        assert found[name] == ("" if np.isnan(score) else repr(score)), name
    assert found["data.sky"] == "sky" and found["seed"] == "3" and found["data.empty"] == "\u2013"


def test_tiles_show_scores_with_their_intervals(content, page):
    tiles = page.all("div", "tile")
    expected = [("miou", "miou"), ("mean_dice", "mean_dice"), ("pixel_accuracy", "pixel_accuracy"),
                ("per_image/miou", "image_miou"), ("calibration/ece", None)]  # fmt: skip
    assert len(tiles) == 5
    for tile, (score, interval) in zip(tiles, expected, strict=True):
        assert values(tile) == [content.scores[score], *(content.intervals[interval] if interval else [])]


def test_the_table_of_classes_has_the_scores_of_each_class(content, page):
    (table,) = page.all("table", "classes")
    rows = table.all("tbody")[0].all("tr")
    scores = [score(content.counts) for score in (metrics.iou, metrics.dice, metrics.precision, metrics.recall)]
    for index, row in enumerate(rows[:2]):
        iou, *others = (score[index] for score in scores)
        assert row.all("th")[0].text == content.class_names[index]
        assert values(row) == [iou, *content.intervals["iou"][:, index], *others]
        (fill,), (interval,) = row.all("i", "fill"), row.all("i", "range")
        assert fill.attributes["style"] == f"width:{100 * iou:.2f}%"
        low, high = 100 * content.intervals["iou"][:, index]
        assert interval.attributes["style"] == f"left:{low:.2f}%;width:{high - low:.2f}%"
        share = 100 * content.counts[index].sum() / content.counts.sum()
        assert f"{share:.1f} %" in row.text and row.all("td")[-1].text == str(index)
    assert values(rows[2]) == [] and "0 %" in rows[2].text


def test_the_confusion_matrix_has_the_counts(content, page):
    (matrix,) = page.all("svg", "matrix")
    titles = [cell.all("title")[0].text for cell in matrix.all("rect")]
    assert len(titles) == 9
    counts = content.counts
    assert titles[1] == (
        f"true: sky\npredicted: road\n{counts[0, 1]:,} of {counts[0].sum():,} pixels "
        f"({100 * counts[0, 1] / counts[0].sum():.1f} %)"
    )
    assert titles[8].endswith("0 of 0 pixels (\u2013)")
    numbers = [text.text for text in matrix.all("text", "count")]
    assert numbers[:2] == [f"{100 * counts[0, i] / counts[0].sum():.1f}" for i in range(2)] and len(numbers) == 6
    first = page.all("ol", "ranking")[0].all("li")[0]
    wrong = counts - np.diag(np.diagonal(counts))
    assert first.all("span", "figure")[0].attributes["title"] == f"{wrong.max():,} pixels"


def test_charts_have_a_mark_for_each_image_class_and_bin(content, page):
    charts = {svg.attributes["aria-label"]: svg for svg in page.all("svg", "plot")}
    sizes = charts["Scatter plot of the IoU of images by their size"].all("circle")
    assert len(sizes) == 12
    height, width = content.images.sizes[3]
    assert sizes[3].text == f"image 3 of sky\n{width} \u00d7 {height} pixels\nIoU {content.images.iou[3]:.3f}"
    shares = charts["Scatter plot of the IoU of classes by their fraction of pixels"].all("circle")
    assert [dot.text.splitlines()[0] for dot in shares] == ["sky", "road"]
    bars = charts["Reliability diagram: accuracy by confidence"].all("rect")
    assert len(bars) == (content.reliability.fraction > 0).sum()
    filled = content.reliability.fraction > 0
    assert f"accuracy {content.reliability.accuracy[filled][0]:.3f}" in bars[0].text
    assert "Expected calibration error 0.0500, maximum 0.3333" in page.text and "more confident than" in page.text
    histogram = charts["Histogram of the IoU of single images"].all("rect")
    assert sum(int(bar.text.split()[0]) for bar in histogram) == 12
    (curves,) = (svg for label, svg in charts.items() if "by training step" in label)
    assert [len(line.attributes["points"].split()) for line in curves.all("polyline", "curve")] == [3, 3]
    assert [mark.text for mark in curves.all("polyline", "evaluated")] == ["step 2, which this report is about"] * 2
    assert [dot.text for dot in curves.all("circle")][:3] == ["step 1: 0.5", "step 2: 0.25", "step 3: 0.125"]


def test_images_of_one_size_have_no_chart_of_sizes(content):
    images = dataclasses.replace(content.images, sizes=np.full((12, 2), (30, 40)))
    page = parse_page(html_page(dataclasses.replace(content, images=images)))
    assert "All images are 40 \u00d7 30 pixels." in page.text and "IoU by image size" not in page.text


def test_images_are_stored_once_and_shown_four_times(page):
    examples = page.all("figure", "example")
    assert [len(each.all("svg")) for each in examples] == [4, 4]
    for example in examples:
        sources = [node.attributes["href"][:15] for node in example.all("image")]
        assert sources == ["data:image/jpeg", *["data:image/png;"] * 3]
        assert len(example.all("use")) == 3
    assert "All labeled pixels are correct." in examples[0].text
    assert "100 % of the labeled pixels are wrong; most often" in examples[1].text


def test_no_name_becomes_markup():
    content = make_content(names=HOSTILE)
    text = html_page(content)
    root = parse_page(text)
    text.encode()
    plain = parse_page(
        html_page(make_content(names=[letter * len(name) for letter, name in zip("abcd", HOSTILE, strict=True)]))
    )
    assert [node.name for node in nodes(root)] == [node.name for node in nodes(plain)]
    for name in HOSTILE[:3]:
        assert name in root.text
    assert "a\ufffd\ufffd\u202eb" in root.text
    assert root.all("h1")[0].text == HOSTILE[0]
    assert root.all("span", "id")[0].all("span")[0].text == "1"
    assert f"image 0 of {HOSTILE[0]}" in root.all("span", "id")[0].text


def test_many_classes_and_images_stay_below_three_megabytes():
    rng = np.random.default_rng(0)
    content = make_content(names=tuple(f"class {index}" for index in range(80)), worst=(), best=())
    ids, iou = [f"image {index}" for index in range(2000)], rng.random(2000)
    images = ImageScores(ids, iou, iou, rng.integers(20, 900, (2000, 2)))
    without = html_page(dataclasses.replace(content, images=images))
    label, prediction = rng.integers(0, 80, (2, 150, 200), np.uint8)
    shown = ShownImage("noise", 0.5, 0.5, rng.integers(0, 256, (150, 200, 3), np.uint8), label, prediction)
    size_of_image = len(html_page(dataclasses.replace(content, worst=[shown]))) - len(html_page(content))
    assert size_of_image > 50_000 and len(without.encode()) + 16 * size_of_image < 3_000_000
    root = parse_page(without)
    assert len(root.all("svg", "matrix")[0].all("rect")) == 2500
    assert len(root.all("table", "classes")[0].all("tbody")[0].all("tr")) == 80
    assert "1,500 of 2,000 images are drawn." in root.text


def test_without_any_labeled_pixel_the_page_says_so():
    none = make_content(images=0, worst=(), best=(), curves={}, config={}, command="")
    calibration = Calibration.empty(3)
    root = parse_page(html_page(dataclasses.replace(none, reliability=calibration.reliability())))
    assert "There are no labeled pixels." in root.text
    assert not root.all("circle") and not root.all("figure", "example")
    assert {title.text for title in root.all("h2")}.isdisjoint({"Images", "Training"})


def test_one_class_and_one_image():
    content = make_content(names=("all", "none"), images=1)
    assert "All labeled pixels" in parse_page(html_page(content)).text


def test_nothing_may_be_loaded_from_elsewhere(page):
    (policy,) = (node for node in page.all("meta") if node.attributes.get("http-equiv"))
    assert policy.attributes["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "prefers-color-scheme: dark" in page.all("style")[0].text and "@media print" in page.all("style")[0].text
