"""The configuration: every error at once, with its key, what is allowed, and the nearest name."""

import functools
import operator
import re
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from flaxseg.config.files import load_config, override
from flaxseg.config.schema import default_config, leaves
from flaxseg.config.validate import validate
from flaxseg.errors import ConfigError


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
        "folder.py",
        "folder.py:binary",
        "camvid.py",
        "voc.py",
        "cityscapes.py",
        "tfds.py",
    ):
        validate(load_config(f"configs/{name}"))


def test_every_default_key_is_commented():
    import inspect

    lines = inspect.getsource(default_config).splitlines()
    uncommented = [
        line.strip()
        for number, line in enumerate(lines)
        if line.strip().startswith("config.")
        and "= ConfigDict(type_safe=False)" not in line.replace("options", "")
        and "#" not in line
        and not lines[number - 1].strip().startswith("#")
    ]
    assert uncommented == []


def test_all_errors_come_in_one_message():
    config = default_config()
    config.train.batch_siez = 4
    config.train.steps = "many"
    config.data.image_size = (1, 2, 3)
    config.log.every = 2.5
    del config.eval.every
    message = errors(config)
    assert message.startswith("5 errors in the configuration:")
    assert "config.train.batch_siez = 4: no such key; did you mean 'train.batch_size'?" in message
    assert "config.train.steps = 'many': must be a whole number" in message
    assert "config.data.image_size = (1, 2, 3): must be a tuple of 2 numbers" in message
    assert "config.log.every = 2.5: must be a whole number" in message
    assert "config.eval.every is missing" in message


def test_a_whole_number_does_for_a_number_but_a_truth_value_does_not():
    config = default_config()
    config.optimizer.learning_rate = 1
    validate(config)
    config.log.every = True
    assert "config.log.every = True: must be a whole number" in errors(config)


def test_impossible_values_are_found_together():
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
    assert "config.train.batch_size = 0: must be at least 1" in message
    assert "config.train.steps = 0 and config.train.epochs = 0: one of them has to be above 0" in message
    assert "config.augment.flip = 1.5: must be at least 0 and at most 1" in message
    assert "config.augment.scale = (2.0, 1.0): must be two numbers above 0, the smaller first" in message
    assert "config.optimizer.schedule = 'cosin': unknown. Known are constant, cosine, " in message
    assert "warmup_stable_decay; did you mean 'cosine'?" in message
    assert "config.optimizer.ema_decay = 1.0" in message
    assert "config.checkpoint.best_metric = 'mIoU': must be one of miou, " in message
    assert "; did you mean 'miou'?" in message
    assert "config.eval.batch_size = 8: does not divide into the 3 parts" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_weights": "logarithmic"}, "class_weights = 'logarithmic': must be 'none', 'log', 'median_frequency'"),
        ({"class_weights": (1.0, -1.0)}, "class_weights = (1.0, -1.0): must be 'none', .* at least 0 and not all 0"),
        ({"class_weights": (0.0, 0.0)}, "class_weights = (0.0, 0.0): must be"),
        ({"optimizer.freeze": "encoder"}, "optimizer.freeze = 'encoder': must be a sequence of patterns"),
        ({"optimizer.lr_scale": (("encoder", 0.0),)}, "optimizer.lr_scale = (('encoder', 0.0),): must be pairs of a"),
        ({"optimizer.lr_scale": ("encoder", 0.1)}, "optimizer.lr_scale = ('encoder', 0.1): must be pairs of a pattern"),
        (
            {"optimizer.lr_scale": ConfigDict({"encoder": 0.1})},
            "optimizer.lr_scale = {'encoder': 0.1}: must be pairs",
        ),
        ({"eval.metrics": ("per_image", "boundry")}, "eval.metrics = .*; did you mean 'boundary'"),
        ({"class_weights": "logg"}, "class_weights = 'logg': .*; did you mean 'log'"),
        ({"optimizer.options": {"b1": 1.5}}, "optimizer.options.b1 = 1.5: must be at least 0 and below 1"),
        ({"optimizer.layer_decay": 1.5}, "optimizer.layer_decay = 1.5: must be above 0 and at most 1"),
        ({"optimizer.accumulate_steps": 0}, "optimizer.accumulate_steps = 0: must be at least 1"),
        ({"eval.metrics": ("per_picture",)}, "eval.metrics = ('per_picture',): must be a sequence of per_image, "),
        ({"optimizer.name": "adan"}, "optimizer.name = 'adan': unknown. Known are adafactor, adam, "),
        ({"optimizer.options": {"beta": 1}}, "optimizer.options.beta = 1: no such option"),
        ({"optimizer.options": {"b1": "0.9"}}, "optimizer.options.b1 = '0.9': must be a number"),
        ({"optimizer.schedule_options": {"end": 2.0}}, "optimizer.schedule_options.end = 2.0: is a share, 0 to 1"),
        (
            {"optimizer.schedule": "step", "optimizer.schedule_options": {"boundaries": (0.5, 80.0)}},
            "optimizer.schedule_options.boundaries = (0.5, 80.0): must be rising shares of the run",
        ),
    ],
)
def test_settings_of_the_optimizer_and_the_metrics_are_checked(changes, message):
    config = default_config()
    for key, value in changes.items():
        *groups, name = key.split(".")
        functools.reduce(operator.getitem, groups, config)[name] = value
    found = errors(config)
    assert found.startswith("1 error in the configuration:")
    pattern = "config." + re.escape(message).replace(re.escape(".*"), ".*")
    assert re.search(pattern, found), found


def test_class_weights_of_the_command_line_are_a_name_or_numbers():
    config = default_config()
    override(config, ["class_weights=median_frequency"])
    assert config.class_weights == "median_frequency"
    override(config, ["class_weights=(1, 2.5)", "optimizer.freeze=('encoder',)", "optimizer.lr_scale=(('head', 10),)"])
    assert config.class_weights == (1, 2.5)
    assert config.optimizer.freeze == ("encoder",) and config.optimizer.lr_scale == (("head", 10),)


def test_names_and_options_are_checked_against_what_there_is():
    config = default_config()
    config.data.name = "shape"
    config.model.options.widht = 8
    config.loss = {"cross_entropi": 1.0, "cross_entropy": -1}
    config.loss_options.focal = {"gamma": 2}
    message = errors(config)
    assert (
        "config.data.name = 'shape': unknown. Known are camvid, cityscapes, folder, oxford_iiit_pet, shapes, tfds, "
        "voc; did you mean 'shapes'?" in message
    )
    assert "config.model.options.widht = 8: no such option; did you mean 'width'?" in message
    assert "config.loss = 'cross_entropi': unknown" in message
    assert "config.loss.cross_entropy = -1: must be a weight of at least 0" in message
    assert "config.loss_options.focal: config.loss has no weight for it" in message


def test_options_have_the_types_of_their_annotations():
    config = default_config()
    config.data.options = {"size": 64, "count": 1.5, "noise": 2}
    config.model.options = {"width": "a", "max_width": None, "mean": (1, "x")}
    config.loss_options.cross_entropy = {"class_weights": 5, "label_smoothing": True}
    message = errors(config)
    assert message.startswith("6 errors")
    assert "config.data.options.size = 64: must be (a whole number, a whole number)" in message
    assert "config.data.options.count = 1.5: must be a whole number" in message
    assert "config.model.options.width = 'a': must be a whole number" in message
    assert "config.model.options.mean = (1, 'x'): must be None or a number or a sequence" in message
    assert (
        "config.loss_options.cross_entropy.class_weights = 5: must be None or a sequence, as in (A, B) or (A,)"
        in message
    )
    assert "config.loss_options.cross_entropy.label_smoothing = True: must be a number" in message


def test_values_of_model_options_are_told_with_their_key():
    config = default_config()
    config.model.options.norm = "bath"
    assert "config.model.options: " in errors(config)
    assert "did you mean 'batch'" in errors(config)


def test_errors_of_every_kind_come_together():
    config = default_config()
    config.data.image_size = (1, 2, 3)
    config.train.epochs = float("inf")
    config.train.batch_size = 0
    config.model.name = "unett"
    message = errors(config)
    assert message.startswith("4 errors")
    for part in ("data.image_size", "config.train.epochs = inf", "config.train.batch_size = 0", "'unett': unknown"):
        assert part in message


def test_a_loss_is_needed():
    config = default_config()
    config.loss.cross_entropy = 0.0
    assert "config.loss: no loss has a weight above 0" in errors(config)


def test_a_function_of_the_users_own_can_be_named():
    config = default_config()
    config.data.name = "flaxseg.data.datasets.shapes:shapes"
    validate(config)
    config.data.name = "flaxseg.data.datasets.shapes:shappes"
    assert "has no function 'shappes'; did you mean 'shapes'?" in errors(config)
    config.data.name = "no_such_package.data:pictures"
    assert "module 'no_such_package.data' cannot be imported" in errors(config)


def test_overrides_set_values_of_every_kind():
    config = default_config()
    texts = ("optimizer.learning_rate=3e-4", "data.image_size=(32,48)", "data.dir=/a=b", "model.options.width=4")
    override(config, (*texts, "loss_options.cross_entropy.label_smoothing=0.1"))
    assert config.optimizer.learning_rate == 3e-4
    assert config.data.image_size == (32, 48)
    assert config.data.dir == "/a=b"
    assert config.model.options.width == 4
    assert config.loss_options.cross_entropy.label_smoothing == 0.1
    validate(config)


def test_overrides_of_unknown_keys_are_all_named():
    with pytest.raises(ConfigError) as raised:
        override(default_config(), ("optimizer.learning_rate=1", "train.step=3", "seed"))
    message = str(raised.value)
    assert "config.optimizer.learning_rate: no such key; did you mean 'optimizer.learning_rate'?" in message
    assert "config.train.step: no such key; did you mean 'train.steps'?" in message
    assert "--config.seed: give a value" in message
    with pytest.raises(ConfigError) as raised:
        override(
            default_config(), ("model.options.width.x=1", "model.options.width=3", "data.nmae=x", "train.steps=-1")
        )
    message = str(raised.value)
    assert "config.data.nmae: no such key; did you mean 'data.name'?" in message
    assert "config.train.steps = -1: must be at least 0" in message


def test_a_text_stays_a_text_and_a_value_has_no_keys():
    config = default_config()
    override(config, ("data.dir=2024", "model.options.width=3"))
    assert config.data.dir == "2024"
    with pytest.raises(ConfigError, match="config.model.options.width.x = 1: what stands before the last dot"):
        override(config, ("model.options.width.x=1",))


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file configs/pets.py; did you mean 'configs/pet.py'"):
        load_config("configs/pets.py")
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(ConfigError, match="defines no get_config"):
        load_config(str(tmp_path / "a.py"))
    (tmp_path / "b.py").write_text(
        "from flaxseg.config.schema import default_config\n"
        "def get_config(variant=''):\n"
        "    config = default_config()\n    config.modle.name = 'unet'\n    return config\n"
    )
    with pytest.raises(ConfigError, match=r"b.py, line 4: AttributeError.*modle"):
        load_config(str(tmp_path / "b.py"))
    (tmp_path / "c.py").write_text("def get_config(variant=''):\n    return nothing_of_the_kind\n")
    with pytest.raises(ConfigError, match=r"c.py, line 2: NameError: name 'nothing_of_the_kind' is not defined"):
        load_config(str(tmp_path / "c.py"))
    (tmp_path / "d.py").write_text("def get_config(variant=''):\n    pass\n")
    with pytest.raises(ConfigError, match=r"the configuration is None: get_config\(\) has to return"):
        validate(load_config(str(tmp_path / "d.py")))
    with pytest.raises(ConfigError, match="variant 'big': there is only 'tiny'"):
        load_config("configs/shapes.py:big")


def test_leaves_have_full_keys():
    assert dict(leaves(default_config()))["data.image_size"] == (128, 128)


def test_validating_touches_no_device():
    program = (
        "from flaxseg.config.schema import default_config; from flaxseg.config.validate import validate;"
        "validate(default_config());"
        "import jax._src.xla_bridge as bridge; assert not bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
