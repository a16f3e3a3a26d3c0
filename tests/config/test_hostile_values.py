"""No value of any key, from a file or from the command line, raises anything but a ConfigError that names the key."""

import functools
import json
import math
import operator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from flaxseg.config.files import load_config, override
from flaxseg.config.groups import Group
from flaxseg.config.schema import GROUP_KEYS, KEYS, default_config
from flaxseg.config.validate import validate
from flaxseg.errors import ConfigError, Range

NUMBERS = [name for name, key in KEYS.items() if isinstance(key.allowed, Range)]
SINGLE_KEYS = [name for name in KEYS if name not in GROUP_KEYS]
FLOATS = [name for name in NUMBERS if isinstance(KEYS[name].default, float)]

NAMES = ["", "x\0y", "\ud800", "a" * 300, ":", ".x:y", "os:", "\0:f", "\ud800:f", "a.b", "../..", "\n", "None"]
SCALARS = [
    None, True, False, math.nan, math.inf, -math.inf, -1, -1.5, 10**30, 10**400, -(10**30), 1e300, 0.5, b"x",
    np.float32(0.5), np.float64(0.5), np.int64(1), np.bool_(True), np.ones(2), np.ones((3, 3)), object(), print, set(),
    *NAMES,
]  # fmt: skip
scalars = st.sampled_from(SCALARS)
tuples = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
groups = st.dictionaries(
    st.sampled_from([name for name in NAMES if "." not in name] + [1, "focal"]), tuples, max_size=2
)
values = scalars | tuples | groups | groups.map(lambda group: {"dice": group})
texts = st.sampled_from([
    "True", "nan", "inf", "1e999", "-1", str(10**30), "9" * 5000, "", "''", "()", "(", "[1,", "{}", "{1:2}", "\0",
    "\ud800", "a" * 300, "(1e999, -1e999)", "('x\\0y',)", "None", "lambda: 1", "-" * 500 + "1", "{'a': {'b': float}}",
    "1_0", "1j",
]) | st.text(max_size=8)  # fmt: skip
few = settings(max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


def set_key(config, name, value):
    """Assigns to a key as a configuration file does."""
    *sections, last = name.split(".")
    functools.reduce(operator.getitem, sections, config)[last] = value


def check_outcome(names, value, change):
    """Gives several keys one value and validates: each key is in an error, or can be stored."""
    config, message = default_config(), ""
    try:
        change(config)
        validate(config)
    except ConfigError as error:
        message = str(error)
    if "the name of a key must be a string" in message:
        return
    first, *lines = message.split("\n")
    assert not message or len(lines) == int(first.split()[0])
    assert all(line.startswith("  config.") and len(line) < 1500 for line in lines)
    for name in names:
        if not any(line.startswith(f"  config.{name}") for line in lines):
            json.dumps(value, allow_nan=False)


@pytest.mark.parametrize("names", [SINGLE_KEYS, GROUP_KEYS], ids=["keys", "groups"])
def test_any_value_in_a_file_is_valid_or_a_configuration_error(names):
    @few
    @given(values)
    def check(value):
        check_outcome(names, value, lambda config: [set_key(config, name, value) for name in names])

    check()


@pytest.mark.parametrize("names", [SINGLE_KEYS, GROUP_KEYS], ids=["keys", "groups"])
def test_any_text_on_the_command_line_is_valid_or_a_configuration_error(names):
    @few
    @given(texts)
    def check(text):
        check_outcome(names, text, lambda config: override(config, [f"{name}={text}" for name in names]))

    check()


@pytest.mark.parametrize("name", KEYS)
def test_a_misspelt_key_is_an_error(name):
    with pytest.raises(ConfigError, match="no such"):
        override(default_config(), [f"{name}x=1"])
    # Groups accept any name; validation knows the options.
    with pytest.raises(ConfigError, match=r"no such|no weight|unknown"):
        config = default_config()
        member = f"{name}.x" if name in GROUP_KEYS else f"{name}x"
        set_key(config, member, {} if name == "loss_options" else 1.0)
        validate(config)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_bool_is_not_a_number(name):
    for change in (lambda c: set_key(c, name, True), lambda c: override(c, [f"{name}=True"])):
        config = default_config()
        change(config)
        with pytest.raises(ConfigError, match=rf"config\.{name} = True: must be a"):
            validate(config)


def test_the_name_of_a_key_is_a_string():
    with pytest.raises(ConfigError, match=r"^1 = 2: the name of a key must be a string; write it in quotes$"):
        default_config().model.options = {1: 2}


def test_a_bool_is_kept_where_the_present_value_is_a_float():
    """In every kind of group, also in one from the configuration of a run or from a file of plain ConfigDicts."""
    config = default_config()
    config.update({"train": {"epochs": True}, "loss": {"cross_entropy": True}})
    config.augment = ConfigDict({"flip": 0.5})
    config.augment.flip = True
    assert (config.train.epochs, config.loss.cross_entropy, config.augment.flip) == (True, True, True)
    assert isinstance(config.copy_and_resolve_references().train, Group)
    config.train.epochs = 3
    config.train.epochs = 2.0
    config.train.epochs = 3
    assert isinstance(config.train.epochs, float)


def test_overrides_of_a_recorded_configuration_keep_a_bool(tmp_path):
    (tmp_path / "config.json").write_text(default_config().to_json())
    plain = tmp_path / "plain.py"
    plain.write_text(
        "from ml_collections import ConfigDict\nfrom flaxseg.config.schema import default_config\n"
        "def get_config(variant=''):\n    return ConfigDict(default_config())\n"
    )
    for file in (tmp_path, plain):
        config = load_config(str(file), [f"{name}=True" for name in FLOATS])
        with pytest.raises(ConfigError, match=f"^{len(FLOATS)} errors"):
            validate(config)


def test_an_integer_that_python_does_not_write_is_an_error():
    for name in NUMBERS:
        config = default_config()
        set_key(config, name, 10**5000)
        with pytest.raises(ConfigError, match=rf"config\.{name} = <int with more than 4,300 digits>: must be"):
            validate(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", 10**30, "must be an integer of at least 0, and at most 9,223,372,036,854,775,807 in size"),
        ("train.steps", 2**31, "must be an integer of at least 0, and at most 2,147,483,647 in size"),
        ("train.epochs", math.inf, "must be a number of at least 0, and finite"),
        ("optimizer.weight_decay", 1e300, "must be a number of at least 0, and at most 3.4e+38 in size"),
        ("loss.cross_entropy", math.nan, "must be a finite number"),
        ("loss_options.cross_entropy.label_smoothing", math.inf, "must be a finite number"),
        ("data.image_size", (np.int64(8), np.int64(8)), "a NumPy int64 is none: convert it with .item() or .tolist()"),
        ("data.options.size", np.ones(2), "a NumPy ndarray is none: convert it with .item() or .tolist()"),
        ("data.dir", "a/" + "b" * 256, "with names of at most 255 bytes"),
        ("data.train_split", "a\0", "contains a NUL character"),
        ("model.pretrained", "\udcff", "contains bytes that are not UTF-8; write it without"),
        ("data.options.name", print, "write the name of a function as 'package.module:function'"),
    ],
)
def test_the_message_says_what_is_allowed(key, value, message):
    config = default_config()
    *sections, last = key.split(".")
    if sections[:1] == ["loss_options"]:
        config.loss_options = {"cross_entropy": {}}
    functools.reduce(operator.getitem, sections, config)[last] = value
    with pytest.raises(ConfigError) as raised:
        validate(config)
    assert f"config.{key} = " in str(raised.value) and message in str(raised.value)
