"""Any dataset of TensorFlow Datasets, by its name and the names of two of its features."""

import contextlib
import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from flaxseg.data.masks.class_names import checked_palette, default_names, read_names
from flaxseg.data.masks.class_values import ClassValues, class_values
from flaxseg.data.masks.palette import default_palette
from flaxseg.data.sources.prepared import OTHER_WAYS, Archives, PreparedSource, find_builder, open_records
from flaxseg.data.types import SegmentationDataset
from flaxseg.errors import DataError

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
    """The dataset that TensorFlow Datasets has under `name`, in the order in which it is stored.

    It is read as prepared below `data_dir`, in the format array_record, without TensorFlow; if it is not there it is
    downloaded and prepared first, which takes TensorFlow. What is prepared there may also be a dataset of one's own:
    its builder is not needed for reading. `values` and `class_names` may both be left out where the masks are a
    `LabeledImage` with label names, which are then the classes.

    Args:
      split: a split, or a slice of one such as `train[:90%]`.
      data_dir: where prepared datasets lie; "" for TensorFlow Datasets' own default directory.
      name: the name there, with a config after a slash and a version after a colon: `cityscapes`,
        `cityscapes/semantic_segmentation`, `oxford_iiit_pet:4.0.0`.
      image_key: the feature that holds the pictures: an `Image`, or a `Tensor` of uint8[H, W, C].
      mask_key: the feature that holds the masks: an `Image`, or a `Tensor` of whole numbers, [H, W] or [H, W, 1].
      values: `values[i]` is the mask value of class i, such as (0, 255), or a tuple of those that are one class;
        left out, as many as `class_names` from 0 on.
      ignore_values: mask values of pixels that nothing counts; 255 is one unless it is among `values`.
      class_names: a name for each class, or the path of a text file, below `data_dir`, with one on each line.
      palette: a color for each class; left out, a fixed one.
      id_key: the feature that messages call an example by, a text or a number; "" for its place in the split.
      manual_dir: where the dataset's archives lie if they are not to be downloaded; "" for `downloads/manual` in
        data_dir.

    Raises:
      DataError: an unknown name, feature or split, a feature of another kind, or a dataset that cannot be prepared.
        Reading an example raises it for a mask value without a class.
    """
    builder = _builder(name, data_dir)
    _check_feature(builder, image_key, "image_key", "picture (Image, or Tensor of uint8[H, W, C])", _is_picture)
    _check_feature(
        builder, mask_key, "mask_key", "mask (Image, or Tensor of whole numbers, [H, W] or [H, W, 1])", _is_mask
    )
    if id_key:
        _check_feature(builder, id_key, "id_key", "text or whole number", _is_scalar)
    names = read_names(os.path.expanduser(data_dir), class_names)
    classes, names = _classes(builder, mask_key, values, tuple(ignore_values), names)
    colors = default_palette(len(names)) if palette is None else checked_palette(palette, len(names))
    features = builder.info.features
    # The pictures of features that are not asked for stay bytes as well, so that they cost nothing.
    encoded = tuple(key for key in features if _is_encoded(features[key]))
    archives = Archives(manual_dir=manual_dir, otherwise=(_copying(builder), OTHER_WAYS[-1]))
    records = open_records(builder, split, encoded=encoded, archives=archives)
    source = PreparedSource(records, image_key, mask_key, id_key, builder.info.name, classes)
    return SegmentationDataset(source, len(names), names, colors)


def _builder(name: str, data_dir: str) -> Any:
    import tensorflow_datasets

    try:
        return find_builder(name, data_dir=data_dir)
    except DataError:
        raise
    except tensorflow_datasets.core.DatasetNotFoundError as error:
        known = tensorflow_datasets.list_builders(with_community_datasets=False)
        root = os.path.expanduser(data_dir) if data_dir else tensorflow_datasets.core.constants.DATA_DIR
        there = os.listdir(root) if os.path.isdir(root) else []
        if _bare(name) in there:
            raise DataError(
                f"data.options.name is {name!r}: the folder {os.path.join(root, _bare(name))} is there, but holds no "
                "whole prepared dataset, and TensorFlow Datasets knows none of that name to prepare; prepare it again"
            ) from error
        raise DataError(
            f"data.options.name is {name!r}: TensorFlow Datasets knows no such dataset, and none is prepared in "
            f"{root}{_nearest(_bare(name), [*known, *there])}; the names it knows are listed at {_CATALOG}"
        ) from error
    # Each part of a name that is wrong has an error of its own kind.
    except Exception as error:
        problem = _config_problem(tensorflow_datasets, name) or str(error).rpartition('}": ')[2].partition("\n")[0]
        raise DataError(
            f"data.options.name is {name!r}: TensorFlow Datasets cannot open it ({problem}); "
            "a name is NAME, NAME/CONFIG, NAME:VERSION or NAME/CONFIG:VERSION"
        ) from error


def _config_problem(tensorflow_datasets: Any, name: str) -> str:
    """What is wrong with the config in `name`; "" if that is not what is wrong."""
    bare, config = _bare(name), name.partition(":")[0].partition("/")[2]
    with contextlib.suppress(ValueError):
        configs = tensorflow_datasets.builder_cls(bare).builder_configs
        if config and config not in configs:
            return f"{bare} has no config {config!r}, there are {', '.join(configs) or 'none'}"
    return ""


def _bare(name: str) -> str:
    """The name of a dataset without its config and version."""
    return name.partition(":")[0].partition("/")[0]


def _nearest(name: str, candidates: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.55)
    return f"; did you mean {near[0]!r}?" if near else ""


def _check_feature(builder: Any, key: str, option: str, allowed: str, fits: Callable[[Any], bool]) -> None:
    features, name = builder.info.features, builder.info.name
    if key in features and fits(features[key]):
        return
    problem = f"is no {allowed}" if key in features else f"is not there{_nearest(key, features)}"
    listed = "".join(f"\n  {key}: {_described(features[key])}" for key in sorted(features))
    raise DataError(f"data.options.{option} is {key!r}: this feature of {name} {problem}\nIts features are:{listed}")


def _is_encoded(feature: Any) -> bool:
    """Whether it is one picture, stored as the bytes of a file."""
    from tensorflow_datasets.core import features

    return isinstance(feature, features.Image) and len(feature.shape) == 3


def _is_array(feature: Any) -> bool:
    from tensorflow_datasets.core import features

    return isinstance(feature, features.Tensor) and not isinstance(feature, features.Audio)


def _is_picture(feature: Any) -> bool:
    if _is_encoded(feature):
        # Pictures of float32 are stored as PNG files of another meaning.
        return feature.np_dtype != np.float32
    return _is_array(feature) and len(feature.shape) == 3 and feature.np_dtype == np.uint8


def _is_mask(feature: Any) -> bool:
    if _is_encoded(feature):
        return feature.np_dtype != np.float32
    flat = _is_array(feature) and (len(feature.shape) == 2 or (len(feature.shape) == 3 and feature.shape[2] == 1))
    return flat and np.issubdtype(feature.np_dtype, np.integer)


def _is_scalar(feature: Any) -> bool:
    """Whether it is one text or whole number."""
    kind = np.dtype(feature.np_dtype).kind if _is_array(feature) and feature.shape == () else ""
    return kind in ("i", "u", "O", "S", "U")


def _described(feature: Any) -> str:
    kind = type(feature).__name__
    if not isinstance(feature.shape, tuple) or not feature.shape:
        return kind
    sides = ", ".join("?" if side is None else str(side) for side in feature.shape)
    looks = ""
    if _is_mask(feature) and feature.shape[2:] in ((), (1,)):
        looks = ": looks like masks"
    elif _is_picture(feature):
        looks = ": looks like pictures"
    return f"{kind} {np.dtype(feature.np_dtype).name}[{sides}]{looks}"


def _classes(
    builder: Any,
    mask_key: str,
    values: Sequence[int | Sequence[int]] | None,
    ignore_values: tuple[int, ...],
    names: tuple[str, ...],
) -> tuple[ClassValues, tuple[str, ...]]:
    """Which mask value is which class, and what the classes are called."""
    if values is None:
        # Looking for the values would read the whole dataset, which may be hundreds of gigabytes.
        feature = builder.info.features[mask_key]
        names = names or (tuple(feature.names) if getattr(feature, "num_classes", None) else ())
        if not names:
            raise DataError(
                f"the feature {mask_key!r} of {builder.info.name} does not say which classes its masks have: name "
                "them in data.options.class_names, for the mask values 0, 1, 2, ..., or give the mask value of each "
                "in data.options.values"
            )
        values = range(len(names))
    classes = ClassValues(class_values(values), ignore_values)
    if names and len(names) != len(classes.values):
        raise DataError(
            f"{len(names)} data.options.class_names for {len(classes.values)} data.options.values: "
            "give one name for each value"
        )
    return classes, names or default_names(classes.values)


def _copying(builder: Any) -> str:
    return f"Or prepare it by the same command where there is a network, and copy the folder to {builder.data_dir}"
