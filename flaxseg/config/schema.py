"""The configuration: every key, with its meaning and its default."""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

OPTION_KEYS = (
    "data.options",
    "model.options",
    "loss",
    "loss_options",
    "optimizer.options",
    "optimizer.schedule_options",
)
"""Keys whose contents depend on a name chosen elsewhere, so that default_config() cannot list them."""

TEXT_OR_NUMBERS = ("class_weights",)
"""Keys that hold a name, or numbers in its place."""


def default_config() -> ConfigDict:
    """Returns the configuration that every file in `configs/` starts from."""
    config = ConfigDict(type_safe=False)

    config.seed = 0  # initial weights, order of the data, augmentation and dropout all follow from it

    config.data = ConfigDict(type_safe=False)
    config.data.name = "shapes"  # a name of DATASETS, or package.module:function
    config.data.dir = ""  # where the dataset lies; "" is the dataset's own default place
    config.data.train_split = "train"  # which examples to learn from, in the dataset's own words
    config.data.eval_split = "test"  # which to score
    config.data.options = ConfigDict(type_safe=False)  # keyword arguments of the dataset's function
    config.data.image_size = (128, 128)  # height and width to which whole pictures are resized
    config.data.sampling = "uniform"  # or "class_balanced", or a text file with an id and a weight on each line
    config.data.skip_bad = 0  # up to so many examples that cannot be read are passed over and listed
    config.data.cache = "none"  # decoded training pictures stay in memory: "host", or "device", of the accelerators
    config.data.num_threads = -1  # threads that read pictures; -1: one a core, up to 16; 0: the loop itself, to debug
    config.data.prefetch = 4  # batches decoded ahead of the step

    # Augmentation, on the device, of picture and label together; every one is off at 0 (scale: at (1, 1)).
    config.augment = ConfigDict(type_safe=False)
    config.augment.scale = (1.0, 1.0)  # range of a random zoom; the window of image_size is cut at random
    config.augment.flip = 0.0  # probability of mirroring left to right
    config.augment.flip_vertical = 0.0  # probability of mirroring upside down
    config.augment.rotate90 = 0.0  # probability of a turn by 90, 180 or 270 degrees
    config.augment.rotate = 0.0  # degrees of a turn, at most, either way
    config.augment.shear = 0.0  # degrees by which columns lean, at most, either way
    config.augment.elastic = 0.0  # standard deviation of smooth shifts, as a share of the sides; 0.05 is much
    config.augment.max_class_share = 0.0  # windows are chosen to hold no more of one class than this share; 0: any
    config.augment.cutmix = 0.0  # probability of a rectangle from another picture of the batch
    config.augment.saturation = 0.0  # distance from gray is multiplied by 1 - s .. 1 + s
    config.augment.hue = 0.0  # colors turn by up to this share of a full circle
    config.augment.gray = 0.0  # probability of taking the color out
    config.augment.gamma = 0.0  # values are raised to a power of 1 / (1 + g) .. 1 + g
    config.augment.contrast = 0.0  # contrast is multiplied by 1 - c .. 1 + c
    config.augment.brightness = 0.0  # up to this share of the value range is added or taken away
    config.augment.blur = 0.0  # up to so many pixels is the standard deviation of a Gaussian blur
    config.augment.noise = 0.0  # up to this share of the value range is the noise's standard deviation
    config.augment.dropout = 0.0  # a rectangle of up to this share of each side is hidden

    config.model = ConfigDict(type_safe=False)
    config.model.name = "unet"  # a name of MODELS, or package.module:function
    config.model.options = ConfigDict(type_safe=False)  # keyword arguments of the model's function
    config.model.pretrained = ""  # "imagenet", a weights file, or a run's directory: what a new run starts from
    config.model.pretrained_sha256 = ""  # what the file's SHA-256 has to be, or to begin with; "": not checked
    config.model.pretrained_partial = False  # take the weights that fit, and leave the others as they are

    config.loss = ConfigDict({"cross_entropy": 1.0}, type_safe=False)  # weight of each loss in the sum
    config.loss_options = ConfigDict(type_safe=False)  # for each loss: its keyword arguments

    # Of every loss above that takes class_weights: "log", "median_frequency" or "effective_number" of the training
    # set's pixels, or a number for each class.
    config.class_weights = "none"

    config.optimizer = ConfigDict(type_safe=False)
    config.optimizer.name = "adamw"  # a name of OPTIMIZERS, or package.module:function
    config.optimizer.options = ConfigDict(type_safe=False)  # keyword arguments of the optimizer's function
    config.optimizer.learning_rate = 1e-3  # the highest, reached when warm-up ends
    config.optimizer.schedule = "cosine"  # a name of SCHEDULES: how the rate falls after warm-up
    config.optimizer.schedule_options = ConfigDict(type_safe=False)  # keyword arguments of the schedule's function
    config.optimizer.warmup_steps = 0  # steps over which the rate rises from near 0
    config.optimizer.weight_decay = 1e-4  # of kernels only: biases and norm scales are left out
    config.optimizer.grad_clip = 0.0  # largest global norm of the gradient; 0: no limit
    config.optimizer.accumulate_steps = 1  # parts that a batch is computed in, one after another, to need less memory
    # Patterns of parameters, such as "encoder" or "encoder/(stem|layer1_.*)": regular expressions of the beginning of
    # their paths, up to a /.
    config.optimizer.freeze = ()  # patterns of what stays as it is, BatchNorm's statistics included
    config.optimizer.lr_scale = ()  # pairs of a pattern and what the rate is multiplied by, as in (("encoder", 0.1),)
    config.optimizer.layer_decay = 1.0  # rate of each module of the encoder over that of the next; 1: all alike
    config.optimizer.ema_decay = 0.0  # decay of the average of parameters used in evaluation; 0: none

    config.train = ConfigDict(type_safe=False)
    config.train.batch_size = 8  # over all devices
    config.train.steps = 0  # how long to train; 0: as train.epochs says
    config.train.epochs = 10.0  # one epoch is len(data) // batch_size steps; does not count when steps are given
    config.train.early_stop = 0  # the run ends when checkpoint.best_metric was best so many steps ago; 0: never
    config.train.precision = "float32"  # or bfloat16: of activations; parameters are always float32

    config.eval = ConfigDict(type_safe=False)
    config.eval.every = 0  # steps between evaluations; 0: once an epoch, but at most twenty in all
    config.eval.batch_size = 8  # over all devices; the scores do not depend on it
    config.eval.resolution = "native"  # score at each picture's own size, or at "image_size"
    config.eval.metrics = ()  # beside those of the confusion matrix: per_image, boundary, surface, calibration

    config.checkpoint = ConfigDict(type_safe=False)
    config.checkpoint.every = 0  # steps between checkpoints; 0: at every evaluation
    config.checkpoint.keep = 2  # latest checkpoints kept, beside the best
    config.checkpoint.best_metric = "miou"  # a name of SCORES: which evaluation counts as the best

    config.log = ConfigDict(type_safe=False)
    config.log.every = 20  # steps between training scalars
    config.log.pictures = 4  # evaluation pictures shown with label and prediction
    config.log.hardest = 0  # training examples with the largest loss that are listed, by id, every log.every steps

    # How the devices are arranged. The product of the three is the number of devices used.
    config.mesh = ConfigDict(type_safe=False)
    config.mesh.data = -1  # parts that a batch is split into; -1: all devices that the others leave
    config.mesh.fsdp = 1  # parts that parameters and optimizer state are split into (the batch, too)
    config.mesh.spatial = 1  # parts that the rows of pictures are split into
    return config


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every full key, such as `data.options.seed`, with its value."""
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
