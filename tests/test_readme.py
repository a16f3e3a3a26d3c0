"""What the README shows works: its snippets run, its commands are valid, its links lead somewhere."""

import re
import shlex
import unittest.mock
from pathlib import Path

import pytest

from flaxseg.main import main
from flaxseg.models import MODELS, build_model
from flaxseg.models.encoders import ENCODERS

README = Path("README.md").read_text()
COMMANDS = re.findall(r"^python -m flaxseg\.main (.*)$", README, re.MULTILINE)
OTHERS = re.findall(r"^python -m flaxseg\.(?:inspect_data|lr_find) (.*)$", README, re.MULTILINE)


@pytest.mark.parametrize("arguments", [*COMMANDS, *OTHERS])
def test_commands_are_valid(arguments, capsys):
    assert main([*shlex.split(arguments, comments=True), "--print_config"]) == 0
    assert "batch_size" in capsys.readouterr().out


def test_there_are_commands():
    assert len(COMMANDS) >= 9 and len(OTHERS) >= 3


def test_targets_exist():
    makefile = Path("Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_snippets_run(capsys):
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippets
    with unittest.mock.patch.dict(ENCODERS), unittest.mock.patch.dict(MODELS):
        for snippet in snippets:
            exec(compile(snippet, "README.md", "exec"), {})
        assert build_model("top", num_classes=2, encoder="plain").stride == 32
    assert "'loss':" in capsys.readouterr().out


def test_links_lead_to_files():
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert Path(link).exists(), link
