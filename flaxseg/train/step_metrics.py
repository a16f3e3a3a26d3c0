"""What a training step and an evaluation batch measure."""

import jax
from clu import metrics as clu_metrics
from flax import struct

from flaxseg.metrics import ConfusionMatrix
from flaxseg.train.hard_examples import HardExamples


@struct.dataclass
class TrainMetrics:
    """What a step measured, as averages over steps that merge exactly: `a.merge(b)`, then `compute()`."""

    loss: clu_metrics.Average
    parts: dict[str, clu_metrics.Average]
    """Each loss by name, before weighting."""
    grad_norm: clu_metrics.Average
    """Global norm of the gradient, before clipping."""
    update_norm: clu_metrics.Average
    """Global norm of the step that was taken: of what the optimizer added to the parameters."""
    rate_scale: clu_metrics.Average
    """What a plateau left of the scheduled learning rate; 1 for every other schedule."""
    hardest: HardExamples | None = None
    """The examples with the largest loss, where they were asked for."""

    def merge(self, other: "TrainMetrics") -> "TrainMetrics":
        """Returns the averages over the steps of both; on the host, if there are hardest examples."""
        is_metric = lambda x: isinstance(x, clu_metrics.Metric)  # noqa: E731
        return jax.tree.map(lambda a, b: a.merge(b), self, other, is_leaf=is_metric)

    def compute(self) -> dict[str, float]:
        """Returns `loss`, `loss/NAME` for each part, `grad_norm`, `update_norm`, `rate_scale`; waits for the device."""
        named = {name: getattr(self, name) for name in ("loss", "grad_norm", "update_norm", "rate_scale")}
        named |= {f"loss/{name}": part for name, part in self.parts.items()}
        return {name: float(jax.device_get(metric.compute())) for name, metric in named.items()}


@struct.dataclass
class EvalMetrics:
    """What an evaluation batch measured."""

    confusion: ConfusionMatrix
    others: dict[str, clu_metrics.Metric] = struct.field(default_factory=dict)
    """Those of metrics.METRICS that were asked for, by name."""

    def merge(self, other: "EvalMetrics") -> "EvalMetrics":
        """Returns what both measured."""
        others = {name: metric.merge(other.others[name]) for name, metric in self.others.items()}
        return EvalMetrics(self.confusion.merge(other.confusion), others)

    def to_host(self) -> "EvalMetrics":
        """Returns the same in 64 bits on the host; waits for the device."""
        return EvalMetrics(self.confusion.to_host(), {name: metric.to_host() for name, metric in self.others.items()})

    def compute(self) -> dict[str, float]:
        """Returns every score by name."""
        scores = self.confusion.compute()
        for metric in self.others.values():
            scores |= metric.compute()
        return scores
