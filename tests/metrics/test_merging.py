"""The contract of every metric: batches, order, devices, padding and ignored pixels change no bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flaxseg.metrics import METRICS, ConfusionMatrix
from flaxseg.metrics.accumulation import PerImageMetric

ALL = {"confusion": ConfusionMatrix, **METRICS}
IMAGES, BATCH_SIZE, CLASSES = 8, 4, 4
PATIENT = settings(derandomize=True, deadline=None, max_examples=5)


@jax.jit
def measure(images):
    prediction = images["logits"].argmax(-1).astype(jnp.uint8)
    output = {**images, "prediction": prediction, "num_classes": CLASSES}
    return {name: metric.from_model_output(**output) for name, metric in ALL.items()}


def random_images(seed):
    """Returns images of several sizes in one array, with blocks of classes and of ignored pixels."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, CLASSES, (IMAGES, 4, 5))
    blocks[rng.random(blocks.shape) < 0.15] = 255
    label = blocks.repeat(5, 1).repeat(4, 2).astype(np.uint8)
    size = np.stack([rng.integers(12, 21, IMAGES), rng.integers(12, 21, IMAGES)], axis=1).astype(np.int32)
    outside = (np.mgrid[:20, :20][:, None] >= size.T[..., None, None]).any(0)
    label[outside] = 255
    logits = 2 * np.eye(CLASSES)[label % CLASSES] + rng.normal(size=(*label.shape, CLASSES))
    return {"logits": logits.astype(np.float32), "label": label, "size": size}


def batches(images, parts):
    """Yields the images of each part, padded to BATCH_SIZE with noise that is all ignored."""
    for part in parts:
        filled = {name: np.resize(values[::-1], (BATCH_SIZE, *values.shape[1:])) for name, values in images.items()}
        filled["label"] = np.full_like(filled["label"], 255)
        for name, values in images.items():
            filled[name][: len(part)] = values[part]
        yield filled


def accumulate(measurements):
    total = {name: metric.empty(CLASSES) for name, metric in ALL.items()}
    for measurement in measurements:
        total = {name: total[name].merge(measurement[name].to_host()) for name in ALL}
    return total


def canonical(metric):
    """Returns the integers of a metric; for metrics per image in sorted order, without padding."""
    if not isinstance(metric, PerImageMetric):
        return [np.asarray(values) for values in jax.tree.leaves(metric)]
    rows = metric.rows.reshape(len(metric.rows), -1)
    rows = rows[rows.any(1)]
    return [rows[np.lexsort(rows.T)]]


def assert_same(one, other):
    for name in ALL:
        for a, b in zip(canonical(one[name].to_host()), canonical(other[name].to_host()), strict=True):
            assert a.dtype == b.dtype == np.int64
            np.testing.assert_array_equal(a, b, err_msg=name)
        assert repr(one[name].compute()) == repr(other[name].compute())


@pytest.fixture(scope="module")
def images():
    return random_images(0)


@pytest.fixture(scope="module")
def whole(images):
    return accumulate([measure(images)])


@PATIENT
@given(order=st.permutations(range(IMAGES)), sizes=st.lists(st.integers(1, BATCH_SIZE), min_size=8, max_size=8))
def test_any_batches_in_any_order_give_the_same_bits(images, whole, order, sizes):
    parts = np.split(np.array(order), np.minimum(np.cumsum(sizes), IMAGES))
    assert_same(whole, accumulate(map(measure, batches(images, parts))))


@PATIENT
@given(seed=st.integers(0, 2**32 - 1))
def test_predictions_at_ignored_pixels_have_no_effect(images, whole, seed):
    rng = np.random.default_rng(seed)
    noise = rng.choice([-1e4, 1e4, 0.0, np.inf, np.nan], size=images["logits"].shape).astype(np.float32)
    ignored = (images["label"] == 255)[..., None]
    changed = {**images, "logits": np.where(ignored, noise, images["logits"])}
    assert_same(whole, accumulate([measure(changed)]))


def test_eight_devices_give_the_same_bits_as_one(images, whole):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    placed = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    assert len(placed["logits"].sharding.device_set) == 8
    assert_same(whole, accumulate([measure(placed)]))


def test_scores_are_undefined_if_all_pixels_are_ignored(images):
    blank = {**images, "label": np.full_like(images["label"], 255)}
    for name, metric in accumulate([measure(blank)]).items():
        scores = metric.compute()
        assert repr(scores) == repr(metric.empty(CLASSES).compute())
        counts = {"per_image/images", "surface/pairs", "surface/undefined"}
        assert all(value == 0 if key in counts else np.isnan(value) for key, value in scores.items()), name


def test_names_of_scores_start_with_the_metric(whole):
    for name in METRICS:
        assert all(key.startswith(f"{name}/") for key in whole[name].compute())


def test_a_prediction_equal_to_its_label_is_perfect(images):
    logits = 1e4 * np.eye(CLASSES, dtype=np.float32)[images["label"] % CLASSES]
    scores = {}
    for metric in accumulate([measure({**images, "logits": logits})]).values():
        scores |= metric.compute()
    ones = ("miou", "kappa", "per_image/miou", "per_image/miou_low", "boundary/miou", "boundary/mean_f_score")
    zeros = ("surface/hd95", "surface/assd", "surface/undefined", "calibration/ece", "calibration/mce")
    zeros += ("cross_entropy/mean",)
    assert [scores[name] for name in (*ones, *zeros)] == [1] * len(ones) + [0] * len(zeros)


def test_every_table_has_a_row_for_each_class(whole):
    for name in ("confusion", "per_image", "boundary", "surface", "cross_entropy"):
        rows = whole[name].table(("sky", "road", "car", "tree")).splitlines()
        assert [row.split()[0] for row in rows[:5]] == ["class", "sky", "road", "car", "tree"]
        assert len({len(row) for row in rows[:5]}) == 1
