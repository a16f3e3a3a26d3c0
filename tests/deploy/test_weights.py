"""Weights as float16 and 8-bit integers, by hand."""

import jax
import numpy as np
import pytest

from flaxseg.deploy.weights import Int8Kernel, dequantized, full_precision, named_arrays, stored_weights
from flaxseg.errors import ExportError


def variables(kernel, name="kernel"):
    return {"params": {"layer": {name: np.asarray(kernel, np.float32)}}}


def test_integers_are_rounded_per_output_channel():
    # The largest weights are 127 and 25.4, so that a step is 1 and 0.2; the last channel is empty.
    kernel = np.array([[[[127.0, 25.4, 0], [-63.6, 0.31, 0]]]], np.float32)
    found = stored_weights(variables(kernel), "int8")["params"]["layer"]["kernel"]
    assert isinstance(found, Int8Kernel) and found.values.dtype == np.int8
    np.testing.assert_array_equal(found.values, [[[[127, 127, 0], [-64, 2, 0]]]])
    np.testing.assert_allclose(found.scale, [1, 0.2, 1], rtol=1e-6)
    whole = full_precision({"params": {"kernel": found}})["params"]["kernel"]
    np.testing.assert_allclose(whole, [[[[127, 25.4, 0], [-64, 0.4, 0]]]], rtol=1e-6)
    arrays = named_arrays({"params": {"kernel": found}})
    assert set(arrays) == {"params/kernel", "params/kernel:scale"}
    np.testing.assert_array_equal(dequantized(arrays)["params/kernel"], whole)


@pytest.mark.parametrize(("name", "kernel"), [("bias", [[1.5]]), ("kernel", [1.5])])
def test_other_parameters_are_not_rounded(name, kernel):
    found = stored_weights(variables(kernel, name), "int8")["params"]["layer"][name]
    np.testing.assert_array_equal(found, np.asarray(kernel, np.float32))


def test_float32_weights_are_kept():
    given = variables([[1 / 3]])
    assert stored_weights(given, "float32") is given
    jax.tree.map(np.testing.assert_array_equal, full_precision(given), given)


@pytest.mark.parametrize("value", [70000.0, np.nan])
def test_values_beyond_float16_are_refused(value):
    with pytest.raises(ExportError, match=rf"a parameter is {value:g}, and float16 ends at 65504"):
        stored_weights(variables([1, value]), "float16")


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_values_that_are_not_finite_have_no_integers(value):
    with pytest.raises(ExportError, match="a parameter is not finite"):
        stored_weights(variables([[1, value]]), "int8")
