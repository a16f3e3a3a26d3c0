"""The table of a program's operations: what each of them is, and how much it computes."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.operations import Operation, operations, parts


def test_convolutions_and_products_are_counted():
    def network(x, kernel, matrix):
        convolved = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.tanh(convolved.reshape(-1, 16)) @ matrix

    shapes = [(2, 32, 32, 8), (3, 3, 8, 16), (16, 24)]
    text = jax.jit(network).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compile().as_text()
    found = [each for each in operations(text).values() if each.gflop]
    by_kind = {each.kind: each for each in found}
    pixels = 2 * 32 * 32
    assert by_kind["convolution"].gflop == pytest.approx(2e-9 * pixels * 16 * 9 * 8)
    assert by_kind["product"].gflop == pytest.approx(2e-9 * pixels * 24 * 16)
    assert "conv_general_dilated" in by_kind["convolution"].name


def test_the_tables_add_up():
    found = {"a": Operation("layer/conv", "convolution", "f32[4]", 0.5), "b": Operation("add", "other", "f32[4]", 0.0)}
    kinds, slowest = parts(found, {"a": 5.0, "b": 15.0, "not listed": 5.0}, rate=200.0, top=2)
    assert kinds["rows"] == [["other", "20.0", "80.0%", "", ""], ["convolution", "5.0", "20.0%", "100", "50%"]]
    assert [row[0] for row in slowest["rows"]] == ["`add`", "`layer/conv`"]
    assert slowest["rows"][1] == ["`layer/conv`", "f32[4]", "5.00", "20.0%", "100", "50%"]
