import numpy as np

from flaxseg.models.pretrained.transformers_layout.tensors import concatenated


def test_queries_keys_and_values_are_one_layer():
    parts = {f"a.self.{name}.{leaf}": np.full(2, n) for n, name in enumerate("qkv") for leaf in ("weight", "bias")}
    joined = concatenated(parts | {"a.self.q.other": np.zeros(1)}, "qkv", "all")
    assert set(joined) == {"a.self.all.weight", "a.self.all.bias", "a.self.q.other"}
    np.testing.assert_array_equal(joined["a.self.all.bias"], [0, 0, 1, 1, 2, 2])
