"""The hyper-parameters of a run for TensorBoard, with the metrics that runs are compared by."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flaxseg.report.event_files import IMPORTS
from flaxseg.report.event_writer import Summary

Value = bool | int | float | str


class HyperParameters(NamedTuple):
    """The hyper-parameters of a run, and how TensorBoard's HParams tab shows them."""

    values: Mapping[str, Any]
    """By name; values other than numbers, strings and bools are shown as text."""
    first: Collection[str] = ()
    """The names of those whose columns come first, which the table shows unless others are chosen."""
    metrics: Sequence[str] = ()
    """The tags of the scalars that runs are compared by."""


def hparams_summaries(hparams: HyperParameters) -> dict[str, Summary]:
    """Returns the summaries of hyper-parameters: those of this run, and the columns of the table of all runs.

    TensorBoard takes the columns from one of the runs that it shows. A session without a group, which CLU and
    tensorboard's own function would derive from the values, is named by the directory of its run.
    """
    with IMPORTS:
        from tensorboard.plugins.hparams import api_pb2, metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    values = {name: _plain(value) for name, value in sorted(hparams.values.items())}
    started = SessionStartInfo(start_time_secs=time.time())
    columns = []
    for name, value in values.items():
        kind, field = _KINDS[type(value)]
        setattr(started.hparams[name], field, value)
        differs = name in hparams.first
        columns.append(api_pb2.HParamInfo(name=name, type=api_pb2.DataType.Value(kind), differs=differs))
    names = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in hparams.metrics]
    experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=names)
    contents = {
        metadata.EXPERIMENT_TAG: HParamsPluginData(experiment=experiment),
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=started),
    }
    return {
        tag: (np.zeros(0, np.float32), metadata.create_summary_metadata(content)) for tag, content in contents.items()
    }


_KINDS = {
    bool: ("DATA_TYPE_BOOL", "bool_value"),
    int: ("DATA_TYPE_FLOAT64", "number_value"),
    float: ("DATA_TYPE_FLOAT64", "number_value"),
    str: ("DATA_TYPE_STRING", "string_value"),
}
"""The kind of a column, and the field that holds a value."""


def _plain(value: Any) -> Value:
    return value if type(value) in _KINDS else str(value)
