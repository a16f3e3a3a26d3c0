"""The layout of TensorBoard's Custom Scalars tab: several scalars in one chart."""

import numpy as np

from flaxseg.report.event_files import EVALUATION, IMPORTS
from flaxseg.report.event_writer import Summary

CHARTS = {
    "IoU of each class": f"{EVALUATION}iou/",
    "mean IoU, mean Dice and pixel accuracy": f"{EVALUATION}(miou|mean_dice|pixel_accuracy)$",
    "training loss, and cross-entropy of the evaluation set": f"(train/loss|{EVALUATION}cross_entropy/mean)$",
}
"""The charts by their titles, each with a regular expression for the beginning of its scalars' tags."""


def chart_layout() -> dict[str, Summary]:
    """Returns the summary that lays out `CHARTS`; where several runs contain it, TensorBoard shows them once."""
    with IMPORTS:
        from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    charts = [
        layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[pattern]))
        for title, pattern in CHARTS.items()
    ]
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title="flaxseg", chart=charts)])
    content = np.array(layout.SerializeToString(), dtype=object)
    return {metadata.CONFIG_SUMMARY_TAG: (content, metadata.create_summary_metadata())}
