"""The metrics of a training step."""

from collections.abc import Mapping
from typing import Any, Self

import jax
from clu import metrics as clu_metrics
from flax import struct

from flaxseg.train.step_check import StepCheck


@struct.dataclass
class TrainMetrics:
    """Averages over training steps that merge exactly: `a.merge(b)`, then `compute()`."""

    loss: clu_metrics.Average
    parts: dict[str, clu_metrics.Average]
    """Each loss by name, before weighting."""
    grad_norm: clu_metrics.Average
    """Global norm of the gradient, before clipping."""
    update_norm: clu_metrics.Average
    """Global norm of the update that the optimizer added to the parameters."""
    plateau_multiplier: clu_metrics.Average
    """Factor by which a plateau schedule reduces the learning rate; 1 for every other schedule."""
    check: StepCheck
    """What is the first to be non-finite in the step; nothing, usually."""
    extra: Mapping[str, clu_metrics.Metric] = struct.field(default_factory=dict)
    """The metrics that `StepOptions.metrics_fn` returned, by name."""

    def merge(self, other: "TrainMetrics") -> "TrainMetrics":
        """Returns the averages over the steps of both."""
        is_metric = lambda x: isinstance(x, clu_metrics.Metric)  # noqa: E731
        return jax.tree.map(lambda a, b: a.merge(b), self, other, is_leaf=is_metric)

    def of_losses(self, weights: Mapping[str, Any] | None) -> Self:
        """Returns the metrics without the parts whose weight is 0.

        Args:
          weights: the weight of each loss; None if there are no other losses.
        """
        if weights is None:
            return self
        parts = {name: part for name, part in self.parts.items() if weights.get(name, 1.0)}
        return self.replace(parts=parts)  # type: ignore[attr-defined,no-any-return]

    def compute(self) -> dict[str, float]:
        """Returns `loss`, `loss/NAME` for each part, `grad_norm`, `update_norm`, and averages.

        The averages are those entries of `extra` that are a `clu.metrics.Average`. Waits for the device.
        """
        named = {name: getattr(self, name) for name in ("loss", "grad_norm", "update_norm")}
        named |= {f"loss/{name}": part for name, part in self.parts.items()}
        named |= {name: metric for name, metric in self.extra.items() if isinstance(metric, clu_metrics.Average)}
        return {name: float(jax.device_get(metric.compute())) for name, metric in named.items()}
