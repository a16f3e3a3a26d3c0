"""TensorBoard's event files as values that can be compared."""

import hashlib

import cv2
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util


def events(directory):
    """Returns the step and value of each summary by its tag: images as digests, others as numbers or texts."""
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0}).Reload()
    found = {}
    for tag in accumulator.Tags()["tensors"]:
        plugin = accumulator.SummaryMetadata(tag).plugin_data
        arrays = [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
        found[tag] = [(step, _value(plugin, array)) for step, array in arrays]
    return found


def digest(image):
    """Returns the shape and the SHA-256 of the pixels of an image."""
    return image.shape, hashlib.sha256(np.ascontiguousarray(image)).hexdigest()


def _value(plugin, array):
    if plugin.plugin_name == "images":
        width, height, *files = array.tolist()
        assert all(file.startswith(b"\x89PNG") for file in files)
        return "images", int(width), int(height), [
            digest(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]) for file in files
        ]  # fmt: skip
    if plugin.plugin_name == "hparams":
        content = HParamsPluginData.FromString(plugin.content)
        if content.WhichOneof("data") == "experiment":
            columns = [(column.name, column.differs) for column in content.experiment.hparam_infos]
            return "columns", columns, [metric.name.tag for metric in content.experiment.metric_infos]
        started = content.session_start_info
        hparams = {name: (kind := value.WhichOneof("kind"), getattr(value, kind)) for name, value in
                   started.hparams.items()}  # fmt: skip
        return "hparams", started.group_name, hparams
    if plugin.plugin_name == "histograms":
        return "histograms", array.dtype.name, array.tolist()
    assert array.shape == ()
    return plugin.plugin_name, array.dtype.name, array.item()
