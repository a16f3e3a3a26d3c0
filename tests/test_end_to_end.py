"""Every dataset, in the layout in which it is published, goes through a whole run: read, train, evaluate, save."""

import pathlib

import jax
import numpy as np
import pytest
from PIL import Image
from representatives import representatives
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from flaxseg.config.files import load_config
from flaxseg.train.loop import train_and_evaluate

pytest_plugins = ("published_layouts",)
QUICK = (
    "data.image_size=(16,16)", "model.options.width=2", "model.options.depth=1", "model.options.kernel_size=1",
    "optimizer.warmup_steps=1", "train.steps=3", "train.batch_size=2", "eval.every=3", "eval.batch_size=2",
    "log.every=1", "log.images=1", "mesh.data=1",
)  # fmt: skip
"""Compiling takes the time, and more of it for each convolution."""

PETS = ("pet", "background", "border")
SCENES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
STREETS = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
OBJECTS = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

RUNS = {
    "shapes": ("shapes.py", "", ("background", "disc", "square", "triangle", "border"), 4 * 20 * 24),
    "folder": ("folder.py", "own_folder", ("0", "1", "2"), [20, 16, 4]),
    "pets": ("pet.py", "pets", PETS, 28 * 22 + 29 * 21),
    "prepared pets": ("pet.py", "prepared_pets", PETS, 28 * 22 + 29 * 21),
    "any of tfds": ("tfds.py", "prepared_pets", PETS, 28 * 22 + 29 * 21),
    "cityscapes": ("cityscapes.py", "scenes", SCENES, [2] * 19),
    "prepared cityscapes": ("cityscapes.py", "prepared_scenes", SCENES, [2] * 19),
    "voc": ("voc.py", "voc2012", OBJECTS, [1] * 21),
    "camvid": ("camvid.py", "camvid_folder", STREETS, [2] * 11),
}
"""Configuration, fixture of the data, class names, and how many pixels evaluation counts: of each class, or in all."""


@pytest.fixture
def own_folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Five pairs of 8x6, of which one is held out; 8 pixels of each mask are ignored."""
    mask = np.repeat(np.array([0, 1, 2, 255], np.uint8), [20, 16, 4, 8]).reshape(6, 8)
    for i in range(5):
        for folder, array in (("images", np.full((6, 8, 3), 50 * i, np.uint8)), ("masks", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("name", representatives(RUNS, ("folder", "prepared pets")))
def test_every_dataset_trains(name: str, tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> None:
    file, fixture, class_names, pixels = RUNS[name]
    here = [f"data.dir={request.getfixturevalue(fixture)}"] if fixture else []
    few = ["data.options.size=(20,24)", "data.options.count=4"] if file == "shapes.py" else []
    workdir = tmp_path / "run"
    result = train_and_evaluate(load_config(f"configs/{file}", [*QUICK, *here, *few]), workdir)
    assert result.state.step == 3
    assert result.class_names == class_names
    assert result.scores.confusion.counts.shape == (len(class_names), len(class_names))
    of_label = result.scores.confusion.counts.sum(axis=1)
    assert of_label.sum() == pixels if isinstance(pixels, int) else of_label.tolist() == pixels
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(result.state.params)))
    assert (workdir / "checkpoints" / "3").is_dir()
    events = EventAccumulator(str(workdir))
    events.Reload()
    losses = {event.step: float(tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors("train/loss")}
    assert sorted(losses) == [1, 2, 3] and np.isfinite(list(losses.values())).all()
