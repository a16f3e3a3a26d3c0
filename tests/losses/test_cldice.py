"""The center-line Dice loss by hand, compared with SciPy's morphology, and its invariants."""

import jax
import numpy as np
import pytest
from scipy import ndimage, special

from flaxseg import losses
from flaxseg.errors import ArgumentError

cldice = jax.jit(losses.cldice, static_argnames=("iterations", "smooth", "foreground_weights"))

LINE = np.zeros((1, 9, 7), np.uint8)
LINE[:, 4] = 1


def certain(label):
    """Returns logits whose probabilities are exactly 0 and 1."""
    return np.float32(1e4) * (label[..., None] == np.arange(2))


def scipy_loss(probability, inside, iterations, smooth):
    """Returns the loss of one class for maps float64[B, H, W]."""
    cross = ndimage.generate_binary_structure(2, 1)[None]

    def eroded(x):
        return ndimage.grey_erosion(x, footprint=cross, mode="constant", cval=np.inf)

    def skeleton(x):
        total = np.zeros_like(x)
        for _ in range(iterations + 1):
            opened = ndimage.grey_dilation(eroded(x), size=(1, 3, 3), mode="constant", cval=-np.inf)
            removed = np.maximum(x - opened, 0)
            total += np.maximum(removed - total * removed, 0)
            x = eroded(x)
        return total

    predicted, true = skeleton(probability), skeleton(inside)
    precision = ((predicted * inside).sum() + smooth) / (predicted.sum() + smooth)
    sensitivity = ((true * probability).sum() + smooth) / (true.sum() + smooth)
    return 1 - 2 / (1 / precision + 1 / sensitivity)


def test_a_gap_increases_the_loss_and_width_does_not():
    thick, broken = LINE.copy(), LINE.copy()
    thick[:, 3:6], broken[:, :, 3] = 1, 0
    thick_loss, broken_loss = (float(cldice(certain(prediction), LINE)) for prediction in (thick, broken))
    assert thick_loss == pytest.approx(0, abs=1e-6)
    # The prediction lies on the line and covers 6 of its 7 pixels: T = 1, S = (6 + 1) / (7 + 1).
    assert broken_loss == pytest.approx(1 - 2 * (7 / 8) / (15 / 8), rel=1e-5)


def test_a_strip_needs_as_many_iterations_as_its_radius():
    strip = LINE.copy()
    strip[:, 2:7] = 1
    # With too few iterations the prediction has no skeleton: T = 1, and S = (0 + 1) / (7 + 1) for a line beside it.
    beside = np.roll(LINE, 4, axis=1)
    few, enough = (float(cldice(certain(strip), beside, iterations=iterations)) for iterations in (1, 2))
    assert few == pytest.approx(1 - 2 * (1 / 8) / (9 / 8), rel=1e-5)
    assert enough == pytest.approx(1 - 1 / 8, rel=1e-5)


@pytest.mark.parametrize(("iterations", "smooth"), [(0, 1.0), (3, 0.5)])
def test_equals_an_implementation_with_scipys_morphology(iterations, smooth):
    random = np.random.default_rng(0)
    logits = (2 * random.normal(size=(2, 11, 8, 3))).astype(np.float32)
    label = random.integers(0, 3, (2, 4, 8)).repeat(3, 1)[:, :11]
    probability = special.softmax(np.float64(logits), -1)
    options = {"iterations": iterations, "smooth": smooth}
    by_class = [scipy_loss(probability[..., k], np.float64(label == k), **options) for k in range(3)]
    assert float(cldice(logits, label, **options)) == pytest.approx((by_class[1] + by_class[2]) / 2, rel=1e-5)
    weighted = cldice(logits, label, foreground_weights=(3.0, 1.0, 0.0), **options)
    assert float(weighted) == pytest.approx((3 * by_class[0] + by_class[1]) / 4, rel=1e-5)


def test_padding_with_ignored_pixels_has_no_effect():
    logits = np.asarray(jax.random.normal(jax.random.key(2), (*LINE.shape, 2)))
    padding = ((0, 0), (2, 3), (1, 4))
    padded = np.pad(logits, (*padding, (0, 0)), constant_values=5), np.pad(LINE, padding, constant_values=255)
    value_and_gradient = jax.jit(jax.value_and_grad(cldice))
    value, gradient = value_and_gradient(logits, LINE)
    padded_value, padded_gradient = value_and_gradient(*padded)
    np.testing.assert_allclose(padded_value, value, rtol=1e-6)
    np.testing.assert_allclose(padded_gradient[:, 2:-3, 1:-4], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "iterations = -1: must be an integer of at least 0"),
        ({"smooth": 0.0}, "smooth = 0.0: must be a number above 0"),
        ({"foreground_weights": (1.0,)}, r"foreground_weights = \(1.0,\): 1 weights for 2 classes"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        cldice(certain(LINE), LINE, **options)


def test_flattened_images_are_rejected():
    with pytest.raises(ArgumentError, match=r"^logits.shape = \(5, 3\): cldice needs whole images"):
        cldice(np.zeros((5, 3), np.float32), np.zeros(5, np.uint8))
