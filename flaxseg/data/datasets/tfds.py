"""Any segmentation dataset of TensorFlow Datasets, by its name and the features with its images and masks."""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flaxseg.data.masks.class_names import default_names, parse_palette, read_class_names
from flaxseg.data.masks.class_values import ClassValues, parse_class_values
from flaxseg.data.masks.palette import default_palette
from flaxseg.data.sources.prepared import PreparedSource
from flaxseg.data.sources.tfds_records import ALTERNATIVES, Archives, find_builder, open_records
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import ArgumentError, DataError, did_you_mean, number_of

_CATALOG = "https://www.tensorflow.org/datasets/catalog/overview"


def tfds(
    split: str,
    *,
    data_dir: str = "",
    name: str,
    image_key: str,
    mask_key: str,
    values: Sequence[int | Sequence[int]] | None = None,
    ignore_values: Sequence[int] = (),
    class_names: Sequence[str] | str = (),
    palette: Sequence[Sequence[int]] | None = None,
    id_key: str = "",
    manual_dir: str = "",
) -> SegmentationDataset:
    """Returns a split of a dataset of TensorFlow Datasets, in the order in which it is stored.

    The prepared dataset is read from `data_dir`, in the format array_record, without TensorFlow. If it is not there, it
    is downloaded and prepared first, which requires TensorFlow. A dataset of your own can be prepared there, too;
    reading it does not require its builder. If the masks are a `LabeledImage` with label names, these are the classes,
    and `values` and `class_names` can be omitted.

    Args:
      split: a split, or a slice of one such as `train[:90%]`.
      data_dir: the folder of prepared datasets; "" for the default of TensorFlow Datasets.
      name: name with optional config and version: `cityscapes/semantic_segmentation`, `oxford_iiit_pet:4.0.0`.
      image_key: feature with the images: an `Image`, or a `Tensor` of uint8[H, W, C].
      mask_key: feature with the masks: an `Image`, or a `Tensor` of integers, [H, W] or [H, W, 1].
      values: mask value of each class, such as (0, 255), or a tuple of several; by default 0, 1, ... for `class_names`.
      ignore_values: mask values of ignored pixels; 255 is always one unless it is in `values`.
      class_names: name of each class, or the path of a text file in `data_dir` with one on each line.
      palette: display color of each class; by default a fixed one.
      id_key: feature with the id of an example, a string or an integer; "" for its index in the split.
      manual_dir: folder of archives that cannot be downloaded; "" for `downloads/manual` in data_dir.

    Raises:
      ArgumentError: an unknown name, feature or split, or a feature of another kind.
      DataError: a dataset that cannot be prepared. Reading an example raises it for a mask value without a class.
    """
    builder = _find_builder(name, data_dir)
    _check_feature(builder, "image_key", image_key, "an image (Image, or Tensor of uint8[H, W, C])", _is_image)
    _check_feature(
        builder, "mask_key", mask_key, "a mask (Image, or Tensor of integers, [H, W] or [H, W, 1])", _is_mask
    )
    if id_key:
        _check_feature(builder, "id_key", id_key, "a string or an integer", _is_scalar)
    names = read_class_names(os.path.expanduser(data_dir), class_names)
    classes, names = _classes(builder, mask_key, values, tuple(ignore_values), names)
    colors = default_palette(len(names)) if palette is None else parse_palette(palette, len(names))
    features = builder.info.features
    # Images of features that are not requested stay bytes as well, so that no time is spent on them.
    encoded = tuple(key for key in features if _is_encoded_image(features[key]))
    archives = Archives(manual_dir=manual_dir, alternatives=(_copy_hint(builder), ALTERNATIVES[-1]))
    records = open_records(builder, split, encoded=encoded, archives=archives)
    source = PreparedSource(records, image_key, mask_key, id_key, builder.info.name, classes)
    return SegmentationDataset(source, len(names), names, colors)


def _find_builder(name: str, data_dir: str) -> Any:
    import tensorflow_datasets

    try:
        return find_builder(name, data_dir=data_dir)
    except DataError:
        raise
    except tensorflow_datasets.core.DatasetNotFoundError as error:
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        root = os.path.expanduser(data_dir) if data_dir else tensorflow_datasets.core.constants.DATA_DIR
        existing = os.listdir(root) if os.path.isdir(root) else []
        if _bare_name(name) in existing:
            raise DataError(
                f"the folder {os.path.join(root, _bare_name(name))} exists but contains no complete prepared dataset, "
                f"and TensorFlow Datasets knows no dataset {name!r} to prepare; prepare it again"
            ) from error
        raise ArgumentError(
            "name",
            name,
            f"TensorFlow Datasets knows no such dataset, and none is prepared in {root}"
            f"{did_you_mean(_bare_name(name), [*known, *existing])}; the known names are listed at {_CATALOG}",
        ) from error
    # TensorFlow Datasets raises different errors for a wrong name, config or version.
    except Exception as error:
        problem = _config_problem(tensorflow_datasets, name) or str(error).rpartition('}": ')[2].partition("\n")[0]
        raise ArgumentError(
            "name",
            name,
            f"TensorFlow Datasets cannot open it ({problem}); must be NAME, NAME/CONFIG, NAME:VERSION or "
            "NAME/CONFIG:VERSION",
        ) from error


def _config_problem(tensorflow_datasets: Any, name: str) -> str:
    """Returns what is wrong with the config in `name`, or "" if the config is not the problem."""
    bare, config = _bare_name(name), name.partition(":")[0].partition("/")[2]
    with contextlib.suppress(ValueError):
        configs = tensorflow_datasets.builder_cls(bare).builder_configs
        if config and config not in configs:
            return f"{bare} has no config {config!r}; it has {', '.join(configs) or 'none'}"
    return ""


def _bare_name(name: str) -> str:
    """Returns the name of a dataset without its config and version."""
    return name.partition(":")[0].partition("/")[0]


def _check_feature(builder: Any, argument: str, key: str, kind: str, is_kind: Callable[[Any], bool]) -> None:
    features, name = builder.info.features, builder.info.name
    if key in features and is_kind(features[key]):
        return
    problem = f"is not {kind}" if key in features else f"does not exist{did_you_mean(key, features)}"
    listing = "".join(f"\n  {key}: {_describe(features[key])}" for key in sorted(features))
    raise ArgumentError(argument, key, f"this feature of {name} {problem}\nIts features are:{listing}")


def _is_encoded_image(feature: Any) -> bool:
    """Returns whether a feature is one image, stored as the bytes of a file."""
    from tensorflow_datasets.core import features

    return isinstance(feature, features.Image) and len(feature.shape) == 3


def _is_array(feature: Any) -> bool:
    from tensorflow_datasets.core import features

    return isinstance(feature, features.Tensor) and not isinstance(feature, features.Audio)


def _is_image(feature: Any) -> bool:
    if _is_encoded_image(feature):
        # Images of float32 are stored as PNG files whose bytes are not pixel values.
        return feature.np_dtype != np.float32
    return _is_array(feature) and len(feature.shape) == 3 and feature.np_dtype == np.uint8


def _is_mask(feature: Any) -> bool:
    if _is_encoded_image(feature):
        return feature.np_dtype != np.float32
    flat = _is_array(feature) and (len(feature.shape) == 2 or (len(feature.shape) == 3 and feature.shape[2] == 1))
    return flat and np.issubdtype(feature.np_dtype, np.integer)


def _is_scalar(feature: Any) -> bool:
    """Returns whether a feature is one string or integer."""
    kind = np.dtype(feature.np_dtype).kind if _is_array(feature) and feature.shape == () else ""
    return kind in ("i", "u", "O", "S", "U")


def _describe(feature: Any) -> str:
    kind = type(feature).__name__
    if not isinstance(feature.shape, tuple) or not feature.shape:
        return kind
    sides = ", ".join("?" if side is None else str(side) for side in feature.shape)
    looks = ""
    if _is_mask(feature) and feature.shape[2:] in ((), (1,)):
        looks = ": looks like masks"
    elif _is_image(feature):
        looks = ": looks like images"
    return f"{kind} {np.dtype(feature.np_dtype).name}[{sides}]{looks}"


def _classes(
    builder: Any,
    mask_key: str,
    values: Sequence[int | Sequence[int]] | None,
    ignore_values: tuple[int, ...],
    names: tuple[str, ...],
) -> tuple[ClassValues, tuple[str, ...]]:
    """Returns the mask values and the names of the classes."""
    if values is None:
        # Finding the values in the masks would read the whole dataset, which may be hundreds of gigabytes.
        feature = builder.info.features[mask_key]
        names = names or (tuple(feature.names) if getattr(feature, "num_classes", None) else ())
        if not names:
            raise ArgumentError(
                "class_names",
                names,
                f"must name the classes of the mask values 0, 1, 2, ..., because the feature {mask_key!r} of "
                f"{builder.info.name} does not; or give the mask value of each class in `values`",
            )
        values = range(len(names))
    classes = ClassValues(parse_class_values(values), ignore_values)
    if names and len(names) != len(classes.values):
        raise ArgumentError(
            "class_names",
            names,
            f"has {number_of(len(names), 'name')} for {len(classes.values)} `values`; give one name per class",
        )
    return classes, names or default_names(classes.values)


def _copy_hint(builder: Any) -> str:
    return f"Or prepare it in the same way on a machine with a network, and copy the folder to {builder.data_dir}"
