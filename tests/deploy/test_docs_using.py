"""What docs/using.md shows works, on a small run."""

import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from saved_run import save_run

from flaxseg import evaluate, main, predict

TEXT = Path("docs/using.md").read_text()
COMMANDS = re.findall(r"^flaxseg (\w+) (.*)$", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Returns a folder with the run and the images that the page names."""
    folder = tmp_path_factory.mktemp("user")
    save_run(folder / "runs" / "shapes", scores={2: 0.5}, overrides=["data.options.count=8"])
    shutil.copytree(folder / "runs" / "shapes", folder / "runs" / "shapes-1")
    image = np.random.default_rng(0).integers(0, 256, (20, 27, 3), np.uint8)
    for name in ("photo.png", "photos/a.png", "DIR/images/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    writer = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (26, 20))
    writer.write(image[:, :26].copy())
    writer.release()
    (folder / "DIR" / "masks").mkdir()
    Image.fromarray(image[..., 0] % 5).save(folder / "DIR" / "masks" / "a.png")
    return folder


def test_snippets_run(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    found = {}
    for snippet in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(snippet, "using.md", "exec"), found)
    assert (found["mask"].dtype, found["mask"].shape) == (np.uint8, (20, 27))
    assert (found["probabilities"].shape, found["overlay"].shape) == ((20, 27, 5), (20, 27, 3))
    assert found["doubt"].shape == (20, 27)
    assert "pixel accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_commands_run(place, monkeypatch, capsys, command, arguments):
    monkeypatch.chdir(place)
    extra = ["--print_config"] if command == "train" else []
    run = {"train": main.main, "evaluate": evaluate.main, "predict": predict.main}[command]
    assert run([*shlex.split(arguments), *extra]) == 0, capsys.readouterr().err


def test_every_part_has_a_command():
    assert {command for command, _ in COMMANDS} == {"train", "evaluate", "predict"}
