"""flaxseg: training of semantic-segmentation networks in JAX and Flax."""

from flaxseg.augment import make_augment
from flaxseg.data.types import IGNORE_LABEL, Batch, SegmentationDataset
from flaxseg.errors import CheckpointError, ConfigError, DataError, FlaxsegError, TrainingError, WeightsError
from flaxseg.losses import LossFn, weighted_sum
from flaxseg.metrics import ConfusionMatrix
from flaxseg.models import unet
from flaxseg.models.pretrained.load import load_pretrained
from flaxseg.optimizers import RateScales, freezing, make_optimizer, make_schedule
from flaxseg.train.step import (
    EvalMetrics,
    TrainMetrics,
    TrainState,
    create_train_state,
    eval_step,
    predict_label,
    predict_logits,
    train_step,
)

__version__ = "0.1.0"

__all__ = [
    "IGNORE_LABEL",
    "Batch",
    "CheckpointError",
    "ConfigError",
    "ConfusionMatrix",
    "DataError",
    "EvalMetrics",
    "FlaxsegError",
    "LossFn",
    "RateScales",
    "SegmentationDataset",
    "TrainMetrics",
    "TrainState",
    "TrainingError",
    "WeightsError",
    "create_train_state",
    "eval_step",
    "freezing",
    "load_pretrained",
    "make_augment",
    "make_optimizer",
    "make_schedule",
    "predict_label",
    "predict_logits",
    "train_step",
    "unet",
    "weighted_sum",
]
