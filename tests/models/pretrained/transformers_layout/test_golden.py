"""Networks give the logits of transformers, which are stored in small files; see `public_golden.py`."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from public_cases import GOLDEN, GOLDEN_SIZE
from references import image, tensor

from flaxseg.models import build_model
from flaxseg.models.pretrained.load import put_arrays
from flaxseg.models.pretrained.published import Settings
from flaxseg.models.pretrained.transformers_layout import READERS, read_transformers
from flaxseg.models.pretrained.transformers_layout.upernet import BACKBONES

FOLDER = Path(__file__).parent / "golden"
TOLERANCE = 1e-4


def test_every_type_is_compared():
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(GOLDEN)
    configs = [json.loads(str(np.load(FOLDER / f"{case}.npz")["config"])) for case in GOLDEN]
    assert {config["model_type"] for config in configs} == set(READERS)
    backbones = [config["backbone_config"]["model_type"] for config in configs if config["model_type"] == "upernet"]
    assert set(backbones) == set(BACKBONES)


@pytest.mark.long
@pytest.mark.parametrize("case", GOLDEN)
def test_logits_match_the_reference(case):
    golden = np.load(FOLDER / f"{case}.npz")
    names, shapes = str(golden["names"]).split("\n"), json.loads(str(golden["shapes"]))
    tensors = {name: tensor(name, tuple(shape), 1.0) for name, shape in zip(names, shapes, strict=True)}
    layout = read_transformers(Settings(json.loads(str(golden["config"])), case))
    model = build_model(layout.name, num_classes=layout.num_classes, **layout.options)
    arrays, unknown = layout.convert(model, tensors)
    images = image(GOLDEN_SIZE, layout.channels)
    init = functools.partial(model.init, train=False)
    wanted = {
        name: tree for name, tree in jax.eval_shape(init, jax.random.key(0), images).items() if name != "auxiliary"
    }
    variables = put_arrays(wanted, arrays, unknown=unknown, name=case, partial=False)
    logits = np.asarray(jax.jit(functools.partial(model.apply, train=False))(variables, images))[:, ::6, ::6]
    assert np.abs(logits - golden["logits"]).max() < TOLERANCE * np.abs(golden["logits"]).max()
