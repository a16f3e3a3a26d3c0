"""Validation: one message lists every error, each with its key, what is allowed, and the nearest name."""

import functools
import operator
import re
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from flaxseg.config.files import load_config
from flaxseg.config.schema import default_config
from flaxseg.config.validate import config_key, validate
from flaxseg.errors import ArgumentError, ConfigError


def errors(config) -> str:
    with pytest.raises(ConfigError) as raised:
        validate(config)
    return str(raised.value)


def test_default_and_every_file_are_valid():
    validate(default_config())
    for name in (
        "shapes.py",
        "shapes.py:tiny",
        "pet.py",
        "pet.py:small",
        "pet.py:binary",
        "pet.py:pretrained",
        "folder.py",
        "folder.py:binary",
        "camvid.py",
        "voc.py",
        "cityscapes.py",
        "tfds.py",
    ):
        validate(load_config(f"configs/{name}"))


def test_all_errors_are_in_one_message():
    config = default_config()
    config.train.batch_siez = 4
    config.train.steps = "many"
    config.data.image_size = (1, 2, 3)
    config.log.every = 2.5
    del config.eval.every
    message = errors(config)
    assert message.startswith("5 errors in the configuration:")
    assert "config.train.batch_siez = 4: no such key; did you mean 'train.batch_size'?" in message
    assert "config.train.steps = 'many': must be an integer of at least 0" in message
    assert "config.data.image_size = (1, 2, 3): must be a tuple of 2 integers of at least 1: (height, width)" in message
    assert "config.log.every = 2.5: must be an integer of at least 1" in message
    assert "config.eval.every is missing" in message


def test_an_integer_is_a_number_but_a_bool_is_not():
    config = default_config()
    config.optimizer.learning_rate = 1
    validate(config)
    config.log.every = True
    assert "config.log.every = True: must be an integer of at least 1" in errors(config)


@pytest.mark.parametrize(
    ("metrics", "hint"),
    [
        (("loss",), "; the loss of the evaluation set is ('cross_entropy',)"),
        (("per_image", "val_loss"), "; the loss of the evaluation set is ('cross_entropy',)"),
        (("miou",), "; it is among the scores that are always computed"),
        (("cros_entropy",), "; did you mean 'cross_entropy'?"),
        ("cross_entropy", "; write ('cross_entropy',)"),
        ((None,), ""),
    ],
)
def test_wrong_metrics_are_answered_with_those_that_were_meant(metrics, hint):
    config = default_config()
    config.eval.metrics = metrics
    assert errors(config).endswith(f"cross_entropy, as in ('per_image',){hint}")


def test_invalid_values_are_reported_together():
    config = default_config()
    config.train.batch_size = 0
    config.train.epochs = 0.0
    config.augment.flip = 1.5
    config.augment.scale = (2.0, 1.0)
    config.optimizer.schedule = "cosin"
    config.optimizer.ema_decay = 1.0
    config.checkpoint.best_metric = "mIoU"
    config.mesh.data = 3
    message = errors(config)
    assert "config.train.batch_size = 0: must be an integer of at least 1" in message
    assert "config.train.steps = 0 and config.train.epochs = 0: one of them must be above 0" in message
    assert "config.augment.flip = 1.5: must be a number from 0 to 1" in message
    assert "config.augment.scale = (2.0, 1.0): must be a tuple of 2 numbers above 0, the smaller first" in message
    assert (
        "config.optimizer.schedule = 'cosin': unknown; did you mean 'cosine'? Known are constant, cosine, " in message
    )
    assert "warmup_stable_decay, and 'package.module:function' for a function of your own" in message
    assert "config.optimizer.ema_decay = 1.0: must be a number of at least 0 and below 1" in message
    assert "config.checkpoint.best_metric = 'mIoU': must be one of 'miou', " in message
    assert "; did you mean 'miou'?" in message
    assert "config.eval.batch_size = 8: must be a multiple of 3, because mesh.data = 3" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_weights": "logarithmic"}, "class_weights = 'logarithmic': must be 'none', 'log', 'median_frequency'"),
        ({"class_weights": (1.0, -1.0)}, "class_weights = (1.0, -1.0): must be 'none', .* at least 0 and not all 0"),
        ({"class_weights": (0.0, 0.0)}, "class_weights = (0.0, 0.0): must be"),
        ({"optimizer.freeze": "encoder"}, "optimizer.freeze = 'encoder': must be a tuple of patterns"),
        (
            {"optimizer.lr_scale": (("encoder", 0.0),)},
            "optimizer.lr_scale = (('encoder', 0.0),): must be a tuple of pairs",
        ),
        (
            {"optimizer.lr_scale": ("encoder", 0.1)},
            "optimizer.lr_scale = ('encoder', 0.1): must be a tuple of pairs of a pattern",
        ),
        (
            {"optimizer.lr_scale": ConfigDict({"encoder": 0.1})},
            "optimizer.lr_scale = {'encoder': 0.1}: must be a tuple of pairs",
        ),
        ({"eval.metrics": ("per_image", "boundry")}, "eval.metrics = .*; did you mean 'boundary'"),
        ({"class_weights": "logg"}, "class_weights = 'logg': .*; did you mean 'log'"),
        (
            {"checkpoint.keep": 0, "train.non_finite": "rollback"},
            "train.non_finite = 'rollback': returns to a checkpoint, but none is saved (checkpoint.keep = 0)",
        ),
        ({"optimizer.options": {"b1": 1.5}}, "optimizer.options.b1 = 1.5: must be a number of at least 0 and below 1"),
        ({"optimizer.layer_decay": 1.5}, "optimizer.layer_decay = 1.5: must be a number above 0 and at most 1"),
        ({"optimizer.accumulate_steps": 0}, "optimizer.accumulate_steps = 0: must be an integer of at least 1"),
        (
            {"eval.metrics": ("per_imag",)},
            "eval.metrics = ('per_imag',): must be a tuple of names from per_image, ",
        ),
        (
            {"optimizer.name": "adan"},
            "optimizer.name = 'adan': unknown; did you mean 'adam'? Known are adafactor, ",
        ),
        ({"optimizer.schedule": "OneCycleLR"}, "optimizer.schedule = 'OneCycleLR': unknown; did you mean 'one_cycle'?"),
        (
            {"optimizer.schedule": "CosineAnnealingLR"},
            "optimizer.schedule = 'CosineAnnealingLR': unknown; did you mean 'cosine'? Known are constant, ",
        ),
        (
            {"train.precision": "16-mixed"},
            "train.precision = '16-mixed': must be one of 'float32', 'bfloat16'; mixed precision is bfloat16, with",
        ),
        ({"train.precision": "bfloat"}, "train.precision = 'bfloat': .*; did you mean 'bfloat16'?"),
        (
            {"loss": {"binary_cross_entropy": 1.0}, "loss_options.binary_cross_entropy": {"pos_weight": 3}},
            "loss_options.binary_cross_entropy.pos_weight = 3: must be of type .*; pos_weight: v, one weight of the "
            "pixels of each class, such as (1, 3), ",
        ),
        ({"optimizer.options": {"beta": 1}}, "optimizer.options.beta = 1: no such option"),
        (
            {"model.name": "unet", "model.options": {"activation": "sigmoid"}},
            "model.options.activation = 'sigmoid': no such option; networks return logits; .*; options are encoder, ",
        ),
        ({"optimizer.options": {"b1": "0.9"}}, "optimizer.options.b1 = '0.9': must be of type float"),
        (
            {"optimizer.schedule_options": {"end": 2.0}},
            "optimizer.schedule_options.end = 2.0: must be a number from 0 to 1",
        ),
        (
            {"optimizer.schedule": "step", "optimizer.schedule_options": {"boundaries": (0.5, 80.0)}},
            "optimizer.schedule_options.boundaries = (0.5, 80.0): must be increasing fractions of the run",
        ),
    ],
)
def test_optimizer_and_metrics_settings_are_checked(changes, message):
    config = default_config()
    for key, value in changes.items():
        *groups, name = key.split(".")
        functools.reduce(operator.getitem, groups, config)[name] = value
    found = errors(config)
    assert found.startswith("1 error in the configuration:")
    pattern = "config." + re.escape(message).replace(re.escape(".*"), ".*")
    assert re.search(pattern, found), found


def test_names_and_options_are_checked_against_the_tables():
    config = default_config()
    config.data.name = "shape"
    config.model.options.widht = 8
    config.model.options.gate = True
    config.model.options.encoder = "resnet34"
    config.loss = {"cross_entropi": 1.0, "cross_entropy": -1}
    config.loss_options.focal = {"gamma": 2}
    message = errors(config)
    assert (
        "config.data.name = 'shape': unknown; did you mean 'shapes'? Known are camvid, cityscapes, folder, "
        "oxford_iiit_pet, shapes, tfds, voc, and" in message
    )
    assert "config.model.options.widht = 8: no such option; did you mean 'width'?" in message
    of_others = r"encoder = 'resnet34': no such option; model.name = 'plain_unet' lacks it, and unet, .* \d+ more have"
    assert re.search(of_others, message)
    assert re.search(r"gate = True: no such option; did you mean 'gate_from'\?; options [a-z_, ]*$", message, re.M)
    assert "config.loss = 'cross_entropi': unknown" in message
    assert "config.loss.cross_entropy = -1: must be a number of at least 0" in message
    assert "config.loss_options.focal: config.loss has no weight for this loss" in message


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a/b-512", "; a public network is --config.model.pretrained=hf:a/b-512, which sets model.name. Known are "),
        ("hf:a/b@v1.0", "; a public network is --config.model.pretrained=hf:a/b@v1.0, which sets model.name. Known "),
        ("fcn_resnet50", "; did you mean --config.model.name=fcn --config.model.options.encoder=resnet50? Known are "),
        ("UNet-resnet34", "; did you mean --config.model.name=unet --config.model.options.encoder=resnet34? Known "),
        ("plain_unet_resnet34", "; did you mean 'plain_unet'? Known are "),
        ("../runs/unet", "; did you mean 'resunet'? Known are "),
    ],
)
def test_networks_of_other_libraries_show_what_to_write(name, remedy):
    config = default_config()
    config.model.name = name
    assert f"config.model.name = {name!r}: unknown{remedy}" in errors(config)


def test_options_have_the_types_of_their_annotations():
    config = default_config()
    config.data.options = {"size": 64, "count": 1.5, "noise": 2}
    config.model.options = {"width": "a", "max_width": None, "mean": (1, "x")}
    config.loss_options.cross_entropy = {"class_weights": 5, "label_smoothing": True}
    message = errors(config)
    assert message.startswith("6 errors")
    assert "config.data.options.size = 64: must be of type (int, int)" in message
    assert "config.data.options.count = 1.5: must be of type int" in message
    assert "config.model.options.width = 'a': must be of type int" in message
    assert "config.model.options.mean = (1, 'x'): must be of type None or float or tuple of float" in message
    problem = "must be of type None or tuple of float, as in (A, B) or (A,)"
    assert f"config.loss_options.cross_entropy.class_weights = 5: {problem}" in message
    assert "config.loss_options.cross_entropy.label_smoothing = True: must be of type float" in message


def test_errors_in_model_options_name_the_key():
    config = default_config()
    config.model.options.norm = "bath"
    assert "config.model.options.norm = 'bath': must be one of" in errors(config)
    assert "did you mean 'batch'" in errors(config)


def test_errors_of_every_kind_are_reported_together():
    config = default_config()
    config.data.image_size = (1, 2, 3)
    config.train.epochs = float("inf")
    config.train.batch_size = 0
    config.model.name = "unett"
    message = errors(config)
    assert message.startswith("4 errors")
    for part in ("data.image_size", "config.train.epochs = inf", "config.train.batch_size = 0", "'unett': unknown"):
        assert part in message


def test_at_least_one_loss_is_required():
    config = default_config()
    config.loss.cross_entropy = 0.0
    assert "config.loss: at least one loss must have a weight above 0" in errors(config)


def test_a_users_function_can_be_named():
    config = default_config()
    config.data.name = "flaxseg.data.datasets.shapes:shapes"
    validate(config)
    config.data.name = "flaxseg.data.datasets.shapes:shappes"
    assert "has no function 'shappes'; did you mean 'shapes'?" in errors(config)
    config.data.name = "no_such_package.data:photos"
    assert "module 'no_such_package.data' cannot be imported" in errors(config)


def test_validating_touches_no_device():
    program = (
        "from flaxseg.config.schema import default_config; from flaxseg.config.validate import validate;"
        "validate(default_config());"
        "import jax._src.xla_bridge as bridge; assert not bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_value_in_place_of_a_section_is_one_error():
    config = default_config()
    config.train = 5
    assert errors(config) == "1 error in the configuration:\n  config.train = 5: must be a group of keys"
    config = default_config()
    config.train.batch_size = ConfigDict({"a": 1})
    assert "config.train.batch_size = {'a': 1}: must be an integer of at least 1" in errors(config)


def test_groups_must_be_groups_and_weights_finite():
    config = default_config()
    config.model.options = 5
    config.loss.cross_entropy = float("inf")
    message = errors(config)
    assert "config.model.options = 5: must be a group of the options of model.name" in message
    assert "config.loss.cross_entropy = inf: must be a finite number" in message


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (
            "dice",
            "write --config.loss.dice=1.0, with --config.loss.cross_entropy=0.0 to leave out the default, or, in a "
            "file, config.loss = {'dice': 1.0}",
        ),
        ("crossentropy", "write --config.loss.cross_entropy=1.0 or, in a file, config.loss = {'cross_entropy': 1.0}"),
        (0.5, "write --config.loss.dice=1.0, "),
    ],
)
def test_a_loss_in_place_of_its_weight_shows_what_to_write(value, remedy):
    config = default_config()
    config.loss = value
    message = errors(config)
    assert f"config.loss = {value!r}: must be a group of weights of at least 0" in message and f"; {remedy}" in message


def test_the_written_weights_leave_out_the_default():
    config = load_config("shapes", ["loss.dice=1.0", "loss.cross_entropy=0.0"])
    validate(config)
    assert config.loss.to_dict() == {"dice": 1.0, "cross_entropy": 0.0}
    config.loss = {"dice": 1.0}
    validate(config)


@pytest.mark.parametrize(
    ("argument", "key"),
    [("name", "optimizer.schedule"), ("options.end", "optimizer.schedule_options.end"), ("steps", "optimizer.steps")],
)
def test_errors_of_library_functions_get_the_key_of_their_argument(argument, key):
    with (
        pytest.raises(ConfigError, match=rf"^config.{key} = 2: must be 1$") as raised,
        config_key("optimizer", name="schedule", options="schedule_options"),
    ):
        raise ArgumentError(argument, 2, "must be 1")
    assert isinstance(raised.value.__cause__, ArgumentError)
    with pytest.raises(ConfigError, match=r"^config.seed = -1: must be 0$"), config_key(""):
        raise ArgumentError("seed", -1, "must be 0")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.freeze=()"], "optimizer.freeze = () leaves the encoder learning, so its features change"),
        (
            ["augment.flip=0.5", "augment.hue=0.1"],
            "but augment.flip, augment.hue would change images at random; set data",
        ),
        (["augment.scale=(0.9,1.0)"], "but augment.scale would change images at random"),
        (["data.resize=keep"], "images that keep their sizes (data.resize = 'keep') are cropped at random"),
        (["data.cache_views=3"], "config.data.cache_views = 3: without augmentation, all views are the same"),
        (
            ["data.cache_views=3", "augment.flip=0.5", "data.cache=host"],
            "cache_views = 3: only data.cache = 'features'",
        ),
    ],
)
def test_contradictions_of_cached_features_are_named(overrides, message):
    cached = ["data.cache=features", "optimizer.freeze=('encoder',)"]
    assert message in errors(load_config("configs/shapes.py", [*cached, *overrides]))
    validate(load_config("configs/shapes.py", [*cached, "augment.flip=0.5", "data.cache_views=2"]))


def test_without_evaluation_nothing_stops_early():
    config = load_config("shapes", ["data.eval_split="])
    validate(config)
    config.train.early_stop = 100
    with pytest.raises(
        ConfigError, match=r"config.train.early_stop = 100: without evaluation .*use 0, or name a split"
    ):
        validate(config)
    config.data.train_split = ""
    with pytest.raises(ConfigError, match="config.data.train_split = '': must name the split to train on"):
        validate(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.eval_split=",
            "are written at evaluations, and there are none (data.eval_split = ''); use (), or name a split",
        ),
        (
            "log.writer=none",
            "are written to event files, and there are none (log.writer = 'none'); use (), or another log.writer",
        ),
    ],
)
def test_histograms_that_would_not_be_written_are_an_error(override, message):
    found = errors(load_config("configs/shapes.py", ["log.histograms=('gradients',)", override]))
    assert found == f"1 error in the configuration:\n  config.log.histograms = ('gradients',): {message}"


def test_the_number_of_classes_is_no_option():
    for given in (["model.options.num_classes=3"], ["data.name=folder", "data.options={'num_classes': 3}"]):
        config = load_config("shapes", ["model.options={}", *given])
        with pytest.raises(
            ConfigError, match=r"options.num_classes = 3: no such option; .*the classes are those of the"
        ):
            validate(config)


def test_losses_and_their_options_have_other_names_elsewhere():
    config = default_config()
    config.loss.ce = 1.0
    config.loss_options.cross_entropy = {"ignore_index": 255}
    message = errors(config)
    assert "config.loss = 'ce': unknown; it is called 'cross_entropy' here." in message
    assert (
        "config.loss_options.cross_entropy.ignore_index = 255: no such option; leave it out: pixels labeled 255 are "
        "always ignored; options are " in message
    )
