import json

import pytest

from flaxseg.errors import WeightsError
from flaxseg.models.pretrained.preprocessing import Preprocessing, read_preprocessing
from flaxseg.models.pretrained.repository import Repository


def read(folder, name, content):
    (folder / name).write_text(json.dumps(content))
    return read_preprocessing(Repository(str(folder)))


def of_transformers(folder, **changes):
    content = {"image_mean": [0.5, 0.25, 0], "image_std": [0.2, 0.4, 1], "size": {"height": 32, "width": 64}}
    return read(folder, "preprocessor_config.json", content | changes)


def of_albumentations(folder, *transforms):
    named = [{"__class_fullname__": name, **options} for name, options in transforms]
    content = {"__version__": "1.4", "transform": {"__class_fullname__": "Compose", "transforms": named}}
    return read(folder, "albumentations_config_eval.json", content)


def test_values_of_0_to_1_become_those_of_0_to_255(tmp_path):
    found = of_transformers(tmp_path)
    assert found.mean == pytest.approx((127.5, 63.75, 0)) and found.std == pytest.approx((51, 102, 255))
    assert (found.image_size, found.reduces_labels, found.notes) == ((32, 64), False, ())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"do_rescale": False}, ((0.5, 0.25, 0), (0.2, 0.4, 1))),
        ({"rescale_factor": 1 / 127.5}, ((63.75, 31.875, 0), (25.5, 51, 127.5))),
        ({"do_normalize": False}, (0, 255)),
    ],
)
def test_rescaling_and_normalization_can_be_off(tmp_path, changes, expected):
    found = of_transformers(tmp_path, **changes)
    assert (found.mean, found.std) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


@pytest.mark.parametrize(
    ("changes", "size"),
    [({"size": 48}, (48, 48)), ({"size": {"shortest_edge": 48}}, None), ({"do_resize": False}, None)],
)
def test_sizes(tmp_path, changes, size):
    assert of_transformers(tmp_path, **changes).image_size == size


def test_a_size_of_one_side_is_noted(tmp_path):
    found = of_transformers(tmp_path, size={"shortest_edge": 48, "longest_edge": None})
    assert found.notes[-1] == "its images were resized to {'shortest_edge': 48}; here, images keep their size"


def test_reduced_labels_are_noted(tmp_path):
    for key in ("do_reduce_labels", "reduce_labels"):
        found = of_transformers(tmp_path, **{key: True})
        assert found.reduces_labels and "k + 1 for class k" in found.notes[0]


@pytest.mark.parametrize(
    "changes", [{"image_mean": ["a"]}, {"rescale_factor": 0}, {"size": {"height": -1, "width": 2}}]
)
def test_wrong_values_are_named(tmp_path, changes):
    with pytest.raises(WeightsError, match=rf"preprocessor_config.json: {next(iter(changes))} = "):
        of_transformers(tmp_path, **changes)


def test_saved_transforms_are_read_as_data(tmp_path):
    normalize = {"mean": [0.5], "std": [0.25], "max_pixel_value": 255.0}
    found = of_albumentations(tmp_path, ("Resize", {"height": 32, "width": 64}), ("a.Normalize", normalize))
    assert found == Preprocessing((127.5,), (63.75,), (32, 64))
    strange = of_albumentations(tmp_path, ("os.system", {"command": "false"}))
    assert strange.notes[0].endswith("the transform system is not applied")


def test_a_folder_that_states_nothing(tmp_path):
    assert read_preprocessing(Repository(str(tmp_path))) == Preprocessing()
