"""flaxseg: semantic segmentation in JAX and Flax: train a network, and use it."""

from flaxseg.host_memory import exit_without_collection, restart_with_large_pages
from flaxseg.interrupts import exit_during_imports, is_command

exit_during_imports()
if is_command():
    restart_with_large_pages()
    exit_without_collection()

# ruff: isort: split
import importlib
import sys
from typing import TYPE_CHECKING, Any

from flaxseg import losses
from flaxseg.augment import make_augment
from flaxseg.data.types import IGNORE_LABEL, Batch, SegmentationDataset
from flaxseg.errors import (
    ArgumentError,
    CheckpointError,
    ConfigError,
    DataError,
    FlaxsegError,
    TrainingError,
    WeightsError,
    unknown_attribute,
)
from flaxseg.inference.scoring import EvalMetrics
from flaxseg.losses import LossFn, weighted_sum
from flaxseg.metrics import ConfusionMatrix
from flaxseg.models import build_model, constructors, plain_unet, unet
from flaxseg.models.freezing import freeze
from flaxseg.models.pretrained.load import load_pretrained
from flaxseg.models.rematerialization import rematerialize
from flaxseg.ops.platform import compiler_options
from flaxseg.optimizers import LearningRateMultipliers, freezing, make_optimizer, make_schedule, with_frozen_parameters
from flaxseg.train.step import (
    StepOptions,
    TrainState,
    create_train_state,
    eval_step,
    predict_label,
    predict_logits,
    train_step,
)
from flaxseg.train.step_metrics import TrainMetrics

if TYPE_CHECKING:
    from flaxseg.deploy.predictor import Predictor, load
    from flaxseg.deploy.save import save

__version__ = "0.2.0"

__all__ = [
    "IGNORE_LABEL",
    "ArgumentError",
    "Batch",
    "CheckpointError",
    "ConfigError",
    "ConfusionMatrix",
    "DataError",
    "EvalMetrics",
    "FlaxsegError",
    "LearningRateMultipliers",
    "LossFn",
    "Predictor",
    "SegmentationDataset",
    "StepOptions",
    "TrainMetrics",
    "TrainState",
    "TrainingError",
    "WeightsError",
    "build_model",
    "compiler_options",
    "create_train_state",
    "eval_step",
    "freeze",
    "freezing",
    "load",
    "load_pretrained",
    "make_augment",
    "make_optimizer",
    "make_schedule",
    "plain_unet",
    "predict_label",
    "predict_logits",
    "rematerialize",
    "save",
    "train_step",
    "unet",
    "weighted_sum",
    "with_frozen_parameters",
]


_LATER = {"Predictor": "flaxseg.deploy.predictor", "load": "flaxseg.deploy.predictor", "save": "flaxseg.deploy.save"}
"""The modules of the names that are imported on first use."""

_ELSEWHERE = {
    "save_weights": "flaxseg.save",
    "save_model": "flaxseg.save",
    "save_pretrained": "flaxseg.save",
    "save_checkpoint": "flaxseg.save",
    "load_weights": "flaxseg.load_pretrained",
    "load_model": "flaxseg.load",
    "from_pretrained": "flaxseg.load",
    "create_model": "flaxseg.build_model",
}
"""What functions are called elsewhere, and here."""


def __getattr__(name: str) -> Any:
    """Imports on first use what training does not need."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    exported = _ELSEWHERE | {known: f"flaxseg.{known}" for known in __all__}
    raise unknown_attribute(__name__, name, losses.expressions() | constructors() | exported)


def __dir__() -> list[str]:
    """Returns the public names, those that are imported on first use among them, and the imported packages."""
    packages = [name for name in globals() if hasattr(sys.modules.get(f"{__name__}.{name}"), "__path__")]
    return sorted({*__all__, *packages, "__version__"})
