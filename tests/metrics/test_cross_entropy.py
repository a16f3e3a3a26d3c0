"""The cross-entropy by hand, compared with float64 and with the loss, and with sums that would overflow int32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxseg import losses
from flaxseg.metrics import CrossEntropy
from flaxseg.metrics.softmax import CROSS_ENTROPY_BITS, cross_entropy

scaled_cross_entropy = jax.jit(cross_entropy)
measure = jax.jit(lambda logits, label: CrossEntropy.from_model_output(logits=logits, label=label))


def test_by_hand():
    logits = jnp.log(jnp.array([[[[0.7, 0.3], [0.25, 0.75], [0.1, 0.9], [0.5, 0.5]]]], jnp.float32))
    metric = measure(logits, jnp.array([[[0, 1, 255, 0]]], jnp.uint8)).to_host()
    terms = -np.log([0.7, 0.75, 0.5])
    assert metric.compute()["cross_entropy/mean"] == pytest.approx(terms.mean(), abs=1e-6)
    np.testing.assert_allclose(metric.by_class(), [(terms[0] + terms[2]) / 2, terms[1]], atol=1e-6)
    assert metric.counts.tolist() == [2, 1]
    lines = [line.split() for line in metric.table(("cat", "dog")).splitlines()]
    assert lines == [["class", "cross-entropy"], ["cat", "0.5249"], ["dog", "0.2877"]]


@pytest.mark.parametrize("classes", [2, 19, 255])
def test_equals_float64_and_the_loss(classes):
    rng = np.random.default_rng(classes)
    logits = (6 * rng.normal(size=(2, 50, 40, classes))).astype(np.float32)
    label = rng.integers(0, classes, (2, 50, 40)).astype(np.uint8)
    label[0, :5] = 255
    valid, safe = label != 255, np.where(label == 255, 0, label)
    exact = logits.astype(np.float64)
    exact -= np.take_along_axis(exact, safe[..., None].astype(int), axis=-1)
    exact = np.log(np.exp(exact).sum(-1))
    found, defined = scaled_cross_entropy(logits, label)
    assert defined.all()
    np.testing.assert_allclose(np.asarray(found)[valid] / 2**CROSS_ENTROPY_BITS, exact[valid], atol=4e-6)
    mean = measure(logits, label).to_host().compute()["cross_entropy/mean"]
    assert mean == pytest.approx(exact[valid].mean(), abs=1e-6)
    assert mean == pytest.approx(float(jax.jit(losses.cross_entropy)(logits, label)), rel=1e-5)


def test_extreme_logits():
    logits = jnp.array([[[[0.0, -1e4], [0.0, 30.0], [0.0, -jnp.inf], [1e4, 0.0]]]])
    found, defined = scaled_cross_entropy(logits, jnp.array([[[1, 0, 1, 0]]]))
    assert defined.all()
    np.testing.assert_allclose(found[0, 0] / 2**CROSS_ENTROPY_BITS, [2000, 30, 2000, 0], atol=1e-6)


def test_logits_without_a_probability_yield_nan():
    logits = jnp.array([[[[0.0, 1.0], [jnp.nan, 1.0], [jnp.inf, 1.0]]]])
    assert not np.isnan(measure(logits, jnp.array([[[1, 255, 255]]])).to_host().compute()["cross_entropy/mean"])
    for label in ([1, 1, 255], [1, 255, 0]):
        assert np.isnan(measure(logits, jnp.array([[label]])).to_host().compute()["cross_entropy/mean"])


def test_sums_beyond_32_bits_are_exact():
    pixels = 2**20
    logits = jnp.broadcast_to(jnp.array([0.0, 1000.0]), (2, pixels // 1024, 1024, 2))
    total = measure(logits, jnp.zeros(logits.shape[:-1], jnp.uint8)).to_host()
    assert total.class_sums().tolist() == [2 * pixels * 1000 << CROSS_ENTROPY_BITS, 0]
    for _ in range(5):
        total = total.merge(total)
    assert total.class_sums()[0] == 2**5 * 2 * pixels * 1000 << CROSS_ENTROPY_BITS
    assert total.compute() == {"cross_entropy/mean": 1000}
