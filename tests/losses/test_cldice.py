"""The center-line Dice loss by hand, against SciPy's morphology, and its invariants."""

import jax
import numpy as np
import pytest
from scipy import ndimage, special

from flaxseg import losses
from flaxseg.errors import ConfigError

cldice = jax.jit(losses.cldice, static_argnames=("iterations", "smooth", "foreground_weights"))

LINE = np.zeros((1, 9, 7), np.uint8)
LINE[:, 4] = 1


def sure(label):
    """Returns logits whose probabilities are 0 and 1 exactly."""
    return np.float32(1e4) * (label[..., None] == np.arange(2))


def of_scipy(probability, inside, iterations, smooth):
    """Returns the loss of one class, of maps float64[B, H, W]."""
    cross = ndimage.generate_binary_structure(2, 1)[None]

    def eroded(x):
        return ndimage.gray_erosion(x, footprint=cross, mode="constant", cval=np.inf)

    def skeleton(x):
        total = np.zeros_like(x)
        for _ in range(iterations + 1):
            opened = ndimage.gray_dilation(eroded(x), size=(1, 3, 3), mode="constant", cval=-np.inf)
            lost = np.maximum(x - opened, 0)
            total += np.maximum(lost - total * lost, 0)
            x = eroded(x)
        return total

    predicted, true = skeleton(probability), skeleton(inside)
    precision = ((predicted * inside).sum() + smooth) / (predicted.sum() + smooth)
    sensitivity = ((true * probability).sum() + smooth) / (true.sum() + smooth)
    return 1 - 2 / (1 / precision + 1 / sensitivity)


def test_a_gap_costs_and_width_does_not():
    thick, broken = LINE.copy(), LINE.copy()
    thick[:, 3:6], broken[:, :, 3] = 1, 0
    thick_loss, broken_loss = (float(cldice(sure(prediction), LINE)) for prediction in (thick, broken))
    assert thick_loss == pytest.approx(0, abs=1e-6)
    # All of the prediction lies on the line, of which it has 6 of 7 pixels: T = 1, S = (6 + 1) / (7 + 1).
    assert broken_loss == pytest.approx(1 - 2 * (7 / 8) / (15 / 8), rel=1e-5)


def test_a_strip_needs_as_many_iterations_as_its_radius():
    strip = LINE.copy()
    strip[:, 2:7] = 1
    # Too few, and the prediction has no skeleton that could be wrong: T = 1, S = (0 + 1) / (7 + 1) of a line beside it.
    beside = np.roll(LINE, 4, axis=1)
    few, enough = (float(cldice(sure(strip), beside, iterations=iterations)) for iterations in (1, 2))
    assert few == pytest.approx(1 - 2 * (1 / 8) / (9 / 8), rel=1e-5)
    assert enough == pytest.approx(1 - 1 / 8, rel=1e-5)


@pytest.mark.parametrize(("iterations", "smooth"), [(0, 1.0), (3, 0.5)])
def test_equals_the_same_of_scipys_morphology(iterations, smooth):
    random = np.random.default_rng(0)
    logits = (2 * random.normal(size=(2, 11, 8, 3))).astype(np.float32)
    label = random.integers(0, 3, (2, 4, 8)).repeat(3, 1)[:, :11]
    probability = special.softmax(np.float64(logits), -1)
    options = {"iterations": iterations, "smooth": smooth}
    of_class = [of_scipy(probability[..., k], np.float64(label == k), **options) for k in range(3)]
    assert float(cldice(logits, label, **options)) == pytest.approx((of_class[1] + of_class[2]) / 2, rel=1e-5)
    weighted = cldice(logits, label, foreground_weights=(3.0, 1.0, 0.0), **options)
    assert float(weighted) == pytest.approx((3 * of_class[0] + of_class[1]) / 4, rel=1e-5)


def test_ignored_pixels_around_change_nothing():
    logits = np.asarray(jax.random.normal(jax.random.key(2), (*LINE.shape, 2)))
    around = ((0, 0), (2, 3), (1, 4))
    padded = np.pad(logits, (*around, (0, 0)), constant_values=5), np.pad(LINE, around, constant_values=255)
    value_and_gradient = jax.jit(jax.value_and_grad(cldice))
    value, gradient = value_and_gradient(logits, LINE)
    padded_value, padded_gradient = value_and_gradient(*padded)
    np.testing.assert_allclose(padded_value, value, rtol=1e-6)
    np.testing.assert_allclose(padded_gradient[:, 2:-3, 1:-4], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "iterations = -1: must be at least 0"),
        ({"smooth": 0.0}, "smooth = 0.0: must be above 0"),
        ({"foreground_weights": (1.0,)}, r"foreground_weights = \(1.0,\): 1 weights for 2 classes"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        cldice(sure(LINE), LINE, **options)


def test_flattened_pictures():
    with pytest.raises(ConfigError, match=r"^logits = float32\[5, 3\]: cldice needs whole pictures"):
        cldice(np.zeros((5, 3), np.float32), np.zeros(5, np.uint8))
