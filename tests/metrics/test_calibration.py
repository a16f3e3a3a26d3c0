"""Calibration by hand, compared with float64, and with sums that would overflow int32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg.metrics import Calibration
from flaxseg.metrics.calibration import ONE
from flaxseg.metrics.fixed_point import join_bytes, split_bytes
from flaxseg.metrics.softmax import confidence

measure = jax.jit(lambda logits, label: Calibration.from_model_output(logits=logits, label=label))


def calibration(rows, label):
    """Returns the metric of one image whose pixels have these probabilities."""
    logits = jnp.log(jnp.array(rows, jnp.float32))[None, None]
    return measure(logits, jnp.array([[label]], jnp.uint8)).to_host()


def test_by_hand():
    metric = calibration([[0.7, 0.3], [0.72, 0.28], [0.1, 0.9], [0.05, 0.95], [0.5, 0.5]], [0, 1, 1, 255, 0])
    scores = metric.compute()
    # Two bins of one pixel each, and one of two pixels, of which one is correct.
    assert scores["calibration/ece"] == pytest.approx((abs(1 - 1.42) + 0.1 + 0.5) / 4, abs=1e-6)
    assert scores["calibration/mce"] == pytest.approx(0.5, abs=1e-6)
    confidence, accuracy, fraction = metric.reliability()
    np.testing.assert_allclose(confidence[[7, 10, 13]], [0.5, 0.71, 0.9], atol=1e-6)
    np.testing.assert_array_equal(accuracy[[7, 10, 13]], [1, 0.5, 1])
    np.testing.assert_array_equal(fraction[[7, 10, 13, 14]], [0.25, 0.5, 0.25, 0])
    assert np.isnan(confidence[14]) and np.isnan(accuracy[14])
    assert metric.table().splitlines()[11].split() == ["0.667..0.733", "0.7100", "0.5000", "0.5000"]


def test_equals_sums_in_float64():
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(4, 16, 16, 6)).astype(np.float32) * 2, rng.integers(0, 6, (4, 16, 16))
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    confidence, correct = p.max(-1), p.argmax(-1) == label
    bins = np.floor(confidence * 15).astype(int)
    gaps = np.array([abs((correct - confidence)[bins == b].sum()) for b in range(15)])
    sizes = np.bincount(bins.reshape(-1), minlength=15)
    scores = measure(logits, label).to_host().compute()
    assert scores["calibration/ece"] == pytest.approx(gaps.sum() / label.size, abs=1e-7)
    assert scores["calibration/mce"] == pytest.approx((gaps / np.maximum(sizes, 1)).max(), abs=1e-7)


@pytest.mark.parametrize("classes", [2, 19, 255])
def test_confidence_is_the_largest_softmax_probability(classes):
    logits = 6 * np.random.default_rng(classes).normal(size=(500, classes)).astype(np.float32)
    logits[0], logits[1], logits[2, 1:], logits[3, 1] = 0, -1e4, -np.inf, 1e4
    exact = 1 / np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True)).sum(-1)
    np.testing.assert_allclose(confidence(jnp.asarray(logits)), exact, atol=3e-7, rtol=0)


def test_full_confidence_is_in_the_last_bin():
    metric = calibration([[1, 0], [0.97, 0.03]], [0, 1])
    assert metric.counts[14].tolist() == [1, 1]


def test_logits_without_a_confidence_yield_nan():
    logits = jnp.array([[[[0.0, 1.0], [jnp.nan, 1.0], [jnp.inf, 1.0]]]])
    assert not np.isnan(measure(logits, jnp.array([[[1, 255, 255]]])).to_host().compute()["calibration/ece"])
    for label in ([1, 1, 255], [1, 255, 0]):
        assert np.isnan(measure(logits, jnp.array([[label]])).to_host().compute()["calibration/ece"])


def test_sums_beyond_32_bits_are_exact():
    pixels = 2**21
    logits = jnp.broadcast_to(jnp.array([0.0, 100.0]), (2, pixels // 2048, 2048, 2))
    metric = measure(logits, jnp.ones(logits.shape[:-1], jnp.uint8)).to_host()
    assert metric.confidence_sums()[14] == 2 * pixels * ONE
    total = metric
    for _ in range(12):
        total = total.merge(total)
    assert total.confidence_sums()[14] == 2**12 * 2 * pixels * ONE
    assert total.compute() == {"calibration/ece": 0, "calibration/mce": 0}


def test_joined_bytes_equal_the_values():
    values = np.array([0, 1, 255, 256, 2**24, 2**31 - 1])
    for count in (3, 4):
        parts = np.asarray(split_bytes(jnp.asarray(values, jnp.int32), count))
        assert (parts[..., :-1] < 256).all()
        np.testing.assert_array_equal(join_bytes(parts), values)
        assert join_bytes(parts.astype(np.int64) * 10**9).tolist() == [10**9 * int(v) for v in values]
