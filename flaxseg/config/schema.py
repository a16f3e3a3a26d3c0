"""The configuration: each key is declared once, with its default, its allowed values, and its meaning."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from flaxseg.augment import STRENGTHS
from flaxseg.config.allowed import (
    BOOLEAN,
    COUNT_OR_REST,
    IMAGE_SIZE,
    LEARNING_RATES,
    MULTIPLIERS,
    PATH,
    PATTERNS,
    SEEDS,
    STEP_RANGE,
    STRING,
    ZOOM_RANGE,
    Allowed,
    EntryName,
    EntryNames,
    Names,
    Options,
    at_least,
    at_least_32,
    choice,
    class_weights,
    group,
    score,
)
from flaxseg.config.callbacks import CALLBACKS
from flaxseg.config.groups import Group
from flaxseg.config.loss_weights import GROUPS_OF_WEIGHTS, LossWeights
from flaxseg.config.other_names import OTHER_METRICS, OTHER_PRECISIONS, network_called_here, schedule_called_here
from flaxseg.data import DATASETS
from flaxseg.data.class_weights import WEIGHTINGS
from flaxseg.data.pipeline import CACHES, RESIZES
from flaxseg.errors import DECAY_RATE, NON_NEGATIVE, POSITIVE, Range
from flaxseg.losses import LOSSES
from flaxseg.metrics import METRICS, SCORES
from flaxseg.models import MODELS
from flaxseg.models.rematerialization import REMAT
from flaxseg.optimizers import OPTIMIZERS, SCHEDULES
from flaxseg.report.histograms import HISTOGRAMS
from flaxseg.report.metric_writers import WRITERS


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of the configuration.

    Attributes:
      name: its full name, such as `train.batch_size`.
      default: its value in default_config(); a dict for a group whose contents depend on names chosen elsewhere.
      allowed: its allowed values.
      doc: its meaning, in one sentence.
    """

    name: str
    default: Any
    allowed: Allowed
    doc: str

    @property
    def is_group(self) -> bool:
        """Whether the key is a group whose contents depend on names chosen elsewhere."""
        return isinstance(self.default, dict)


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the configuration: keys whose names begin with `name.`; the section "" holds those without a dot."""

    name: str
    doc: str
    keys: tuple[Key, ...]


# fmt: off
SCHEMA = (
    Section("", "Keys that concern the whole run", (
        Key("seed", 0, at_least(0), "Random seed of the initial weights, the data order, augmentation and dropout."),
        Key("loss", {"cross_entropy": 1.0}, LossWeights(LOSSES),
            "Weight of each loss in the sum that training minimizes, as in loss.dice=0.5."),
        Key("loss_options", {}, group("a group of options for each loss in loss"),
            "Options of each loss, as in loss_options.focal.gamma=2."),
        Key("class_weights", "none", class_weights(WEIGHTINGS),
            "Class weights for all losses that take them: a method applied to the training set, or the weights."),
        Key("auxiliary_weight", 0.4, NON_NEGATIVE,
            "Weight of the auxiliary heads' losses, for networks with auxiliary_head=True."),
    )),
    Section("data", "The dataset and how it is read", (
        Key("data.name", "shapes", EntryName(DATASETS), "The dataset."),
        Key("data.dir", "", PATH, "The dataset's folder; '' selects the dataset's default location."),
        Key("data.train_split", "train", STRING, "The split to train on, such as train or train[:90%]."),
        Key("data.eval_split", "test", STRING, "The split to evaluate on; '': no evaluation."),
        Key("data.options", {}, Options("data.name", DATASETS, ("data_dir",)), "Options of the dataset."),
        Key("data.image_size", (128, 128), IMAGE_SIZE,
            "Height and width, in pixels, of what the network is trained on: whole images resized, or crops."),
        Key("data.resize", "stretch", choice(RESIZES),
            "Resize images to data.image_size, or keep their aspect ratio and scale, train on random crops of "
            "data.image_size and predict whole images in overlapping tiles of that size."),
        Key("data.scale", 1.0, POSITIVE, "Factor that the sides of images are multiplied by if data.resize is 'keep'."),
        Key("data.sampling", "uniform", STRING,
            "How training examples are drawn: 'uniform', 'class_balanced', or a text file of lines `ID WEIGHT`."),
        Key("data.skip_bad", 0, at_least(0), "Number of unreadable examples to skip and list before raising an error."),
        Key("data.cache", "none", choice(CACHES),
            "What is kept of training images: nothing, the decoded images in host memory ('host') or the accelerators' "
            "('device'), or a frozen encoder's features of them in host memory ('features')."),
        Key("data.cache_views", 0, at_least(0),
            "Number of augmented views of each image whose features are cached; 0: the image, without augmentation."),
        Key("data.num_threads", -1, at_least(-1),
            "Threads that read images; -1: one per core, up to 16; 0: the main thread reads, for debugging."),
        Key("data.prefetch", 4, at_least(1), "Number of batches that are read ahead of the training step."),
    )),
    Section("augment", "Random augmentation of the training images on the device; 0, or a scale of (1, 1), is off", (
        Key("augment.scale", (1.0, 1.0), ZOOM_RANGE, "Range of a random zoom, followed by a crop of data.image_size."),
        Key("augment.flip", 0.0, STRENGTHS["flip"], "Probability of a horizontal flip."),
        Key("augment.flip_vertical", 0.0, STRENGTHS["flip_vertical"], "Probability of a vertical flip."),
        Key("augment.rotate90", 0.0, STRENGTHS["rotate90"], "Probability of a rotation by 90, 180 or 270 degrees."),
        Key("augment.rotate", 0.0, STRENGTHS["rotate"], "Largest angle of a random rotation, in degrees."),
        Key("augment.shear", 0.0, STRENGTHS["shear"], "Largest angle of a random horizontal shear, in degrees."),
        Key("augment.elastic", 0.0, STRENGTHS["elastic"],
            "Standard deviation of an elastic deformation, as a fraction of the image's sides; 0.05 is strong."),
        Key("augment.max_class_fraction", 0.0, STRENGTHS["max_class_fraction"],
            "Largest fraction of a crop that one class may cover, if one of ten random crops allows it; 0: no limit."),
        Key("augment.cutmix", 0.0, STRENGTHS["cutmix"],
            "Probability of pasting a rectangle of another image of the batch."),
        Key("augment.saturation", 0.0, STRENGTHS["saturation"], "Saturation is multiplied by 1 - s to 1 + s."),
        Key("augment.hue", 0.0, STRENGTHS["hue"], "Largest rotation of the hue, as a fraction of the full circle."),
        Key("augment.gray", 0.0, STRENGTHS["gray"], "Probability of converting the image to grayscale."),
        Key("augment.gamma", 0.0, STRENGTHS["gamma"], "Values are raised to a power between 1 / (1 + g) and 1 + g."),
        Key("augment.contrast", 0.0, STRENGTHS["contrast"], "Contrast is multiplied by 1 - c to 1 + c."),
        Key("augment.brightness", 0.0, STRENGTHS["brightness"],
            "Largest brightness offset, as a fraction of the value range."),
        Key("augment.blur", 0.0, STRENGTHS["blur"], "Largest standard deviation of a Gaussian blur, in pixels."),
        Key("augment.noise", 0.0, STRENGTHS["noise"],
            "Largest standard deviation of Gaussian noise, as a fraction of the value range."),
        Key("augment.dropout", 0.0, STRENGTHS["dropout"],
            "Largest height and width of an erased rectangle, as a fraction of the image's."),
    )),
    Section("model", "The network and its initial weights", (
        Key("model.name", "plain_unet", EntryName(MODELS, network_called_here), "The network."),
        Key("model.options", {}, Options("model.name", MODELS, ("num_classes", "dtype")), "Options of the network."),
        Key("model.pretrained", "", PATH,
            "Initial weights: 'imagenet', a weights file, the directory of another run, or a public network, as in "
            "hf:owner/name or hf:owner/name@revision; '': random weights."),
        Key("model.pretrained_sha256", "", STRING,
            "Expected SHA-256 of the weights file, or its first digits; '': not checked."),
        Key("model.pretrained_partial", False, BOOLEAN,
            "Load only the weights that fit and initialize the others, instead of raising an error."),
        Key("model.accept_license", False, BOOLEAN,
            "Accept a license of public weights that is non-commercial or custom."),
    )),
    Section("optimizer", "The optimizer and the learning rate; a pattern is a regular expression that matches the "
            "beginning of a parameter's path up to a slash, such as encoder or encoder/(stem|layer1_.*)", (
        Key("optimizer.name", "adamw", EntryName(OPTIMIZERS), "The optimizer."),
        Key("optimizer.options", {}, Options("optimizer.name", OPTIMIZERS), "Options of the optimizer."),
        Key("optimizer.learning_rate", 1e-3, NON_NEGATIVE, "Peak learning rate, reached at the end of warm-up."),
        Key("optimizer.schedule", "cosine", EntryName(SCHEDULES, schedule_called_here),
            "How the learning rate changes after warm-up."),
        Key("optimizer.schedule_options", {}, Options("optimizer.schedule", SCHEDULES), "Options of the schedule."),
        Key("optimizer.warmup_steps", 0, at_least_32(0),
            "Steps of linear learning-rate warm-up from near 0; the schedule one_cycle, which rises itself, has none."),
        Key("optimizer.weight_decay", 1e-4, NON_NEGATIVE, "Weight decay of kernels; biases and norm scales have none."),
        Key("optimizer.grad_clip", 0.0, NON_NEGATIVE, "Largest global norm of the gradient; 0: no clipping."),
        Key("optimizer.accumulate_steps", 1, at_least_32(1), "Micro-batches per step, for gradient accumulation."),
        Key("optimizer.batch_statistics", "micro_batches", choice(("micro_batches", "whole_batch")),
            "What BatchNorm normalizes micro-batches by: the statistics of each, or those of the whole batch, which "
            "take another forward pass."),
        Key("optimizer.freeze", (), PATTERNS, "Patterns of parameters that are frozen, with their batch statistics."),
        Key("optimizer.lr_scale", (), MULTIPLIERS,
            "Learning-rate multipliers: pairs of a pattern and a multiplier; the last match applies."),
        Key("optimizer.layer_decay", 1.0, Range(0, 1, above=True),
            "Learning rate of each encoder module relative to the next (layer-wise decay); 1: the same for all."),
        Key("optimizer.ema_decay", 0.0, DECAY_RATE,
            "Decay of the moving average of the parameters that evaluation uses; 0: none."),
    )),
    Section("train", "The training run", (
        Key("train.batch_size", 8, at_least_32(1), "Examples per step, over all devices."),
        Key("train.steps", 0, at_least_32(0), "Number of training steps; 0: determined by train.epochs."),
        Key("train.epochs", 10.0, NON_NEGATIVE, "Number of epochs of len(data) // batch_size steps; see train.steps."),
        Key("train.steps_per_call", 1, at_least_32(1),
            "Steps in one compiled program; more than 1 save the time between steps of small networks. It must divide "
            "train.steps and the steps between logs, evaluations and checkpoints."),
        Key("train.seeds", (), SEEDS,
            "Seeds to train together, each as if alone, in the folder seed-N of the working directory; (): only that "
            "of the key seed."),
        Key("train.learning_rates", (), LEARNING_RATES,
            "Peak learning rates to train together, with each of the seeds, in folders such as "
            "seed-0_learning_rate-0.003; (): only optimizer.learning_rate."),
        Key("train.loss_weights", (), GROUPS_OF_WEIGHTS,
            "Groups of loss weights to train together, with each of the seeds and learning rates, in folders that are "
            "named in the same way; (): only those of loss."),
        Key("train.early_stop", 0, at_least(0),
            "Stop when checkpoint.best_metric has not improved for this many steps; 0: never."),
        Key("train.callbacks", (), EntryNames(CALLBACKS),
            "Callbacks that react to the events of the run, as in ('csv', 'package.module:function')."),
        Key("train.callback_options", {}, group("a group of options for each callback in train.callbacks"),
            "Options of each callback, under its name or that of its function, as in "
            "train.callback_options.wandb.project='pets'."),
        Key("train.precision", "float32", choice(("float32", "bfloat16"), OTHER_PRECISIONS),
            "Data type of the activations; parameters are always float32."),
        Key("train.remat", "none", choice(REMAT),
            "What the backward pass computes again to save memory: nothing; all but the outputs of convolutions and "
            "dense layers ('offload': which are kept in the host's memory); or whole blocks."),
        Key("train.non_finite", "stop", choice(("stop", "skip", "rollback")),
            "When an image, the loss, the gradient or the update of a step is not finite: stop, skip the step, or "
            "return to the last checkpoint and continue with another data order."),
        Key("train.non_finite_limit", 10, at_least_32(1),
            "Number of steps to skip, or of times to return to the last checkpoint, before the run stops."),
        Key("train.stall_minutes", 30.0, NON_NEGATIVE,
            "Minutes without a step after which several processes that wait for one another exit; 0: never."),
    )),
    Section("eval", "Evaluation", (
        Key("eval.every", 0, at_least(0), "Steps between evaluations; 0: once per epoch, at most 20 times per run."),
        Key("eval.batch_size", 8, at_least_32(1), "Examples per batch, over all devices; scores do not depend on it."),
        Key("eval.resolution", "native", choice(("native", "image_size")),
            "Compute scores at each image's own resolution, or at data.image_size."),
        Key("eval.metrics", (), Names(METRICS, OTHER_METRICS),
            "Metrics to compute in addition to those of the confusion matrix."),
    )),
    Section("checkpoint", "Checkpoints", (
        Key("checkpoint.every", 0, at_least(0),
            "Steps between checkpoints; 0: one at every evaluation, or as often without evaluation."),
        Key("checkpoint.keep", 2, at_least(0),
            "Number of latest checkpoints to keep, in addition to the best; 0: none is saved, and the run cannot be "
            "resumed."),
        Key("checkpoint.retry_minutes", 10.0, NON_NEGATIVE,
            "Minutes that training waits where a checkpoint cannot be saved, as on a full disk; 0: not at all."),
        Key("checkpoint.best_metric", "miou", score(SCORES),
            "Score that selects the best checkpoint, such as iou/road for that of one class."),
    )),
    Section("log", "Logging", (
        Key("log.every", 20, at_least(1), "Steps between logged training metrics."),
        Key("log.images", 4, at_least(0), "Number of evaluation images to show with label and prediction; 0: none."),
        Key("log.confusion_matrix", True, BOOLEAN, "Draw the confusion matrix of each evaluation."),
        Key("log.worst", 0, at_least(0),
            "Number of evaluation images with the lowest IoU to show with label, prediction and errors; above 0, the "
            "metric per_image is computed, too."),
        Key("log.batch", 8, at_least(0),
            "Number of augmented training images to show as the network sees them, at the first step and at each "
            "evaluation."),
        Key("log.hardest", 0, at_least(0),
            "Number of training examples with the largest loss to list every log.every steps."),
        Key("log.histograms", (), Names(HISTOGRAMS), "Histograms to write at each evaluation."),
        Key("log.profile", (), STEP_RANGE,
            "First and last step to record a trace of, for TensorBoard's Profile tab; (): none."),
        Key("log.writer", "auto", choice(WRITERS),
            "Writer of TensorBoard's event files: CLU's, which imports TensorFlow, or tensorboard's; 'auto': CLU's if "
            "TensorFlow is installed; 'none': write none."),
    )),
    Section("mesh", "The mesh of devices; the product of its four sizes is the number of devices used", (
        Key("mesh.data", -1, COUNT_OR_REST, "Shards of the batch; -1: all devices that the other axes leave."),
        Key("mesh.fsdp", 1, at_least_32(1), "Shards of the parameters, the optimizer state, and also the batch."),
        Key("mesh.spatial", 1, at_least_32(1), "Shards of the rows of the images."),
        Key("mesh.replicas", 1, at_least_32(1),
            "Shards of the batch that each have the whole state; for several TPU slices, their number."),
    )),
)
"""All sections with their keys; one row adds a key to the defaults, validation, help and documentation."""
# fmt: on

KEYS: dict[str, Key] = {key.name: key for section in SCHEMA for key in section.keys}

GROUP_KEYS = tuple(name for name, key in KEYS.items() if key.is_group)
"""Keys that are groups whose contents depend on names chosen elsewhere."""


def default_config() -> ConfigDict:
    """Returns a new configuration with the default of every key, which every file in `configs/` starts from."""
    config = Group()
    for section in SCHEMA:
        values = config
        if section.name:
            config[section.name] = values = Group()
        for key in section.keys:
            value = Group(copy.deepcopy(key.default)) if key.is_group else key.default
            values[key.name.removeprefix(f"{section.name}.")] = value
    return config


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every full key, such as `data.options.seed`, with its value."""
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
