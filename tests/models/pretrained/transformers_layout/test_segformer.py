import numpy as np
from compare import loaded
from flax import traverse_util
from public_repositories import SEGFORMER, segformer_tensors, smp_tensors
from transformers_networks import read

from flaxseg.models import build_model


def test_a_segformer_has_the_arrays_that_the_same_one_of_another_library_has():
    layout = read(SEGFORMER)
    model = build_model(layout.name, num_classes=3, **layout.options)
    arrays, unknown = layout.convert(model, segformer_tensors())
    expected = traverse_util.flatten_dict(loaded(model, smp_tensors("segformer", "mit_b0")), sep="/")
    assert not unknown and arrays.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(arrays[path], value, err_msg=path)
    assert (layout.class_names, model.align_corners, model.encoder.epsilon) == (
        ("road", "building", "sky"),
        False,
        1e-5,
    )
