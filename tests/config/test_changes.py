"""What a configuration changes in the defaults."""

import json

import markdown
import pytest
from ml_collections import ConfigDict

from flaxseg.config.changes import changed_keys, config_markdown
from flaxseg.config.files import load_config
from flaxseg.config.schema import KEYS, default_config, leaves


@pytest.fixture
def config():
    changed = default_config()
    changed.train.batch_size, changed.model.options.width, changed.optimizer.freeze = 3, 4, ("a|b",)
    return changed


def test_changed_keys_are_those_that_differ_from_the_defaults(config):
    assert changed_keys(default_config()) == set()
    assert changed_keys(config) == {"train.batch_size", "model.options.width", "optimizer.freeze"}
    # In the file of a run, tuples are lists.
    assert changed_keys(ConfigDict(json.loads(config.to_json()))) == changed_keys(config)
    assert "model.options.depth" in changed_keys(load_config("configs/shapes.py:tiny", []))


def test_a_table_holds_every_key_and_marks_changes(config):
    text = config_markdown(config)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    names = [row.split("`")[1] for row in rows]
    assert sorted(names) == sorted(name for name, _ in leaves(config))
    assert "| `train.batch_size` | **`3`** | `8` |" in rows
    assert "| `model.options.width` | **`4`** |  |" in rows
    assert f"| `seed` | `{KEYS['seed'].default}` |  |" in rows
    html = markdown.markdown(text, extensions=["tables"])
    assert html.count("<tr>") == len(rows) + text.count("| key |")
    assert html.count("<td>") == 3 * len(rows)
    assert "('a|b',)" in html.replace("&#39;", "'")
