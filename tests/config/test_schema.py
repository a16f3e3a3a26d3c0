"""The schema: each row gives a key its valid default, its checks and its description, without a second place."""

import math

import pytest

from flaxseg.config.schema import KEYS, SCHEMA, default_config, leaves
from flaxseg.config.validate import validate
from flaxseg.errors import ArgumentError, ConfigError, Range
from flaxseg.main import main

NUMBERS = {name: key.allowed for name, key in KEYS.items() if isinstance(key.allowed, Range)}


def names(config) -> set[str]:
    """Returns the keys of a configuration, with groups of options as one key each."""
    groups = [name for name, key in KEYS.items() if key.is_group]
    single = {key for key, _ in leaves(config) if not key.startswith(tuple(f"{group}." for group in groups))}
    return single | set(groups)


def test_leaves_have_full_keys():
    assert dict(leaves(default_config()))["data.image_size"] == (128, 128)


def test_every_key_of_the_default_configuration_has_one_row():
    rows = [key.name for section in SCHEMA for key in section.keys]
    assert names(default_config()) == set(rows)
    assert len(rows) == len(set(rows))


def test_a_section_holds_the_keys_that_begin_with_its_name():
    for section in SCHEMA:
        assert section.doc
        for key in section.keys:
            assert key.name.rpartition(".")[0] == section.name


@pytest.mark.parametrize("name", KEYS)
def test_every_row_describes_its_key_and_allows_the_default(name):
    key = KEYS[name]
    assert key.doc[0].isupper() and key.doc.endswith(".") and "\n" not in key.doc
    assert str(key.allowed)
    key.allowed.check(name, key.default)


@pytest.mark.parametrize("name", KEYS)
def test_every_row_refuses_what_it_does_not_allow(name):
    with pytest.raises(ArgumentError) as raised:
        KEYS[name].allowed.check(name, None)
    # The error about the weights of losses ends with what to write.
    assert str(raised.value).partition("; write ")[0] == f"{name} = None: must be {KEYS[name].allowed}"


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_refused_outside_of_its_range(name):
    numbers = NUMBERS[name]
    outside = [math.inf, -math.inf, math.nan, True, "1", numbers.low - 1]
    outside += [numbers.high + 1] if math.isfinite(numbers.high) else []
    outside += [numbers.low] if numbers.above else []
    outside += [numbers.high] if numbers.below else []
    outside += [numbers.low + 0.5] if numbers.integer else []
    assert math.isfinite(numbers.low)
    for value in outside:
        with pytest.raises(ArgumentError, match="must be a"):
            numbers.check(name, value)


def test_validation_covers_every_row():
    config = default_config()
    for name in KEYS:
        *sections, last = name.split(".")
        (config[sections[0]] if sections else config)[last] = None
    with pytest.raises(ConfigError) as raised:
        validate(config)
    lines = str(raised.value).splitlines()
    assert lines[0] == f"{len(KEYS)} errors in the configuration:"
    for (name, key), line in zip(KEYS.items(), lines[1:], strict=True):
        assert line.partition("; write ")[0] == f"  config.{name} = None: must be {key.allowed}"


def test_print_config_prints_every_row(capsys):
    assert main(["--config=configs/shapes.py", "--print_config"]) == 0
    printed = {line.partition(" = ")[0] for line in capsys.readouterr().out.splitlines()}
    assert {name for name, key in KEYS.items() if not key.is_group} <= printed


def test_default_configurations_share_no_group():
    changed = default_config()
    changed.loss.dice = 1.0
    changed.model.options.width = 8
    assert dict(default_config().loss) == {"cross_entropy": 1.0}
    assert "width" not in default_config().model.options


def test_a_range_of_steps_is_empty_or_has_a_first_and_a_last_step():
    allowed = KEYS["log.profile"].allowed
    for steps in ((), (1, 1), (10, 15), [10, 15]):
        allowed.check("log.profile", steps)
    for steps in ((1,), (15, 10), (0, 3), (1, 2, 3), (1.0, 2), "10", 10):
        with pytest.raises(ArgumentError, match="the smaller first"):
            allowed.check("log.profile", steps)
