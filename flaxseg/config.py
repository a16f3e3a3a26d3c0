"""The configuration: every key with its meaning, and the check that finds every error at once."""

import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from flaxseg.data import DATASETS
from flaxseg.errors import ConfigError
from flaxseg.lookup import did_you_mean, look_up, option_errors
from flaxseg.losses import LOSSES
from flaxseg.metrics import SCORES
from flaxseg.models import MODELS
from flaxseg.optimizers import OPTIMIZERS, SCHEDULES

OPTION_KEYS = ("data.options", "model.options", "loss", "loss_options")
"""Keys whose contents depend on a name chosen elsewhere, so that default_config() cannot list them."""


def default_config() -> ConfigDict:
    """Returns the configuration that every file in `configs/` starts from."""
    config = ConfigDict(type_safe=False)

    config.seed = 0  # initial weights, order of the data, augmentation and dropout all follow from it

    config.data = ConfigDict(type_safe=False)
    config.data.name = "shapes"  # a name of DATASETS, or package.module:function
    config.data.dir = ""  # where the data set lies; "" is the data set's own default place
    config.data.train_split = "train"  # which examples to learn from, in the data set's own words
    config.data.eval_split = "test"  # which to score
    config.data.options = ConfigDict(type_safe=False)  # keyword arguments of the data set's function
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
    config.augment.saturation = 0.0  # distance from grey is multiplied by 1 - s .. 1 + s
    config.augment.hue = 0.0  # colours turn by up to this share of a full circle
    config.augment.grey = 0.0  # probability of taking the colour out
    config.augment.gamma = 0.0  # values are raised to a power of 1 / (1 + g) .. 1 + g
    config.augment.contrast = 0.0  # contrast is multiplied by 1 - c .. 1 + c
    config.augment.brightness = 0.0  # up to this share of the value range is added or taken away
    config.augment.blur = 0.0  # up to so many pixels is the standard deviation of a Gaussian blur
    config.augment.noise = 0.0  # up to this share of the value range is the noise's standard deviation
    config.augment.dropout = 0.0  # a rectangle of up to this share of each side is hidden

    config.model = ConfigDict(type_safe=False)
    config.model.name = "unet"  # a name of MODELS, or package.module:function
    config.model.options = ConfigDict(type_safe=False)  # keyword arguments of the model's function

    config.loss = ConfigDict({"cross_entropy": 1.0}, type_safe=False)  # weight of each loss in the sum
    config.loss_options = ConfigDict(type_safe=False)  # for each loss: its keyword arguments

    config.optimizer = ConfigDict(type_safe=False)
    config.optimizer.name = "adamw"  # a name of OPTIMIZERS
    config.optimizer.learning_rate = 1e-3  # the highest, reached when warm-up ends
    config.optimizer.schedule = "cosine"  # a name of SCHEDULES: how the rate falls after warm-up
    config.optimizer.warmup_steps = 0  # steps over which the rate rises from near 0
    config.optimizer.weight_decay = 1e-4  # of kernels only: biases and norm scales are left out
    config.optimizer.grad_clip = 0.0  # largest global norm of the gradient; 0: no limit
    config.optimizer.ema_decay = 0.0  # decay of the average of parameters used in evaluation; 0: none

    config.train = ConfigDict(type_safe=False)
    config.train.batch_size = 8  # over all devices
    config.train.steps = 0  # how long to train; 0: as train.epochs says
    config.train.epochs = 10.0  # one epoch is len(data) // batch_size steps; does not count when steps are given
    config.train.precision = "float32"  # or bfloat16: of activations; parameters are always float32

    config.eval = ConfigDict(type_safe=False)
    config.eval.every = 0  # steps between evaluations; 0: once an epoch, but at most twenty in all
    config.eval.batch_size = 8  # over all devices; the scores do not depend on it
    config.eval.resolution = "native"  # score at each picture's own size, or at "image_size"

    config.checkpoint = ConfigDict(type_safe=False)
    config.checkpoint.every = 0  # steps between checkpoints; 0: at every evaluation
    config.checkpoint.keep = 2  # latest checkpoints kept, beside the best
    config.checkpoint.best_metric = "miou"  # a name of SCORES: which evaluation counts as the best

    config.log = ConfigDict(type_safe=False)
    config.log.every = 20  # steps between training scalars
    config.log.pictures = 4  # evaluation pictures shown with label and prediction

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


def validate(config: ConfigDict) -> None:
    """Checks a configuration without touching a device or a file.

    Raises:
      ConfigError: unknown or missing keys, wrong types, impossible values, unknown names and options: every one
        found, each with its full key, its value, what is allowed, and the nearest name.
    """
    raise_all(errors_in(config))


def errors_in(config: ConfigDict) -> list[str]:
    """Returns the message of each error that validate() finds."""
    if not isinstance(config, ConfigDict):
        return [f"the configuration is {config!r}: get_config() has to return the ConfigDict of default_config()"]
    wrong = _structure_errors(config)
    checked = {key for key, _ in _fixed_leaves(default_config())} - wrong.keys()
    return sorted(wrong.values()) + _value_errors(config, checked) + _option_errors(config, checked)


def raise_all(messages: list[str]) -> None:
    """Raises one ConfigError that lists every message; nothing when there is none."""
    if messages:
        count = "1 error" if len(messages) == 1 else f"{len(messages)} errors"
        raise ConfigError(f"{count} in the configuration:\n" + "\n".join(f"  {message}" for message in messages))


def _structure_errors(config: ConfigDict) -> dict[str, str]:
    """Returns a message for each key that is unknown, missing or of another type than the default."""
    expected = dict(_fixed_leaves(default_config()))
    actual = dict(_fixed_leaves(config))
    messages = {}
    for key in actual.keys() - expected.keys():
        messages[key] = f"config.{key} = {actual[key]!r}: no such key{did_you_mean(key, expected)}"
    for key, default in expected.items():
        if key not in actual:
            messages[key] = f"config.{key} is missing: start from default_config(), which sets it to {default!r}"
        elif not _is_like(actual[key], default):
            kind = _type_name(default)
            messages[key] = f"config.{key} = {actual[key]!r}: must be a {kind}, as the default {default!r} is"
    return messages


def _is_like(value: Any, default: Any) -> bool:
    kind, expected = _type_name(value), _type_name(default)
    numbers = value if isinstance(value, tuple | list) else [value]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        return False
    return kind == expected or (expected == "number" and kind == "whole number")


def _fixed_leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the keys that default_config() can list, with the groups of OPTION_KEYS whole."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, ConfigDict) and key not in OPTION_KEYS:
            yield from _fixed_leaves(value, f"{key}.")
        else:
            yield key, value


def _type_name(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"tuple of {len(value)} numbers" if all(_is_number(v) for v in value) else "sequence"
    names = (
        (bool, "truth value"),
        (int, "whole number"),
        (float, "number"),
        (str, "text"),
        (ConfigDict, "group of keys"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


AT_LEAST = {
    "seed": 0,
    "data.num_threads": -1,
    "data.prefetch": 1,
    "data.skip_bad": 0,
    "augment.rotate": 0,
    "augment.elastic": 0,
    "augment.saturation": 0,
    "augment.hue": 0,
    "augment.gamma": 0,
    "augment.contrast": 0,
    "augment.brightness": 0,
    "augment.blur": 0,
    "augment.noise": 0,
    "optimizer.learning_rate": 0,
    "optimizer.warmup_steps": 0,
    "optimizer.weight_decay": 0,
    "optimizer.grad_clip": 0,
    "train.batch_size": 1,
    "train.steps": 0,
    "train.epochs": 0,
    "eval.every": 0,
    "eval.batch_size": 1,
    "checkpoint.every": 0,
    "checkpoint.keep": 1,
    "log.every": 1,
    "log.pictures": 0,
    "mesh.fsdp": 1,
    "mesh.spatial": 1,
}

SHARES = (
    "augment.flip",
    "augment.flip_vertical",
    "augment.rotate90",
    "augment.max_class_share",
    "augment.cutmix",
    "augment.grey",
    "augment.dropout",
)

CHOICES: dict[str, Sequence[str]] = {
    "data.cache": ("none", "host", "device"),
    "train.precision": ("float32", "bfloat16"),
    "eval.resolution": ("native", "image_size"),
    "optimizer.schedule": tuple(SCHEDULES),
    "optimizer.name": tuple(OPTIMIZERS),
    "checkpoint.best_metric": tuple(SCORES),
}


def _value_errors(config: ConfigDict, keys: set[str]) -> list[str]:
    """Returns a message for each impossible value among these keys, which are those of the right type."""
    values = {key: value for key, value in _fixed_leaves(config) if key in keys}
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "data.image_size": (lambda v: all(isinstance(s, int) and s >= 1 for s in v), "must be whole numbers above 0"),
        "augment.shear": (lambda v: 0 <= v < 90, "is an angle, at least 0 and below 90 degrees"),
        "augment.scale": (lambda v: 0 < v[0] <= v[1], "must be two numbers above 0, the smaller first"),
        "mesh.data": (lambda v: v == -1 or v >= 1, "must be at least 1, or -1 for all devices that are left"),
        "optimizer.ema_decay": (lambda v: 0 <= v < 1, "must be at least 0 and below 1"),
    }
    checks |= {key: (functools.partial(operator.le, low), f"must be at least {low}") for key, low in AT_LEAST.items()}
    checks |= {key: (lambda v: 0 <= v <= 1, "is a share, 0 to 1") for key in SHARES}
    messages = [
        f"config.{key} = {values[key]!r}: {allowed}"
        for key, (holds, allowed) in checks.items()
        if key in values and not holds(values[key])
    ]
    messages += [
        f"config.{key} = {values[key]!r}: must be one of {', '.join(allowed)}{did_you_mean(values[key], allowed)}"
        for key, allowed in CHOICES.items()
        if key in values and values[key] not in allowed
    ]
    if values.get("train.steps") == 0 and values.get("train.epochs") == 0:
        messages.append("config.train.steps = 0 and config.train.epochs = 0: one of them has to be above 0")
    return messages + _batch_errors(values)


def _batch_errors(values: Mapping[str, Any]) -> list[str]:
    """Batch sizes against the parts that the mesh asks for; sharding.make_mesh() checks those left open."""
    parts = values.get("mesh.fsdp", 1) * max(values.get("mesh.data", 1), 1)
    return [
        f"config.{key} = {values[key]}: does not divide into the {parts} parts that mesh.data = "
        f"{values.get('mesh.data')} times mesh.fsdp = {values.get('mesh.fsdp')} ask for; use a multiple of {parts}"
        for key in ("train.batch_size", "eval.batch_size")
        if key in values and parts > 0 and values[key] % parts
    ]


def _option_errors(config: ConfigDict, keys: set[str]) -> list[str]:
    """Returns a message for each unknown name, and each option that the function of that name does not take."""
    messages: list[str] = []
    given = {"data": ("data_dir",), "model": ("num_classes", "dtype")}
    for group, table in (("data", DATASETS), ("model", MODELS)):
        if {f"{group}.name", f"{group}.options"} <= keys:
            name, options = config[group].name, config[group].options
            messages += _errors_of(
                name, table, f"config.{group}.name", options, f"config.{group}.options", given[group]
            )
    if {"loss", "loss_options"} <= keys:
        messages += _loss_errors(config)
    return messages


def _errors_of(
    name: str, table: Mapping[str, Callable[..., Any]], key: str, options: Any, options_key: str, given: Sequence[str]
) -> list[str]:
    try:
        function = look_up(name, table, key=key)
        messages = option_errors(function, options, key=options_key, given=given)
        # A network is built from numbers alone, so that building it tells what else is wrong with them.
        if table is MODELS and name in MODELS and not messages:
            function(num_classes=2, **options)
    except ConfigError as error:
        return [f"{options_key}: {error}" if not str(error).startswith("config.") else str(error)]
    return messages


def _loss_errors(config: ConfigDict) -> list[str]:
    messages = []
    for name, weight in config.loss.items():
        options = config.loss_options.get(name, {})
        messages += _errors_of(name, LOSSES, "config.loss", options, f"config.loss_options.{name}", ())
        if not _is_number(weight) or weight < 0:
            messages.append(f"config.loss.{name} = {weight!r}: must be a weight of at least 0")
    if not any(_is_number(weight) and weight > 0 for weight in config.loss.values()):
        messages.append("config.loss: no loss has a weight above 0; there would be nothing to learn from")
    messages += [
        f"config.loss_options.{name}: config.loss has no weight for it{did_you_mean(name, config.loss)}"
        for name in config.loss_options
        if name not in config.loss
    ]
    return messages
