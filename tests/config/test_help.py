"""--help_config and docs/configuration.md, both made from the schema and the options' docstrings."""

import subprocess
import sys
from pathlib import Path

import pytest

from flaxseg.config.files import load_config
from flaxseg.config.help import config_help, markdown
from flaxseg.config.schema import KEYS, SCHEMA, default_config
from flaxseg.data import DATASETS
from flaxseg.errors import ConfigError
from flaxseg.losses import LOSSES
from flaxseg.models import MODELS
from flaxseg.optimizers import OPTIMIZERS, SCHEDULES
from flaxseg.registry import option_names


def words(text: str) -> str:
    return " ".join(text.split())


def keys_in(text: str) -> list[str]:
    """Returns the first word of each line that describes a key."""
    return [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2] != " "]


def test_without_a_prefix_every_key_is_described():
    text = config_help(default_config())
    assert keys_in(text) == list(KEYS)
    for section in SCHEMA:
        assert words(section.doc) in words(text)
    # Descriptions are wrapped in their column, so that their words follow one another.
    for key in KEYS.values():
        assert f"{key.doc} Must be {key.allowed}" in words(text)


def test_a_row_has_key_default_description_and_range():
    assert config_help(default_config(), "train.batch_size").splitlines() == [
        "train: The training run",
        "  train.batch_size  8  Examples per step, over all devices.",
        "                       Must be an integer of at least 1.",
    ]


@pytest.mark.parametrize("prefix", ["", "optimizer", "data.options", "model.options", "loss_options.tversky"])
def test_lines_have_at_most_100_columns(prefix):
    config = load_config("configs/folder.py")
    assert max(map(len, config_help(config, prefix).splitlines())) <= 100


def test_a_section_and_a_single_key():
    keys = keys_in(config_help(default_config(), "optimizer"))
    assert keys == [key for key in KEYS if key.startswith("optimizer.")]
    assert keys_in(config_help(default_config(), "config.data.cache")) == ["data.cache"]
    assert keys_in(config_help(default_config(), "seed")) == ["seed"]


def test_options_are_those_of_the_names_in_the_configuration():
    config = default_config()
    config.data.name, config.model.name = "folder", "fpn"
    config.optimizer.name, config.optimizer.schedule = "sgd", "plateau"
    for prefix, table, name, filled_in in (
        ("data.options", DATASETS, "folder", {"data_dir"}),
        ("model.options", MODELS, "fpn", {"num_classes", "dtype"}),
        ("optimizer.options", OPTIMIZERS, "sgd", set()),
        ("optimizer.schedule_options", SCHEDULES, "plateau", set()),
    ):
        text = config_help(config, prefix)
        assert text.startswith(f"{prefix}: The options of ") and f"= {name!r}" in text
        options = keys_in(text)
        assert options == [option for option in option_names(table[name]) if option not in filled_in]
        assert options


def test_an_option_shows_its_type_default_and_docstring():
    text = words(config_help(default_config(), "data.options.seed"))
    assert text.startswith(
        "data.options: The options of data.name = 'shapes' (add --config.data.name=NAME for others) seed 0 "
    )
    assert text.endswith("Must be of type int.")
    assert "required Must be" not in words(config_help(load_config("configs/tfds.py"), "data.options"))


@pytest.mark.parametrize("prefix", ["loss_options", "loss_options.tversky"])
def test_loss_options_are_those_of_the_weighted_losses_or_of_the_named_one(prefix):
    config = default_config()
    config.loss.focal, config.loss.dice = 1.0, 0.0
    text = config_help(config, prefix)
    assert "loss_options.dice" not in text
    named = prefix.partition(".")[2]
    for loss in [named] if named else ["cross_entropy", "focal"]:
        assert f"loss_options.{loss}: The options of the loss {loss!r}" in text
        assert set(option_names(LOSSES[loss])) <= set(keys_in(text))


def test_an_entry_without_options_says_so():
    assert words(config_help(load_config("configs/camvid.py"), "data.options")).endswith("which has none")


@pytest.mark.parametrize(
    ("prefix", "nearest"),
    [
        ("optimzer", "optimizer"),
        ("train.batchsize", "train.batch_size"),
        ("data.options.sead", "data.options.seed"),
    ],
)
def test_an_unknown_prefix_suggests_the_nearest(prefix, nearest):
    with pytest.raises(ConfigError, match=f"--help_config {prefix}: no such section or key; did you mean '{nearest}'"):
        config_help(default_config(), prefix)


def test_a_users_function_needs_neither_annotations_nor_docstring():
    config = default_config()
    config.data.name = "json:dumps"
    assert "  sort_keys       False" in config_help(config, "data.options").splitlines()


def test_an_unknown_name_in_the_configuration_names_its_key():
    config = default_config()
    config.model.name = "unett"
    with pytest.raises(ConfigError, match=r"config.model.name = 'unett': unknown"):
        config_help(config, "model.options")
    with pytest.raises(ConfigError, match=r"config.loss = 'dise': unknown.*; did you mean 'dice'"):
        config_help(config, "loss_options.dise")


def test_the_documentation_page_is_up_to_date():
    remedy = "update it with `python -m flaxseg.config.help > docs/configuration.md`"
    assert Path("docs/configuration.md").read_text() == markdown(), remedy


def test_the_documentation_page_has_a_row_for_every_key():
    described, _, _ = markdown().partition("## What the configurations change")
    rows = [line.split("|")[1:-1] for line in described.splitlines() if line.startswith("| `")]
    assert [row[0].strip() for row in rows] == [f"`{name}`" for name in KEYS]
    assert {len(row) for row in rows} == {4}


def test_the_documentation_page_shows_what_the_configurations_change():
    _, _, table = markdown().partition("## What the configurations change")
    header, _, *rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    files = [cell.strip(" `") for cell in header[1:]]
    assert files == ["camvid", "cityscapes", "folder", "pet", "shapes", "tfds", "voc"]
    found = {row[0].strip(" `"): dict(zip(files, (cell.strip(" `") for cell in row[1:]), strict=True)) for row in rows}
    assert found["augment.scale"]["folder"] == "(0.8, 1.3)" and found["augment.flip"]["shapes"] == ""
    assert found["optimizer.grad_clip"]["pet"] == "1.0" and found["model.options.width"]["shapes"] == "16"
    assert not any(key.startswith(("data.name", "data.options")) for key in found)


def test_help_touches_no_device():
    program = (
        "from flaxseg.config.schema import default_config; from flaxseg.config.help import config_help;"
        "config_help(default_config(), 'model.options');"
        "import jax._src.xla_bridge as bridge; assert not bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
